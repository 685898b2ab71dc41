"""From a stored run to its verdict, figures and summary."""
