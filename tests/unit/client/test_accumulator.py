"""The producer's core: what is sent when, and with which sequence numbers."""

from collections.abc import Sequence

import pytest
from glasslog.client.accumulator import Accumulator, AccumulatorOptions, Drained
from glasslog.client.backoff import Backoff
from glasslog.client.pending_batch import Delivered, Failed, PendingBatch, ProducerIdentity
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.protocols import TransportError
from glasslog.log.batch import BatchHeader, Compression, parse_header
from glasslog.log.records import decode_fast

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
NODE = NodeId(1)


def make(
    *,
    batch_size: int = 200,
    linger_ms: int = 0,
    idempotent: bool = True,
    buffer_memory: int = 1 << 20,
    max_request_size: int = 1 << 20,
    retries: int = 1_000_000,
) -> Accumulator:
    options = AccumulatorOptions(
        batch_size=batch_size,
        linger_ms=linger_ms,
        buffer_memory=buffer_memory,
        max_request_size=max_request_size,
        max_in_flight=5,
        retries=retries,
        delivery_timeout_ms=1_000,
        idempotent=idempotent,
        compression=Compression.NONE,
        backoff=Backoff(base_ms=20, maximum_ms=100),
    )
    accumulator = Accumulator(options, SeededRandom(1))
    if idempotent:
        accumulator.set_identity(ProducerIdentity(producer_id=7, producer_epoch=0))
    return accumulator


def fill(accumulator: Accumulator, partition: TopicPartition, count: int, now_ms: int = 0) -> None:
    """Batches of one record each."""
    for n in range(count):
        accumulator.append(partition, (0, None, b"%d" % n + b"x" * 150, ()), now_ms=now_ms)


def drain(accumulator: Accumulator, now_ms: int = 0, *, room: int = 5) -> Drained:
    return accumulator.drain(now_ms, leader_of=lambda partition: NODE, room=lambda node: room)


def batches(drained: Drained) -> list[PendingBatch]:
    return [batch for _, some in drained.requests for batch in some]


def headers(some: Sequence[PendingBatch]) -> list[BatchHeader]:
    return [parse_header(batch.payload) for batch in some]


def settle(accumulator: Accumulator) -> PendingBatch:
    """Acknowledge a first batch, so that several may be under way."""
    fill(accumulator, P0, 1)
    (batch,) = batches(drain(accumulator))
    accumulator.on_delivered(batch, base_offset=0, now_ms=0)
    return batch


def test_a_batch_waits_for_linger_or_until_it_is_full() -> None:
    accumulator = make(linger_ms=5)
    accumulator.append(P0, (0, None, b"a", ()), now_ms=100)
    assert not batches(drain(accumulator, 104))
    assert accumulator.next_deadline_ms(104) == 105
    assert len(batches(drain(accumulator, 105))) == 1
    fill(accumulator, P1, 2, now_ms=105)
    assert [batch.partition for batch in batches(drain(accumulator, 105))] == [P1]


def test_flushing_and_a_full_buffer_do_not_linger() -> None:
    accumulator = make(linger_ms=5_000, buffer_memory=300)
    accumulator.append(P0, (0, None, b"a", ()), now_ms=0)
    assert not batches(drain(accumulator))
    accumulator.flushing = True
    assert len(batches(drain(accumulator))) == 1
    accumulator.flushing = False
    accumulator.append(P1, (0, None, b"a" * 300, ()), now_ms=0)
    assert not accumulator.has_room
    assert len(batches(drain(accumulator))) == 1


def test_memory_is_given_back_with_the_outcome() -> None:
    accumulator = make()
    fill(accumulator, P0, 3)
    assert 450 < accumulator.used_bytes < 700
    for _ in range(3):
        for batch in batches(drain(accumulator)):
            accumulator.on_delivered(batch, base_offset=0, now_ms=0)
    assert (accumulator.used_bytes, accumulator.unfinished_batches) == (0, 0)


