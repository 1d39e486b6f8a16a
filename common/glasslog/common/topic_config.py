"""The settings of a topic: Kafka's keys, meanings and defaults, and a node's settings that stand in for them.

This module knows the table; it refuses to know who sets a topic's settings and what is done with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from glasslog.common.config import INT_MAX, LONG_MAX, describe, parse, setting, to_text
from glasslog.common.errors import ConfigError
from glasslog.common.node_config import COMPRESSION_TYPES, DAY_MS, HOUR_MS, TIMESTAMP_TYPES, NodeConfig
from glasslog.common.throttled_replicas import problem_with_throttled_replicas

_REMEMBERED = 256
"""Different settings of topics that are kept at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """The settings of one topic, complete; see ``topic_config``."""

    min_insync_replicas: int = setting(
        "min.insync.replicas",
        "acks=all is refused with fewer in the ISR",
        default=1,
        minimum=1,
        maximum=INT_MAX,
    )
    unclean_leader_election_enable: bool = setting(
        "unclean.leader.election.enable", "elect outside the ISR, losing records", default=False
    )
    max_message_bytes: int = setting(
        "max.message.bytes", "largest record batch", default=1_048_588, minimum=0, maximum=INT_MAX
    )
    segment_bytes: int = setting(
        "segment.bytes",
        "a segment is rolled at this size",
        default=1_073_741_824,
        minimum=1024,
        maximum=INT_MAX,
    )
    segment_ms: int = setting("segment.ms", "or at this age", default=7 * DAY_MS, minimum=1, maximum=LONG_MAX)
    segment_jitter_ms: int = setting(
        "segment.jitter.ms",
        "or so much earlier at most, so that not all partitions begin a segment at one time",
        default=0,
        minimum=0,
        maximum=LONG_MAX,
    )
    segment_index_bytes: int = setting(
        "segment.index.bytes",
        "or when an index of it has this size",
        default=10_485_760,
        minimum=4,
        maximum=INT_MAX,
    )
    flush_messages: int = setting(
        "flush.messages",
        "with so many records not synced the log is synced before the append is answered",
        default=LONG_MAX,
        minimum=1,
        maximum=LONG_MAX,
    )
    flush_ms: int = setting(
        "flush.ms",
        "records that are not synced are so long after the last sync, looked at every "
        "log.flush.scheduler.interval.ms of the broker",
        default=LONG_MAX,
        minimum=0,
        maximum=LONG_MAX,
    )
    index_interval_bytes: int = setting(
        "index.interval.bytes", "log bytes between index entries", default=4096, minimum=0, maximum=INT_MAX
    )
    retention_ms: int = setting(
        "retention.ms",
        "a closed segment whose newest record is older is deleted; -1: never",
        default=7 * DAY_MS,
        minimum=-1,
        maximum=LONG_MAX,
    )
    retention_bytes: int = setting(
        "retention.bytes",
        "the oldest closed segments above it are deleted, per partition; -1: unbounded",
        default=-1,
        minimum=-1,
        maximum=LONG_MAX,
    )
    delete_retention_ms: int = setting(
        "delete.retention.ms",
        "how long compaction keeps a tombstone after it was passed for the first time",
        default=DAY_MS,
        minimum=0,
        maximum=LONG_MAX,
    )
    min_compaction_lag_ms: int = setting(
        "min.compaction.lag.ms", "younger records are not compacted", default=0, minimum=0, maximum=LONG_MAX
    )
    max_compaction_lag_ms: int = setting(
        "max.compaction.lag.ms",
        "older ones are, however little there is to do",
        default=LONG_MAX,
        minimum=1,
        maximum=LONG_MAX,
    )
    min_cleanable_dirty_ratio: float = setting(
        "min.cleanable.dirty.ratio",
        "the dirty share of a log from which on it is compacted",
        default=0.5,
        minimum=0,
        maximum=1,
    )
    file_delete_delay_ms: int = setting(
        "file.delete.delay.ms",
        "from a segment's removal to that of its files",
        default=60_000,
        minimum=0,
        maximum=LONG_MAX,
    )
    cleanup_policy: tuple[str, ...] = setting(
        "cleanup.policy",
        "what happens to old records: delete them by retention.ms and retention.bytes, compact them to the "
        "newest of each key, or both",
        default=("delete",),
        choices=("delete", "compact"),
    )
    compression_type: str = setting(
        "compression.type",
        "of stored batches: as the producer compressed, or compressed anew by the leader where it differs",
        default="producer",
        choices=COMPRESSION_TYPES,
    )
    message_timestamp_type: str = setting(
        "message.timestamp.type",
        "whose clock stamps a record: the producer's, or the leader's when it appends",
        default="CreateTime",
        choices=TIMESTAMP_TYPES,
    )
    message_timestamp_before_max_ms: int = setting(
        "message.timestamp.before.max.ms",
        "a record stamped longer before the leader's clock is refused; not with LogAppendTime",
        default=LONG_MAX,
        minimum=0,
        maximum=LONG_MAX,
    )
    message_timestamp_after_max_ms: int = setting(
        "message.timestamp.after.max.ms",
        "a batch stamped longer after the leader's clock is refused; not with LogAppendTime",
        default=HOUR_MS,
        minimum=0,
        maximum=LONG_MAX,
    )
    leader_replication_throttled_replicas: tuple[str, ...] = setting(
        "leader.replication.throttled.replicas",
        "PARTITION:BROKER,... or *: to followers that are not in sync these leaders send "
        "leader.replication.throttled.rate at most",
        default=(),
        validate=problem_with_throttled_replicas,
    )
    follower_replication_throttled_replicas: tuple[str, ...] = setting(
        "follower.replication.throttled.replicas",
        "PARTITION:BROKER,... or *: while they are not in sync these followers fetch "
        "follower.replication.throttled.rate at most",
        default=(),
        validate=problem_with_throttled_replicas,
    )


