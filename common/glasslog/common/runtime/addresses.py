"""Splitting and joining ``host:port`` addresses.

Refuses to know what listens there, and resolves no names.
"""

from glasslog.common.errors import ConfigError

_HIGHEST_PORT = 65_535


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 host is in brackets. ``ConfigError`` says what is wrong."""
    host, colon, port_text = address.rpartition(":")
    if not colon or not host:
        raise ConfigError(f"address {address!r} is not of the form host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"address {address!r}: an IPv6 host belongs in brackets, as in [::1]:9092")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= _HIGHEST_PORT):
        raise ConfigError(f"address {address!r}: the port must be a number from 0 to {_HIGHEST_PORT}")
    return host, int(port_text)


def join_address(host: str, port: int) -> str:
    """The text form of a host and a port, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
