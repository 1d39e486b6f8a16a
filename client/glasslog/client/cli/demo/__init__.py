"""The main job on real input: write it, break the cluster half-way, read it back, compare every byte."""
