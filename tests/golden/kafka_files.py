"""The files recorded from a real Kafka, for tests that read them."""

from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "kafka-4.0"
CLEAN = FOLDER / "clean"
LIVE = FOLDER / "live"
DUMP_OF_KAFKA = FOLDER / "kafka-dump-log.txt"


def recorded_files(folder: Path = FOLDER) -> Iterator[Path]:
    """Every recorded file below ``folder``, sorted."""
    roots = (CLEAN, LIVE) if folder == FOLDER else (folder,)
    return (path for root in roots for path in sorted(root.rglob("*")) if path.is_file())
