"""What the listeners share: probing an address, and the names of the two ends of a socket.

Refuses to know protocols.
"""

import asyncio
import errno
import os
import socket

from glasslog.common.runtime.addresses import join_address, split_address

_KEEPALIVE_IDLE_S = 10
_KEEPALIVE_INTERVAL_S = 3
_KEEPALIVE_PROBES = 3
_USER_TIMEOUT_MS = 20_000
_REFUSED_BINDS = (errno.EADDRINUSE, errno.EACCES, errno.EPERM)


async def check_bindable(address: str) -> None:
    """Raise the ``OSError`` that binding ``address`` meets: taken, not permitted, not ours, unknown name."""
    host, port = split_address(address)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise explained(OSError(errno.EADDRNOTAVAIL, error.strerror), address) from None
    family, kind, protocol, _, target = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(target)
        except OSError as error:
            raise explained(error, address) from None


def explained(error: OSError, address: str) -> OSError:
    """The same error, naming the address once: asyncio's text for a refused bind names it too."""
    reason = error.strerror or str(error)
    if error.errno in _REFUSED_BINDS:
        reason = os.strerror(error.errno)
    return OSError(error.errno, f"can not listen on {address}: {reason}")


def tune(sock: socket.socket) -> None:
    """No batching of small writes; a peer whose machine vanished is noticed within about 20 s."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def peer_address(transport: asyncio.BaseTransport) -> str:
    """``host:port`` of the other end, or ``unknown`` when it is already gone."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        return join_address(str(name[0]), int(name[1]))
    return "unknown"


def bound_port(server: asyncio.Server) -> int:
    """The port that a server really listens on."""
    return int(server.sockets[0].getsockname()[1])
