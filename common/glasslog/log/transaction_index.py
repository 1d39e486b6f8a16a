"""The aborted transactions that end in one segment, in memory and on disk as Kafka's ``.txnindex``.

This module knows which of them matter to a reader of a range of offsets; it refuses to know how they came to
be aborted.  Most segments have none, and then there is no file.  Source: Kafka's ``TransactionIndex`` and
``AbortedTxn``; an entry is a big-endian 16-bit version 0 and four 64-bit integers.
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import NamedTuple

from glasslog.common.runtime.protocols import FileSystem

_VERSION = 0
_ENTRY = Struct(">hqqqq")
ENTRY_BYTES = _ENTRY.size


class AbortedTransaction(NamedTuple):
    """One aborted transaction of a producer.

    ``last_offset`` is its marker's; below ``last_stable_offset`` everything was decided once it was aborted.
    """

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class CorruptTransactionIndex(ValueError):  # noqa: N818 - says what the file is
    """Bytes that are no transaction index; the segment tells again what was aborted."""


class TransactionIndex:
    """Aborted transactions in the order of their markers."""

    __slots__ = ("_entries", "_rewrite", "_saved_entries")

    def __init__(self, entries: Iterable[AbortedTransaction] = (), *, saved: bool = False) -> None:
        self._entries = list(entries)
        self._saved_entries = len(self._entries) if saved else 0
        self._rewrite = not saved
        """There may be a file, and it may hold entries that are not (any more) in memory."""

    @property
    def entries(self) -> Sequence[AbortedTransaction]:
        return self._entries

    @classmethod
    def load(
        cls, files: FileSystem, path: str, *, base_offset: int, next_offset: int
    ) -> "TransactionIndex | None":
        """The index on disk, empty when there is no file; None when it can not belong to these offsets."""
        try:
            entries = decode_transaction_index(files.read(path))
        except FileNotFoundError:
            return cls(saved=True)
        except CorruptTransactionIndex:
            return None
        before = base_offset - 1
        for entry in entries:
            if not before < entry.last_offset < next_offset or entry.first_offset > entry.last_offset:
                return None
            before = entry.last_offset
        return cls(entries, saved=True)

    def append(self, entry: AbortedTransaction) -> None:
        self._entries.append(entry)

    def truncate(self, offset: int) -> None:
        """Forget transactions whose marker lies at or after ``offset``."""
        kept = [entry for entry in self._entries if entry.last_offset < offset]
        if len(kept) < len(self._entries):
            self._entries = kept
            self._rewrite = True

    def collect(self, fetch_offset: int, upper_offset: int) -> tuple[list[AbortedTransaction], bool]:
        """Those with records in the range; True when no later segment can have more of them."""
        found = []
        for entry in self._entries:
            if entry.last_offset >= fetch_offset and entry.first_offset < upper_offset:
                found.append(entry)
            if entry.last_stable_offset >= upper_offset:
                return found, True
        return found, False

    def save(self, files: FileSystem, path: str) -> bool:
        """Make the file say what the memory does, writing only what is new; False when it does already.

        Without entries there is no file.  May raise ``OSError``.
        """
        if self._rewrite:
            self._saved_entries = 0
        elif self._saved_entries == len(self._entries):
            return False
        if not self._entries:
            self._rewrite = False
            if files.exists(path):
                files.remove(path)
            return False
        file = files.open(path, create=True)
        try:
            file.truncate(self._saved_entries * ENTRY_BYTES)
            new = encode_transaction_index(self._entries[self._saved_entries :])
            file.pwrite(new, self._saved_entries * ENTRY_BYTES)
        finally:
            file.close()
        self._saved_entries = len(self._entries)
        self._rewrite = False
        return True


def encode_transaction_index(entries: Iterable[AbortedTransaction]) -> bytes:
    """The bytes of a ``.txnindex`` file."""
    return b"".join(_ENTRY.pack(_VERSION, *entry) for entry in entries)


def decode_transaction_index(data: bytes) -> list[AbortedTransaction]:
    """Every entry; raises ``CorruptTransactionIndex`` for a torn entry or an unknown version."""
    if len(data) % ENTRY_BYTES:
        raise CorruptTransactionIndex(f"{len(data)} bytes are no multiple of {ENTRY_BYTES}")
    entries = []
    for version, *fields in _ENTRY.iter_unpack(data):
        if version != _VERSION:
            raise CorruptTransactionIndex(f"version {version} of an entry, only {_VERSION} is known")
        entries.append(AbortedTransaction(*fields))
    return entries
