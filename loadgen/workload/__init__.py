"""What a workload is: statements, tables, transaction bodies, and what the judge may ask of them."""
