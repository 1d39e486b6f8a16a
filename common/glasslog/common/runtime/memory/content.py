"""One in-memory file's bytes, with what is durable and what a power loss may take.

The current content is one ``bytearray``; beside it stands an undo log of the changes since the last sync.
An append costs one small entry, only overwritten or cut bytes are copied.  Refuses to know names and folders.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

from glasslog.common.runtime.protocols import Buffer, Random

Keep = Literal["none", "all", "torn"]
"""What of the un-synced changes survives a power loss: nothing, all, or a random prefix with a torn end."""

_MERGE_APPENDS_BEYOND = 4_096


@dataclass(slots=True, kw_only=True)
class _Change:
    """``replaced`` stood at ``offset``, the file had ``old_size`` bytes. ``length`` 0 is a truncation."""

    offset: int
    length: int
    replaced: bytes
    old_size: int


class FileContent:
    """The bytes of a file as the page cache and the disk see them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._unsynced: list[_Change] = []
        self.is_cached = True
        """Whether reading need not wait for the disk."""

    @property
    def is_synced(self) -> bool:
        return not self._unsynced

    def write(self, data: Buffer, offset: int) -> int:
        """Put ``data`` at ``offset``, zeros filling a gap; returns its length in bytes."""
        with memoryview(data).cast("B") as view:
            length = len(view)
            if not length:
                return 0
            old_size = len(self.data)
            self._note(offset, length, old_size)
            if offset == old_size:
                self.data += view
                return length
            if offset > old_size:
                self.data.extend(bytes(offset - old_size))
            self.data[offset : offset + length] = view
            return length

    def truncate(self, size: int) -> None:
        old_size = len(self.data)
        if size < old_size:
            cut = bytes(memoryview(self.data)[size:])
            self._unsynced.append(_Change(offset=size, length=0, replaced=cut, old_size=old_size))
            del self.data[size:]
        elif size > old_size:
            self.write(bytes(size - old_size), old_size)

    def sync(self) -> None:
        self._unsynced.clear()

    def flip_bit(self, offset: int, bit: int) -> None:
        self.data[offset] ^= 1 << bit

    def lose_power(self, keep: Keep, random: Random) -> None:
        """Go back to what the disk holds; afterwards that is durable."""
        match keep:
            case "none":
                self._undo_to(0)
            case "all":
                pass
            case "torn":
                self._tear(random)
            case _:
                assert_never(keep)
        self._unsynced.clear()

    def _note(self, offset: int, length: int, old_size: int) -> None:
        if offset >= old_size:
            if len(self._unsynced) > _MERGE_APPENDS_BEYOND and self._merge_append(offset, length):
                return
            self._unsynced.append(_Change(offset=offset, length=length, replaced=b"", old_size=old_size))
            return
        replaced = bytes(memoryview(self.data)[offset : min(offset + length, old_size)])
        self._unsynced.append(_Change(offset=offset, length=length, replaced=replaced, old_size=old_size))

    def _merge_append(self, offset: int, length: int) -> bool:
        """Keep the undo log short: a tear may cut a merged append anywhere all the same."""
        last = self._unsynced[-1]
        if last.replaced or not last.length or last.offset + last.length != offset:
            return False
        last.length += length
        return True

    def _undo_to(self, kept: int) -> None:
        while len(self._unsynced) > kept:
            change = self._unsynced.pop()
            self._restore(change, change.offset, change.old_size)

    def _tear(self, random: Random) -> None:
        if not self._unsynced:
            return
        kept = random.randrange(len(self._unsynced) + 1)
        if kept == len(self._unsynced):
            return
        self._undo_to(kept + 1)
        torn = self._unsynced.pop()
        survived = random.randrange(torn.length + 1)
        end = torn.offset + survived
        self._restore(
            torn, end if survived else torn.offset, max(torn.old_size, end) if survived else torn.old_size
        )

    def _restore(self, change: _Change, start: int, size: int) -> None:
        """Bring back what ``change`` replaced from ``start`` on, and the size."""
        old = change.replaced[start - change.offset :]
        if len(self.data) < size:
            self.data.extend(bytes(size - len(self.data)))
        self.data[start : start + len(old)] = old
        del self.data[size:]
