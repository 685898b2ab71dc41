"""One file for each engine: its dialect, its isolation levels, its errors. A new one is a file and a line here."""
