"""Free ports of the loopback address that stay free for as long as a local cluster wants them back.

A port that the system picks (port 0) comes from the range that it also lends to outgoing connections.
Between the death of a node and its restart such a connection could take it; worse, a client that keeps
dialling a dead node's port from that range can at last connect to itself. So ports are taken from outside the
range where there is room. Refuses to know who listens.
"""

import random
import socket
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from glasslog.client.cli.errors import CommandError

HOST = "127.0.0.1"
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15_000
_HIGHEST = 32_000
_USUAL_FIRST_LENT = 32_768


def free_ports(count: int, *, besides: Collection[int] = ()) -> tuple[int, ...]:
    """Distinct ports that nobody listens on now. Raises ``CommandError`` when there are not enough."""
    free = (port for port in _candidates() if port not in besides and is_free(port))
    found = tuple(islice(free, count))
    if len(found) == count:
        return found
    raise CommandError(f"{HOST} has no {count} free ports from {_LOWEST} to {_HIGHEST}")


def is_free(port: int) -> bool:
    """Whether one could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _candidates() -> Iterator[int]:
    """From a random place on, so that clusters started at the same time do not want the same ports."""
    highest = min(_HIGHEST, _first_lent_port() - 1)
    lowest = min(_LOWEST, highest - 1_000)
    start = random.randrange(lowest, highest)
    yield from range(start, highest)
    yield from range(lowest, start)


def _first_lent_port() -> int:
    try:
        first = int(_RANGE_FILE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL_FIRST_LENT
    # A machine that lends nearly all ports leaves no room below; then any port is as good as another.
    return first if first > 5_000 else _USUAL_FIRST_LENT
