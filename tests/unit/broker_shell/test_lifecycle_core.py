import pytest
from glasslog.broker.lifecycle_core import (
    BrokerLifecycle,
    CatchingUp,
    LifecycleSettings,
    Register,
    Registering,
    Running,
    SendHeartbeat,
    ShuttingDown,
    State,
    Stopped,
)
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, Offset

SETTINGS = LifecycleSettings(
    heartbeat_interval_ms=2_000, registration_timeout_ms=60_000, controlled_shutdown_timeout_ms=10_000
)
EPOCH = BrokerEpoch(7)


def registered(now_ms: int = 0) -> BrokerLifecycle:
    core = BrokerLifecycle(SETTINGS)
    core.start(now_ms)
    assert isinstance(core.take_duty(now_ms), Register)
    core.on_registered(EPOCH, now_ms)
    return core


def state(core: BrokerLifecycle) -> State:
    """The state, without mypy's belief that it stays as it was."""
    return core.state


def heartbeat(core: BrokerLifecycle, now_ms: int) -> SendHeartbeat:
    duty = core.take_duty(now_ms)
    assert isinstance(duty, SendHeartbeat)
    return duty


def running(now_ms: int = 0) -> BrokerLifecycle:
    core = registered(now_ms)
    core.on_metadata(Offset(7), now_ms)
    heartbeat(core, now_ms)
    core.on_heartbeat_answer(fenced=False, should_shut_down=False, now_ms=now_ms)
    assert isinstance(core.state, Running)
    return core


def test_nothing_is_due_before_the_start() -> None:
    core = BrokerLifecycle(SETTINGS)
    assert core.take_duty(0) is None
    assert core.next_deadline_ms() is None


def test_one_duty_at_a_time() -> None:
    core = BrokerLifecycle(SETTINGS)
    core.start(0)
    assert core.take_duty(0) is not None
    assert core.take_duty(10) is None


def test_unfencing_is_asked_for_at_once_when_caught_up() -> None:
    core = registered()
    assert core.take_duty(10) is None, "nothing to say until it has caught up"
    core.on_metadata(Offset(6), 10)
    assert core.take_duty(10) is None
    core.on_metadata(Offset(7), 20)
    duty = heartbeat(core, 20)
    assert (duty.want_fence, duty.metadata_offset) == (False, 7)


def test_metadata_may_arrive_before_the_registrations_answer() -> None:
    core = BrokerLifecycle(SETTINGS)
    core.start(0)
    core.take_duty(0)
    core.on_metadata(Offset(9), 5)
    core.on_registered(EPOCH, 6)
    assert not heartbeat(core, 6).want_fence


def test_a_broker_that_has_not_caught_up_lives_and_stays_fenced() -> None:
    core = registered()
    duty = heartbeat(core, 2_000)
    assert duty.want_fence
    core.on_heartbeat_answer(fenced=True, should_shut_down=False, now_ms=2_010)
    assert core.state == CatchingUp(broker_epoch=EPOCH, next_heartbeat_ms=4_010)


def test_who_waits_to_be_unfenced_asks_often() -> None:
    core = registered()
    core.on_metadata(Offset(7), 0)
    heartbeat(core, 0)
    core.on_heartbeat_answer(fenced=True, should_shut_down=False, now_ms=1)
    assert core.next_deadline_ms() == 51


def test_running_heartbeats_keep_the_interval() -> None:
    core = running()
    assert core.take_duty(1_999) is None
    assert heartbeat(core, 2_000).want_fence is False


@pytest.mark.parametrize("error", [ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED])
def test_an_unknown_epoch_means_registering_anew(error: ErrorCode) -> None:
    core = running()
    heartbeat(core, 2_000)
    core.on_heartbeat_failed(error, 2_001)
    assert isinstance(core.take_duty(2_001), Register)
    assert core.broker_epoch is None


def test_an_unreachable_controller_is_asked_again_soon() -> None:
    core = running()
    heartbeat(core, 2_000)
    core.on_heartbeat_failed(ErrorCode.REQUEST_TIMED_OUT, 4_000)
    assert isinstance(core.state, Running)
    assert core.next_deadline_ms() == 4_050


def test_fenced_unawares_the_broker_asks_at_once() -> None:
    core = running()
    core.on_own_registration(broker_epoch=EPOCH, fenced=True, now_ms=500)
    assert isinstance(core.state, CatchingUp)
    assert heartbeat(core, 500).want_fence is False


