"""A producer against leaders that die, move and answer late never doubles a record, nor changes the order.

The model is one partition's log as brokers keep it: Kafka's rules for sequence numbers with a window of five
batches, an append that may be followed by any answer or none, connections that break with requests under way.
"""

from collections import deque
from dataclasses import dataclass, field

from glasslog.client.pending_batch import Delivered, PendingBatch
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import TransportError
from glasslog.log.batch import NO_SEQUENCE, parse_header
from glasslog.log.records import decode_fast
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.client.test_accumulator import make

PARTITION = TopicPartition("t", 0)
NODES = (NodeId(1), NodeId(2))
WINDOW = 5


@dataclass(slots=True)
class ProducerEntry:
    epoch: int
    last_sequence: int
    window: deque[tuple[int, int, int]]
    """First and last sequence, base offset."""


@dataclass(slots=True)
class ModelLog:
    """One partition, shared by its replicas."""

    records: list[bytes] = field(default_factory=list)
    producers: dict[int, ProducerEntry] = field(default_factory=dict)

    def append(self, payload: bytes) -> int | ErrorCode:
        header = parse_header(payload)
        values = [record[3] or b"" for record in decode_fast(payload)]
        if header.base_sequence == NO_SEQUENCE:
            return self._write(values)
        entry = self.producers.get(header.producer_id)
        if entry is None:
            entry = ProducerEntry(header.producer_epoch, -1, deque(maxlen=WINDOW))
        elif header.producer_epoch < entry.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        elif header.producer_epoch > entry.epoch:
            if header.base_sequence != 0:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            entry = ProducerEntry(header.producer_epoch, -1, deque(maxlen=WINDOW))
        else:
            for first, last, offset in entry.window:
                if (first, last) == (header.base_sequence, header.last_sequence):
                    return offset
            if header.base_sequence != entry.last_sequence + 1:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        offset = self._write(values)
        entry.last_sequence = header.last_sequence
        entry.window.append((header.base_sequence, header.last_sequence, offset))
        self.producers[header.producer_id] = entry
        return offset

    def _write(self, values: list[bytes]) -> int:
        offset = len(self.records)
        self.records += values
        return offset


class Model:
    """Two brokers, a connection to each, and the producer's core."""

    def __init__(self) -> None:
        self.accumulator = make(batch_size=90)
        self.log = ModelLog()
        self.leader = NODES[0]
        self.known_leader = NODES[0]
        self.now_ms = 0
        self.sent = 0
        self.requests: dict[NodeId, deque[PendingBatch]] = {node: deque() for node in NODES}
        self.answers: dict[NodeId, deque[tuple[PendingBatch, int | ErrorCode]]] = {n: deque() for n in NODES}
        self.batches: dict[int, PendingBatch] = {}

    def produce(self) -> None:
        for _ in range(3):
            value = b"%06d" % self.sent
            batch = self.accumulator.append(PARTITION, (0, None, value, ()), now_ms=self.now_ms)
            self.batches[self.sent] = batch
            self.sent += 1

    def send(self) -> None:
        drained = self.accumulator.drain(
            self.now_ms,
            leader_of=lambda partition: self.known_leader,
            room=lambda node: 5 - len(self.requests[node]) - len(self.answers[node]),
        )
        for node, batches in drained.requests:
            self.requests[node].extend(batches)

    def handle(self, node: NodeId, verdict: ErrorCode | None, *, appends: bool) -> None:
        """The broker deals with the oldest request; ``verdict`` in place of what it found, if any."""
        if not self.requests[node]:
            return
        batch = self.requests[node].popleft()
        result: int | ErrorCode = ErrorCode.NOT_LEADER_OR_FOLLOWER
        if node == self.leader:
            result = self.log.append(bytes(batch.payload)) if appends or verdict is None else 0
            if verdict is not None and not isinstance(result, ErrorCode):
                result = verdict
        self.answers[node].append((batch, result))

    def answer(self, node: NodeId) -> None:
        if not self.answers[node]:
            return
        batch, result = self.answers[node].popleft()
        if isinstance(result, ErrorCode):
            self.accumulator.on_error(batch, GlasslogError(result), now_ms=self.now_ms)
        else:
            self.accumulator.on_delivered(batch, base_offset=result, now_ms=self.now_ms)

    def break_connection(self, node: NodeId) -> None:
        under_way = [*(batch for batch, _ in self.answers[node]), *self.requests[node]]
        self.answers[node].clear()
        self.requests[node].clear()
        for batch in under_way:
            self.accumulator.on_error(batch, TransportError("broken"), now_ms=self.now_ms)

    def step(self, action: int) -> None:
        node = NODES[action % 2]
        match action // 2:
            case 0 | 1:
                self.produce()
            case 2 | 3 | 4:
                self.send()
            case 5 | 6:
                self.handle(node, None, appends=True)
            case 7 | 8:
                self.answer(node)
            case 9:
                self.break_connection(node)
            case 10:
                self.leader = node
            case 11:
                self.known_leader = self.leader
            case 12:
                self.handle(node, ErrorCode.NOT_ENOUGH_REPLICAS, appends=False)
            case 13:
                self.handle(node, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, appends=True)
            case 14:
                self.handle(node, ErrorCode.REQUEST_TIMED_OUT, appends=True)
            case 15:
                self.handle(node, ErrorCode.MESSAGE_TOO_LARGE, appends=False)
            case _:
                self.now_ms += 60
                self.accumulator.expire(self.now_ms)

    def heal(self) -> None:
        self.known_leader = self.leader
        for _ in range(2_000):
            if not self.accumulator.unfinished_batches:
                return
            self.now_ms += 1
            self.send()
            for node in NODES:
                self.handle(node, None, appends=True)
                self.answer(node)
        raise AssertionError("not everything has an outcome")


actions = st.lists(st.integers(0, 33), max_size=150)


@settings(max_examples=300, deadline=None)
@given(actions)
def test_nothing_is_doubled_or_reordered_and_acknowledged_records_are_there(steps: list[int]) -> None:
    model = Model()
    for step in steps:
        model.step(step)
    model.heal()
    found = [int(value) for value in model.log.records]
    assert found == sorted(set(found)), "doubled or out of order"
    missing = set(range(model.sent)) - set(found)
    for number in missing:
        assert not isinstance(model.batches[number].outcome, Delivered), f"record {number} was acknowledged"
    # What was acknowledged with an offset is at that offset.
    for number, batch in model.batches.items():
        outcome = batch.outcome
        if isinstance(outcome, Delivered) and outcome.base_offset >= 0:
            run = found[outcome.base_offset : outcome.base_offset + batch.record_count]
            assert number in run
