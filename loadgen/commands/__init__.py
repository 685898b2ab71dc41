"""The command ``loadgen``, a file for each verb."""
