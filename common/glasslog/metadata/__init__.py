"""The cluster's metadata as records, immutable image and delta: controllers write it, brokers replay it."""
