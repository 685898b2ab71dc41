"""The judges of a history: pure functions from the books of a run to a Finding, one file for each family."""
