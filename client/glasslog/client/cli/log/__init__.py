"""``glasslog log``: look into the files of a data directory."""
