"""``glasslog bench``: how fast a running cluster is."""
