"""A copy of a log becomes equal to it, whatever happens to the log meanwhile."""

from glasslog.broker.replica_copy import find_cut, lag, next_batches
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.records import encode_batch
from hypothesis import example, given, settings
from hypothesis import strategies as st

CONFIG = LogConfig(segment_bytes=600)
MOST_STEPS = 500

appends = st.tuples(st.just("append"), st.integers(1, 5))
changes = st.one_of(
    appends,
    appends,
    st.tuples(st.just("epoch"), st.integers(1, 3)),
    st.tuples(st.just("truncate"), st.integers(0, 30)),
    st.tuples(st.just("begin anew"), st.integers(-30, 30)),
    st.tuples(st.just("advance"), st.integers(0, 30)),
    st.tuples(st.just("roll"), st.just(0)),
    st.tuples(st.just("copy"), st.integers(1, 400)),
    st.tuples(st.just("reopen"), st.just(0)),
)


class Pair:
    """A log, its copy, and the epoch that is written under."""

    def __init__(self) -> None:
        self.files = MemoryFileSystem()
        self.original, self.copy = self.open("/d1/t-0"), self.open("/d2/t-0.future")
        self.epoch = 0
        self.serial = 0

    def open(self, directory: str) -> Log:
        return Log.open(
            files=self.files, directory=directory, config=CONFIG, clean_shutdown=False, may_cut_synced=True
        )

    def change(self, what: str, number: int) -> None:
        log = self.original
        match what:
            case "append":
                for _ in range(number):
                    self.serial += 1
                    data = bytearray(encode_batch([(0, None, b"%d" % self.serial, ())] * (1 + number % 3)))
                    log.append_as_leader(data, leader_epoch=self.epoch, now_ms=0)
            case "epoch":
                self.begin_epoch(number)
            case "truncate":
                log.truncate_to(max(log.log_end_offset - number, 0))
                # What was cut is written anew by another leader.
                self.begin_epoch(1)
            case "begin anew":
                log.truncate_fully_and_start_at(max(log.log_end_offset + number, 0))
                self.begin_epoch(1)
            case "advance":
                log.advance_start(min(log.log_start_offset + number, log.log_end_offset))
                log.retire_segments_below(log.log_start_offset)
            case "roll":
                log.roll()
            case "copy":
                self.step(max_bytes=number)
            case _:
                self.copy.abandon()
                self.copy = self.open("/d2/t-0.future")

    def begin_epoch(self, more: int) -> None:
        self.epoch += more
        self.original.start_leader_epoch(self.epoch)

    def step(self, *, max_bytes: int) -> bool:
        """False when nothing is left to be done."""
        cut = find_cut(self.original, self.copy)
        if cut is not None:
            (self.copy.truncate_fully_and_start_at if cut.is_whole else self.copy.truncate_to)(cut.offset)
            return True
        data = next_batches(self.original, self.copy, max_bytes=max_bytes, cached_only=False)
        if data:
            self.copy.append_as_follower(data)
        return bool(data)


def content(log: Log) -> bytes:
    found, offset = b"", log.log_start_offset
    while offset < log.log_end_offset:
        data = bytes(log.read(offset, max_bytes=1 << 20))
        found += data
        offset = log.segments[-1].next_offset if not data else _end_of(log, offset, data)
    return found


def _end_of(log: Log, offset: int, data: bytes) -> int:
    for segment in log.segments:
        if segment.next_offset > offset:
            return segment.next_offset
    return log.log_end_offset


@settings(max_examples=150, deadline=None)
@given(story=st.lists(changes, max_size=40))
@example(story=[("append", 1), ("advance", 1)])
def test_a_copy_becomes_equal_to_its_log(story: list[tuple[str, int]]) -> None:
    """Of a log that began within a batch the copy was emptied again and again, and never had any of it."""
    pair = Pair()
    pair.begin_epoch(0)
    for what, number in story:
        pair.change(what, number)
    steps = 0
    while pair.step(max_bytes=1 << 20):
        steps += 1
        assert steps < MOST_STEPS, "it comes to an end"
    original, copy = pair.original, pair.copy
    assert lag(original, copy) == 0
    copy.advance_start(original.log_start_offset)
    copy.take_over(original)
    assert content(copy) == content(original)
    assert copy.epochs.entries == original.epochs.entries
    copy.close()
    again = pair.open("/d2/t-0.future")
    assert again.log_end_offset == original.log_end_offset
