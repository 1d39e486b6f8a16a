"""Whole clusters in one process on virtual time: any fault, any seed, replayed exactly."""
