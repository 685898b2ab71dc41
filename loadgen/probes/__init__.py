"""The probes: their histories as transactions, and their tables at the end."""
