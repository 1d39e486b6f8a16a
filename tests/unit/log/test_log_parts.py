"""The log's small parts: index, epochs, producers and their snapshots, checkpoints, data directories."""

import errno
from pathlib import PurePosixPath

import pytest
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError, StorageError
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.batch import BatchHeader, parse_header
from glasslog.log.checkpoint import (
    MetaProperties,
    read_epochs,
    read_meta_properties,
    read_offsets,
    read_topic_id,
    write_epochs,
    write_meta_properties,
    write_offsets,
    write_topic_id,
)
from glasslog.log.config import LogConfig
from glasslog.log.directory import LogDirectory
from glasslog.log.epoch_cache import EpochEndOffset, LeaderEpochCache
from glasslog.log.index import OffsetIndex
from glasslog.log.producer_snapshot import CorruptSnapshot, decode_snapshot, encode_snapshot
from glasslog.log.producer_state import ProducerEntry, ProducerStates, check_sequence, with_batch
from glasslog.log.records import encode_batch
from glasslog.log.recovery_limit import RecoveryLimit
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def files() -> MemoryFileSystem:
    disk = MemoryFileSystem()
    disk.make_dirs("/d")
    return disk


def put(files: MemoryFileSystem, path: str, data: bytes) -> None:
    files.make_dirs(str(PurePosixPath(path).parent))
    files.write_atomic(path, data)


# --- index ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 5000)), max_size=60), st.integers(0, 3000))
def test_index_finds_the_last_boundary_not_after_an_offset(steps: list[tuple[int, int]], asked: int) -> None:
    index, entries, offset, position = OffsetIndex(100), [(99, 0)], 100, 0
    for records, size_bytes in steps:
        offset, position = offset + records, position + size_bytes
        index.append(offset, position)
        entries.append((offset, position))
    assert index.position_before(100 + asked) == max(p for o, p in entries if o <= 100 + asked)
    nearest, *before = index.entries_before(100 + asked)
    assert nearest.position == index.position_before(100 + asked)
    assert [each.position for each in before] == (
        [] if not nearest.position else [max(p for _, p in entries if p < nearest.position)]
    )


def test_index_file_is_kafkas(files: MemoryFileSystem) -> None:
    index = OffsetIndex(1000)
    index.append(1004, 4200)
    index.append(1300, 9000)
    assert index.save(files, "/d/i")
    assert not index.save(files, "/d/i")
    assert files.read("/d/i") == bytes.fromhex("00000004 00001068 0000012c 00002328")
    index.truncate(9000)
    index.append(1200, 9001)
    index.save(files, "/d/i")
    assert files.read("/d/i") == bytes.fromhex("00000004 00001068 000000c8 00002329")
    loaded = OffsetIndex.load(files, "/d/i", base_offset=1000, segment_bytes=10_000)
    assert loaded is not None
    assert loaded.position_before(1250) == 9001


@pytest.mark.parametrize("damage", ["000000", "00000005 00000010 00000005 00000020", "00000001 ffffffff"])
def test_a_damaged_index_is_not_used(files: MemoryFileSystem, damage: str) -> None:
    put(files, "/d/i", bytes.fromhex(damage))
    assert OffsetIndex.load(files, "/d/i", base_offset=0, segment_bytes=1000) is None


def test_an_index_beyond_its_segment_is_not_used(files: MemoryFileSystem) -> None:
    put(files, "/d/i", bytes.fromhex("00000005 00000010"))
    assert OffsetIndex.load(files, "/d/i", base_offset=0, segment_bytes=16) is None
    assert OffsetIndex.load(files, "/d/i", base_offset=0, segment_bytes=17) is not None


# --- epochs -----------------------------------------------------------------------------------------------


def test_end_offsets_of_epochs(files: MemoryFileSystem) -> None:
    cache = LeaderEpochCache(files, "/d/e")
    assert cache.end_offset_for(0, 0) == EpochEndOffset(-1, -1)
    for epoch, start in ((2, 0), (5, 10), (7, 20)):
        cache.assign(epoch, start)
    assert cache.end_offset_for(7, 33) == (7, 33)
    assert cache.end_offset_for(5, 33) == (5, 20)
    assert cache.end_offset_for(6, 33) == (5, 20)  # between two: the earlier one answers (KIP-279)
    assert cache.end_offset_for(4, 33) == (2, 10)
    assert cache.end_offset_for(1, 33) == (1, 0)  # older than all known
    assert cache.end_offset_for(8, 33) == (-1, -1)
    assert cache.end_offset_for(-1, 33) == (-1, -1)
    assert [cache.epoch_at(offset) for offset in (0, 9, 10, 25)] == [2, 2, 5, 7]


