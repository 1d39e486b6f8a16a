"""The in-memory disk's promises: what a crash takes, what it leaves, and injected faults."""

import errno
import itertools
from contextlib import suppress

import pytest
from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.content import FileContent, Keep
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.protocols import File
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def disk() -> MemoryFileSystem:
    files = MemoryFileSystem()
    files.make_dirs("/data")
    files.sync_dir("/")
    return files


def _durable_file(disk: MemoryFileSystem, path: str, data: bytes) -> File:
    file = disk.open(path, create=True)
    file.pwrite(data, 0)
    file.sync()
    disk.sync_dir("/data")
    return file


def test_power_loss_takes_unsynced_data_and_keeps_synced(disk: MemoryFileSystem) -> None:
    file = _durable_file(disk, "/data/log", b"synced")
    file.pwrite(b" lost", 6)
    file.pwrite(b"S", 0)
    disk.crash()
    assert disk.read("/data/log") == b"synced"


def test_power_loss_undoes_a_truncation(disk: MemoryFileSystem) -> None:
    file = _durable_file(disk, "/data/log", b"0123456789")
    file.truncate(3)
    file.pwrite(b"abcdefghijklmn", 3)
    file.truncate(5)
    disk.crash()
    assert disk.read("/data/log") == b"0123456789"


def test_a_created_file_needs_its_folder_synced(disk: MemoryFileSystem) -> None:
    file = disk.open("/data/log", create=True)
    file.pwrite(b"synced", 0)
    file.sync()
    disk.crash()
    assert not disk.exists("/data/log")


def test_a_synced_name_without_synced_data_is_an_empty_file(disk: MemoryFileSystem) -> None:
    disk.open("/data/log", create=True).pwrite(b"data", 0)
    disk.sync_dir("/data")
    disk.crash()
    assert disk.read("/data/log") == b""


def test_renames_and_removals_need_their_folder_synced(disk: MemoryFileSystem) -> None:
    _durable_file(disk, "/data/a", b"a")
    _durable_file(disk, "/data/b", b"b")
    disk.rename("/data/a", "/data/b")
    disk.crash()
    assert [disk.read("/data/a"), disk.read("/data/b")] == [b"a", b"b"]
    disk.remove("/data/a")
    disk.crash()
    assert disk.exists("/data/a")
    disk.remove("/data/a")
    disk.sync_dir("/data")
    disk.crash()
    assert not disk.exists("/data/a")


def test_a_removed_folder_comes_back_whole_unless_synced(disk: MemoryFileSystem) -> None:
    disk.make_dirs("/data/p")
    disk.sync_dir("/data")
    disk.write_atomic("/data/p/x", b"x")
    disk.remove_tree("/data/p")
    disk.crash()
    assert disk.read("/data/p/x") == b"x"


def test_write_atomic_is_durable_at_once(disk: MemoryFileSystem) -> None:
    disk.write_atomic("/data/meta", b"1")
    disk.write_atomic("/data/meta", b"2")
    disk.crash()
    assert disk.read("/data/meta") == b"2"
    assert disk.list("/data") == ["meta"]


def test_keep_all_keeps_everything(disk: MemoryFileSystem) -> None:
    disk.open("/data/log", create=True).pwrite(b"unsynced", 0)
    disk.crash(keep="all")
    assert disk.read("/data/log") == b"unsynced"
    disk.crash(keep="none")
    assert disk.read("/data/log") == b"unsynced"


def test_a_torn_crash_leaves_a_prefix_of_the_writes(disk: MemoryFileSystem) -> None:
    seen = set()
    for seed in range(60):
        files = MemoryFileSystem()
        file = files.open("/log", create=True)
        file.pwrite(b"AAAA", 0)
        file.sync()
        files.sync_dir("/")
        file.pwrite(b"bbbb", 4)
        file.pwrite(b"cc", 1)
        files.crash(SeededRandom(seed), keep="torn")
        seen.add(files.read("/log"))
    states = [b"AAAA", b"AAAAb", b"AAAAbb", b"AAAAbbb", b"AAAAbbbb", b"AcAAbbbb", b"AccAbbbb"]
    assert seen == set(states)


def test_a_kill_keeps_data_and_ends_handles_and_locks(disk: MemoryFileSystem) -> None:
    view = disk.process_view()
    view.lock("/data/.lock")
    file = view.open("/data/log", create=True)
    file.pwrite(b"unsynced", 0)
    disk.process_kill()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.pwrite(b"from the grave", 0)
    with pytest.raises(OSError, match="Input/output error"):
        view.write_atomic("/data/clean-shutdown", b"")
    file.close()
    assert disk.read("/data/log") == b"unsynced"
    disk.process_view().lock("/data/.lock").release()


