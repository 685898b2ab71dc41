"""How sure a figure is: objectives met by counts, the capacity search, comparisons, the Universal Scalability Law.

Everything here is pure: counts and figures go in, values come out. Nothing reads a clock, a file or a server.
"""
