"""The statistical matrix: anomalies per million transactions that the probes found, by engine, level and strategy."""
