"""A log against a model of it, on a disk that loses power between and within operations.

The model is a list of batches; a crash may take those that were not flushed, from the end, and no other.
"""

import random
from dataclasses import dataclass, field

import pytest
from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.files import MemoryFileSystem, Operation
from glasslog.log.batch import iterate_batches, parse_header
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.producer_state import ProducerStates
from glasslog.log.records import encode_batch
from hypothesis import given, settings
from hypothesis import strategies as st

PATH = "/data/t-0"
CONFIG = LogConfig(segment_bytes=700, index_interval_bytes=100)
STEPS = 60


class PowerLoss(BaseException):
    """Raised out of a file operation: nothing of the process goes on."""


@dataclass(slots=True)
class Model:
    """What must be in the log: whole batches, and how many of them a crash may not take."""

    batches: list[bytes] = field(default_factory=list)
    start: int = 0
    durable_end: int = 0

    @property
    def end(self) -> int:
        return parse_header(self.batches[-1]).next_offset if self.batches else self.start

    def truncate(self, offset: int) -> None:
        while self.batches and parse_header(self.batches[-1]).next_offset > offset:
            self.batches.pop()
        self.durable_end = min(self.durable_end, self.end)


class Run:
    """One random history."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.files = MemoryFileSystem(random=SeededRandom(seed))
        self.files.on_operation = self.on_operation
        self.operations_left = -1
        self.model = Model()
        self.checkpoint = 0
        self.epoch = 0
        self.sequences = {1: 0, 2: 0, 3: 0}
        self.log = self.open(clean=False)
        self.actions = (
            *(self.append, self.append, self.append, self.flush, self.truncate, self.reset),
            *(self.reopen, self.kill, self.crash, self.write_checkpoint),
        )

    def on_operation(self, operation: Operation, path: str) -> None:
        if self.operations_left == 0:
            raise PowerLoss
        self.operations_left -= 1

    def open(self, *, clean: bool) -> Log:
        return Log.open(
            files=self.files,
            directory=PATH,
            config=CONFIG,
            clean_shutdown=clean,
            recovery_point=self.checkpoint,
        )

    # --- steps ------------------------------------------------------------------------------------------

    def step(self) -> None:
        if self.random.random() < 0.15:
            self.operations_left = self.random.randrange(8)
        try:
            self.random.choice(self.actions)()
        except PowerLoss:
            self.crash()
        self.operations_left = -1

    def append(self) -> None:
        for _ in range(self.random.randrange(1, 6)):
            self.epoch += self.random.random() < 0.1
            count = self.random.randrange(1, 4)
            producer = self.random.choice([-1, 1, 2, 3])
            sequence = self.sequences[producer] if producer > 0 else -1
            data = encode_batch(
                [(1000, None, bytes(self.random.randrange(80)), ())] * count,
                base_offset=self.log.log_end_offset,
                leader_epoch=self.epoch,
                producer_id=producer,
                producer_epoch=0 if producer > 0 else -1,
                base_sequence=sequence,
            )
            # What a crash within the append leaves may be there or not.
            self.model.batches.append(bytes(data))
            if self.random.random() < 0.5:
                self.log.append_as_leader(data, leader_epoch=self.epoch, now_ms=0)
            else:
                self.log.append_as_follower(bytes(data))
            if producer > 0:
                self.sequences[producer] += count

    def flush(self) -> None:
        self.log.flush()
        self.model.durable_end = self.model.end
        assert self.log.recovery_point == self.model.end

    def write_checkpoint(self) -> None:
        self.checkpoint = self.log.recovery_point

    def truncate(self) -> None:
        end = self.model.end
        offset = self.random.randrange(max(self.model.start, end - 30), end + 1)
        # A crash within the truncation may leave any end from here on: only what is below is promised.
        self.model.durable_end = min(self.model.durable_end, self.lowest_end(offset))
        self.log.truncate_to(offset)
        self.model.truncate(offset)
        self.model.durable_end = min(self.model.durable_end, self.model.end)
        self.forget_sequences()

    def lowest_end(self, offset: int) -> int:
        ends = [self.model.start, *(parse_header(batch).next_offset for batch in self.model.batches)]
        return max(end for end in ends if end <= max(offset, self.model.start))

    def reset(self) -> None:
        if self.random.random() < 0.9:
            return
        offset = self.random.randrange(self.model.end + 50)
        before = self.model
        self.model = Model(start=offset, durable_end=offset)
        try:
            self.log.truncate_fully_and_start_at(offset)
        except PowerLoss:
            before.durable_end = before.start
            self.crash_between(before, self.model)
        self.forget_sequences()

    def reopen(self) -> None:
        self.log.close()
        self.checkpoint = self.log.recovery_point
        self.model.durable_end = self.model.end
        self.log = self.open(clean=True)

    def kill(self) -> None:
        self.log.abandon()
        self.files.process_kill()
        self.log = self.open(clean=False)

    def crash(self) -> None:
        self.operations_left = -1
        keep: Keep = self.random.choice(["none", "all", "torn"])
        self.files.crash(keep=keep)
        self.log = self.open(clean=False)
        self.adopt()

    def crash_between(self, before: Model, after: Model) -> None:
        """The reset either happened or it did not; a part of the old log may be all that is left of it."""
        self.operations_left = -1
        self.files.crash(keep=self.random.choice(["none", "all", "torn"]))
        self.log = self.open(clean=False)
        if self.log.log_end_offset != after.start or self.log.size_bytes:
            self.model = before
            if not self.log.size_bytes:
                self.model = Model(start=self.log.log_start_offset)
        self.adopt()

    def adopt(self) -> None:
        """The log may have lost what was not durable, from the end, at a batch boundary."""
        end = self.log.log_end_offset
        assert end >= self.model.durable_end
        self.model.truncate(end)
        # A truncation that power loss undid leaves more durable than was promised; the log may know.
        self.model.durable_end = max(self.model.durable_end, self.log.recovery_point)
        self.forget_sequences()

    def forget_sequences(self) -> None:
        """Producers go on where the log says they are."""
        self.sequences = dict.fromkeys(self.sequences, 0)
        for batch in self.model.batches:
            header = parse_header(batch)
            if header.producer_id > 0:
                self.sequences[header.producer_id] = header.last_sequence + 1
        self.epoch = max(self.epoch, self.log.latest_epoch)

    # --- what must hold ---------------------------------------------------------------------------------

    def check(self) -> None:
        log, model = self.log, self.model
        assert log.log_end_offset == model.end
        assert log.log_start_offset == model.start
        assert b"".join(model.batches) == self.read_all()
        assert log.size_bytes == sum(map(len, model.batches))
        assert log.recovery_point <= max(model.durable_end, model.start)
        assert list(log.epochs.entries) == self.expected_epochs()
        expected = ProducerStates()
        for batch in model.batches:
            expected.replay(parse_header(batch))
        assert log.producers.entries == expected.entries

    def expected_epochs(self) -> list[tuple[int, int]]:
        epochs: list[tuple[int, int]] = []
        for batch in self.model.batches:
            header = parse_header(batch)
            if not epochs or epochs[-1][0] < header.partition_leader_epoch:
                epochs.append((header.partition_leader_epoch, header.base_offset))
        return epochs

    def read_all(self) -> bytes:
        found, offset = bytearray(), self.log.log_start_offset
        max_bytes = self.random.randrange(1, 2000)
        while data := self.log.read(offset, max_bytes=max_bytes):
            headers = [header for header, _ in iterate_batches(data)]
            assert len(data) <= max_bytes or len(headers) == 1
            found += data
            offset = headers[-1].next_offset
        return bytes(found)


def run(seed: int) -> None:
    history = Run(seed)
    for _ in range(STEPS):
        history.step()
        history.check()


@given(st.integers(min_value=0, max_value=1 << 32))
@settings(max_examples=150, deadline=None)
def test_a_log_is_its_model_whatever_fails(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_histories_every_time(seed: int) -> None:
    run(seed)
