"""A segment's batches one after the other, each checked as far as its own bytes tell.

This module knows the frame of batches, their checksums and their order; it refuses to look at records and at
other files.  Where no batch can begin it looks for the next sound one, so that damage in the middle hides
nothing behind it.
"""

from collections.abc import Iterator

from glasslog.common.errors import StorageError
from glasslog.log.batch import (
    ATTRIBUTES_POSITION,
    HEADER_BYTES,
    LENGTH_PREFIX_BYTES,
    MAGIC,
    BatchHeader,
    Compression,
    CorruptBatch,
    check_header,
    parse_header,
)
from glasslog.log.inspection.items import Finding, SeenBatch, Severity
from glasslog.log.inspection.source import WINDOW_BYTES, Source

MAX_BODY_BYTES = 64 * 1024 * 1024
"""A larger batch is checked, but not taken into memory whole."""

DELETE_HORIZON_BIT = 0x40
"""The cleaner's note that ``base_timestamp`` is when tombstones and markers may go (KIP-534)."""

_MAGIC_POSITION = 16
_KNOWN_ATTRIBUTES = 0x7F
_SEARCH_BUDGET = 4
"""How many times its own size all searches for a next batch in a file may cost."""

_CANDIDATE_COST_BYTES = 256
"""What a look at one place that may be a batch counts, on top of the bytes of its checksum."""


