"""Who is given up, when and why: sessions, streams, grace, flapping, failover, stalls."""

import pytest
from glasslog.common.ids import BrokerEpoch, NodeId
from glasslog.controller.heartbeats import Heartbeats
from glasslog.metadata.image import BrokerImage

SESSION_MS, GRACE_MS, WINDOW_MS = 9_000, 150, 2_000
A, B, C = NodeId(1), NodeId(2), NodeId(3)
EPOCH = BrokerEpoch(5)


def registered(broker_id: NodeId, *, fenced: bool = False, epoch: BrokerEpoch = EPOCH) -> BrokerImage:
    return BrokerImage(
        broker_id=broker_id,
        incarnation_id=bytes(16),
        broker_epoch=epoch,
        endpoints=(),
        rack="",
        fenced=fenced,
        in_controlled_shutdown=False,
        log_dir_ids=(),
    )


def new() -> Heartbeats:
    return Heartbeats(session_timeout_ms=SESSION_MS, failure_grace_ms=GRACE_MS, stream_window_ms=WINDOW_MS)


@pytest.fixture
def heartbeats() -> Heartbeats:
    """Three active brokers with streams, at time 0."""
    result = new()
    result.begin([registered(A), registered(B), registered(C)], 0)
    for broker in (A, B, C):
        assert result.session_opened(broker, EPOCH, 0)
    return result


def given_up(heartbeats: Heartbeats, now_ms: int) -> list[int]:
    return [lost.broker_id for lost in heartbeats.expired(now_ms)]


def test_a_broken_stream_starts_the_grace(heartbeats: Heartbeats) -> None:
    heartbeats.session_lost(A, EPOCH, 1_000)
    assert heartbeats.next_deadline_ms() == 1_150
    assert given_up(heartbeats, 1_149) == []
    (lost,) = heartbeats.expired(1_150)
    assert (lost.broker_id, lost.broker_epoch) == (A, EPOCH)
    assert lost.reason == "its session stream has been broken for 150 ms"


def test_a_stream_opened_again_within_the_grace_changes_nothing(heartbeats: Heartbeats) -> None:
    heartbeats.session_lost(A, EPOCH, 1_000)
    heartbeats.session_opened(A, EPOCH, 1_149)
    assert given_up(heartbeats, 1_150) == []
    assert heartbeats.next_deadline_ms() == SESSION_MS


def test_a_connection_that_flaps_for_ever_is_never_given_up(heartbeats: Heartbeats) -> None:
    for now_ms in range(1_000, 60_000, 200):
        for broker in (A, B, C):
            heartbeats.contact(broker, EPOCH, now_ms)
        heartbeats.session_lost(A, EPOCH, now_ms)
        assert given_up(heartbeats, now_ms + 100) == []
        heartbeats.session_opened(A, EPOCH, now_ms + 100)


def test_of_overlapping_streams_the_last_counts(heartbeats: Heartbeats) -> None:
    heartbeats.session_opened(A, EPOCH, 900)
    heartbeats.session_lost(A, EPOCH, 1_000)
    assert given_up(heartbeats, 5_000) == []
    heartbeats.session_lost(A, EPOCH, 5_000)
    assert given_up(heartbeats, 5_150) == [A]


def test_a_slow_or_paused_broker_is_given_up_by_the_session_timeout_only(heartbeats: Heartbeats) -> None:
    for broker in (B, C):
        heartbeats.contact(broker, EPOCH, 8_000)
    assert given_up(heartbeats, SESSION_MS - 1) == []
    (lost,) = heartbeats.expired(SESSION_MS)
    assert (lost.broker_id, lost.reason) == (A, "silent for 9000 ms")


def test_heartbeats_alone_do_not_replace_a_broken_stream(heartbeats: Heartbeats) -> None:
    heartbeats.session_lost(A, EPOCH, 1_000)
    heartbeats.contact(A, EPOCH, 1_100)
    assert given_up(heartbeats, 1_150) == [A]


def test_a_fenced_broker_is_not_given_up_again(heartbeats: Heartbeats) -> None:
    heartbeats.session_lost(A, EPOCH, 1_000)
    assert given_up(heartbeats, 1_150) == [A]
    heartbeats.follow(registered(A, fenced=True), 1_150)
    assert given_up(heartbeats, 2_000) == []
    assert not heartbeats.may_unfence(A, 2_000)
    heartbeats.session_opened(A, EPOCH, 2_000)
    assert heartbeats.may_unfence(A, 2_000)


