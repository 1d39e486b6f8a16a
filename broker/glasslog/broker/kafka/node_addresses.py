"""Where the leaders that an answer names can be reached, so that a client need not ask for metadata first.

Knows one tagged field of Produce and Fetch; refuses to know when it is of use. Source: KIP-951.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from glasslog.broker.kafka.codec import INT32, compact_string, tagged_field, unsigned_varint
from glasslog.common.ids import NodeId
from glasslog.metadata.image import MetadataImage

_NODE_ENDPOINTS_TAG = 0


class NodeAddress(NamedTuple):
    """A broker as clients of the Kafka listener reach it."""

    node_id: int
    host: str
    port: int
    rack: str


def addresses_of(image: MetadataImage, nodes: Iterable[int], listener: str) -> Sequence[NodeAddress]:
    """Those of ``nodes`` that clients of ``listener`` can reach, each once."""
    found = []
    for node in dict.fromkeys(nodes):
        broker = image.brokers.get(NodeId(node))
        endpoint = None if broker is None or broker.fenced else broker.endpoint(listener)
        if broker is not None and endpoint is not None:
            found.append(NodeAddress(node, endpoint.host, endpoint.port, broker.rack))
    return found


def node_addresses(nodes: Sequence[NodeAddress]) -> bytes:
    """The tagged fields at the end of an answer that names ``nodes``."""
    if not nodes:
        return b"\0"
    content = unsigned_varint(len(nodes) + 1)
    for node in nodes:
        rack = compact_string(node.rack) if node.rack else b"\0"
        content += INT32.pack(node.node_id) + compact_string(node.host) + INT32.pack(node.port) + rack + b"\0"
    return b"\1" + tagged_field(_NODE_ENDPOINTS_TAG, content)
