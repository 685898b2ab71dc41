"""How many orders a second one client process gets out of a server on the same cores, beside a peer written in C.

``python -m tests.bench.saturation --engine postgres``: closed, 32 sessions, four round trips. What counts is
``throughput_ratio``: where client and server share the cores, the client's cost is the server's loss.
"""

from tests.bench.client_cost import main

if __name__ == "__main__":
    main("saturation", __doc__)
