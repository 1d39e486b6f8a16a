"""When a snapshot is due, and which ones may go with the log before them: pure rules.

This module refuses to know files and clocks.  Source: KIP-630, Kafka's ``SnapshotGenerator`` and
``KafkaMetadataLog.maybeClean``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from glasslog.common.errors import ConfigError
from glasslog.metadata.snapshot import SnapshotId

_MIB = 1024 * 1024
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotConfig:
    """Settings of one node, under Kafka's names.

    ``max_new_bytes``: of committed records after which a snapshot is taken.
    ``max_interval_ms``: a snapshot is taken after so long if there is anything new; 0: never for that reason.
    ``retention_bytes``: of log and snapshots together; what is older goes.  -1: no bound.
    ``retention_ms``: snapshots that are older go, with the log before the next one.  -1: no bound.
    ``max_snapshot_bytes``: a larger one is not fetched.
    """

    max_new_bytes: int = 20 * _MIB
    max_interval_ms: int = _HOUR_MS
    retention_bytes: int = 100 * _MIB
    retention_ms: int = 7 * 24 * _HOUR_MS
    max_snapshot_bytes: int = 1024 * _MIB

    def __post_init__(self) -> None:
        if self.max_new_bytes < 1 or self.max_snapshot_bytes < 1 or self.max_interval_ms < 0:
            raise ConfigError("a snapshot's bytes must be positive, and the interval not negative")


def is_due(config: SnapshotConfig, *, new_bytes: int, waited_ms: int) -> bool:
    """Whether to take a snapshot now; nothing new needs none."""
    is_late = config.max_interval_ms > 0 and waited_ms >= config.max_interval_ms
    return new_bytes > 0 and (new_bytes >= config.max_new_bytes or is_late)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot on disk."""

    id: SnapshotId
    size_bytes: int
    timestamp_ms: int


def new_base(
    config: SnapshotConfig, snapshots: Sequence[Kept], *, base: SnapshotId, log_bytes: int, now_ms: int
) -> SnapshotId | None:
    """To the end of which snapshot the log may be cut; None when nothing may go.

    ``snapshots`` come oldest first, ``log_bytes`` is the whole log's size.  The newest snapshot always stays.
    """
    newer = [each for each in snapshots if each.id.end_offset > base.end_offset]
    if not newer:
        return None
    chosen: SnapshotId | None = None
    total_bytes = log_bytes + sum(each.size_bytes for each in snapshots)
    if 0 <= config.retention_bytes < total_bytes:
        chosen = newer[-1].id
    if config.retention_ms >= 0:
        # What lies before a snapshot is at least as old as the snapshot.
        old = [each.id for each in newer if now_ms - each.timestamp_ms >= config.retention_ms]
        chosen = max([*old, *([] if chosen is None else [chosen])], default=None)
    return chosen
