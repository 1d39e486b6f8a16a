"""What a topic demands of records before its leader appends them: timestamps, keys, compression.

This module knows how batches are checked and rewritten for that; it refuses to know offsets and files.  A
topic that demands nothing beyond what headers tell never comes here: ``RecordPolicy.looks_at_batches`` says
so.  Source: Kafka's ``LogValidator``, KIP-32, KIP-937.
"""

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.log.append import LeaderChecks, check_leader_batch
from glasslog.log.batch import NO_TIMESTAMP, BatchHeader, set_append_time, validate_batch
from glasslog.log.config import RecordPolicy
from glasslog.log.opened_batch import OpenedBatch


def admit(data: bytearray, policy: RecordPolicy, checks: LeaderChecks) -> tuple[bytearray, LeaderChecks]:
    """The batches as they are to be appended, and what is left to check of them; ``data`` stays as it is.

    Batches that the broker itself makes are trusted and only stamped.  Raises ``GlasslogError``: what
    ``check_leader_batch`` raises, INVALID_RECORD, INVALID_TIMESTAMP or CORRUPT_MESSAGE.
    """
    parts: list[bytearray] = []
    position = start = 0
    while position < len(data):
        header = validate_batch(data, position)
        if checks.origin_is_client:
            check_leader_batch(header, checks)
            rewritten = _look_inside(data, position, header, policy, checks.now_ms)
            if rewritten is not None:
                parts += (data[start:position], rewritten)
                start = position + header.size_bytes
        position += header.size_bytes
    if parts:
        data = bytearray().join((*parts, data[start:]))
    if policy.appends_time:
        data = _stamped(data, checks.now_ms)
    return data, checks._replace(forbidden_attributes=0)


def _stamped(data: bytearray, now_ms: int) -> bytearray:
    """A copy: were the request refused after all, another attempt with it must not look stamped already."""
    data = bytearray(data)
    position = 0
    while position < len(data):
        position += set_append_time(data, position, timestamp_ms=now_ms)
    return data


def _look_inside(
    data: bytearray, position: int, header: BatchHeader, policy: RecordPolicy, now_ms: int
) -> bytearray | None:
    """Check the records as far as the policy asks for it; the batch compressed anew if its codec differs."""
    compression = policy.compression
    differs = compression is not None and compression is not header.compression
    if not (differs or policy.has_earliest or policy.needs_keys):
        return None
    opened = OpenedBatch(data, position)
    survey = opened.survey()
    if policy.needs_keys and survey.keyless:
        raise GlasslogError(
            ErrorCode.INVALID_RECORD,
            f"{survey.keyless} of {header.record_count} records have no key; a compacted topic needs one",
        )
    if not policy.appends_time:
        _check_timestamps(opened, survey.min_timestamp, survey.max_timestamp, policy, now_ms)
    if compression is None or not differs:
        return None
    return opened.recompressed(compression, max_timestamp=survey.max_timestamp)


def _check_timestamps(
    opened: OpenedBatch, lowest: int, highest: int, policy: RecordPolicy, now_ms: int
) -> None:
    """Timestamps of -1 are none, and not judged."""
    if lowest == NO_TIMESTAMP:
        given = (record[1] for record in opened.records() if record[1] != NO_TIMESTAMP)
        lowest = min(given, default=NO_TIMESTAMP)
    earliest, latest = now_ms - policy.before_max_ms, now_ms + policy.after_max_ms
    for timestamp in (lowest, highest):
        if timestamp != NO_TIMESTAMP and not earliest <= timestamp <= latest:
            raise GlasslogError(
                ErrorCode.INVALID_TIMESTAMP,
                f"timestamp {timestamp} is not between {earliest} and {latest}: the leader's clock less "
                "message.timestamp.before.max.ms and plus message.timestamp.after.max.ms",
            )
