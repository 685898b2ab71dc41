"""What a run did, as streams of Arrow batches in its run directory: driving writes it, judging reads it."""
