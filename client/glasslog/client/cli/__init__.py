"""The ``glasslog`` command: what a person or a script types."""
