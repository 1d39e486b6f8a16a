"""The files recorded from a real Kafka, for tests that read them."""

from collections.abc import Iterator
from pathlib import Path

from glasslog.common.runtime.memory.files import MemoryFileSystem

FOLDER = Path(__file__).resolve().parent / "kafka-4.0"
CLEAN = FOLDER / "clean"
LIVE = FOLDER / "live"
OURS = FOLDER.parent / "ours"
"""A log of ours that Kafka's own tool has read."""

DUMP_OF_KAFKA = "kafka-dump-log.txt"
"""In either folder: what it said."""


def recorded_files(folder: Path = FOLDER) -> Iterator[Path]:
    """Every recorded file below ``folder``, sorted."""
    roots = (CLEAN, LIVE) if folder == FOLDER else (folder,)
    return (path for root in roots for path in sorted(root.rglob("*")) if path.is_file())


def in_memory(folder: Path, root: str = "/data") -> MemoryFileSystem:
    """A copy of the folder that a test may break, at ``root``."""
    files = MemoryFileSystem()
    for path in recorded_files(folder):
        name = f"{root}/{path.relative_to(folder).as_posix()}"
        files.make_dirs(name.rpartition("/")[0])
        files.write_atomic(name, path.read_bytes())
    return files
