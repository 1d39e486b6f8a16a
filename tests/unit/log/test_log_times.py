"""Looking up timestamps, and closing segments by age, by the fullness of an index and by size."""

import pytest
from glasslog.common.runtime.memory.files import MemoryFileSystem, Operation
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.records import encode_batch
from hypothesis import given, settings
from hypothesis import strategies as st

PATH = "/data/t-0"
SMALL = LogConfig(segment_bytes=1500, index_interval_bytes=150)


def open_log(files: MemoryFileSystem, config: LogConfig = SMALL, *, clean: bool = False) -> Log:
    return Log.open(files=files, directory=PATH, config=config, clean_shutdown=clean)


def append(log: Log, *timestamps: int, now_ms: int = 0) -> None:
    batch = encode_batch([(timestamp, None, b"v" * 20, ()) for timestamp in timestamps])
    log.append_as_leader(batch, leader_epoch=0, now_ms=now_ms)


@pytest.fixture
def files() -> MemoryFileSystem:
    return MemoryFileSystem()


def model_of_lookup(timestamps: list[int], target: int) -> tuple[int, int] | None:
    return next(((offset, each) for offset, each in enumerate(timestamps) if each >= target), None)


def model_of_largest(timestamps: list[int]) -> tuple[int, int] | None:
    largest = max(timestamps, default=-1)
    return None if largest < 0 else (timestamps.index(largest), largest)


@given(
    batches=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=4), max_size=40),
    ending=st.sampled_from(["open", "close", "kill", "cut", "no index"]),
)
@settings(max_examples=80, deadline=None)
def test_every_lookup_finds_the_first_record_that_is_new_enough(
    batches: list[list[int]], ending: str
) -> None:
    files = MemoryFileSystem()
    log = open_log(files)
    for batch in batches:
        append(log, *batch)
    timestamps = [each for batch in batches for each in batch]
    if ending == "cut":
        log.truncate_to(len(timestamps) // 2)
        timestamps = timestamps[: log.log_end_offset]
    elif ending != "open":
        if ending == "kill":
            log.abandon()
        else:
            log.close()
        for name in files.list(PATH):
            if ending == "no index" and name.endswith(".timeindex"):
                files.remove(f"{PATH}/{name}")
        log = open_log(files, clean=ending != "kill")
    for target in range(52):
        assert log.offset_for_timestamp(target) == model_of_lookup(timestamps, target)
    assert log.offset_of_max_timestamp() == model_of_largest(timestamps)


def test_records_without_timestamps_have_no_largest_one(files: MemoryFileSystem) -> None:
    log = open_log(files)
    append(log, -1)
    assert log.offset_of_max_timestamp() is None
    assert log.offset_for_timestamp(0) is None


def test_deleted_records_are_not_found(files: MemoryFileSystem) -> None:
    log = open_log(files)
    append(log, 50)
    append(log, 10, 20)
    log.log_start_offset = 1
    assert log.offset_for_timestamp(0) == (1, 10)
    assert log.offset_of_max_timestamp() == (2, 20)
    append(log, 30, 5)
    log.log_start_offset = 4
    assert log.offset_of_max_timestamp() == (4, 5)


def test_a_lookup_reads_little_of_a_large_log(files: MemoryFileSystem) -> None:
    """Once it walked every header up to the answer: seconds for a gigabyte, on the loop."""
    config = LogConfig(segment_bytes=100_000, index_interval_bytes=500)
    log = open_log(files, config)
    for number in range(4000):
        append(log, number)
    log.close()
    log = open_log(files, config, clean=True)
    reads: list[str] = []

    def on_operation(operation: Operation, path: str) -> None:
        if operation == "pread" and path.endswith(".log"):
            reads.append(path)

    files.on_operation = on_operation
    assert log.offset_for_timestamp(3000) == (3000, 3000)
    assert len(reads) <= 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[12:24] + data[:12],
        lambda data: b"\xff" * 24,
    ],
)
def test_an_unsound_time_index_is_built_anew(files: MemoryFileSystem, damage: object) -> None:
    assert callable(damage)
    log = open_log(files)
    for number in range(60):
        append(log, number)
    log.close()
    names = [name for name in files.list(PATH) if name.endswith(".timeindex")]
    for name in names:
        files.write_atomic(f"{PATH}/{name}", bytes(damage(files.read(f"{PATH}/{name}"))))
    log = open_log(files, clean=True)
    assert [log.offset_for_timestamp(each) for each in range(60)] == [(each, each) for each in range(60)]


def test_a_time_index_that_was_built_anew_survives_a_power_loss_whole(files: MemoryFileSystem) -> None:
    """Where an operator had removed all indexes they were built anew at the next start, and never synced. A
    power loss left the first part of one: its last entry passed for the segment's largest timestamp, lookups
    went past the segment, and retention would have let it go too early.
    """
    config = LogConfig(segment_bytes=3000, index_interval_bytes=100)
    log = open_log(files, config)
    for number in range(100):
        append(log, number)
    log.close()
    largest = [segment.largest_timestamp() for segment in log.segments]
    for name in files.list(PATH):
        if name.endswith("index"):
            files.remove(f"{PATH}/{name}")
    log = open_log(files, config, clean=True)
    end = log.log_end_offset
    files.sync_dir(PATH)
    files.crash(keep="none")
    log = Log.open(files=files, directory=PATH, config=config, clean_shutdown=False, recovery_point=end)
    reads = list[str]()
    files.on_operation = lambda operation, path: reads.append(path) if operation == "pread" else None
    assert [segment.largest_timestamp() for segment in log.segments[:-1]] == largest[:-1]
    assert not any(path.endswith(".log") for path in reads)


# --- closing segments -------------------------------------------------------------------------------------


def test_a_full_index_closes_the_segment(files: MemoryFileSystem) -> None:
    log = open_log(files, LogConfig(segment_index_bytes=48, index_interval_bytes=0))
    for _ in range(20):
        append(log, 5)
    sizes = [len(files.read(f"{PATH}/{base:020d}.index")) for base in log.segment_base_offsets[:-1]]
    assert sizes
    assert set(sizes) == {48}


def test_a_full_time_index_closes_the_segment_too(files: MemoryFileSystem) -> None:
    log = open_log(files, LogConfig(segment_index_bytes=48, index_interval_bytes=0))
    for number in range(20):
        append(log, number)
    sizes = [len(files.read(f"{PATH}/{base:020d}.timeindex")) for base in log.segment_base_offsets[:-1]]
    assert sizes
    # There is room for the entry that closing it may need, and that it did not need here.
    assert set(sizes) == {36}


def test_jitter_closes_segments_early_but_not_all_at_one_time(files: MemoryFileSystem) -> None:
    ages = set()
    for number in range(20):
        path = f"/data/t-{number}"
        config = LogConfig(segment_ms=1000, segment_jitter_ms=400)
        log = Log.open(files=files, directory=path, config=config, clean_shutdown=False)
        for timestamp in range(0, 1100, 10):
            append(log, timestamp)
            if len(log.segment_base_offsets) == 2:
                ages.add(timestamp)
                break
        else:
            raise AssertionError(f"{path} was not closed by its age")
    assert len(ages) > 5
    assert min(ages) >= 600
    assert max(ages) <= 1010


def test_without_timestamps_the_clock_tells_the_age(files: MemoryFileSystem) -> None:
    log = open_log(files, LogConfig(segment_ms=1000))
    append(log, -1, now_ms=5000)
    append(log, -1, now_ms=6000)
    assert list(log.segment_base_offsets) == [0]
    append(log, -1, now_ms=6001)
    assert list(log.segment_base_offsets) == [0, 2]
