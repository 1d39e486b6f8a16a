"""The consumer's core: where it stands, whatever is fetched, sought and assigned meanwhile."""

import pytest
from glasslog.client.subscription import (
    EARLIEST,
    AwaitingCommitted,
    AwaitingReset,
    PartitionState,
    Positioned,
    Stuck,
    SubscriptionState,
)
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.log.records import encode_batch
from hypothesis import given
from hypothesis import strategies as st

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def make(reset: str = "earliest", max_buffered_bytes: int = 10_000) -> SubscriptionState:
    return SubscriptionState(auto_offset_reset=reset, max_buffered_bytes=max_buffered_bytes)


def at_zero(*partitions: TopicPartition) -> SubscriptionState:
    subscription = make()
    subscription.assign(partitions, has_group=False)
    for partition in partitions:
        subscription.move_to(partition, Positioned(offset=0))
    return subscription


def batch(base_offset: int, count: int, *, control: bool = False) -> bytes:
    records = [(0, None, b"%d" % (base_offset + n), ()) for n in range(count)]
    return bytes(encode_batch(records, base_offset=base_offset, leader_epoch=2, control=control))


def offsets(subscription: SubscriptionState, max_records: int) -> list[int]:
    return [record[0] for run in subscription.take(max_records) for record in run.records]


def test_records_are_handed_out_in_order_and_positions_follow() -> None:
    subscription = at_zero(T0)
    state = subscription.state(T0)
    state.add(batch(0, 3) + batch(3, 3))
    assert state.fetch_offset == 6
    assert offsets(subscription, 2) == [0, 1]
    assert (state.position, state.processed, state.leader_epoch) == (2, 0, 2)
    subscription.note_processed()
    assert state.processed == 2
    assert offsets(subscription, 10) == [2, 3, 4, 5]
    assert subscription.take(10) == []
    assert (state.position, state.buffered_bytes) == (6, 0)


def test_what_lies_before_the_position_is_skipped() -> None:
    subscription = at_zero(T0)
    subscription.move_to(T0, Positioned(offset=4))
    subscription.state(T0).add(batch(0, 3) + batch(3, 3))
    assert offsets(subscription, 10) == [4, 5]


def test_control_batches_and_gaps_move_the_position_only() -> None:
    subscription = at_zero(T0)
    state = subscription.state(T0)
    state.add(batch(0, 2) + batch(2, 1, control=True) + batch(10, 1))
    assert offsets(subscription, 10) == [0, 1, 10]
    state.add(batch(11, 1, control=True))
    assert offsets(subscription, 10) == []
    assert state.position == 12


def test_a_seek_drops_what_was_fetched_and_makes_answers_worthless() -> None:
    subscription = at_zero(T0)
    state = subscription.state(T0)
    version = state.version
    state.add(batch(0, 3))
    subscription.move_to(T0, Positioned(offset=7))
    assert subscription.take(10) == []
    assert (state.position, state.fetch_offset, state.buffered_bytes) == (7, 7, 0)
    assert subscription.find(T0, version) is None


def test_a_truncated_log_is_read_on_from_where_it_parts() -> None:
    """KIP-320: a consumer that does not notice skips what was written there since."""
    subscription = at_zero(T0)
    state = subscription.state(T0)
    state.add(batch(0, 6) + batch(6, 2))
    assert state.fetch_epoch == 2
    assert offsets(subscription, 6) == [0, 1, 2, 3, 4, 5]
    assert subscription.on_diverging(T0, epoch=1, end_offset=4)
    assert (state.position, state.fetch_offset, state.fetch_epoch) == (4, 4, 1)


def test_what_was_only_fetched_ahead_is_fetched_anew() -> None:
    subscription = at_zero(T0)
    state = subscription.state(T0)
    state.add(batch(0, 3) + batch(3, 5))
    assert offsets(subscription, 3) == [0, 1, 2]
    assert not subscription.on_diverging(T0, epoch=2, end_offset=5)
    assert (state.position, state.fetch_offset, state.fetch_epoch) == (3, 3, 2)


def test_without_a_reset_policy_a_truncation_stops_the_partition() -> None:
    subscription = make("none")
    subscription.assign([T0], has_group=False)
    subscription.move_to(T0, Positioned(offset=7, leader_epoch=3))
    assert subscription.on_diverging(T0, epoch=2, end_offset=5)
    with pytest.raises(GlasslogError, match="t-0 was truncated: records from 5 to 7 are no longer"):
        subscription.take(10)


