"""The settings of one log, named and defaulted as Kafka's topic configuration.

This module knows names, defaults and ranges; it refuses to know where the values come from.
"""

from dataclasses import dataclass, field

from glasslog.common.errors import ConfigError
from glasslog.log.batch import Compression, TimestampType

NEVER = (1 << 63) - 1
_MAX_SEGMENT_BYTES = (1 << 31) - 1
_WEEK_MS = 7 * 24 * 3600 * 1000
_DAY_MS = 24 * 3600 * 1000
_MINUTE_MS = 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPolicy:
    """What a topic demands of the records that its leader appends."""

    timestamp_type: TimestampType = TimestampType.CREATE_TIME
    before_max_ms: int = NEVER
    """How far a producer's timestamp may lie before the leader's clock; nothing with LOG_APPEND_TIME."""
    after_max_ms: int = NEVER
    """How far after it; likewise."""
    compression: Compression | None = None
    """None: as the producer compressed."""
    needs_keys: bool = False
    appends_time: bool = field(init=False)
    """Whether the leader stamps the records."""
    looks_at_batches: bool = field(init=False)
    """Whether batches have to be looked into or rewritten: their headers are not enough."""
    header_after_max_ms: int = field(init=False)
    """How far after the leader's clock the highest timestamp in a header may lie."""

    def __post_init__(self) -> None:
        _check("message.timestamp.before.max.ms", self.before_max_ms, lowest=0)
        _check("message.timestamp.after.max.ms", self.after_max_ms, lowest=0)
        appends_time = self.timestamp_type is TimestampType.LOG_APPEND_TIME
        looks = self.needs_keys or self.compression is not None or appends_time or self.has_earliest
        # What every append asks is worked out once; a frozen dataclass is filled in no other way.
        object.__setattr__(self, "appends_time", appends_time)
        object.__setattr__(self, "looks_at_batches", looks)
        object.__setattr__(self, "header_after_max_ms", NEVER if appends_time else self.after_max_ms)

    @property
    def has_earliest(self) -> bool:
        """Whether a record may be too old to be appended."""
        return self.timestamp_type is TimestampType.CREATE_TIME and self.before_max_ms != NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What a topic may set for its logs. Raises ``ConfigError`` for a value out of range."""

    segment_bytes: int = 1024 * 1024 * 1024
    segment_ms: int = _WEEK_MS
    segment_jitter_ms: int = 0
    """The most by which a segment is closed before ``segment_ms``, so that not all are at one time."""
    segment_index_bytes: int = 10 * 1024 * 1024
    """The largest index file: a segment whose index is full is closed."""
    index_interval_bytes: int = 4096
    max_message_bytes: int = 1_048_588
    """The largest record batch that a producer may append."""
    retention_bytes: int = -1
    retention_ms: int = _WEEK_MS
    file_delete_delay_ms: int = _MINUTE_MS
    """From a segment's removal to that of its files."""
    is_deleted: bool = True
    """``cleanup.policy`` has ``delete``: old segments go by size and time."""
    is_compacted: bool = False
    """``cleanup.policy`` has ``compact``: the cleaner keeps the newest record of each key."""
    records: RecordPolicy = field(default_factory=RecordPolicy)
    delete_retention_ms: int = _DAY_MS
    """Of a compacted log: how long tombstones and markers stay after they were passed for the first time."""
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = NEVER
    min_cleanable_dirty_ratio: float = 0.5
    flush_messages: int = NEVER
    flush_ms: int = NEVER
    producer_id_expiration_ms: int = _DAY_MS

    def __post_init__(self) -> None:
        _check("segment.bytes", self.segment_bytes, lowest=256, highest=_MAX_SEGMENT_BYTES)
        _check("segment.ms", self.segment_ms, lowest=1)
        _check("segment.jitter.ms", self.segment_jitter_ms, lowest=0)
        _check("segment.index.bytes", self.segment_index_bytes, lowest=4, highest=_MAX_SEGMENT_BYTES)
        _check("index.interval.bytes", self.index_interval_bytes, lowest=0)
        _check("max.message.bytes", self.max_message_bytes, lowest=0, highest=_MAX_SEGMENT_BYTES)
        _check("retention.bytes", self.retention_bytes, lowest=-1)
        _check("retention.ms", self.retention_ms, lowest=-1)
        _check("file.delete.delay.ms", self.file_delete_delay_ms, lowest=0)
        _check("delete.retention.ms", self.delete_retention_ms, lowest=0)
        _check("min.compaction.lag.ms", self.min_compaction_lag_ms, lowest=0)
        _check("max.compaction.lag.ms", self.max_compaction_lag_ms, lowest=1)
        _check("flush.messages", self.flush_messages, lowest=1)
        _check("flush.ms", self.flush_ms, lowest=0)
        _check("producer.id.expiration.ms", self.producer_id_expiration_ms, lowest=1)


def _check(name: str, value: int, *, lowest: int, highest: int = NEVER) -> None:
    if not lowest <= value <= highest:
        raise ConfigError(f"{name}={value}: must be between {lowest} and {highest}")