def test_what_the_metadata_says_of_an_earlier_life_is_no_news() -> None:
    core = running()
    core.on_own_registration(broker_epoch=BrokerEpoch(3), fenced=True, now_ms=500)
    assert isinstance(core.state, Running)


def test_fenced_by_answer_after_a_long_pause() -> None:
    core = running()
    heartbeat(core, 30_000)
    core.on_heartbeat_answer(fenced=True, should_shut_down=False, now_ms=30_001)
    assert state(core) == CatchingUp(broker_epoch=EPOCH, next_heartbeat_ms=30_051)
    heartbeat(core, 30_051)
    core.on_heartbeat_answer(fenced=False, should_shut_down=False, now_ms=30_052)
    assert state(core) == Running(broker_epoch=EPOCH, next_heartbeat_ms=32_052)


def test_registration_is_repeated_while_the_old_incarnation_is_believed_alive() -> None:
    core = BrokerLifecycle(SETTINGS)
    core.start(0)
    core.take_duty(0)
    core.on_registration_refused(ErrorCode.DUPLICATE_BROKER_REGISTRATION, "broker 1 is registered", 5)
    assert core.take_duty(100) is None
    assert isinstance(core.take_duty(205), Register)


def test_registration_ends_with_the_last_reason() -> None:
    core = BrokerLifecycle(SETTINGS)
    core.start(0)
    core.take_duty(0)
    core.on_registration_refused(ErrorCode.DUPLICATE_BROKER_REGISTRATION, "broker 1 is registered", 59_999)
    assert core.take_duty(60_000) is None
    assert core.state == Stopped(failure="not registered within 60000 ms: broker 1 is registered")


def test_another_cluster_is_not_asked_twice() -> None:
    core = BrokerLifecycle(SETTINGS)
    core.start(0)
    core.take_duty(0)
    core.on_registration_refused(ErrorCode.INCONSISTENT_CLUSTER_ID, "this is cluster B", 5)
    assert core.state == Stopped(failure="this is cluster B")


def test_controlled_shutdown_asks_until_let_go() -> None:
    core = running()
    core.shut_down(100)
    assert heartbeat(core, 100).want_shut_down
    core.on_heartbeat_answer(fenced=False, should_shut_down=False, now_ms=101)
    assert core.take_duty(120) is None
    assert heartbeat(core, 151).want_shut_down
    core.on_heartbeat_answer(fenced=True, should_shut_down=True, now_ms=152)
    assert core.state == Stopped()


def test_controlled_shutdown_is_bounded() -> None:
    core = running()
    core.shut_down(100)
    now_ms = 100
    while isinstance(core.state, ShuttingDown):
        if core.take_duty(now_ms) is not None:
            core.on_heartbeat_answer(fenced=False, should_shut_down=False, now_ms=now_ms)
        now_ms += 50
    assert now_ms == 10_150


def test_without_controllers_there_is_nobody_to_wait_for() -> None:
    core = running()
    core.shut_down(100)
    for now_ms in (100, 1_000, 2_000, 3_000):
        heartbeat(core, now_ms)
        core.on_heartbeat_failed(ErrorCode.REQUEST_TIMED_OUT, now_ms)
        assert isinstance(core.state, ShuttingDown)
    heartbeat(core, 3_100)
    core.on_heartbeat_failed(ErrorCode.REQUEST_TIMED_OUT, 3_100)
    assert core.state == Stopped()


def test_a_stop_before_registration_is_immediate() -> None:
    core = BrokerLifecycle(SETTINGS)
    core.start(0)
    core.take_duty(0)
    core.shut_down(1)
    core.on_registered(EPOCH, 2)
    assert core.state == Stopped()


def test_a_stop_while_a_heartbeat_is_out_waits_for_its_answer() -> None:
    core = running()
    heartbeat(core, 2_000)
    core.shut_down(2_001)
    assert core.take_duty(2_001) is None
    core.on_heartbeat_answer(fenced=False, should_shut_down=False, now_ms=2_002)
    assert heartbeat(core, 2_052).want_shut_down


def test_a_refused_session_brings_the_heartbeat_forward() -> None:
    core = running()
    core.on_epoch_refused(EPOCH, 600)
    heartbeat(core, 600)


def test_registering_says_by_when() -> None:
    core = BrokerLifecycle(SETTINGS)
    core.start(100)
    assert core.state == Registering(deadline_ms=60_100, next_attempt_ms=100)
