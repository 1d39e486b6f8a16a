"""The controllers' Raft quorum: a sans-I/O core, its persistence, and the task that runs it."""