def test_injected_failures_happen_once_and_before_any_effect(disk: MemoryFileSystem) -> None:
    file = disk.open("/data/log", create=True)
    disk.fail_next("sync", "/data/*", OSError(errno.EIO, "Input/output error"))
    disk.fail_next("pwrite", "/other/*", OSError(errno.EIO, "never"))
    file.pwrite(b"x", 0)
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    file.sync()
    disk.fail_next("*", "/data/*", OSError(errno.EIO, "dead disk"), times=None)
    for _ in range(3):
        with pytest.raises(OSError, match="dead disk"):
            disk.read("/data/log")
    disk.clear_failures()
    assert disk.read("/data/log") == b"x"


def test_a_full_disk_takes_what_fits(disk: MemoryFileSystem) -> None:
    file = disk.open("/data/log", create=True)
    disk.capacity_bytes = 10
    file.pwrite(b"12345678", 0)
    with pytest.raises(OSError, match="No space left") as caught:
        file.pwrite(b"abcd", 8)
    assert caught.value.errno == errno.ENOSPC
    assert file.pread(100, 0) == b"12345678ab"
    assert disk.used_bytes() == 10
    file.pwrite(b"XX", 0)
    file.truncate(4)
    file.pwrite(b"abcd", 4)
    disk.capacity_bytes = None
    file.pwrite(b"x" * 100, 8)


def test_a_flipped_bit_stays(disk: MemoryFileSystem) -> None:
    _durable_file(disk, "/data/log", b"\x00\x00")
    disk.flip_bit("/data/log", 1, bit=7)
    disk.crash()
    assert disk.read("/data/log") == b"\x00\x80"


_KEEPS: tuple[Keep, ...] = ("none", "all", "torn")


def test_a_node_can_be_stopped_between_any_two_steps() -> None:
    """Replacing a small file must leave the old or the new content, wherever the power fails."""
    outcomes = set()
    for keep, stop_at in itertools.product(_KEEPS, range(10)):
        disk = MemoryFileSystem()
        disk.write_atomic("/meta", b"old")
        steps = itertools.count()

        def stop(operation: str, path: str, steps: "itertools.count[int]" = steps, at: int = stop_at) -> None:
            if next(steps) == at:
                raise InterruptedError(operation)

        disk.on_operation = stop
        with suppress(InterruptedError):
            disk.write_atomic("/meta", b"new")
        disk.on_operation = None
        disk.crash(SeededRandom(stop_at), keep=keep)
        outcomes.add(disk.read("/meta"))
    assert outcomes == {b"old", b"new"}


_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40), st.binary(min_size=1, max_size=12)),
        st.tuples(st.just("truncate"), st.integers(0, 40), st.just(b"")),
        st.tuples(st.just("sync"), st.just(0), st.just(b"")),
    ),
    max_size=30,
)


def _apply(state: bytes, kind: str, offset: int, data: bytes) -> bytes:
    if kind == "write":
        padded = state.ljust(offset, b"\0")
        return padded[:offset] + data + padded[offset + len(data) :]
    return state[:offset].ljust(offset, b"\0") if kind == "truncate" else state


@given(operations=_OPERATIONS, seed=st.integers(0, 1 << 30), keep=st.sampled_from(["none", "all", "torn"]))
def test_a_crash_leaves_a_state_that_the_writes_passed_through(
    operations: list[tuple[str, int, bytes]], seed: int, keep: str
) -> None:
    content = FileContent()
    state = durable = b""
    possible = {b""}
    for kind, offset, data in operations:
        match kind:
            case "write":
                content.write(data, offset)
                possible |= {_apply(state, kind, offset, data[:cut]) for cut in range(1, len(data))}
            case "truncate":
                content.truncate(offset)
                if offset > len(state):
                    possible |= {state.ljust(size, b"\0") for size in range(len(state), offset)}
            case _:
                content.sync()
                durable, possible = state, set()
        state = _apply(state, kind, offset, data)
        possible.add(state)
        assert bytes(content.data) == state
    match keep:
        case "none":
            content.lose_power("none", SeededRandom(seed))
            assert bytes(content.data) == durable
        case "all":
            content.lose_power("all", SeededRandom(seed))
            assert bytes(content.data) == state
        case _:
            content.lose_power("torn", SeededRandom(seed))
            assert bytes(content.data) in possible | {durable}
    assert content.is_synced


def test_appends_stay_cheap_and_crash_right_however_many() -> None:
    content = FileContent()
    for number in range(20_000):
        content.write(b"%04d" % (number % 10_000), len(content.data))
    assert len(content._unsynced) < 5_000
    content.lose_power("none", SeededRandom(1))
    assert content.data == b""
