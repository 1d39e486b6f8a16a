"""The clients of ``glasslog.client.sync``: those for asyncio on a background loop, each call waited for."""
