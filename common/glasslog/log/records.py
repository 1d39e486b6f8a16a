"""Batches of records: build one, decode one, keep a part of one.

This module knows how header, compression and records make a batch; it refuses to know how a record is encoded
(``codec``) and where batches are kept.  Source: Kafka's ``DefaultRecordBatch``.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import (
    HEADER,
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    MAGIC,
    MIN_RECORD_BYTES,
    NO_SEQUENCE,
    BatchHeader,
    Compression,
    CorruptBatch,
    make_attributes,
    validate_batch,
    write_crc,
)
from glasslog.log.codec import CODEC
from glasslog.log.compression import DEFAULT_MAX_BYTES, compress, decompress
from glasslog.log.pure_codec import NO_LIMIT
from glasslog.log.record_types import Headers as Headers
from glasslog.log.record_types import NewRecord as NewRecord
from glasslog.log.record_types import RecordTuple as RecordTuple

_MAX_OFFSET = (1 << 63) - 1
MAX_RECORDS = 2_000_000
"""Of one batch that may become objects at a time: as many empty ones, of 7 bytes, take 300 MB."""

if TYPE_CHECKING:
    from glasslog.log.pure_codec import RecordEncoder
else:
    RecordEncoder = CODEC.encoder


class Record(NamedTuple):
    """One record of a decoded batch (a tuple: consumers make millions of them)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class BatchBuilder(RecordEncoder):
    """Collects records into one batch of at most ``max_bytes`` (a single larger record is taken alone).

    The bound is on the uncompressed size. Keys, values and headers must not change after they were given.
    """

    __slots__ = ("_compression", "_transactional")

    def __init__(
        self,
        max_bytes: int = NO_LIMIT,
        *,
        compression: Compression = Compression.NONE,
        transactional: bool = False,
    ) -> None:
        super().__init__(max_bytes)
        self._compression = compression
        self._transactional = transactional

    def close(
        self,
        *,
        base_offset: int = 0,
        leader_epoch: int = -1,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = NO_SEQUENCE,
        control: bool = False,
    ) -> bytearray:
        """The finished batch; ``set_producer_state`` may rewrite the producer's fields later.

        Raises ``ValueError`` when no record was added.
        """
        if not self.record_count:
            raise ValueError("a batch needs at least one record")
        body = self.body()
        if self._compression is not Compression.NONE:
            body = compress(self._compression, body)
        return seal_batch(
            BatchHeader(
                base_offset=base_offset,
                batch_length=0,
                partition_leader_epoch=leader_epoch,
                magic=MAGIC,
                crc=0,
                attributes=make_attributes(
                    compression=self._compression, transactional=self._transactional, control=control
                ),
                last_offset_delta=self.record_count - 1,
                base_timestamp=self.base_timestamp,
                max_timestamp=self.max_timestamp,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                base_sequence=base_sequence,
                record_count=self.record_count,
            ),
            body,
        )


def seal_batch(header: BatchHeader, body: Buffer) -> bytearray:
    """A whole batch of ``header`` and ``body`` (compressed already), length and checksum filled in."""
    batch = bytearray(
        HEADER.pack(
            header[0], HEADER_BYTES - LENGTH_PREFIX_BYTES + len(body), header[2], MAGIC, 0, *header[5:]
        )
    )
    batch += body
    write_crc(batch, 0, len(batch))
    return batch


def encode_batch(
    records: Sequence[NewRecord],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = NO_SEQUENCE,
    compression: Compression = Compression.NONE,
    transactional: bool = False,
    control: bool = False,
) -> bytearray:
    """One batch of ``records``, which must not be empty (``ValueError``)."""
    builder = BatchBuilder(compression=compression, transactional=transactional)
    builder.extend_many(records)
    return builder.close(
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        control=control,
    )


_new_record = partial(tuple.__new__, Record)


def decode_records(buffer: Buffer, position: int = 0, *, max_bytes: int = DEFAULT_MAX_BYTES) -> list[Record]:
    """The records of the batch at ``position``; see ``decode_fast``, which is a third cheaper."""
    return list(map(_new_record, decode_fast(buffer, position, max_bytes=max_bytes)))


def decode_fast(
    buffer: Buffer, position: int = 0, *, max_bytes: int = DEFAULT_MAX_BYTES
) -> list[RecordTuple]:
    """The records of the batch at ``position`` as plain tuples.

    Raises ``CorruptBatch`` when the checksum, a length or a count is wrong, or when the records would expand
    beyond ``max_bytes``.
    """
    header, data = open_body(buffer, position, max_bytes=max_bytes)
    if header.record_count > MAX_RECORDS:
        raise malformed(header, ValueError(f"{header.record_count} records, at most {MAX_RECORDS} are read"))
    try:
        return CODEC.decode_body(data, header)
    except (IndexError, ValueError) as error:
        raise malformed(header, error) from None


def open_body(buffer: Buffer, position: int, *, max_bytes: int) -> tuple[BatchHeader, bytes]:
    """The header of the batch at ``position`` and its records, expanded; raises ``CorruptBatch``."""
    header = validate_batch(buffer, position)
    body = memoryview(buffer)[position + HEADER_BYTES : position + header.size_bytes]
    data = decompress(header.compression, body, max_bytes=max_bytes)
    where = f"batch at position {position} (base offset {header.base_offset})"
    if header.record_count * MIN_RECORD_BYTES > len(data):
        raise CorruptBatch(f"{where}: {header.record_count} records do not fit in {len(data)} bytes")
    if header.last_offset > _MAX_OFFSET:
        raise CorruptBatch(f"{where}: its last offset does not fit in 64 bits")
    return header, data


def malformed(header: BatchHeader, error: Exception) -> CorruptBatch:
    """What a codec complained of, as the error that callers know."""
    return CorruptBatch(f"batch of base offset {header.base_offset}: malformed record: {error}")
