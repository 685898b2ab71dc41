"""Histories of other tools, read and written."""
