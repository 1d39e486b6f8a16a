"""Which names a topic may have.

Refuses to know which topics exist, but for telling whether two names collide. Source: Kafka's ``Topic``:
names become folders and metric names, and in the latter ``.`` and ``_`` are not told apart.
"""

import re

from glasslog.common.ids import METADATA_TOPIC, OFFSETS_TOPIC

MAX_LENGTH = 249
"""Together with a partition number, the longest that most file systems take as a folder's name."""

INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, "__transaction_state"})
"""The cluster's own, which brokers create when they are first needed."""


def is_internal(name: str) -> bool:
    """Whether the topic belongs to the cluster itself: clients may read it, not write or delete it."""
    return name in INTERNAL_TOPICS


_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


def name_problem(name: str) -> str | None:
    """What is wrong with the name of a new topic, as the end of a sentence; ``None`` if nothing is."""
    if not name:
        return "the name is empty"
    if name in (".", ".."):
        return f"{name!r} is a folder's own name"
    if len(name) > MAX_LENGTH:
        return f"the name has {len(name)} characters, {MAX_LENGTH} are allowed"
    if not _LEGAL.fullmatch(name):
        return f"{name!r} has characters other than ASCII letters, digits, '.', '_' and '-'"
    if name == METADATA_TOPIC:
        return f"{name!r} is the controllers' own log"
    return None


def can_collide(name: str) -> bool:
    """Whether any other name could have the same collision key."""
    return "." in name or "_" in name


def collision_key(name: str) -> str:
    """Equal for names that must not exist side by side."""
    return name.replace(".", "_")
