"""Kafka's wire protocol on length-prefixed frames: codec, connections, and the replicas' Fetch."""
