"""The life of a broker as the controller sees it: the sans-I/O core of ``lifecycle``.

Says when to register, when to send which heartbeat, and what the answers mean; refuses to know how they
travel. States are types; each carries only what is true in it. Source: Kafka's ``BrokerLifecycleManager``
(KIP-631), with KIP-841's rule that a stopping broker leads nothing.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import BrokerEpoch, Offset

_FENCED_HEARTBEAT_MS = 50
"""Between heartbeats of a broker that waits to be unfenced or let go, whatever the usual interval."""

_REGISTRATION_RETRY_MS = 200
_CONTACT_LOST_MS = 3_000
"""A stopping broker without any controller for so long has nobody to hand its leaderships to."""

_MINIMUM_TIMEOUT_MS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleSettings:
    """All in ms; see the node's settings of the same names."""

    heartbeat_interval_ms: int
    registration_timeout_ms: int
    controlled_shutdown_timeout_ms: int


# --- states -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """Not yet known to the controller, and not trying to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registering:
    """Wants a broker epoch. ``refusal`` is the last one's text."""

    deadline_ms: int
    next_attempt_ms: int
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchingUp:
    """Registered and fenced."""

    broker_epoch: BrokerEpoch
    next_heartbeat_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Registered and unfenced, as of the last heartbeat's answer."""

    broker_epoch: BrokerEpoch
    next_heartbeat_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuttingDown:
    """Waits for its leaderships to be moved away."""

    broker_epoch: BrokerEpoch
    next_heartbeat_ms: int
    deadline_ms: int
    last_contact_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The end. ``failure`` is empty after an orderly stop."""

    failure: str = ""


State = Starting | Registering | CatchingUp | Running | ShuttingDown | Stopped


# --- duties -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Ask for a broker epoch within ``timeout_ms``."""

    timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendHeartbeat:
    """Tell the controller that this broker lives, how far it is, and what it wants."""

    broker_epoch: BrokerEpoch
    metadata_offset: Offset
    want_fence: bool
    want_shut_down: bool
    timeout_ms: int


Duty = Register | SendHeartbeat


