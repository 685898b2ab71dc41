"""Stores that keep, or by a seeded bug break, what they promise: what the judge is judged by."""
