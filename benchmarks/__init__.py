"""How fast and how large glasslog is, measured: ``python -m benchmarks``, or ``make bench``."""
