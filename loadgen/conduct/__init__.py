"""The conductor's process: a run's steps and its end, apart from the load."""
