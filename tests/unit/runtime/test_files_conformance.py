"""What both file systems, the OS's and the in-memory one, must do alike."""

import errno
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.common.runtime.protocols import Buffer, FileSystem


@dataclass(frozen=True, slots=True)
class Place:
    """A file system and a folder in it to play in."""

    files: FileSystem
    folder: str

    def path(self, *names: str) -> str:
        return posixpath.join(self.folder, *names)


def _memory_place(_: Path) -> Place:
    files = MemoryFileSystem()
    files.make_dirs("/data")
    return Place(files, "/data")


def _os_place(tmp_path: Path) -> Place:
    return Place(OsFileSystem(), str(tmp_path))


@pytest.fixture(params=[_memory_place, _os_place], ids=["memory", "os"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    make: Callable[[Path], Place] = request.param
    return make(tmp_path)


def test_write_read_and_size(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    assert file.pwrite(b"hello", 0) == 5
    assert file.pwrite(memoryview(b"world"), 5) == 5
    assert file.pwrite(bytearray(b"J"), 0) == 1
    assert file.pwrite(b"", 100) == 0
    assert file.size() == 10
    assert file.pread(100, 0) == b"Jelloworld"
    assert file.pread(3, 8) == b"ld"
    assert file.pread(3, 10) == b""
    file.sync()
    file.close()
    assert place.files.read(place.path("a")) == b"Jelloworld"


def test_write_beyond_the_end_leaves_zeros(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    file.pwrite(b"x", 3)
    assert file.pread(10, 0) == b"\0\0\0x"
    file.close()


def test_what_was_just_written_is_in_the_cache(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    file.pwrite(b"hello", 0)
    found = file.pread_cached(5, 0)
    assert found is not None
    assert bytes(found) == b"hello"
    beyond = file.pread_cached(100, 3)
    assert beyond is not None
    assert bytes(beyond) == b"lo"
    file.close()


def test_parts_are_written_one_after_the_other(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    parts: list[Buffer] = [b"ab", memoryview(b"-cd-")[1:3], bytearray(b"efg")]
    assert file.pwritev(parts, 1) == 7
    assert file.pread(10, 0) == b"\0abcdefg"
    file.close()


def test_truncate_cuts_and_grows(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    file.pwrite(b"hello", 0)
    file.truncate(2)
    assert file.pread(10, 0) == b"he"
    file.truncate(4)
    assert file.pread(10, 0) == b"he\0\0"
    file.close()


def test_open_without_create_needs_the_file(place: Place) -> None:
    with pytest.raises(FileNotFoundError):
        place.files.open(place.path("missing"))
    with pytest.raises(FileNotFoundError):
        place.files.read(place.path("missing"))
    with pytest.raises(FileNotFoundError):
        place.files.open(place.path("no-folder", "file"), create=True)


def test_open_again_sees_the_same_bytes(place: Place) -> None:
    first = place.files.open(place.path("a"), create=True)
    second = place.files.open(place.path("a"), create=True)
    first.pwrite(b"shared", 0)
    assert second.pread(6, 0) == b"shared"
    first.close()
    second.close()


def test_read_only_refuses_writes(place: Place) -> None:
    place.files.write_atomic(place.path("a"), b"data")
    file = place.files.open(place.path("a"), read_only=True)
    assert file.pread(4, 0) == b"data"
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.pwrite(b"x", 0)
    with pytest.raises(OSError, match="Invalid argument"):
        file.truncate(0)
    file.close()


def test_a_closed_file_refuses_everything_and_closes_twice(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    file.close()
    file.close()
    for call in (
        file.size,
        file.begin_sync,
        file.sync,
        lambda: file.pread(1, 0),
        lambda: file.pwrite(b"x", 0),
    ):
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_a_sync_that_was_begun_changes_nothing(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    file.pwrite(b"first", 0)
    file.begin_sync()
    file.pwrite(b"second", 5)
    file.begin_sync()
    file.sync()
    assert file.pread(100, 0) == b"firstsecond"
    file.close()


def test_negative_offsets_are_invalid(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    for call in (lambda: file.pread(1, -1), lambda: file.pwrite(b"x", -1), lambda: file.truncate(-1)):
        with pytest.raises(OSError, match="Invalid argument"):
            call()
    file.close()


def test_write_atomic_replaces(place: Place) -> None:
    place.files.write_atomic(place.path("a"), b"a long first version")
    place.files.write_atomic(place.path("a"), b"second")
    assert place.files.read(place.path("a")) == b"second"
    assert place.files.list(place.folder) == ["a"]


def test_folders(place: Place) -> None:
    place.files.make_dirs(place.path("x", "y"))
    place.files.make_dirs(place.path("x", "y"))
    place.files.write_atomic(place.path("x", "b"), b"")
    place.files.write_atomic(place.path("x", "a"), b"")
    assert place.files.list(place.path("x")) == ["a", "b", "y"]
    assert place.files.is_dir(place.path("x", "y"))
    assert not place.files.is_dir(place.path("x", "a"))
    assert place.files.exists(place.path("x", "a"))
    assert not place.files.exists(place.path("x", "z"))
    assert not place.files.exists(place.path("x", "a", "below-a-file"))
    place.files.sync_dir(place.path("x"))
    place.files.remove_tree(place.path("x"))
    assert not place.files.exists(place.path("x"))


def test_folder_errors(place: Place) -> None:
    place.files.write_atomic(place.path("file"), b"")
    place.files.make_dirs(place.path("folder"))
    with pytest.raises(FileExistsError):
        place.files.make_dirs(place.path("file"))
    with pytest.raises(NotADirectoryError):
        place.files.make_dirs(place.path("file", "below"))
    with pytest.raises(NotADirectoryError):
        place.files.list(place.path("file"))
    with pytest.raises(FileNotFoundError):
        place.files.list(place.path("missing"))
    with pytest.raises(IsADirectoryError):
        place.files.remove(place.path("folder"))
    with pytest.raises(IsADirectoryError):
        place.files.open(place.path("folder"))
    with pytest.raises(NotADirectoryError):
        place.files.open(place.path("file", "below"), create=True)
    with pytest.raises(FileNotFoundError):
        place.files.remove(place.path("missing"))
    with pytest.raises(FileNotFoundError):
        place.files.remove_tree(place.path("missing"))
    with pytest.raises(NotADirectoryError):
        place.files.remove_tree(place.path("file"))
    with pytest.raises(FileNotFoundError):
        place.files.sync_dir(place.path("missing"))


def test_rename(place: Place) -> None:
    place.files.write_atomic(place.path("a"), b"a")
    place.files.write_atomic(place.path("b"), b"b")
    place.files.rename(place.path("a"), place.path("b"))
    assert place.files.read(place.path("b")) == b"a"
    place.files.make_dirs(place.path("folder", "below"))
    place.files.rename(place.path("b"), place.path("folder", "b"))
    place.files.rename(place.path("folder"), place.path("moved"))
    assert place.files.list(place.path("moved")) == ["b", "below"]
    assert place.files.list(place.folder) == ["moved"]


def test_rename_errors(place: Place) -> None:
    place.files.make_dirs(place.path("full", "below"))
    place.files.make_dirs(place.path("empty"))
    place.files.write_atomic(place.path("file"), b"")
    with pytest.raises(FileNotFoundError):
        place.files.rename(place.path("missing"), place.path("x"))
    with pytest.raises(OSError, match="Directory not empty"):
        place.files.rename(place.path("empty"), place.path("full"))
    with pytest.raises(IsADirectoryError):
        place.files.rename(place.path("file"), place.path("empty"))
    with pytest.raises(NotADirectoryError):
        place.files.rename(place.path("empty"), place.path("file"))
    with pytest.raises(OSError, match="Invalid argument"):
        place.files.rename(place.path("full"), place.path("full", "below", "x"))


def test_a_removed_file_lives_on_for_its_handles(place: Place) -> None:
    file = place.files.open(place.path("a"), create=True)
    place.files.remove(place.path("a"))
    file.pwrite(b"still here", 0)
    assert file.pread(5, 0) == b"still"
    file.close()
    assert place.files.list(place.folder) == []


def test_a_lock_excludes_until_released(place: Place) -> None:
    lock = place.files.lock(place.path(".lock"))
    with pytest.raises(BlockingIOError):
        place.files.lock(place.path(".lock"))
    lock.release()
    lock.release()
    again = place.files.lock(place.path(".lock"))
    lock.release()
    with pytest.raises(BlockingIOError):
        place.files.lock(place.path(".lock"))
    again.release()
