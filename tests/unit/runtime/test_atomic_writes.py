"""Files that several threads replace at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glasslog.common.runtime.production.files import OsFileSystem

WRITERS, ROUNDS = 2, 100


def test_threads_that_replace_the_same_file_do_not_meet(tmp_path: Path) -> None:
    """All of them wrote into one temporary file. A checkpoint that a thread was writing while the event loop
    took a deleted partition out of it failed for one of them, and a crash in between left it empty.
    """
    path = tmp_path / "checkpoint"
    contents = [str(number).encode() * 1000 for number in range(WRITERS)]

    def write(content: bytes) -> None:
        for _ in range(ROUNDS):
            OsFileSystem().write_atomic(str(path), content)

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, contents))
    assert path.read_bytes() in contents
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]
