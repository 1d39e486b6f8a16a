"""Histories of what clients did and saw, and what is wrong with them."""
