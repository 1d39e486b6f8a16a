"""Transaction markers: the control batches that say how a producer's transaction ended.

This module knows a marker's bytes; it refuses to know who writes it and what follows from it.
Source: KIP-98, Kafka's ``ControlRecordType`` and ``EndTransactionMarker``.
"""

from struct import Struct
from typing import NamedTuple

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import BatchHeader, CorruptBatch
from glasslog.log.records import decode_fast, encode_batch

_KEY = Struct(">hh")
_VALUE = Struct(">hi")
_VERSION = 0
_ABORT, _COMMIT = 0, 1


class EndTransactionMarker(NamedTuple):
    """How a transaction ended, by the word of a coordinator in its ``coordinator_epoch``."""

    is_commit: bool
    coordinator_epoch: int


def is_marker_batch(header: BatchHeader) -> bool:
    """Whether the batch may hold a marker: control batches without a producer are others' (raft's)."""
    return header.producer_id >= 0 and header.is_control


def encode_marker(
    marker: EndTransactionMarker, *, producer_id: int, producer_epoch: int, timestamp_ms: int
) -> bytearray:
    """The control batch of one marker, to be appended by a leader."""
    key = _KEY.pack(_VERSION, _COMMIT if marker.is_commit else _ABORT)
    value = _VALUE.pack(_VERSION, marker.coordinator_epoch)
    return encode_batch(
        [(timestamp_ms, key, value, ())],
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )


def decode_marker(buffer: Buffer, position: int = 0) -> EndTransactionMarker | None:
    """The marker of the control batch at ``position``; None for a control record of another type.

    Raises ``CorruptBatch``.  Longer keys and values of later versions are read as far as they are known.
    """
    records = decode_fast(buffer, position)
    if not records:
        return None
    _, _, key, value, _ = records[0]
    if key is None or len(key) < _KEY.size:
        raise CorruptBatch(f"control batch at position {position}: its key is too short")
    _, kind = _KEY.unpack_from(key)
    if kind not in (_ABORT, _COMMIT):
        return None
    if value is None or len(value) < _VALUE.size:
        raise CorruptBatch(f"control batch at position {position}: the marker's value is too short")
    _, coordinator_epoch = _VALUE.unpack_from(value)
    return EndTransactionMarker(kind == _COMMIT, coordinator_epoch)
