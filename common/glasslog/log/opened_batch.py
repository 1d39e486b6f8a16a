"""A batch opened for compaction and for a leader's checks: its keys, and a batch of some of its records.

This module knows what has to stay when records leave a batch: offsets, the producer's fields, the
transaction. It refuses to know which records should.  Source: Kafka's ``MemoryRecords.filterTo``, KIP-534.
"""

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import (
    COMPRESSION_MASK,
    DELETE_HORIZON_BIT,
    BatchHeader,
    Compression,
    TimestampType,
)
from glasslog.log.codec import CODEC
from glasslog.log.compression import DEFAULT_MAX_BYTES, compress
from glasslog.log.record_types import RecordKey, RecordTuple, Survey
from glasslog.log.records import malformed, open_body, seal_batch


class OpenedBatch:
    """One batch, checked and expanded. Methods raise ``CorruptBatch`` where its records are malformed."""

    __slots__ = ("_data", "header")

    def __init__(self, buffer: Buffer, position: int = 0, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Open the batch at ``position``; raises ``CorruptBatch`` as ``decode_fast`` does."""
        self.header, self._data = open_body(buffer, position, max_bytes=max_bytes)

    def records(self) -> list[RecordTuple]:
        """Every record."""
        try:
            return CODEC.decode_body(self._data, self.header)
        except (IndexError, ValueError) as error:
            raise malformed(self.header, error) from None

    def keys(self) -> list[RecordKey]:
        """Of every record its offset, its key, and whether it has a value: much cheaper than ``records``."""
        try:
            return CODEC.read_keys(self._data, self.header)
        except (IndexError, ValueError) as error:
            raise malformed(self.header, error) from None

    def survey(self) -> Survey:
        """Lowest and highest timestamp and how many records have no key, without making the records.

        Of a batch of none, the lowest timestamp is above the highest.
        """
        try:
            return CODEC.survey_records(self._data, self.header)
        except (IndexError, ValueError) as error:
            raise malformed(self.header, error) from None

    def recompressed(self, compression: Compression, *, max_timestamp: int) -> bytearray:
        """The same records in a batch of another compression, with the highest timestamp that was found."""
        attributes = self.header.attributes & ~COMPRESSION_MASK | compression
        header = self.header._replace(attributes=attributes, max_timestamp=max_timestamp)
        return seal_batch(header, compress(compression, self._data))

    def filtered(self, keep: bytes, *, delete_horizon_ms: int | None = None) -> bytearray:
        """A batch of the records whose byte in ``keep`` (one each, in order) is not zero.

        Offsets, compression, producer and transaction stay; a batch of no record keeps them too, so that the
        producer's sequence and the offsets survive.  ``delete_horizon_ms``: when tombstones and markers in it
        may go, written into the base timestamp (KIP-534); None leaves what there is.  Raises ``ValueError``
        when ``keep`` has not one byte for each record.
        """
        header = self.header
        if len(keep) != header.record_count:
            raise ValueError(f"{len(keep)} decisions on {header.record_count} records")
        base_timestamp, attributes = header.base_timestamp, header.attributes
        if delete_horizon_ms is not None:
            base_timestamp, attributes = delete_horizon_ms, attributes | DELETE_HORIZON_BIT
        try:
            chosen = CODEC.select_records(self._data, header, keep, base_timestamp)
        except (IndexError, ValueError, OverflowError) as error:
            raise malformed(header, error) from None
        max_timestamp = chosen.max_timestamp
        if header.timestamp_type is TimestampType.LOG_APPEND_TIME or not chosen.record_count:
            max_timestamp = header.max_timestamp
        compression = header.compression if chosen.record_count else Compression.NONE
        new = header._replace(
            attributes=attributes & ~COMPRESSION_MASK | compression,
            base_timestamp=base_timestamp,
            max_timestamp=max_timestamp,
            record_count=chosen.record_count,
        )
        return seal_batch(new, compress(compression, chosen.body))


def emptied(header: BatchHeader) -> bytearray:
    """A batch of no record that keeps offsets, producer and transaction of ``header``."""
    return seal_batch(header._replace(attributes=header.attributes & ~COMPRESSION_MASK, record_count=0), b"")
