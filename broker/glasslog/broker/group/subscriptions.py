"""Which topics a consumer's protocol metadata names: the one thing in it that a coordinator may look at.

Refuses to know assignors and everything behind the topics. Source: Kafka's ``ConsumerProtocolSubscription``.
"""

import struct

_HEAD = struct.Struct(">hi")
_LENGTH = struct.Struct(">h")


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics, or ``None`` when the metadata is no subscription."""
    try:
        _, count = _HEAD.unpack_from(metadata)
        position, topics = _HEAD.size, []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(metadata, position)
            position += _LENGTH.size
            name = metadata[position : position + max(length, 0)]
            if len(name) != length:
                return None
            topics.append(name.decode())
            position += length
    except (struct.error, UnicodeDecodeError):
        return None
    return frozenset(topics)
