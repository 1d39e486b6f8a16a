"""What was sent, what came back, and the verdict on the difference.

Pure bookkeeping. It counts a *re-delivery* (the same offset handed out again after a rebalance: allowed,
shown apart) separately from a *doubled* record (one record at two offsets: never allowed). It refuses to know
where records come from, and believes nothing but bytes: every file is compared by its SHA-256.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glasslog.client.cli.demo.source import SourceFile
from glasslog.client.types import Headers

FetchedRecord = tuple[int, int, bytes | None, bytes | None, Headers]
"""Offset, timestamp, key, value, headers, as ``Consumer.poll_batches`` gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A file that did not come back as it was sent."""

    key: bytes
    lost: int
    doubled: int
    foreign: int

    def __str__(self) -> str:
        name = self.key.decode("utf-8", "replace")
        if not (self.lost or self.doubled or self.foreign):
            return f"{name}: every line is there, in another order"
        return f"{name}: {self.lost} lost, {self.doubled} doubled, {self.foreign} never sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All files compared. ``clean`` only if every byte of every file is there once, in order."""

    files: int
    records: int
    size_bytes: int
    redelivered: int
    differences: tuple[Difference, ...]

    @property
    def lost(self) -> int:
        return sum(difference.lost for difference in self.differences)

    @property
    def doubled(self) -> int:
        return sum(difference.doubled for difference in self.differences)

    @property
    def clean(self) -> bool:
        return not self.differences


class Ledger:
    """The two sides of the demo's account. Memory is that of the data."""

    def __init__(self) -> None:
        self._sent: dict[bytes, tuple[bytes, int]] = {}
        self._received: defaultdict[bytes | None, list[bytes | None]] = defaultdict(list)
        self._next_offset: dict[int, int] = {}
        self.sent_records = 0
        self.sent_bytes = 0
        self.received_records = 0
        self.received_bytes = 0
        self.redelivered = 0

    def sent(self, file: SourceFile) -> None:
        """The producer was given every line of ``file``."""
        self._sent[file.key] = (file.sha256, len(file.lines))
        self.sent_records += len(file.lines)
        self.sent_bytes += file.size_bytes

    def received(self, partition: int, records: Sequence[FetchedRecord]) -> None:
        """A consumer was given a run of records of one partition, offsets ascending."""
        known = self._next_offset.get(partition, 0)
        if records and records[0][0] < known:
            fresh = [record for record in records if record[0] >= known]
            self.redelivered += len(records) - len(fresh)
            records = fresh
        if not records:
            return
        files, size_bytes = self._received, 0
        for _, _, key, value, _ in records:
            files[key].append(value)
            size_bytes += len(value or b"")
        self._next_offset[partition] = records[-1][0] + 1
        self.received_records += len(records)
        self.received_bytes += size_bytes

    def next_offset(self, partition: int) -> int:
        """The offset after the last one received."""
        return self._next_offset.get(partition, 0)

    @property
    def complete(self) -> bool:
        """Whether as many records have come back as were sent; what they are is for ``compare``."""
        return self.received_records >= self.sent_records

    def compare(self, read_again: Callable[[bytes], SourceFile]) -> Comparison:
        """Every file against what was sent; ``read_again`` fetches the lines of one that differs."""
        differences = [
            _difference(key, self._received.get(key, []), read_again)
            for key, (sha256, lines) in self._sent.items()
            if not _same(self._received.get(key, []), sha256, lines)
        ]
        differences += [
            Difference(key=key or b"(no key)", lost=0, doubled=0, foreign=len(values))
            for key, values in self._received.items()
            if key not in self._sent
        ]
        return Comparison(
            files=len(self._sent),
            records=self.sent_records,
            size_bytes=self.sent_bytes,
            redelivered=self.redelivered,
            differences=tuple(differences),
        )


def _same(values: Sequence[bytes | None], sha256: bytes, lines: int) -> bool:
    if len(values) != lines or None in values:
        return False
    digest = hashlib.sha256()
    for value in values:
        assert value is not None
        digest.update(value)
    return digest.digest() == sha256


def _difference(
    key: bytes, values: Sequence[bytes | None], read_again: Callable[[bytes], SourceFile]
) -> Difference:
    sent: Counter[bytes | None] = Counter(read_again(key).lines)
    came = Counter(values)
    surplus = came - sent
    return Difference(
        key=key,
        lost=(sent - came).total(),
        doubled=sum(count for value, count in surplus.items() if value in sent),
        foreign=sum(count for value, count in surplus.items() if value not in sent),
    )
