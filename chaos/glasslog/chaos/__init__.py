"""Breaking clusters on purpose, and judging what became of them."""
