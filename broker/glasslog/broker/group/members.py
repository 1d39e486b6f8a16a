"""How a member's host is written, whichever listener it came through. Refuses to know groups."""

from glasslog.common.runtime.protocols import Peer


def client_host(peer: Peer) -> str:
    """Only the host, as Kafka's tools show it."""
    return "/" + peer.address.rpartition(":")[0]
