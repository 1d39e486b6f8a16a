"""The log on disk: record batches, segments, indexes, epochs, producer state, checkpoints, directories."""