def test_assigning_drops_what_contradicts_and_is_written_later(files: MemoryFileSystem) -> None:
    cache = LeaderEpochCache(files, "/d/e")
    for epoch, start in ((1, 0), (2, 10), (3, 20), (3, 25), (5, 20), (4, 15)):
        cache.assign(epoch, start)
    assert cache.entries == ((1, 0), (2, 10), (4, 15))
    assert (files.exists("/d/e"), cache.is_written_below(16)) == (False, False)
    cache.write()
    assert (files.exists("/d/e"), cache.is_written_below(16)) == (True, True)
    assert files.read("/d/e") == b"0\n3\n1 0\n2 10\n4 15\n"
    assert LeaderEpochCache.load(files, "/d/e").entries == cache.entries


def test_an_epoch_without_batches_need_not_be_written(files: MemoryFileSystem) -> None:
    cache = LeaderEpochCache(files, "/d/e")
    cache.assign(1, 0)
    assert cache.is_written_below(0)
    assert not cache.is_written_below(10)
    cache.write()
    cache.assign(4, 10)
    assert cache.is_written_below(10)
    assert not cache.is_written_below(11)
    cache.truncate_from_end(10, write=False)
    assert cache.is_written_below(11)
    cache.assign(5, 0)
    assert not cache.is_written_below(1), "the file still says 1"


def test_truncating_epochs(files: MemoryFileSystem) -> None:
    cache = LeaderEpochCache(files, "/d/e", [(1, 0), (2, 10), (3, 20)])
    cache.truncate_from_start(15)
    assert list(cache.entries) == [(2, 15), (3, 20)]
    cache.truncate_from_end(20)
    assert list(cache.entries) == [(2, 15)]
    cache.truncate_from_start(99)
    assert list(cache.entries) == [(2, 99)]
    cache.clear()
    assert read_epochs(files, "/d/e") == []


def test_epochs_that_go_back_are_damage(files: MemoryFileSystem) -> None:
    write_epochs(files, "/d/e", [(5, 10), (4, 20)])
    with pytest.raises(StorageError, match="/d/e: epoch 4 at 20 follows 5"):
        LeaderEpochCache.load(files, "/d/e")


# --- producers --------------------------------------------------------------------------------------------


def batch_header(
    sequence: int, *, count: int = 1, epoch: int = 0, offset: int = 0, timestamp: int = 1000
) -> BatchHeader:
    return parse_header(
        encode_batch(
            [(timestamp, None, b"v", ())] * count,
            base_offset=offset,
            producer_id=9,
            producer_epoch=epoch,
            base_sequence=sequence,
        )
    )


def known(*headers: BatchHeader) -> ProducerEntry:
    states = ProducerStates()
    for header in headers:
        states.replay(header)
    entry = states.get(9)
    assert entry is not None
    return entry


def refusal(entry: ProducerEntry | None, header: BatchHeader) -> ErrorCode:
    with pytest.raises(GlasslogError) as caught:
        check_sequence(entry, header)
    return caught.value.code


def test_the_last_five_batches_are_recognised() -> None:
    headers = [batch_header(i * 2, count=2, offset=100 + i * 2) for i in range(7)]
    entry = known(*headers)
    for header in headers[2:]:
        duplicate = check_sequence(entry, header)
        assert duplicate is not None
        assert (duplicate.first_offset, duplicate.last_offset) == (header.base_offset, header.last_offset)
        assert duplicate.first_sequence == header.base_sequence
    assert refusal(entry, headers[1]) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check_sequence(entry, batch_header(14)) is None


