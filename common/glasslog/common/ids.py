"""Identifiers, offsets and epochs as distinct types, so that two integers are not swapped by accident.

This module knows names and their textual form only; it refuses to know how an identifier is allocated.
"""

import base64
import binascii
from typing import NamedTuple, NewType

NodeId = NewType("NodeId", int)
"""A controller's or broker's ``node.id``; unique in the cluster."""

TopicId = NewType("TopicId", bytes)
"""Sixteen bytes that name one incarnation of a topic (KIP-516)."""

Offset = NewType("Offset", int)
LeaderEpoch = NewType("LeaderEpoch", int)
"""Bumped when a partition's leader changes."""

PartitionEpoch = NewType("PartitionEpoch", int)
"""Bumped on any change of a partition's registration; guards AlterPartition (KIP-497)."""

BrokerEpoch = NewType("BrokerEpoch", int)
"""One incarnation of a broker: the metadata offset of its registration (KIP-631)."""

ProducerId = NewType("ProducerId", int)
ProducerEpoch = NewType("ProducerEpoch", int)

NO_NODE = NodeId(-1)
NO_OFFSET = Offset(-1)
NO_LEADER_EPOCH = LeaderEpoch(-1)
NO_BROKER_EPOCH = BrokerEpoch(-1)
NO_PRODUCER_ID = ProducerId(-1)
NO_PRODUCER_EPOCH = ProducerEpoch(-1)
ZERO_TOPIC_ID = TopicId(bytes(16))

METADATA_TOPIC = "__cluster_metadata"
METADATA_TOPIC_ID = TopicId(bytes(15) + b"\x01")
OFFSETS_TOPIC = "__consumer_offsets"


class TopicPartition(NamedTuple):
    """A partition by its topic's name; prints as ``topic-3``, the name of its folder on disk.

    A named tuple: it is the key of most maps of a broker, and a dataclass is hashed and compared in Python.
    """

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def format_uuid(value: bytes) -> str:
    """The 22-character URL-safe base64 text that Kafka prints for a 16-byte id."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def parse_uuid(text: str) -> bytes:
    """Sixteen bytes from Kafka's 22-character text; raises ``ValueError`` for anything else."""
    try:
        value = base64.urlsafe_b64decode(text + "==")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not an id: {text!r}") from error
    if len(value) != 16:
        raise ValueError(f"not a 16-byte id: {text!r}")
    return value
