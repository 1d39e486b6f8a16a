"""Looking inside the files of a data directory: what they hold, and whether it is sound. Reads only."""
