"""Where engines run: one file for each provider. A new one is a file and a line in the dict of providers."""