def test_gaps_and_halves_are_out_of_order() -> None:
    entry = known(batch_header(0, count=3))
    assert refusal(entry, batch_header(4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refusal(entry, batch_header(0, count=2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check_sequence(entry, batch_header(3)) is None


def test_epochs_of_producers() -> None:
    entry = known(batch_header(0, count=3, epoch=4))
    assert refusal(entry, batch_header(3, epoch=3)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert refusal(entry, batch_header(3, epoch=5)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check_sequence(entry, batch_header(0, epoch=5)) is None
    assert len(with_batch(entry, batch_header(0, epoch=5), now_ms=0).batches) == 1
    assert refusal(None, batch_header(-1)) is ErrorCode.INVALID_RECORD


def test_an_unknown_producer_may_begin_anywhere() -> None:
    assert check_sequence(None, batch_header(41)) is None


def test_sequences_wrap() -> None:
    last = (1 << 31) - 1
    entry = known(batch_header(last - 1, count=3))
    assert entry.batches[-1].last_sequence == 0
    assert entry.batches[-1].first_sequence == last - 1
    assert check_sequence(entry, batch_header(1)) is None
    assert check_sequence(entry, batch_header(last - 1, count=3)) is not None


def test_silent_producers_are_forgotten() -> None:
    states = ProducerStates({9: known(batch_header(0, timestamp=1000))})
    assert states.expire(now_ms=1999, expiration_ms=1000) == 0
    assert states.expire(now_ms=2000, expiration_ms=1000) == 1
    assert not len(states)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=40))
def test_snapshots_keep_the_whole_window(steps: list[tuple[int, int]]) -> None:
    states, sequences = ProducerStates(), [0] * 5
    for offset, (producer, count) in enumerate(steps):
        header = batch_header(sequences[producer], count=count, offset=offset * 3)
        states.replay(header._replace(producer_id=producer))
        sequences[producer] += count
    assert decode_snapshot(encode_snapshot(states)).entries == states.entries


def test_snapshot_begins_as_kafkas_does() -> None:
    states = ProducerStates({9: known(batch_header(5, count=3, epoch=2, offset=40, timestamp=0x77))})
    data = encode_snapshot(states)
    assert data[:2] == bytes.fromhex("0001")
    assert data[6:64] == bytes.fromhex(
        "00000001" "0000000000000009" "0002" "00000007" "000000000000002a" "00000002"
        "0000000000000077" "ffffffff" "ffffffffffffffff"
    ) + data[56:64]  # fmt: skip


def test_a_snapshot_without_the_extension_is_read() -> None:
    from crc32c import crc32c

    states = ProducerStates({9: known(batch_header(5), batch_header(6))})
    data = encode_snapshot(states)
    kafkas = data[6:56]
    read = decode_snapshot(b"\x00\x01" + crc32c(kafkas).to_bytes(4, "big") + kafkas)
    entry = read.get(9)
    assert entry is not None
    assert [batch.last_sequence for batch in entry.batches] == [6]


@given(st.integers(0, 200), st.integers(0, 255))
def test_damaged_snapshots_are_refused(position: int, value: int) -> None:
    data = bytearray(encode_snapshot(ProducerStates({9: known(batch_header(5), batch_header(6))})))
    position %= len(data)
    if data[position] == value:
        return
    data[position] = value
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(bytes(data))
    with pytest.raises(CorruptSnapshot):
        decode_snapshot(bytes(data[:position]))


# --- checkpoints ------------------------------------------------------------------------------------------


def test_offset_checkpoints(files: MemoryFileSystem) -> None:
    offsets = {TopicPartition("b", 1): 7, TopicPartition("a", 12): 0}
    write_offsets(files, "/d/c", offsets)
    assert files.read("/d/c") == b"0\n2\na 12 0\nb 1 7\n"
    assert read_offsets(files, "/d/c") == offsets
    assert read_offsets(files, "/d/none") == {}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "line 1"),
        ("1\n0\n", "line 1"),
        ("0\n2\na 0 1\n", "line 2: '2' entries announced, 1 found"),
        ("0\n1\na 0 x\n", "line 3: malformed entry 'a 0 x'"),
        ("0\n1\na 0 -5\n", "line 3"),
        ("0\n1\na 0\n", "line 3"),
    ],
)
def test_a_damaged_checkpoint_names_file_and_line(files: MemoryFileSystem, text: str, where: str) -> None:
    put(files, "/d/c", text.encode())
    with pytest.raises(StorageError, match=f"/d/c: {where}"):
        read_offsets(files, "/d/c")


def test_topic_ids_and_meta_properties(files: MemoryFileSystem) -> None:
    topic_id = TopicId(bytes(range(16)))
    write_topic_id(files, "/d/p", topic_id)
    assert files.read("/d/p") == b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw\n"
    assert read_topic_id(files, "/d/p") == topic_id
    assert read_topic_id(files, "/d/none") is None
    properties = MetaProperties(cluster_id="c", node_id=3, directory_id="x")
    write_meta_properties(files, "/d/m", properties)
    assert read_meta_properties(files, "/d/m") == properties


@pytest.mark.parametrize(
    "text",
    [
        "version=9\n",
        "cluster.id\n",
        "version=1\nnode.id=x\ncluster.id=c\n",
        f"version=1\nnode.id={'9' * 5000}\ncluster.id=c\ndirectory.id=d\n",
    ],
)
def test_damaged_meta_properties(files: MemoryFileSystem, text: str) -> None:
    put(files, "/d/m", text.encode())
    with pytest.raises(StorageError, match="/d/m"):
        read_meta_properties(files, "/d/m")


def test_log_config_names_key_value_and_range() -> None:
    with pytest.raises(ConfigError, match=r"segment\.bytes=3: must be between 256"):
        LogConfig(segment_bytes=3)


# --- data directories -------------------------------------------------------------------------------------


def open_directory(files: MemoryFileSystem, *, cluster_id: str = "c1", node_id: int = 1) -> LogDirectory:
    return LogDirectory.open(
        files=files, path="/data", cluster_id=cluster_id, node_id=node_id, new_directory_id=bytes(16)
    )


def test_a_directory_remembers_whose_it_is(files: MemoryFileSystem) -> None:
    open_directory(files).close()
    with pytest.raises(StorageError, match="belongs to cluster c1, this is cluster c2"):
        open_directory(files, cluster_id="c2")
    with pytest.raises(StorageError, match="belongs to node 1, this is node 2"):
        open_directory(files, node_id=2)
    assert open_directory(files).properties.directory_id == "AAAAAAAAAAAAAAAAAAAAAA"


def test_a_directory_is_used_by_one(files: MemoryFileSystem) -> None:
    directory = open_directory(files)
    with pytest.raises(StorageError, match="/data is in use by another process"):
        open_directory(files)
    directory.abandon()
    open_directory(files)


def test_only_an_orderly_end_is_clean(files: MemoryFileSystem) -> None:
    directory = open_directory(files)
    assert not directory.clean_shutdown
    directory.close(broker_epoch=41)
    directory = open_directory(files)
    assert (directory.clean_shutdown, directory.previous_broker_epoch) == (True, 41)
    files.crash()
    assert not open_directory(files).clean_shutdown


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b'{"brokerEpoch": "x"}', b'{"brokerEpoch": 9223372036854775808}', b"\xff"],
)
def test_a_damaged_word_of_an_orderly_end_tells_no_epoch(files: MemoryFileSystem, content: bytes) -> None:
    """What can not be an epoch ended the broker's start, or its registration."""
    open_directory(files).close(broker_epoch=41)
    put(files, "/data/.kafka_cleanshutdown", content)
    assert open_directory(files).previous_broker_epoch == -1