TOPIC_KEYS = {row.setting.key for row in describe(TopicConfig)}
_LISTS = {row.setting.key: row.default or "" for row in describe(TopicConfig) if row.type_name == "list"}

_BROKER_DEFAULTS: Mapping[str, str] = {
    "min.insync.replicas": "min_insync_replicas",
    "unclean.leader.election.enable": "unclean_leader_election_enable",
    "max.message.bytes": "message_max_bytes",
    "compression.type": "compression_type",
    "message.timestamp.type": "log_message_timestamp_type",
    "message.timestamp.before.max.ms": "log_message_timestamp_before_max_ms",
    "message.timestamp.after.max.ms": "log_message_timestamp_after_max_ms",
    "segment.bytes": "log_segment_bytes",
    "segment.ms": "effective_roll_ms",
    "segment.jitter.ms": "effective_roll_jitter_ms",
    "segment.index.bytes": "log_index_size_max_bytes",
    "index.interval.bytes": "log_index_interval_bytes",
    "flush.messages": "log_flush_interval_messages",
    "flush.ms": "effective_flush_ms",
    "retention.ms": "effective_retention_ms",
    "retention.bytes": "log_retention_bytes",
    "file.delete.delay.ms": "log_segment_delete_delay_ms",
    "cleanup.policy": "log_cleanup_policy",
    "delete.retention.ms": "log_cleaner_delete_retention_ms",
    "min.compaction.lag.ms": "log_cleaner_min_compaction_lag_ms",
    "max.compaction.lag.ms": "log_cleaner_max_compaction_lag_ms",
    "min.cleanable.dirty.ratio": "log_cleaner_min_cleanable_ratio",
}


def broker_field_of(topic_key: str) -> str | None:
    """The field of ``NodeConfig`` that holds where a topic does not say ``topic_key``, if there is one."""
    return _BROKER_DEFAULTS.get(topic_key)


def topic_config(node: NodeConfig, overrides: Mapping[str, str]) -> TopicConfig:
    """A topic's settings: its own over the node's defaults. Raises ``ConfigError`` for a bad override."""
    return _merged(node, tuple(overrides.items()))


@lru_cache(maxsize=_REMEMBERED)
def _merged(node: NodeConfig, overrides: tuple[tuple[str, str], ...]) -> TopicConfig:
    """Asked for each partition of a topic, and by most topics alike."""
    values = {key: to_text(getattr(node, name)) for key, name in _BROKER_DEFAULTS.items()}
    return parse(TopicConfig, {**values, **dict(overrides)}, where="topic")


def check_topic_overrides(overrides: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` for the first unknown key or bad value, or for two that contradict each other."""
    parsed = parse(TopicConfig, overrides, where="topic")
    if parsed.min_compaction_lag_ms > parsed.max_compaction_lag_ms:
        raise ConfigError("topic: min.compaction.lag.ms is above max.compaction.lag.ms")


def list_default(topic_key: str) -> str | None:
    """The default of a topic's setting that holds several values; ``None`` for any other setting."""
    return _LISTS.get(topic_key)
