"""Limits on the rate of copies while partitions move: set before, lifted after.

Set as Kafka's ``kafka-reassign-partitions --throttle`` sets them: rates on the brokers, and on each topic
which replicas they hold back. Refuses to know why partitions move. Source: KIP-73.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from glasslog.client.configs import ConfigEdit, ConfigOperation, ConfigResource, ResourceType
from glasslog.client.reassignment_plan import Move

if TYPE_CHECKING:
    from glasslog.client.admin import Admin, TopicDescription

_RATES = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
_LEADERS = "leader.replication.throttled.replicas"
_FOLLOWERS = "follower.replication.throttled.replicas"
_EVERY_BROKER = ConfigResource(ResourceType.BROKER, "")


async def throttle(admin: "Admin", moves: Sequence[Move], *, bytes_per_second: int) -> None:
    """Have every broker send and fetch so much at most of what ``moves`` copy."""
    leaders: dict[str, list[str]] = {}
    followers: dict[str, list[str]] = {}
    for move in moves:
        topic, number = move.partition.topic, move.partition.partition
        if move.added:
            leaders.setdefault(topic, []).extend(f"{number}:{node}" for node in move.before)
            followers.setdefault(topic, []).extend(f"{number}:{node}" for node in move.added)
    edits: dict[ConfigResource, Sequence[ConfigEdit]] = {
        ConfigResource(ResourceType.TOPIC, topic): [
            _appended(_LEADERS, leaders[topic]),
            _appended(_FOLLOWERS, followers[topic]),
        ]
        for topic in leaders
    }
    edits[_EVERY_BROKER] = [ConfigEdit(key=key, value=str(bytes_per_second)) for key in _RATES]
    await admin.alter_configs(edits)


async def lift(admin: "Admin", topics: "Iterable[TopicDescription]") -> bool:
    """Hold nothing of ``topics`` back any more; whether anything was."""
    throttled = [each.name for each in topics if _is_throttled(each.configs)]
    if not throttled:
        return False
    edits: dict[ConfigResource, Sequence[ConfigEdit]] = {
        ConfigResource(ResourceType.TOPIC, name): [_deleted(_LEADERS), _deleted(_FOLLOWERS)]
        for name in throttled
    }
    edits[_EVERY_BROKER] = [_deleted(key) for key in _RATES]
    await admin.alter_configs(edits)
    return True


def _is_throttled(configs: Mapping[str, str]) -> bool:
    return _LEADERS in configs or _FOLLOWERS in configs


def _appended(key: str, values: Sequence[str]) -> ConfigEdit:
    return ConfigEdit(key=key, operation=ConfigOperation.APPEND, value=",".join(values))


def _deleted(key: str) -> ConfigEdit:
    return ConfigEdit(key=key, operation=ConfigOperation.DELETE)
