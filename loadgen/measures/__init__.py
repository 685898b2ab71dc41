"""Rates, percentiles and counts, computed from a history."""
