"""The trade of the flash sale: what its ops mean, and the checks of its books. Only the shop's workloads use it."""