@pytest.mark.parametrize("content", [b"", b"x", b"-1", b"9" * 5000, b"\xff\x00"])
def test_a_damaged_limit_trusts_nothing(files: MemoryFileSystem, content: bytes) -> None:
    """Of thousands of digits Python makes no number: the error ended the start of the whole broker."""
    put(files, "/d/recovery-point-limit", content)
    assert RecoveryLimit.load(files, "/d", checkpointed=20).recovery_point == 0


def test_an_unwritable_directory_says_why(files: MemoryFileSystem) -> None:
    files.fail_next("make_dirs", "/data", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(StorageError, match=r"/data: can not be created: Permission denied"):
        open_directory(files)
    files.fail_next("lock", "*", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(StorageError, match=r"/data can not be written: Permission denied"):
        open_directory(files)


def test_partitions_are_made_found_and_deleted(files: MemoryFileSystem) -> None:
    directory = open_directory(files)
    first, second = TopicPartition("a-b.c", 0), TopicPartition("a-b.c", 11)
    for partition in (second, first):
        path = directory.create_partition(partition, TopicId(bytes([partition.partition] * 16)))
        put(files, f"{path}/x", b"data")
        files.sync_dir(path)
    directory.write_recovery_points({first: 5, second: 6})
    files.make_dirs("/data/lost+found")
    files.crash()

    directory = open_directory(files)
    assert directory.partitions() == [first, second]
    assert directory.topic_id_of(second) == bytes([11] * 16)
    directory.delete_partition(first, unique=bytes(16))
    assert directory.partitions() == [second]
    assert directory.read_recovery_points() == {second: 6}
    assert [name for name in files.list("/data") if name.endswith("-delete")] == []


def test_a_deletion_that_was_cut_short_is_finished(files: MemoryFileSystem) -> None:
    directory = open_directory(files)
    partition = TopicPartition("t" * 249, 0)
    directory.create_partition(partition, TopicId(bytes(16)))
    files.fail_next("remove_tree", "*", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageError, match="can not be removed: Input/output error"):
        directory.delete_partition(partition, unique=bytes(16))
    left = [name for name in files.list("/data") if name.endswith("-delete")]
    assert [len(name) for name in left] == [255]
    files.crash()
    assert open_directory(files).partitions() == []
    assert [name for name in files.list("/data") if name.endswith("-delete")] == []
