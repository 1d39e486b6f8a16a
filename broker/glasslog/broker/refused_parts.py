"""Partitions of a produce request that are refused before anything is appended; the rest is carried out.

Knows what no listener lets through: records of old formats, and transactions, which nobody here would decide:
readers of committed records would wait for ever.  Refuses to know wires and partitions.
"""

from collections.abc import Mapping, Sequence
from struct import Struct

from glasslog.broker.requests import ProducePartition, ProducePartitionResult
from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.protocols import Buffer

Refused = Mapping[int, ProducePartitionResult]
"""By their place in the request, with what they are answered."""

Problem = tuple[ErrorCode, str]
NO_TRANSACTIONS: Problem = (ErrorCode.INVALID_TXN_STATE, "transactions are not served here")

_MAGIC = 2
_LENGTH = Struct(">i")
_LENGTH_POSITION, _MAGIC_POSITION, _ATTRIBUTES_POSITION = 8, 16, 22
_TRANSACTIONAL_BIT = 0x10
LENGTH_PREFIX_BYTES = 12
"""A batch is so much longer than it says."""

SMALLEST_HEADER_BYTES = _ATTRIBUTES_POSITION + 1


def problem_of_batch(records: Buffer, position: int = 0) -> Problem | None:
    """Of the batch at ``position``, of which ``SMALLEST_HEADER_BYTES`` are there."""
    if (magic := records[position + _MAGIC_POSITION]) != _MAGIC:
        text = f"records of format {magic}; only format {_MAGIC} is stored here"
        return ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, text
    if records[position + _ATTRIBUTES_POSITION] & _TRANSACTIONAL_BIT:
        return NO_TRANSACTIONS
    return None


def batch_bytes(records: Buffer, position: int = 0) -> int:
    """How long the batch at ``position`` says it is."""
    (length,) = _LENGTH.unpack_from(records, position + _LENGTH_POSITION)
    return int(length) + LENGTH_PREFIX_BYTES


def problem_of_batches(records: Buffer) -> Problem | None:
    """The first of any batch. What is torn or lies about its length is for the log to refuse."""
    position, last = 0, len(records) - SMALLEST_HEADER_BYTES
    while position <= last:
        problem = problem_of_batch(records, position)
        size_bytes = batch_bytes(records, position)
        if problem is not None or size_bytes <= LENGTH_PREFIX_BYTES:
            return problem
        position += size_bytes
    return None


def refused(each: ProducePartition, error: ErrorCode, message: str) -> ProducePartitionResult:
    """What such a partition is answered."""
    return ProducePartitionResult(partition=each.partition, error=error, error_message=message)


def without(partitions: tuple[ProducePartition, ...], parts: Refused) -> tuple[ProducePartition, ...]:
    """The partitions that are left to be carried out."""
    return tuple(each for number, each in enumerate(partitions) if number not in parts)


def merged(results: Sequence[ProducePartitionResult], parts: Refused) -> Sequence[ProducePartitionResult]:
    """One result for each partition that was asked for, in their order."""
    if not parts:
        return results
    others = iter(results)
    count = len(results) + len(parts)
    return tuple(parts[number] if number in parts else next(others) for number in range(count))
