"""Which topic names are legal and which belong to the cluster itself. Refuses to know which topics exist.

Source: Kafka's ``Topic.validate`` (KAFKA-495).
"""

from glasslog.common.ids import METADATA_TOPIC, OFFSETS_TOPIC

MAX_NAME_LENGTH = 249
INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, "__transaction_state"})
"""Topics that brokers write for themselves; clients may read them, not write or delete them."""

_LEGAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def is_internal(topic: str) -> bool:
    """Whether the topic belongs to the cluster itself."""
    return topic in INTERNAL_TOPICS


def problem_with_name(topic: str) -> str:
    """What makes ``topic`` illegal as a topic's name, empty when it is legal."""
    if not topic:
        return "a topic's name can not be empty"
    if len(topic) > MAX_NAME_LENGTH:
        return f"a topic's name has at most {MAX_NAME_LENGTH} characters, this one {len(topic)}"
    if topic in (".", ".."):
        return f"{topic!r} can not be a topic's name"
    if not _LEGAL.issuperset(topic):
        return f"{topic!r} has characters other than letters, digits, '.', '_' and '-'"
    if topic == METADATA_TOPIC:
        return f"{topic} is the controllers' own"
    return ""
