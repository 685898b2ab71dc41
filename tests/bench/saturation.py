"""How many orders a second one client process gets out of a server on the same cores, beside a peer written in C.

``python -m tests.bench.saturation --engine postgres``: closed, 32 sessions, four round trips. Where client and server
share the cores, what the client costs is what the server lacks.
"""

from tests.bench.client_cost import main

if __name__ == "__main__":
    main("saturation", __doc__, lambda measured: measured.orders_per_second, "orders_per_second")
