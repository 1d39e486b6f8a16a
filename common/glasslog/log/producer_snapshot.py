"""The ``.snapshot`` file: producer state as of an offset, so that opening a log need not replay all of it.

This module knows the file's format; it refuses to know when snapshots are taken.  The format is Kafka's
(version 1, CRC-32C, one fixed-size entry per producer with its last batch), followed by an extension that
Kafka's reader passes over: the batches before the last one, so that the whole window survives a restart.
Source: Kafka's ``ProducerStateManager`` (``ProducerSnapshot``).
"""

from struct import Struct
from struct import error as struct_error

from glasslog.common.ids import NO_OFFSET
from glasslog.log.batch import NO_SEQUENCE
from glasslog.log.checksum import crc32c
from glasslog.log.producer_state import ProducedBatch, ProducerEntry, ProducerStates

_VERSION = 1
_HEAD = Struct(">hIi")
_CRC_END = 6
_ENTRY = Struct(">qhiqiqiq")
_EXTENSION_MAGIC = b"glasslog-window\x01"
_COUNT = Struct(">i")
_EARLIER = Struct(">qiqiq")


class CorruptSnapshot(ValueError):  # noqa: N818 - says what the file is
    """A snapshot that can not be used; the log is replayed instead."""


def encode_snapshot(states: ProducerStates) -> bytes:
    """The bytes of a ``.snapshot`` file."""
    body = bytearray(_COUNT.pack(len(states)))
    earlier = bytearray()
    earlier_count = 0
    for producer_id, entry in states.entries.items():
        last = entry.batches[-1] if entry.batches else None
        body += _ENTRY.pack(
            producer_id,
            entry.producer_epoch,
            last.last_sequence if last else NO_SEQUENCE,
            last.last_offset if last else NO_OFFSET,
            last.offset_delta if last else 0,
            entry.timestamp,
            entry.coordinator_epoch,
            entry.transaction_start,
        )
        for batch in entry.batches[:-1]:
            earlier += _EARLIER.pack(producer_id, *batch)
            earlier_count += 1
    body += _EXTENSION_MAGIC + _COUNT.pack(earlier_count) + earlier
    return _HEAD.pack(_VERSION, crc32c(body), len(states))[:_CRC_END] + bytes(body)


def decode_snapshot(data: bytes) -> ProducerStates:
    """Producer state from a file's bytes, Kafka's or ours; raises ``CorruptSnapshot``."""
    try:
        return _decode(data)
    except struct_error:
        raise CorruptSnapshot("it ends too early") from None


def _decode(data: bytes) -> ProducerStates:
    version, crc, count = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise CorruptSnapshot(f"version {version}")
    if crc32c(memoryview(data)[_CRC_END:]) != crc:
        raise CorruptSnapshot("the checksum does not hold")
    position = _HEAD.size
    if not 0 <= count <= (len(data) - position) // _ENTRY.size:
        raise CorruptSnapshot(f"{count} entries in {len(data)} bytes")
    earlier = _decode_extension(data, position + count * _ENTRY.size)
    entries = {}
    for _ in range(count):
        producer_id, epoch, sequence, offset, delta, timestamp, coordinator_epoch, start = _ENTRY.unpack_from(
            data, position
        )
        position += _ENTRY.size
        batches = tuple(earlier.get(producer_id, ()))
        if sequence != NO_SEQUENCE:
            batches += (ProducedBatch(sequence, offset, delta, timestamp),)
        entries[producer_id] = ProducerEntry(epoch, batches, timestamp, coordinator_epoch, start)
    return ProducerStates(entries)


def _decode_extension(data: bytes, position: int) -> dict[int, list[ProducedBatch]]:
    earlier: dict[int, list[ProducedBatch]] = {}
    if data[position : position + len(_EXTENSION_MAGIC)] != _EXTENSION_MAGIC:
        return earlier
    position += len(_EXTENSION_MAGIC)
    (count,) = _COUNT.unpack_from(data, position)
    position += _COUNT.size
    if count * _EARLIER.size != len(data) - position:
        raise CorruptSnapshot(f"{count} earlier batches in {len(data) - position} bytes")
    for producer_id, *batch in _EARLIER.iter_unpack(data[position:]):
        earlier.setdefault(producer_id, []).append(ProducedBatch(*batch))
    return earlier