class BrokerLifecycle:
    """One broker process's life. At most one duty is out at a time; each must be answered by an ``on_*``.

    ``take_duty`` gives the next one when it is due; ``next_deadline_ms`` says when to ask again if nothing
    happens before.
    """

    def __init__(self, settings: LifecycleSettings) -> None:
        self._settings = settings
        self._state: State = Starting()
        self._busy = False
        self._metadata_offset = Offset(-1)

    @property
    def state(self) -> State:
        return self._state

    @property
    def broker_epoch(self) -> BrokerEpoch | None:
        """The epoch of the present registration, ``None`` without one."""
        match self._state:
            case CatchingUp() | Running() | ShuttingDown():
                return self._state.broker_epoch
            case _:
                return None

    @property
    def has_caught_up(self) -> bool:
        """Whether this broker's own registration is among the metadata it has applied."""
        epoch = self.broker_epoch
        return epoch is not None and self._metadata_offset >= epoch

    # --- duties ---

    def next_deadline_ms(self) -> int | None:
        """When something falls due without anything happening before; ``None``: nothing will."""
        match self._state:
            case Registering():
                return self._state.next_attempt_ms
            case CatchingUp() | Running():
                return self._state.next_heartbeat_ms
            case ShuttingDown():
                return min(self._state.next_heartbeat_ms, self._state.deadline_ms)
            case Starting() | Stopped():
                return None
            case _:
                assert_never(self._state)

    def take_duty(self, now_ms: int) -> Duty | None:
        """What is to be done now, if anything."""
        self._expire(now_ms)
        deadline_ms = self.next_deadline_ms()
        if self._busy or deadline_ms is None or now_ms < deadline_ms:
            return None
        self._busy = True
        state = self._state
        match state:
            case Registering():
                left_ms = state.deadline_ms - now_ms
                return Register(timeout_ms=min(left_ms, self._call_timeout_ms()))
            case CatchingUp() | Running():
                return self._heartbeat(state.broker_epoch, timeout_ms=self._call_timeout_ms())
            case ShuttingDown():
                left_ms = state.deadline_ms - now_ms
                timeout_ms = min(left_ms, self._call_timeout_ms())
                return self._heartbeat(state.broker_epoch, timeout_ms=timeout_ms, stopping=True)
            case _:
                return None

    def _heartbeat(self, epoch: BrokerEpoch, *, timeout_ms: int, stopping: bool = False) -> SendHeartbeat:
        return SendHeartbeat(
            broker_epoch=epoch,
            metadata_offset=self._metadata_offset,
            want_fence=not stopping and not self.has_caught_up,
            want_shut_down=stopping,
            timeout_ms=timeout_ms,
        )

    def _call_timeout_ms(self) -> int:
        return max(_MINIMUM_TIMEOUT_MS, self._settings.heartbeat_interval_ms)

    def _expire(self, now_ms: int) -> None:
        match self._state:
            case Registering(deadline_ms=deadline_ms, refusal=refusal) if now_ms >= deadline_ms:
                waited_ms = self._settings.registration_timeout_ms
                why = refusal or "no controller answered"
                self._state = Stopped(failure=f"not registered within {waited_ms} ms: {why}")
            case ShuttingDown(deadline_ms=deadline_ms) if now_ms >= deadline_ms:
                self._state = Stopped()
            case _:
                pass

    # --- what happens ---

    def start(self, now_ms: int) -> None:
        """The listeners are bound: register."""
        if isinstance(self._state, Starting):
            self._register_anew(now_ms)

    def shut_down(self, now_ms: int) -> None:
        """Stop in order: hand over leaderships first, if there is a registration."""
        match self._state:
            case Starting() | Registering():
                self._state = Stopped()
            case CatchingUp() | Running():
                self._state = ShuttingDown(
                    broker_epoch=self._state.broker_epoch,
                    next_heartbeat_ms=now_ms,
                    deadline_ms=now_ms + self._settings.controlled_shutdown_timeout_ms,
                    last_contact_ms=now_ms,
                )
            case ShuttingDown() | Stopped():
                pass
            case _:
                assert_never(self._state)

    def on_metadata(self, offset: Offset, now_ms: int) -> None:
        """Metadata up to ``offset`` is applied: a broker that has thereby caught up says so at once."""
        had_caught_up = self.has_caught_up
        self._metadata_offset = offset
        if isinstance(self._state, CatchingUp) and self.has_caught_up and not had_caught_up:
            self._state = replace(self._state, next_heartbeat_ms=now_ms)

    def on_own_registration(self, *, broker_epoch: BrokerEpoch, fenced: bool, now_ms: int) -> None:
        """The metadata shows this broker. One that was fenced unawares asks at once to be let back in."""
        match self._state:
            case Running(broker_epoch=own) if own == broker_epoch and fenced:
                self._state = CatchingUp(broker_epoch=own, next_heartbeat_ms=now_ms)
            case _:
                pass

    def on_registered(self, broker_epoch: BrokerEpoch, now_ms: int) -> None:
        """The controller gave a broker epoch. A stop that was asked for meanwhile stands."""
        self._busy = False
        if not isinstance(self._state, Registering):
            return
        wait_ms = self._settings.heartbeat_interval_ms
        self._state = CatchingUp(broker_epoch=broker_epoch, next_heartbeat_ms=now_ms + wait_ms)
        if self.has_caught_up:
            self._state = CatchingUp(broker_epoch=broker_epoch, next_heartbeat_ms=now_ms)

    def on_registration_refused(self, error: ErrorCode, reason: str, now_ms: int) -> None:
        """Try again later (another incarnation may just have died), except where that can not help."""
        self._busy = False
        if not isinstance(self._state, Registering):
            return
        if error in _REGISTRATION_IS_HOPELESS:
            self._state = Stopped(failure=reason)
            return
        self._state = replace(
            self._state,
            next_attempt_ms=min(now_ms + _REGISTRATION_RETRY_MS, self._state.deadline_ms),
            refusal=reason,
        )

    def on_heartbeat_answer(self, *, fenced: bool, should_shut_down: bool, now_ms: int) -> None:
        """The controller has heard the heartbeat."""
        self._busy = False
        match self._state:
            case CatchingUp() | Running():
                self._state = self._after_heartbeat(self._state.broker_epoch, fenced=fenced, now_ms=now_ms)
            case ShuttingDown() if should_shut_down:
                self._state = Stopped()
            case ShuttingDown():
                self._state = replace(
                    self._state,
                    next_heartbeat_ms=now_ms + _FENCED_HEARTBEAT_MS,
                    last_contact_ms=now_ms,
                )
            case _:
                pass

    def _after_heartbeat(self, epoch: BrokerEpoch, *, fenced: bool, now_ms: int) -> CatchingUp | Running:
        interval_ms = self._settings.heartbeat_interval_ms
        if not fenced:
            return Running(broker_epoch=epoch, next_heartbeat_ms=now_ms + interval_ms)
        if self.has_caught_up:
            interval_ms = min(interval_ms, _FENCED_HEARTBEAT_MS)
        return CatchingUp(broker_epoch=epoch, next_heartbeat_ms=now_ms + interval_ms)

    def on_heartbeat_failed(self, error: ErrorCode, now_ms: int) -> None:
        """No answer, or a refusal: registered anew when the controller does not know this epoch."""
        self._busy = False
        match self._state:
            case CatchingUp() | Running() if error in _REGISTRATION_IS_GONE:
                self._register_anew(now_ms)
            case CatchingUp() | Running():
                self._state = replace(self._state, next_heartbeat_ms=now_ms + _FENCED_HEARTBEAT_MS)
            case ShuttingDown() if error in _REGISTRATION_IS_GONE:
                self._state = Stopped()
            case ShuttingDown(last_contact_ms=last_ms) if now_ms - last_ms >= _CONTACT_LOST_MS:
                self._state = Stopped()
            case ShuttingDown():
                self._state = replace(self._state, next_heartbeat_ms=now_ms + _FENCED_HEARTBEAT_MS)
            case _:
                pass

    def on_epoch_refused(self, broker_epoch: BrokerEpoch, now_ms: int) -> None:
        """The controller does not take ``broker_epoch`` for ours: find out now, not at the next interval."""
        match self._state:
            case CatchingUp(broker_epoch=own) | Running(broker_epoch=own) if own == broker_epoch:
                self._state = replace(self._state, next_heartbeat_ms=now_ms)
            case _:
                pass

    def hasten(self, now_ms: int) -> None:
        """Send the next heartbeat now."""
        match self._state:
            case CatchingUp() | Running() | ShuttingDown():
                self._state = replace(self._state, next_heartbeat_ms=now_ms)
            case _:
                pass

    def _register_anew(self, now_ms: int) -> None:
        self._state = Registering(
            deadline_ms=now_ms + self._settings.registration_timeout_ms, next_attempt_ms=now_ms
        )


_REGISTRATION_IS_GONE = frozenset({ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED})
_REGISTRATION_IS_HOPELESS = frozenset(
    {
        ErrorCode.INCONSISTENT_CLUSTER_ID,
        ErrorCode.INVALID_REGISTRATION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNSUPPORTED_VERSION,
    }
)
