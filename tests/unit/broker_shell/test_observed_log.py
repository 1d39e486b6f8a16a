import pytest
from glasslog.broker.observed_log import ObservedLog
from glasslog.common.errors import InvariantViolation
from glasslog.common.ids import Offset
from glasslog.log.batch import CorruptBatch
from glasslog.log.records import encode_batch
from hypothesis import given
from hypothesis import strategies as st


def batch(base: int, epoch: int, count: int = 1) -> bytes:
    rows = [(0, None, b"value", ()) for _ in range(count)]
    return bytes(encode_batch(rows, base_offset=base, leader_epoch=epoch))


def log_of(*epochs: int) -> ObservedLog:
    """One record an offset, in these epochs."""
    log = ObservedLog(max_pending_bytes=1 << 20)
    log.on_batches(b"".join(batch(offset, epoch) for offset, epoch in enumerate(epochs)))
    return log


def test_only_what_is_below_the_high_watermark_is_handed_out_once() -> None:
    log = log_of(1, 1, 1)
    assert log.take_committed() == ()
    log.on_high_watermark(Offset(2))
    assert [b.header.base_offset for b in log.take_committed()] == [0, 1]
    assert log.take_committed() == ()
    assert (log.applied_end, log.end_offset) == (2, 3)


def test_a_lower_high_watermark_is_ignored() -> None:
    log = log_of(1, 1)
    log.on_high_watermark(Offset(2))
    log.on_high_watermark(Offset(1))
    assert log.high_watermark == 2


def test_a_batch_that_is_half_committed_waits() -> None:
    log = ObservedLog(max_pending_bytes=1 << 20)
    log.on_batches(batch(0, 1, count=3))
    log.on_high_watermark(Offset(2))
    assert log.take_committed() == ()


def test_batches_fetched_twice_are_taken_once() -> None:
    log = log_of(1, 1)
    log.on_batches(batch(1, 1) + batch(2, 1))
    assert log.end_offset == 3


def test_a_gap_is_a_broken_invariant() -> None:
    with pytest.raises(InvariantViolation, match="batch at 5"):
        log_of(1).on_batches(batch(5, 1))


def test_a_corrupt_answer_leaves_nothing_behind() -> None:
    log = log_of(1)
    torn = bytearray(batch(1, 1) + batch(2, 1))
    torn[-1] ^= 1
    with pytest.raises(CorruptBatch):
        log.on_batches(bytes(torn))
    assert log.end_offset == 1


def test_a_diverging_tail_is_cut_to_the_leaders_end() -> None:
    log = log_of(1, 1, 2, 2)
    log.on_high_watermark(Offset(1))
    log.take_committed()
    log.on_diverging(epoch=1, end_offset=Offset(5))
    assert log.end_offset == 2, "our epoch 1 ends at 2, whatever the leader has of it"
    assert log.position().last_fetched_epoch == 1
    log.on_diverging(epoch=1, end_offset=Offset(1))
    assert log.end_offset == 1


def test_committed_entries_never_diverge() -> None:
    log = log_of(1, 1)
    log.on_high_watermark(Offset(2))
    log.take_committed()
    with pytest.raises(InvariantViolation, match="everything below 2 was committed"):
        log.on_diverging(epoch=1, end_offset=Offset(1))


def test_an_old_epochs_leader_is_not_listened_to() -> None:
    log = ObservedLog(max_pending_bytes=1)
    assert log.on_epoch(4)
    assert not log.on_epoch(3)
    assert log.position().leader_epoch == 4


def test_a_tail_beyond_its_bound_can_be_dropped() -> None:
    log = ObservedLog(max_pending_bytes=100)
    log.on_batches(batch(0, 1) + batch(1, 2))
    log.on_high_watermark(Offset(1))
    log.take_committed()
    log.on_batches(batch(2, 2))
    assert log.is_full
    log.drop_pending()
    assert (log.end_offset, log.position().last_fetched_epoch, log.is_full) == (1, 1, False)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
def test_cutting_keeps_offsets_and_epochs_in_step(bumps: list[int], data: st.DataObject) -> None:
    epochs = [sum(bumps[: index + 1]) for index in range(len(bumps))]
    log = log_of(*epochs)
    cut_epoch = data.draw(st.integers(0, max(epochs)))
    end = data.draw(st.integers(0, len(epochs)))
    log.on_diverging(epoch=cut_epoch, end_offset=Offset(end))
    kept = log.end_offset
    assert kept == min(end, sum(1 for epoch in epochs if epoch <= cut_epoch))
    assert log.position().last_fetched_epoch == (epochs[kept - 1] if kept else 0)
