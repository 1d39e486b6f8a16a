"""The gRPC listener: ``glasslog.v1.Broker`` messages to and from the handlers' own values."""
