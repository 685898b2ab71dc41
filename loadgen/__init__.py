"""Load and proof of consistency for transactional databases."""
