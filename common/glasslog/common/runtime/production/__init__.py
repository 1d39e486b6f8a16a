"""The real world: the OS, asyncio with uvloop, gRPC."""
