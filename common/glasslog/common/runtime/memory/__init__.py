"""The in-memory world: virtual time, seeded randomness, a disk that loses data, a network that can be cut."""
