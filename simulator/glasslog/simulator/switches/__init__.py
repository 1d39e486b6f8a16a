"""Bugs that real systems once had, put back for the length of one simulated run."""
