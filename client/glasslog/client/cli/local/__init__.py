"""Clusters of background processes on this machine: start, break, look at, stop."""
