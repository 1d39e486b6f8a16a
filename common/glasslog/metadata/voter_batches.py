"""Whom a batch of the metadata log names as voters.

Controllers obey it, and brokers read it to know whom they may ask.  This module refuses to know either.
"""

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import BatchHeader, CorruptBatch
from glasslog.log.records import decode_fast
from glasslog.metadata.control_records import (
    KRAFT_VOTERS,
    CorruptControlRecord,
    VotersRecord,
    decode_voters,
    kind_of,
)


def voters_in(data: Buffer, header: BatchHeader, position: int) -> VotersRecord | None:
    """The voters that a batch names; raises ``CorruptBatch``."""
    if not header.is_control:
        return None
    try:
        for _, _, key, value, _ in decode_fast(data, position):
            if kind_of(key) == KRAFT_VOTERS:
                return decode_voters(value)
    except CorruptControlRecord as error:
        raise CorruptBatch(f"batch at offset {header.base_offset}: {error}") from error
    return None
