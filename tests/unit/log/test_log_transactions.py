"""Transactions in a log: what is undecided, what was aborted, and that both survive what happens to a log."""

import pytest
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.markers import EndTransactionMarker, decode_marker, encode_marker
from glasslog.log.records import encode_batch
from glasslog.log.transaction_index import AbortedTransaction
from hypothesis import given, settings
from hypothesis import strategies as st

PATH = "/data/t-0"
SMALL = LogConfig(segment_bytes=1000, index_interval_bytes=200)


def open_log(files: MemoryFileSystem, *, clean: bool = False, recovery_point: int = 0) -> Log:
    return Log.open(
        files=files, directory=PATH, config=SMALL, clean_shutdown=clean, recovery_point=recovery_point
    )


class Producers:
    """Appends transactions of several producers, each with its own sequence."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.sequences: dict[int, int] = {}

    def data(self, producer: int, count: int = 1, *, transactional: bool = True, epoch: int = 0) -> int:
        sequence = self.sequences.get(producer, 0)
        batch = encode_batch(
            [(1000, b"k", b"v" * 20, ())] * count,
            producer_id=producer,
            producer_epoch=epoch,
            base_sequence=sequence,
            transactional=transactional,
        )
        info = self.log.append_as_leader(batch, leader_epoch=0, now_ms=1000)
        self.sequences[producer] = sequence + count
        return info.first_offset

    def end(self, producer: int, *, commit: bool, epoch: int = 0, coordinator_epoch: int = 0) -> int:
        marker = encode_marker(
            EndTransactionMarker(commit, coordinator_epoch),
            producer_id=producer,
            producer_epoch=epoch,
            timestamp_ms=1000,
        )
        return self.log.append_as_leader(
            marker, leader_epoch=0, now_ms=1000, origin_is_client=False
        ).first_offset


@pytest.fixture
def files() -> MemoryFileSystem:
    return MemoryFileSystem()


@pytest.fixture
def log(files: MemoryFileSystem) -> Log:
    return open_log(files)


@pytest.fixture
def producers(log: Log) -> Producers:
    return Producers(log)


def aborted(log: Log, offset: int = 0, upper_offset: int | None = None) -> list[tuple[int, int, int]]:
    upper = log.log_end_offset if upper_offset is None else upper_offset
    return [found[:3] for found in log.aborted_transactions(offset, upper_offset=upper)]


def stable(log: Log) -> int:
    return log.last_stable_offset(high_watermark=log.log_end_offset)


def test_a_marker_says_what_was_written_into_it() -> None:
    for marker in (EndTransactionMarker(True, 7), EndTransactionMarker(False, 0)):
        batch = encode_marker(marker, producer_id=3, producer_epoch=1, timestamp_ms=5)
        assert decode_marker(batch) == marker


def test_without_transactions_everything_below_the_high_watermark_is_stable(
    log: Log, producers: Producers
) -> None:
    producers.data(1, 4, transactional=False)
    assert log.first_unstable_offset is None
    assert log.last_stable_offset(high_watermark=2) == 2
    assert stable(log) == 4


def test_an_open_transaction_holds_readers_back_until_its_marker_is_replicated(
    log: Log, producers: Producers
) -> None:
    producers.data(9, 2, transactional=False)
    first = producers.data(1)
    producers.data(9, transactional=False)
    assert log.first_unstable_offset == first == 2
    marker = producers.end(1, commit=True)
    assert log.last_stable_offset(high_watermark=marker) == first
    assert log.last_stable_offset(high_watermark=marker + 1) == marker + 1
    assert log.first_unstable_offset is None


def test_the_oldest_of_several_transactions_decides(log: Log, producers: Producers) -> None:
    producers.data(1)
    second = producers.data(2)
    producers.data(3)
    producers.end(3, commit=True)
    producers.end(1, commit=True)
    assert stable(log) == second
    producers.end(2, commit=False)
    assert stable(log) == log.log_end_offset


def test_a_marker_without_records_decides_nothing(log: Log, producers: Producers) -> None:
    producers.end(1, commit=False)
    assert aborted(log) == []
    assert stable(log) == 1


def test_aborted_transactions_are_told_to_whom_they_concern(log: Log, producers: Producers) -> None:
    producers.data(1)  # 0
    producers.data(2)  # 1
    producers.end(1, commit=False)  # 2
    producers.data(3)  # 3
    producers.end(2, commit=True)  # 4
    producers.end(3, commit=False)  # 5
    assert log.aborted_transactions(0, upper_offset=6) == (
        AbortedTransaction(producer_id=1, first_offset=0, last_offset=2, last_stable_offset=1),
        AbortedTransaction(producer_id=3, first_offset=3, last_offset=5, last_stable_offset=6),
    )
    assert aborted(log, 0, 3) == [(1, 0, 2)]
    assert aborted(log, 3, 6) == [(3, 3, 5)]
    assert aborted(log, 0, 0) == []


def test_a_transaction_over_several_segments_is_found_by_a_reader_of_each(
    log: Log, producers: Producers
) -> None:
    producers.data(1)
    for _ in range(40):
        producers.data(9, transactional=False)
    marker = producers.end(1, commit=False)
    assert len(log.segment_base_offsets) > 2
    assert aborted(log, 0, 1) == [(1, 0, marker)]
    assert aborted(log, 20, 21) == [(1, 0, marker)]
    assert aborted(log, marker, marker + 1) == [(1, 0, marker)]


def test_refusals_leave_no_trace(log: Log, producers: Producers) -> None:
    producers.data(1, epoch=1)
    producers.end(1, commit=True, epoch=2, coordinator_epoch=5)
    producers.sequences[1] = 0
    producers.data(1, epoch=2)

    def refused(code: ErrorCode, *, epoch: int, coordinator_epoch: int) -> None:
        before = (log.log_end_offset, dict(log.producers.entries), dict(log.producers.ongoing))
        with pytest.raises(GlasslogError) as caught:
            producers.end(1, commit=True, epoch=epoch, coordinator_epoch=coordinator_epoch)
        assert caught.value.code is code
        assert (log.log_end_offset, dict(log.producers.entries), dict(log.producers.ongoing)) == before

    refused(ErrorCode.INVALID_PRODUCER_EPOCH, epoch=1, coordinator_epoch=5)
    refused(ErrorCode.TRANSACTION_COORDINATOR_FENCED, epoch=2, coordinator_epoch=4)
    with pytest.raises(GlasslogError) as caught:
        producers.data(1, epoch=2, transactional=False)
    assert caught.value.code is ErrorCode.INVALID_TXN_STATE


def test_a_producer_with_an_open_transaction_does_not_expire(log: Log, producers: Producers) -> None:
    producers.data(1)
    producers.data(2, transactional=False)
    log.producers.expire(now_ms=10_000_000, expiration_ms=1)
    assert list(log.producers.entries) == [1]
    assert log.first_unstable_offset == 0


def test_a_damaged_marker_is_refused_before_anything_is_written(log: Log, producers: Producers) -> None:
    producers.data(1)
    batch = encode_batch([(1, b"\0\0", b"", ())], producer_id=1, producer_epoch=0, control=True)
    with pytest.raises(GlasslogError) as caught:
        log.append_as_leader(batch, leader_epoch=0, now_ms=0, origin_is_client=False)
    assert caught.value.code is ErrorCode.CORRUPT_MESSAGE
    assert log.log_end_offset == 1


# --- what happens to a log --------------------------------------------------------------------------------


def state(log: Log) -> tuple[object, ...]:
    return (
        log.first_unstable_offset,
        dict(log.producers.ongoing),
        log.aborted_transactions(0, upper_offset=log.log_end_offset),
        {key: entry._replace(timestamp=0, batches=()) for key, entry in log.producers.entries.items()},
    )


def fill(producers: Producers, steps: int) -> None:
    for number in range(steps):
        producers.data(number % 4)
        if number % 3 == 2:
            producers.end((number + 1) % 4, commit=number % 2 == 0)


@pytest.mark.parametrize("how", ["close", "kill", "power loss"])
def test_it_is_the_same_after_a_restart(files: MemoryFileSystem, how: str) -> None:
    log = open_log(files)
    fill(Producers(log), 50)
    log.last_stable_offset(high_watermark=log.log_end_offset)
    before = state(log)
    log.flush()
    recovery_point = log.recovery_point
    if how == "close":
        log.close()
    elif how == "kill":
        log.abandon()
        files.process_kill()
    else:
        files.crash()
    opened = open_log(files, clean=how == "close", recovery_point=recovery_point)
    opened.last_stable_offset(high_watermark=opened.log_end_offset)
    assert state(opened) == before
    assert before[2]


def test_aborts_are_indexed_again_where_recovery_had_to_look(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(Producers(log), 50)
    log.last_stable_offset(high_watermark=log.log_end_offset)
    before = state(log)
    log.abandon()
    for name in files.list(PATH):
        if name.endswith((".txnindex", ".snapshot")):
            files.remove(f"{PATH}/{name}")
    opened = open_log(files)
    opened.last_stable_offset(high_watermark=opened.log_end_offset)
    assert state(opened) == before


def test_an_unsound_transaction_index_is_made_anew(files: MemoryFileSystem) -> None:
    log = open_log(files)
    fill(Producers(log), 50)
    expected = log.aborted_transactions(0, upper_offset=log.log_end_offset)
    log.close()
    names = [name for name in files.list(PATH) if name.endswith(".txnindex")]
    assert names
    for number, name in enumerate(names):
        content = files.read(f"{PATH}/{name}")
        damaged = content[:-3] if number % 2 else b"\x09" + content[1:]
        files.write_atomic(f"{PATH}/{name}", damaged)
    opened = open_log(files, clean=True)
    assert opened.aborted_transactions(0, upper_offset=opened.log_end_offset) == expected


@pytest.mark.parametrize("clean", [True, False])
def test_who_removes_all_indexes_loses_no_aborted_transaction(files: MemoryFileSystem, clean: bool) -> None:
    """To remove a log's indexes, so that they are built anew, is an old trick of Kafka's operators. The
    transactions' were not: without a file nothing had been aborted, and readers of committed records got what
    had been. It must hold for all that follow, too.
    """
    log = open_log(files)
    fill(Producers(log), 50)
    expected = log.aborted_transactions(0, upper_offset=log.log_end_offset)
    log.close()
    end = log.log_end_offset
    for name in files.list(PATH):
        if name.endswith("index"):
            files.remove(f"{PATH}/{name}")
    opened = open_log(files, clean=clean, recovery_point=end)
    assert opened.aborted_transactions(0, upper_offset=end) == expected
    files.crash(keep="none")
    opened = open_log(files, clean=clean, recovery_point=end)
    assert opened.aborted_transactions(0, upper_offset=end) == expected
    opened.close()
    names = files.list(PATH)
    assert sum(name.endswith(".log") for name in names) == sum(name.endswith(".index") for name in names) > 3


def test_a_cut_takes_back_what_lies_above_it(files: MemoryFileSystem) -> None:
    """A marker that a new leader does not have must not count: its transaction is open again."""
    log = open_log(files)
    producers = Producers(log)
    producers.data(1)
    producers.data(2)
    marker = producers.end(1, commit=False)
    log.last_stable_offset(high_watermark=log.log_end_offset)
    log.truncate_to(marker)
    assert log.first_unstable_offset == 0
    assert aborted(log) == []
    log.truncate_to(1)
    assert dict(log.producers.ongoing) == {0: 1}
    log.truncate_fully_and_start_at(100)
    assert log.first_unstable_offset is None


def test_followers_know_the_same(log: Log, producers: Producers) -> None:
    fill(producers, 50)
    follower = open_log(MemoryFileSystem())
    while data := log.read(follower.log_end_offset, max_bytes=400):
        follower.append_as_follower(data, now_ms=1000)
    for replica in (log, follower):
        replica.last_stable_offset(high_watermark=replica.log_end_offset)
    assert state(follower) == state(log)


def test_a_marker_that_can_not_be_read_any_more_stops_the_opening(files: MemoryFileSystem) -> None:
    log = open_log(files)
    producers = Producers(log)
    producers.data(1)
    position = log.size_bytes
    producers.end(1, commit=False)
    log.close()
    files.flip_bit(f"{PATH}/{0:020d}.log", position + 70)
    for name in files.list(PATH):
        if name.endswith(".snapshot"):
            files.remove(f"{PATH}/{name}")
    with pytest.raises(StorageError, match="which transaction ended here is unknown"):
        open_log(files, clean=True)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["data", "commit", "abort", "cut"])), max_size=60)
)
@settings(max_examples=60, deadline=None)
def test_a_log_knows_what_a_walk_over_its_batches_tells(steps: list[tuple[int, str]]) -> None:
    """The model keeps every batch; after each step the log's answers are those of a walk over them."""
    log = open_log(MemoryFileSystem())
    producers = Producers(log)
    history: list[tuple[int, int, str]] = []
    for producer, kind in steps:
        if kind == "data":
            history.append((producers.data(producer), producer, kind))
        elif kind == "cut":
            cut_at = log.log_end_offset * (producer + 1) // 4
            log.truncate_to(cut_at)
            history = [event for event in history if event[0] < cut_at]
            producers.sequences = {
                each: sum(event[1:] == (each, "data") for event in history) for each in range(4)
            }
        else:
            history.append((producers.end(producer, commit=kind == "commit"), producer, kind))
        open_since: dict[int, int] = {}
        expected: list[tuple[int, int, int]] = []
        for offset, who, what in history:
            if what == "data":
                open_since.setdefault(who, offset)
            elif who in open_since:
                first = open_since.pop(who)
                expected += [(who, first, offset)] if what == "abort" else []
        assert aborted(log) == expected
        assert stable(log) == min(open_since.values(), default=log.log_end_offset)
