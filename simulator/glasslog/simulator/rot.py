"""A bit of a file that is wrong for a while. Refuses to know who would notice."""

from random import Random

from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import iterate_batches

_GUARDED_FROM = 16
"""Of a batch: before it lie its offset and length, which its neighbours confirm, and the leader epoch."""


def segments(disk: MemoryFileSystem, topic: str) -> list[str]:
    """Segments with records, of all partitions of ``topic``."""
    folders = [f"data/{name}" for name in disk.list("data") if name.rpartition("-")[0] == topic]
    files = [f"{folder}/{file}" for folder in folders for file in disk.list(folder)]
    return [path for path in files if path.endswith(".log") and disk.read(path)]


class BitFlip:
    """Drawn for a segment with records; ``make`` it, then perhaps ``undo`` it."""

    def __init__(self, disk: MemoryFileSystem, path: str, random: Random) -> None:
        self._disk = disk
        self._path = path
        header, at = random.choice(list(iterate_batches(disk.read(path))))
        self._batch = slice(at, at + header.size_bytes)
        self.position = random.randrange(at + _GUARDED_FROM, at + header.size_bytes)
        self._bit = random.randrange(8)
        self._damaged = b""

    def make(self) -> None:
        self._disk.flip_bit(self._path, self.position, bit=self._bit)
        self._damaged = self._content()

    def undo(self) -> bool:
        """Unless the batch is another one by now, or gone; returns whether it was undone."""
        if not self._disk.exists(self._path) or self._content() != self._damaged:
            return False
        self._disk.flip_bit(self._path, self.position, bit=self._bit)
        return True

    def _content(self) -> bytes:
        return self._disk.read(self._path)[self._batch]
