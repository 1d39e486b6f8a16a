"""What is asked of one partition in a fetch and what comes out: tuples, cheap enough for the hot path.

This module knows the fields; it refuses to know sessions, wires and roles. Epochs and ids are -1 when unset.
"""

from typing import NamedTuple

from glasslog.broker.requests import AbortedRange, DivergingEpoch
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_LEADER_EPOCH, NO_NODE, NO_OFFSET, TopicId
from glasslog.common.runtime.protocols import Buffer

PartitionKey = tuple[TopicId | str, int]
"""A partition as a fetcher names it: by its topic's id, or by its topic's name in older versions of Fetch."""


class PartitionAsk(NamedTuple):
    """What a fetcher wants of one partition; epochs are -1 when they are not to be checked."""

    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int
    last_fetched_epoch: int
    log_start_offset: int


class ReadOutcome(NamedTuple):
    """One partition's share of an answer. ``message`` says more about an error."""

    error: ErrorCode
    high_watermark: int = NO_OFFSET
    log_start_offset: int = NO_OFFSET
    records: Buffer = b""
    diverging_epoch: DivergingEpoch | None = None
    leader_id: int = NO_NODE
    leader_epoch: int = NO_LEADER_EPOCH
    message: str = ""
    last_stable_offset: int = NO_OFFSET
    aborted_transactions: tuple[AbortedRange, ...] = ()
    preferred_read_replica: int = NO_NODE

    @property
    def is_answer(self) -> bool:
        """Whether it says something that can not wait for records: an error, or where to read instead."""
        return (
            self.error is not ErrorCode.NONE
            or self.diverging_epoch is not None
            or self.preferred_read_replica != NO_NODE
        )