def test_what_an_old_incarnation_did_does_not_count_for_the_new_one(heartbeats: Heartbeats) -> None:
    successor = BrokerEpoch(9)
    heartbeats.follow(registered(A, epoch=successor), 1_000)
    assert heartbeats.session_opened(A, successor, 1_000)
    heartbeats.session_lost(A, EPOCH, 1_100)
    assert not heartbeats.session_opened(A, EPOCH, 1_100)
    heartbeats.contact(A, EPOCH, 8_000)
    assert given_up(heartbeats, 5_000) == []
    assert A in given_up(heartbeats, 1_000 + SESSION_MS)


def test_a_broker_that_died_with_the_old_controller_is_found_by_its_missing_stream() -> None:
    heartbeats = new()
    heartbeats.begin([registered(A), registered(B)], 0)
    heartbeats.session_opened(B, EPOCH, 300)
    assert given_up(heartbeats, 300 + WINDOW_MS - 1) == []
    (lost,) = heartbeats.expired(300 + WINDOW_MS)
    assert (lost.broker_id, lost.reason) == (A, "opened no session stream within 2000 ms")


def test_a_new_controller_gives_every_broker_a_fresh_session() -> None:
    heartbeats = new()
    heartbeats.begin([registered(A), registered(B)], 50_000)
    assert given_up(heartbeats, 50_000 + SESSION_MS - 1) == []
    assert given_up(heartbeats, 50_000 + SESSION_MS) == [A, B]


def test_when_all_streams_break_at_once_the_fault_is_likelier_here(heartbeats: Heartbeats) -> None:
    """A hiccup of the controller's own network breaks every stream. Fencing all brokers would take every
    partition
    offline, and no broker would be left to lead any."""
    for broker in (A, B, C):
        heartbeats.session_lost(broker, EPOCH, 1_000)
    assert given_up(heartbeats, 3_000) == []
    assert heartbeats.next_deadline_ms() == SESSION_MS
    heartbeats.session_opened(A, EPOCH, 3_000)
    assert given_up(heartbeats, 3_001) == []
    heartbeats.session_opened(B, EPOCH, 3_100)
    assert given_up(heartbeats, 3_000 + WINDOW_MS) == [C]


def test_the_last_broker_with_a_stream_is_judged_by_the_session_timeout(heartbeats: Heartbeats) -> None:
    heartbeats.session_lost(A, EPOCH, 1_000)
    heartbeats.session_lost(B, EPOCH, 1_000)
    assert given_up(heartbeats, 1_150) == [A, B]
    heartbeats.follow(registered(A, fenced=True), 1_150)
    heartbeats.follow(registered(B, fenced=True), 1_150)
    heartbeats.session_lost(C, EPOCH, 2_000)
    assert given_up(heartbeats, 5_000) == []
    assert given_up(heartbeats, SESSION_MS) == [C]


def test_silence_while_this_process_stood_still_is_no_evidence(heartbeats: Heartbeats) -> None:
    heartbeats.session_lost(A, EPOCH, 1_000)
    heartbeats.postpone(5_000)
    assert given_up(heartbeats, 6_149) == []
    assert given_up(heartbeats, 6_150) == [A]
    heartbeats.session_opened(A, EPOCH, 6_150)
    assert heartbeats.next_deadline_ms() == SESSION_MS + 5_000


def test_who_may_be_replaced_by_a_namesake(heartbeats: Heartbeats) -> None:
    assert heartbeats.is_alive(A, 1_000)
    heartbeats.session_lost(A, EPOCH, 1_000)
    assert not heartbeats.is_alive(A, 1_001)
    assert not heartbeats.is_alive(B, SESSION_MS)
    assert not heartbeats.is_alive(NodeId(99), 0)


def test_a_broker_that_nobody_heard_since_the_take_over_may_be_replaced() -> None:
    """A cluster whose power failed came back to its own ghosts.

    The new controller took every broker of the old metadata for alive, and refused the restarted ones for the
    whole session timeout as impostors.
    """
    heartbeats = new()
    heartbeats.begin([registered(A), registered(B)], 1_000)
    heartbeats.contact(B, EPOCH, 1_001)
    assert not heartbeats.is_alive(A, 1_002)
    assert heartbeats.is_alive(B, 1_002)


def test_a_forgotten_broker_is_nobody(heartbeats: Heartbeats) -> None:
    heartbeats.forget(A, 1_000)
    assert not heartbeats.session_opened(A, EPOCH, 1_000)
    assert not heartbeats.may_unfence(A, 1_000)
    assert A not in given_up(heartbeats, SESSION_MS)