class SegmentWalk:
    """Iterates over batches and findings, in the order of the file.

    ``base_offset`` is the one in the file's name, or None.  ``want_body`` asks for each batch's bytes.
    Batches that end before ``from_offset`` are walked, but neither summed up nor handed out.
    """

    def __init__(
        self,
        source: Source,
        *,
        base_offset: int | None = None,
        from_offset: int = 0,
        want_body: bool = False,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._source = source
        self._search = BatchSearch(source)
        self._from_offset = from_offset
        self._want_body = want_body
        self._max_body_bytes = max_body_bytes
        self._epoch = -1
        self.position = 0
        """Where the next batch begins, in the end the size of the file."""
        self.next_offset = base_offset
        """The offset after the last batch; None before the first one of a file without a name."""

    def __iter__(self) -> Iterator[SeenBatch | Finding]:
        retried = False
        while self.position < self._source.size_bytes or self._has_grown():
            try:
                header = self._header()
            except CorruptBatch as error:
                if not retried and self._may_have_changed():
                    retried = True
                    continue
                yield from self._damaged(error)
                continue
            retried = False
            batch = self._batch(header)
            yield from self._order(header)
            if not batch.crc_holds and self._may_have_changed():
                batch = self._batch(header)
            if not batch.crc_holds:
                yield self._finding(
                    f"the checksum is {batch.computed_crc:#010x}, the header says {header.crc:#010x}",
                    offset=header.base_offset,
                )
            if header.last_offset >= self._from_offset:
                yield batch
            self.position += header.size_bytes
            self.next_offset = header.next_offset

    # --- one batch --------------------------------------------------------------------------------------

    def _header(self) -> BatchHeader:
        header = parse_header(self._source.read(self.position, HEADER_BYTES))
        available = self._source.size_bytes - self.position
        check_header(header, position=self.position, available_bytes=available)
        return header

    def _batch(self, header: BatchHeader) -> SeenBatch:
        size_bytes = header.size_bytes
        if header.last_offset < self._from_offset:
            return SeenBatch(header, self.position, None, None)
        body = None
        if self._want_body and size_bytes <= self._max_body_bytes:
            body = self._source.read(self.position, size_bytes)
        start = self.position + ATTRIBUTES_POSITION
        crc = self._source.checksum(start, size_bytes - ATTRIBUTES_POSITION)
        return SeenBatch(header, self.position, crc, body)

    def _order(self, header: BatchHeader) -> Iterator[Finding]:
        offset = header.base_offset
        if self.next_offset is not None and offset < self.next_offset:
            yield self._finding(
                f"begins at offset {offset}, although offsets below {self.next_offset} are taken",
                offset=offset,
            )
        epoch = header.partition_leader_epoch
        if epoch < self._epoch:
            yield self._finding(f"leader epoch {epoch} comes after {self._epoch}", offset=offset)
        self._epoch = max(self._epoch, epoch)
        if header.attributes & 0x07 > Compression.ZSTD:
            yield self._finding(f"unknown compression codec {header.attributes & 0x07}", offset=offset)

    def _finding(
        self, text: str, *, offset: int | None = None, severity: Severity = Severity.DAMAGE
    ) -> Finding:
        return Finding(
            path=self._source.path, text=text, position=self.position, offset=offset, severity=severity
        )

    # --- a file that is being written -------------------------------------------------------------------

    def _has_grown(self) -> bool:
        return self._source.measure() > self.position

    def _may_have_changed(self) -> bool:
        """Whether the file was written to since it was read: a node may be busy with it."""
        before = self._source.size_bytes
        self._source.forget()
        return self._source.measure() != before

    # --- where no batch can begin -----------------------------------------------------------------------

    def _damaged(self, error: CorruptBatch) -> Iterator[Finding]:
        left = self._source.size_bytes - self.position
        if left <= 0:
            return
        found = self._search.find(self.position + 1, lowest_offset=self.next_offset or 0)
        if found is not None:
            yield self._finding(
                f"{_without_position(error)}; {found - self.position} bytes can not be read, "
                f"the next sound batch begins at position {found}",
                offset=self.next_offset,
            )
            self.position = found
            return
        yield self._finding(
            f"{_without_position(error)}; the last {left} bytes hold no whole batch",
            offset=self.next_offset,
            severity=Severity.TORN,
        )
        self.position += left


def _without_position(error: CorruptBatch) -> str:
    """The finding says where; the codec's sentence need not say it again."""
    _, found, text = str(error).partition(": ")
    return text if found else str(error)


class BatchSearch:
    """Looks for sound batches where the frame is lost.

    A file made to look like batches everywhere can not make this take long: all searches in one file together
    give up when looking at what could be a batch has cost several times the file.
    """

    __slots__ = ("_budget", "_source")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._budget = _SEARCH_BUDGET * max(source.size_bytes, WINDOW_BYTES)

    def find(self, start: int, *, lowest_offset: int) -> int | None:
        """The first position from ``start`` on where a sound batch begins, None when there is none."""
        source, position = self._source, start
        while position + HEADER_BYTES <= source.size_bytes:
            window = source.read(position, min(WINDOW_BYTES, source.size_bytes - position))
            at = window.find(MAGIC, _MAGIC_POSITION)
            while at != -1 and at - _MAGIC_POSITION + HEADER_BYTES <= len(window):
                candidate = position + at - _MAGIC_POSITION
                size_bytes = _plausible(source, window, at - _MAGIC_POSITION, candidate, lowest_offset)
                self._budget -= size_bytes + _CANDIDATE_COST_BYTES
                if self._budget < 0:
                    return None
                if size_bytes and _is_sound(source, candidate, size_bytes):
                    return candidate
                at = window.find(MAGIC, at + 1)
            position += max(1, len(window) - HEADER_BYTES + 1)
        return None


def _plausible(source: Source, window: bytes, at: int, candidate: int, lowest_offset: int) -> int:
    """The size of what may be a batch at ``candidate``, 0 when it can not be one."""
    header = parse_header(window, at)
    try:
        check_header(header, position=candidate, available_bytes=source.size_bytes - candidate)
    except CorruptBatch:
        return 0
    far = not lowest_offset <= header.base_offset <= lowest_offset + (1 << 31)
    strange = header.attributes & ~_KNOWN_ATTRIBUTES or header.attributes & 0x07 > Compression.ZSTD
    return 0 if far or strange else header.batch_length + LENGTH_PREFIX_BYTES


def _is_sound(source: Source, position: int, size_bytes: int) -> bool:
    try:
        header = parse_header(source.read(position, HEADER_BYTES))
        crc = source.checksum(position + ATTRIBUTES_POSITION, size_bytes - ATTRIBUTES_POSITION)
    except (CorruptBatch, StorageError):
        return False
    return crc == header.crc
