"""What a person reads: the summary on the terminal, and the table of seconds."""
