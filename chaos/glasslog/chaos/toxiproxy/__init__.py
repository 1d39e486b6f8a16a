"""A TCP proxy that misbehaves on demand, with Toxiproxy's HTTP API."""
