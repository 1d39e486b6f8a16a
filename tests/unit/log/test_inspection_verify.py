"""Verifying whole directories: what is sound stays so, and each kind of damage is named at its place."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from glasslog.common.errors import StorageError
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.checkpoint import write_epochs, write_offsets
from glasslog.log.directory import LogDirectory
from glasslog.log.inspection.directories import DataDirectory, find_directories
from glasslog.log.inspection.dump import DumpOptions
from glasslog.log.inspection.items import Finding, Severity
from glasslog.log.inspection.partition_check import PartitionReport, verify_partition

from tests.golden.kafka_files import CLEAN, LIVE, in_memory
from tests.golden.our_log import write_our_log

OURS = TopicPartition("t", 0)


class Verified(NamedTuple):
    directories: list[DataDirectory]
    reports: dict[str, PartitionReport]

    @property
    def findings(self) -> list[Finding]:
        found = [finding for directory in self.directories for finding in directory.findings]
        return found + [finding for report in self.reports.values() for finding in report.findings]

    @property
    def damage(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity is not Severity.NOTE]

    @property
    def notes(self) -> list[str]:
        return [finding.text for finding in self.findings if finding.severity is Severity.NOTE]


def verify(files: MemoryFileSystem, path: str = "/data", *, deep: bool = True) -> Verified:
    directories = find_directories(files, path)
    options = DumpOptions(records=deep)
    reports = {
        folder: verify_partition(files, folder, directory.claims_of(folder), options)
        for directory in directories
        for folder in directory.partitions
    }
    return Verified(directories, reports)


def our_directory(*, clean: bool = True, recovery_point: int = 0) -> MemoryFileSystem:
    """A data directory with our log of everything in ``t-0``."""
    files = MemoryFileSystem()
    directory = LogDirectory.open(
        files=files, path="/data", cluster_id="c", node_id=1, new_directory_id=bytes(16)
    )
    write_our_log(files, directory.create_partition(OURS, TopicId(bytes(16))))
    directory.write_recovery_points({OURS: recovery_point})
    if clean:
        directory.close()
    else:
        directory.abandon()
    return files


def replace(files: MemoryFileSystem, path: str, change: Callable[[bytes], bytes]) -> None:
    files.write_atomic(path, change(files.read(path)))


@pytest.mark.parametrize("deep", [True, False])
def test_what_kafka_and_we_write_is_sound(deep: bool) -> None:
    for files in (in_memory(CLEAN), in_memory(LIVE), our_directory(), our_directory(clean=False)):
        verified = verify(files, deep=deep)
        assert verified.damage == []
        assert sum(report.records for report in verified.reports.values()) > 30


def test_a_report_sums_a_partition_up() -> None:
    report = verify(our_directory()).reports["/data/t-0"]
    assert (report.segments, report.batches, report.records) == (3, 19, 64)
    assert (report.start_offset, report.end_offset, report.latest_epoch) == (0, 64, 3)


Break = Callable[[MemoryFileSystem], object]

PLAIN = "/data/plain-0/000000000000000000"
TXN = "/data/txn-0/000000000000000000"


@pytest.mark.parametrize(
    ("damage", "path", "position", "offset", "text"),
    [
        (lambda files: files.flip_bit(f"{PLAIN}12.log", 200), f"{PLAIN}12.log", 138, 16, "the checksum is"),
        (
            lambda files: replace(files, f"{PLAIN}12.index", lambda data: data[:7] + b"\x20" + data[8:]),
            f"{PLAIN}12.index",
            0,
            19,
            "position 32, where no batch begins",
        ),
        (
            lambda files: replace(files, f"{PLAIN}12.index", lambda data: data[:3] + b"\5" + data[4:]),
            f"{PLAIN}12.index",
            0,
            17,
            "at the batch of offsets 16 to 19",
        ),
        (
            lambda files: replace(files, f"{PLAIN}00.timeindex", lambda data: data[:7] + b"\1" + data[8:]),
            f"{PLAIN}00.timeindex",
            0,
            7,
            "but up to there the largest in the segment is 1700000001003",
        ),
        (
            lambda files: replace(files, f"{TXN}02.txnindex", lambda data: data[:9] + b"\7" + data[10:]),
            f"{TXN}02.txnindex",
            0,
            5,
            "the marker there is of producer 6, not 7",
        ),
        (
            lambda files: replace(files, f"{TXN}02.txnindex", lambda data: data[34:]),
            f"{TXN}02.txnindex",
            None,
            5,
            "an aborted transaction of producer 6 is not in it",
        ),
        (
            lambda files: files.remove(f"{PLAIN}00.log"),
            "/data/plain-0",
            None,
            12,
            "the first segment begins here, the log at 2 by leader-epoch-checkpoint: records are gone",
        ),
        (
            lambda files: files.remove(f"{PLAIN}12.log"),
            f"{PLAIN}24.log",
            0,
            24,
            "offsets from 12 on are missing",
        ),
        (
            lambda files: files.rename(f"{PLAIN}24.log", f"{PLAIN}22.log"),
            f"{PLAIN}22.log",
            0,
            22,
            "the segment begins here, the one before ends at 24",
        ),
        (
            lambda files: write_epochs(files, "/data/plain-0/leader-epoch-checkpoint", [(0, 2), (4, 28)]),
            f"{PLAIN}24.log",
            138,
            28,
            "the batch is of leader epoch 0, leader-epoch-checkpoint says 4",
        ),
        (
            lambda files: write_epochs(files, "/data/plain-0/leader-epoch-checkpoint", [(0, 2), (4, 40)]),
            "/data/plain-0/leader-epoch-checkpoint",
            None,
            40,
            "epoch 4 begins at offset 40, the log ends at 36",
        ),
        (
            lambda files: files.flip_bit(f"{TXN}14.snapshot", 20),
            f"{TXN}14.snapshot",
            None,
            None,
            "the checksum does not hold",
        ),
        (
            lambda files: write_offsets(
                files, "/data/recovery-point-offset-checkpoint", {TopicPartition("plain", 0): 37}
            ),
            "/data/plain-0",
            None,
            36,
            "below its recovery point 37: synced records are gone",
        ),
        (
            lambda files: replace(files, "/data/replication-offset-checkpoint", lambda data: data + b"x\n"),
            "/data/replication-offset-checkpoint",
            None,
            None,
            "entries announced",
        ),
        (
            lambda files: replace(files, "/data/plain-0/partition.metadata", lambda data: data[:20]),
            "/data/plain-0/partition.metadata",
            None,
            None,
            "topic_id",
        ),
        (
            lambda files: files.rename(f"{PLAIN}12.timeindex", "/data/plain-0/12.timeindex"),
            "/data/plain-0/12.timeindex",
            None,
            None,
            "twenty digits",
        ),
        (
            lambda files: replace(files, f"{PLAIN}24.log", lambda data: data[:-1]),
            f"{PLAIN}24.log",
            276,
            32,
            "the last 137 bytes hold no whole batch",
        ),
    ],
)
def test_damage_is_named_at_its_place(
    damage: Break, path: str, position: int | None, offset: int | None, text: str
) -> None:
    files = in_memory(CLEAN)
    damage(files)
    found = verify(files).damage
    assert found
    matching = [each for each in found if text in each.text]
    assert [(each.path, each.position, each.offset) for each in matching] == [(path, position, offset)]


def tail_of(files: MemoryFileSystem) -> tuple[str, int]:
    name = max(name for name in files.list("/data/t-0") if name.endswith(".log"))
    return f"/data/t-0/{name}", len(files.read(f"/data/t-0/{name}"))


@pytest.mark.parametrize("break_tail", [lambda data: data[:-3], lambda data: data[:-1] + b"\x01"])
def test_what_recovery_would_cut_is_a_note(break_tail: Callable[[bytes], bytes]) -> None:
    files = our_directory(clean=False, recovery_point=62)
    path, size_bytes = tail_of(files)
    replace(files, path, break_tail)
    verified = verify(files)
    assert verified.damage == []
    cut = 78 - (size_bytes - len(files.read(path)))
    assert any(f"recovery would cut the last {cut} bytes" in note for note in verified.notes)


def test_below_the_recovery_point_a_torn_tail_is_damage() -> None:
    files = our_directory(clean=False, recovery_point=64)
    path, _ = tail_of(files)
    replace(files, path, lambda data: data[:-3])
    assert {each.text.partition(";")[0][:30] for each in verify(files).damage} >= {
        "78 bytes long, 75 are there"[:30],
        "the log ends here, below its r",
    }


def test_damage_with_sound_batches_behind_it_is_no_torn_tail() -> None:
    files = our_directory(clean=False)
    path, _ = tail_of(files)
    files.flip_bit(path, 100)
    (found,) = verify(files).damage
    assert (found.path, found.position) == (path, 0)


def test_a_directory_closed_in_order_has_no_torn_tail() -> None:
    files = our_directory(clean=True)
    path, _ = tail_of(files)
    replace(files, path, lambda data: data[:-3])
    assert verify(files).damage


def test_a_node_at_work_is_looked_at_twice() -> None:
    """Half a batch was seen because the other half was written a moment later: that is no damage."""
    files = our_directory(clean=False, recovery_point=64)
    path, _ = tail_of(files)
    whole = files.read(path)
    replace(files, path, lambda data: data[:-3])
    folder = "/data/t-0"
    (directory,) = find_directories(files, "/data")
    looked_at = 0

    def on_bytes(size_bytes: int) -> None:
        nonlocal looked_at
        looked_at += 1
        if looked_at == 18:
            files.write_atomic(path, whole)

    report = verify_partition(files, folder, directory.claims_of(folder), DumpOptions(), on_bytes)
    assert list(report.findings) == []


def test_compaction_may_leave_gaps_between_segments() -> None:
    files = in_memory(CLEAN)
    replace(files, "/data/compacted-0/00000000000000000000.log", lambda data: data[:77])
    for name in ("index", "timeindex"):
        files.remove(f"/data/compacted-0/00000000000000000000.{name}")
    assert verify(files).damage == []


def test_a_partition_alone_is_judged_by_what_its_directory_says() -> None:
    files = in_memory(CLEAN)
    assert verify(files, "/data/plain-0").damage == []
    replace(files, f"{PLAIN}24.log", lambda data: data[:-1])
    assert verify(files, "/data/plain-0").damage
    files.remove("/data/.kafka_cleanshutdown")
    replace(files, "/data/recovery-point-offset-checkpoint", lambda _: b"0\n1\nplain 0 24\n")
    replace(files, "/data/replication-offset-checkpoint", lambda _: b"0\n1\nplain 0 24\n")
    verified = verify(files, "/data/plain-0")
    assert verified.damage == []
    assert sum("recovery would build the index anew" in note for note in verified.notes) == 2


def test_the_directories_of_a_local_cluster_are_found() -> None:
    files = MemoryFileSystem()
    for node in (1, 2):
        root = f"/cluster/broker-{node}/data"
        directory = LogDirectory.open(
            files=files, path=root, cluster_id="c", node_id=node, new_directory_id=bytes(16)
        )
        write_our_log(files, directory.create_partition(OURS, TopicId(bytes(16))))
        directory.close()
        files.write_atomic(f"/cluster/broker-{node}/node.log", b"started\n")
    verified = verify(files, "/cluster/")
    assert [directory.path for directory in verified.directories] == [
        "/cluster/broker-1/data",
        "/cluster/broker-2/data",
    ]
    assert verified.damage == []
    with pytest.raises(StorageError, match="there is no such folder"):
        find_directories(files, "/elsewhere")
    files.make_dirs("/nothing/in/it")
    with pytest.raises(StorageError, match="neither partitions nor data directories"):
        find_directories(files, "/nothing")


def test_leftovers_and_strangers_are_notes() -> None:
    files = in_memory(CLEAN)
    files.write_atomic("/data/plain-0/notes.txt", b"")
    files.remove_tree("/data/codecs-0")
    verified = verify(files)
    assert verified.damage == []
    assert "no file of a log has such a name" in verified.notes
    assert "names codecs-0, which has no folder here" in verified.notes
    assert any(note.startswith("11 files of a deletion") for note in verified.notes)