def test_a_kept_partition_goes_on_and_a_new_one_asks_the_group() -> None:
    subscription = at_zero(T0)
    subscription.state(T0).add(batch(0, 3))
    subscription.assign([T1, T0], has_group=True)
    assert subscription.assignment == (T0, T1)
    assert offsets(subscription, 10) == [0, 1, 2]
    assert subscription.state(T1).place == AwaitingCommitted()
    subscription.on_committed(T1, subscription.state(T1).version, 5, 1)
    assert subscription.state(T1).place == Positioned(offset=5, leader_epoch=1)


@pytest.mark.parametrize(
    ("reset", "expected"), [("earliest", AwaitingReset(timestamp=EARLIEST)), ("none", None)]
)
def test_without_a_committed_position_the_reset_policy_decides(
    reset: str, expected: AwaitingReset | None
) -> None:
    subscription = make(reset)
    subscription.assign([T0], has_group=True)
    subscription.on_committed(T0, subscription.state(T0).version, -1, -1)
    place = subscription.state(T0).place
    if expected is None:
        assert isinstance(place, Stuck)
        with pytest.raises(GlasslogError, match="no valid position for t-0"):
            subscription.take(1)
    else:
        assert place == expected


def test_an_answer_about_an_older_assignment_is_ignored() -> None:
    subscription = make()
    subscription.assign([T0], has_group=True)
    version = subscription.state(T0).version
    subscription.assign([], has_group=True)
    subscription.assign([T0], has_group=True)
    subscription.on_committed(T0, version, 5, 1)
    assert subscription.state(T0).place == AwaitingCommitted()


def test_what_is_fetched_ahead_is_bounded() -> None:
    subscription = at_zero(T0, T1)
    assert {state.partition for state in subscription.fetchable(0)} == {T0, T1}
    subscription.state(T0).add(batch(0, 2_000))
    assert [state.partition for state in subscription.fetchable(0)] == [T1]
    assert subscription.some_are_full
    subscription.state(T1).paused = True
    assert subscription.fetchable(0) == []
    offsets(subscription, 2_000)
    assert [state.partition for state in subscription.fetchable(0)] == [T0]


def test_a_damaged_batch_stops_only_its_partition() -> None:
    subscription = at_zero(T0, T1)
    damaged = batch(0, 1)
    subscription.state(T0).add(damaged[:-1] + bytes([damaged[-1] ^ 1]))
    subscription.state(T1).add(batch(0, 2))
    assert offsets(subscription, 10) == [0, 1]
    with pytest.raises(GlasslogError, match="t-0 can not be read at offset 0"):
        subscription.take(10)
    assert subscription.state(T0).position == 0


@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=12),
    st.lists(st.integers(1, 5), max_size=60),
)
def test_every_record_is_handed_out_once_in_any_portions(
    shapes: list[tuple[int, bool]], portions: list[int]
) -> None:
    """Portions of one go the way of iteration, larger ones that of a poll."""
    state = PartitionState(T0, Positioned(offset=0), 1)
    expected: list[int] = []
    base_offset = 0
    for count, control in shapes:
        state.add(batch(base_offset, count, control=control))
        if not control:
            expected += range(base_offset, base_offset + count)
        base_offset += count
    taken: list[int] = []
    for portion in [*portions, 1_000_000]:
        if portion == 1 and state.load():
            record = state.take_one()
            assert record is not None
            assert (record.topic, record.partition, record.leader_epoch) == ("t", 0, 2)
            taken.append(record.offset)
            assert state.processed == record.offset < state.position
        elif portion > 1:
            while (run := state.take(portion)) is not None:
                taken += [record[0] for record in run.records]
                if portion < 1_000_000:
                    break
        assert taken == expected[: len(taken)]
    assert taken == expected
    assert state.position == base_offset


def test_a_named_replica_is_read_from_until_the_leaders_word_expires_or_it_fails() -> None:
    state = at_zero(T0).state(T0)
    assert state.preferred_at(0) == -1
    state.read_from(2, until_ms=1_000)
    assert (state.preferred_at(999), state.preferred_at(1_000), state.preferred_at(999)) == (2, -1, -1)
    state.distrust_replica(until_ms=5_000)
    assert state.leader_only_until_ms == 0, "no replica was named"
    state.read_from(2, until_ms=3_000)
    state.distrust_replica(until_ms=5_000)
    assert (state.preferred_at(2_000), state.leader_only_until_ms) == (-1, 5_000)