def test_the_first_batch_of_an_identity_travels_alone() -> None:
    """A leader that has never heard of a producer accepts any first sequence number.

    So were batches 0 and 1 under way and 0 lost, 1 would be appended, and 0 could never be.
    """
    accumulator = make()
    fill(accumulator, P0, 7)
    (first,) = batches(drain(accumulator))
    assert not batches(drain(accumulator))
    accumulator.on_delivered(first, base_offset=0, now_ms=0)
    following = batches(drain(accumulator, room=99))
    assert [header.base_sequence for header in headers([*following])] == [1, 2, 3, 4, 5]


def test_after_an_error_the_lowest_goes_alone_with_the_same_sequence() -> None:
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 3)
    sent = batches(drain(accumulator))
    before = [bytes(batch.payload) for batch in sent]
    for batch in reversed(sent):
        accumulator.on_error(batch, TransportError("broken"), now_ms=0)
    assert not batches(drain(accumulator, 1)), "it must not be sent before its pause is over"
    (again,) = batches(drain(accumulator, 50))
    assert bytes(again.payload) == before[0]
    accumulator.on_delivered(again, base_offset=1, now_ms=50)
    assert [bytes(batch.payload) for batch in batches(drain(accumulator, 50))] == before[1:]


def test_batches_that_fail_together_pause_once() -> None:
    """Five batches on one broken connection are one failure: a pause of 20 ms, not of 20 * 2^4."""
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 5)
    for batch in batches(drain(accumulator)):
        accumulator.on_error(batch, TransportError("broken"), now_ms=0)
    deadline = accumulator.next_deadline_ms(0)
    assert deadline is not None
    assert deadline <= 24


def test_a_new_leader_ends_the_pause() -> None:
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 1)
    for batch in batches(drain(accumulator)):
        accumulator.on_error(batch, TransportError("broken"), now_ms=0)
    assert accumulator.retrying() == [P0]
    accumulator.on_leader_change(P0, 3)
    assert len(batches(drain(accumulator, 3))) == 1


def test_a_later_batch_out_of_order_is_only_sent_again() -> None:
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 2)
    first, second = batches(drain(accumulator))
    accumulator.on_error(first, GlasslogError(ErrorCode.NOT_ENOUGH_REPLICAS), now_ms=0)
    accumulator.on_error(second, GlasslogError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER), now_ms=0)
    (again,) = batches(drain(accumulator, 500))
    assert again is first
    assert headers([again])[0].producer_epoch == 0


def test_a_gap_before_the_lowest_begins_a_new_epoch() -> None:
    """The batch before was given up, and the leader lacks it: without a new epoch nothing would ever go."""
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 3)
    lost, second, third = batches(drain(accumulator))
    accumulator.on_error(lost, GlasslogError(ErrorCode.MESSAGE_TOO_LARGE), now_ms=0)
    accumulator.on_error(second, GlasslogError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER), now_ms=0)
    assert not batches(drain(accumulator, 500)), "one is still under way under the old epoch"
    accumulator.on_error(third, GlasslogError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER), now_ms=500)
    (again,) = batches(drain(accumulator, 600))
    header = headers([again])[0]
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 1, 0)
    assert decode_fast(again.payload)[0][3] == b"1" + b"x" * 150
    accumulator.on_delivered(again, base_offset=1, now_ms=600)
    (last,) = batches(drain(accumulator, 600))
    assert (headers([last])[0].producer_epoch, headers([last])[0].base_sequence) == (1, 1)
    assert [type(batch.outcome) for batch in accumulator.take_finished()] == [Delivered, Failed, Delivered]


def test_a_fenced_producer_asks_for_another_id() -> None:
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 1)
    (batch,) = batches(drain(accumulator))
    accumulator.on_error(batch, GlasslogError(ErrorCode.INVALID_PRODUCER_EPOCH), now_ms=0)
    assert accumulator.needs_identity
    assert not batches(drain(accumulator, 500))
    accumulator.set_identity(ProducerIdentity(producer_id=8, producer_epoch=0))
    (again,) = batches(drain(accumulator, 500))
    assert (headers([again])[0].producer_id, headers([again])[0].base_sequence) == (8, 0)


def test_a_duplicate_is_a_success() -> None:
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 1)
    (batch,) = batches(drain(accumulator))
    accumulator.on_error(batch, GlasslogError(ErrorCode.DUPLICATE_SEQUENCE_NUMBER), now_ms=0)
    assert batch.outcome == Delivered(base_offset=-1)


def test_what_is_too_old_is_given_up_with_its_story() -> None:
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 2)
    sent = batches(drain(accumulator))[0]
    accumulator.on_error(sent, TransportError("the wire is cut"), now_ms=10)
    assert len(accumulator.take_finished()) == 1, "the settled one"
    accumulator.expire(999)
    assert not accumulator.take_finished()
    accumulator.expire(1_000)
    assert isinstance(sent.outcome, Failed)
    assert "may have been written in one of 1 attempts; last error: the wire is cut" in str(
        sent.outcome.error
    )
    assert sent.outcome.error.code is ErrorCode.REQUEST_TIMED_OUT


def test_an_error_that_can_not_be_retried_is_final() -> None:
    accumulator = make()
    settle(accumulator)
    fill(accumulator, P0, 1)
    (batch,) = batches(drain(accumulator))
    accumulator.on_error(batch, GlasslogError(ErrorCode.INVALID_RECORD, "no good"), now_ms=0)
    assert isinstance(batch.outcome, Failed)
    assert str(batch.outcome.error) == "no good"


def test_retries_are_bounded() -> None:
    accumulator = make(idempotent=False, retries=1)
    fill(accumulator, P0, 1)
    (batch,) = batches(drain(accumulator))
    accumulator.on_error(batch, TransportError("x"), now_ms=0)
    (batch,) = batches(drain(accumulator, 100))
    accumulator.on_error(batch, TransportError("x"), now_ms=100)
    assert isinstance(batch.outcome, Failed)


def test_without_idempotence_one_batch_of_a_partition_keeps_the_order() -> None:
    accumulator = make(idempotent=False)
    fill(accumulator, P0, 2)
    assert len(batches(drain(accumulator))) == 1
    assert not batches(drain(accumulator))


def test_one_request_carries_one_batch_of_each_partition_up_to_its_size() -> None:
    accumulator = make(max_request_size=500)
    for partition in range(4):
        fill(accumulator, TopicPartition("t", partition), 1)
    drained = drain(accumulator)
    assert [len(some) for _, some in drained.requests] == [2, 2]


def test_partitions_without_leader_are_reported() -> None:
    accumulator = make()
    fill(accumulator, P0, 1)
    drained = accumulator.drain(0, leader_of=lambda partition: None, room=lambda node: 5)
    assert drained == Drained(requests=(), leaderless=(P0,))


def test_nothing_is_sent_before_there_is_a_producer_id() -> None:
    accumulator = make()
    fresh = Accumulator(accumulator._options, SeededRandom(1))
    fill(fresh, P0, 1)
    assert fresh.needs_identity
    assert not batches(drain(fresh))


def test_a_stall_is_measured_per_partition() -> None:
    accumulator = make()
    fill(accumulator, P0, 1, now_ms=0)
    fill(accumulator, P1, 1, now_ms=0)
    for batch in batches(drain(accumulator)):
        accumulator.on_delivered(batch, base_offset=0, now_ms=30 if batch.partition == P0 else 700)
    assert accumulator.longest_stall_ms == 700


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_record_larger_than_a_batch_travels_alone(size: int) -> None:
    accumulator = make()
    big = accumulator.append(P0, (0, None, b"x" * size, ()), now_ms=0)
    accumulator.append(P0, (0, None, b"y" * 190, ()), now_ms=0)
    assert big.record_count == 1
    assert accumulator.unfinished_batches == 2
