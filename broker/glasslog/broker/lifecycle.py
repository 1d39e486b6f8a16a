"""The broker joins the cluster, stays in it and leaves it in order: the shell around ``BrokerLifecycle``.

Sends registrations and heartbeats to the active controller and holds the session stream open whose break
tells it of our death at once. Refuses to know what a broker does with its membership.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import assert_never

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerChannel
from glasslog.broker.lifecycle_core import (
    BrokerLifecycle,
    Duty,
    LifecycleSettings,
    Register,
    SendHeartbeat,
    State,
    Stopped,
)
from glasslog.broker.metadata_observer import MetadataObserver
from glasslog.broker.watched import Watched
from glasslog.broker.wire_errors import raise_for
from glasslog.common.addresses import Voter
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_BROKER_EPOCH, NO_NODE, BrokerEpoch, NodeId
from glasslog.common.runtime.protocols import Runtime, Stream
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.features import SUPPORTED
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.records import Endpoint
from glasslog.metadata.wire import endpoints_to_wire, features_to_wire
from glasslog.v1 import controller_pb2 as pb

_log = logging.getLogger(__name__)

_REGISTER = CONTROLLER_SERVICE + "RegisterBroker"
_HEARTBEAT = CONTROLLER_SERVICE + "BrokerHeartbeat"
_HOLD_SESSION = CONTROLLER_SERVICE + "HoldSession"
_STEADY_SESSION_MS = 500
"""A session that lasted for so long was a good one: when it breaks, its successor is tried at once."""

_EPOCH_IS_GONE = frozenset({ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED})


async def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerIdentity:
    """What a broker tells of itself. ``incarnation_id`` is new at each start of the process;

    ``previous_broker_epoch`` comes from the clean-shutdown marker, ``NO_BROKER_EPOCH`` without one (KIP-966).
    """

    broker_id: NodeId
    cluster_id: str
    incarnation_id: bytes
    endpoints: tuple[Endpoint, ...]
    rack: str
    log_dir_ids: tuple[bytes, ...]
    previous_broker_epoch: BrokerEpoch = NO_BROKER_EPOCH


class BrokerMembership:
    """See the module. ``run`` returns after an orderly stop and raises ``GlasslogError`` after a failure.

    Make it after everything else has subscribed to ``observer``: it tells the controller how far all are.
    ``on_registered`` is awaited whenever ``broker_epoch`` has a new value; ``offline_log_dirs`` says which of
    the identity's directories have failed since.
    """

    def __init__(
        self,
        runtime: Runtime,
        controllers: ControllerChannel,
        observer: MetadataObserver,
        *,
        identity: BrokerIdentity,
        settings: LifecycleSettings,
        on_registered: Callable[[], Awaitable[None]] = _nothing,
        offline_log_dirs: Callable[[], tuple[bytes, ...]] = lambda: (),
    ) -> None:
        self._clock = runtime.clock
        self._controllers = controllers
        self._observer = observer
        self._identity = identity
        self._core = BrokerLifecycle(settings)
        self._on_registered = on_registered
        self._offline_log_dirs = offline_log_dirs
        self._newest_epoch = NO_BROKER_EPOCH
        self._woken = asyncio.Event()
        self.state: Watched[State] = Watched(self._core.state)
        observer.subscribe(self._on_metadata)

    @property
    def broker_epoch(self) -> BrokerEpoch:
        """The newest epoch this process was given, ``NO_BROKER_EPOCH`` before any.

        It stays while the broker registers anew and when it has stopped: a clean shutdown leaves it behind.
        """
        return self._newest_epoch

    @property
    def has_caught_up(self) -> bool:
        return self._core.has_caught_up

    def shut_down(self) -> None:
        """Begin a controlled shutdown; ``run`` returns when it is over."""
        self._core.shut_down(self._clock.now_ms())
        self._wake()

    def report_now(self) -> None:
        """Something changed that a heartbeat tells: do not wait for the next one."""
        self._core.hasten(self._clock.now_ms())
        self._wake()

    async def run(self) -> None:
        """Join, stay, leave."""
        self._core.start(self._clock.now_ms())
        async with asyncio.TaskGroup() as group:
            session = group.create_task(self._hold_sessions(), name="broker session")
            stopped = await self._live()
            session.cancel()
        if stopped.failure:
            raise GlasslogError(ErrorCode.INVALID_REGISTRATION, stopped.failure)

    # --- duties ---

    async def _live(self) -> Stopped:
        while True:
            self._woken.clear()
            self._core.on_metadata(self._observer.applied_offset, self._clock.now_ms())
            duty = self._core.take_duty(self._clock.now_ms())
            self._publish()
            if duty is not None:
                await self._perform(duty)
                self._publish()
            elif isinstance(self._core.state, Stopped):
                return self._core.state
            else:
                await self._sleep()

    async def _sleep(self) -> None:
        deadline_ms = self._core.next_deadline_ms()
        seconds = None if deadline_ms is None else max(0, deadline_ms - self._clock.now_ms()) / 1000
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _perform(self, duty: Duty) -> None:
        match duty:
            case Register():
                await self._register(duty)
            case SendHeartbeat():
                await self._heartbeat(duty)
            case _:
                assert_never(duty)

    async def _register(self, duty: Register) -> None:
        identity = self._identity
        request = pb.RegisterBrokerRequest(
            cluster_id=identity.cluster_id,
            broker_id=identity.broker_id,
            incarnation_id=identity.incarnation_id,
            endpoints=endpoints_to_wire(identity.endpoints),
            features=features_to_wire(SUPPORTED),
            rack=identity.rack,
            log_dir_ids=self._usable_log_dirs(),
            previous_broker_epoch=(
                identity.previous_broker_epoch
                if self._newest_epoch == NO_BROKER_EPOCH
                else self._newest_epoch
            ),
        )
        try:
            answer = await self._controllers.call(
                _REGISTER, request, pb.RegisterBrokerResponse, timeout_ms=duty.timeout_ms
            )
            raise_for(answer.error_code, answer.error_message)
        except GlasslogError as error:
            _log.warning("broker %d is not registered yet: %s", identity.broker_id, error)
            self._core.on_registration_refused(error.code, str(error), self._clock.now_ms())
            return
        self._newest_epoch = BrokerEpoch(answer.broker_epoch)
        self._core.on_registered(self._newest_epoch, self._clock.now_ms())
        # Before the next heartbeat: who asks to be unfenced must have taken in what makes it a leader.
        await self._on_registered()
        _log.info("broker %d is registered with epoch %d", identity.broker_id, answer.broker_epoch)

    def _usable_log_dirs(self) -> tuple[bytes, ...]:
        offline = self._offline_log_dirs()
        return tuple(each for each in self._identity.log_dir_ids if each not in offline)

    async def _heartbeat(self, duty: SendHeartbeat) -> None:
        request = pb.BrokerHeartbeatRequest(
            broker_id=self._identity.broker_id,
            broker_epoch=duty.broker_epoch,
            current_metadata_offset=duty.metadata_offset,
            want_fence=duty.want_fence,
            want_shut_down=duty.want_shut_down,
            offline_log_dirs=self._offline_log_dirs(),
        )
        try:
            answer = await self._controllers.call(
                _HEARTBEAT, request, pb.BrokerHeartbeatResponse, timeout_ms=duty.timeout_ms
            )
            raise_for(answer.error_code)
        except GlasslogError as error:
            _log.warning("heartbeat of broker %d: %s", self._identity.broker_id, error)
            self._core.on_heartbeat_failed(error.code, self._clock.now_ms())
            return
        self._core.on_heartbeat_answer(
            fenced=answer.is_fenced,
            should_shut_down=answer.should_shut_down,
            now_ms=self._clock.now_ms(),
        )

    # --- what the metadata says ---

    def _on_metadata(self, delta: MetadataDelta, image: MetadataImage) -> None:
        now_ms = self._clock.now_ms()
        self._core.on_metadata(image.offset, now_ms)
        own = image.brokers.get(self._identity.broker_id)
        if own is not None and own.incarnation_id == self._identity.incarnation_id:
            self._core.on_own_registration(broker_epoch=own.broker_epoch, fenced=own.fenced, now_ms=now_ms)
        self._wake()

    def _wake(self) -> None:
        self._woken.set()

    def _publish(self) -> None:
        if self._core.state != self.state.value:
            before = type(self.state.value)
            self.state.set(self._core.state)
            if type(self._core.state) is not before:
                name = type(self._core.state).__name__
                _log.info("broker %d: %s", self._identity.broker_id, name)

    # --- the session stream ---

    async def _hold_sessions(self) -> None:
        """Keep one stream open to the active controller for as long as there is a registration."""
        backoff = self._controllers.new_backoff()
        while True:
            await self.state.until(lambda _: self._core.broker_epoch is not None)
            epoch, voter = self.broker_epoch, self._controllers.candidate
            opened_ms = self._clock.now_ms()
            try:
                moved = await self._hold_session(voter, epoch)
            except GlasslogError as error:
                moved = False
                self._on_session_refused(voter, epoch, error)
            if moved or self._clock.now_ms() - opened_ms >= _STEADY_SESSION_MS:
                backoff.reset()
            if not moved:
                await self._controllers.pause(backoff)

    async def _hold_session(self, voter: Voter, epoch: BrokerEpoch) -> bool:
        """Until it ends; returns whether that is because we belong elsewhere now."""
        stream = self._controllers.channel_to(voter).stream(_HOLD_SESSION)
        reading = asyncio.create_task(self._read_session(stream, epoch), name="broker session stream")
        moving = asyncio.create_task(self._wait_for_move(voter, epoch), name="broker session watch")
        try:
            await asyncio.wait((reading, moving), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
                return False
            return True
        finally:
            for task in (reading, moving):
                task.cancel()
            await asyncio.gather(reading, moving, return_exceptions=True)
            await stream.close()

    async def _read_session(self, stream: Stream, epoch: BrokerEpoch) -> None:
        hello = pb.BrokerSessionHello(broker_id=self._identity.broker_id, broker_epoch=epoch)
        await stream.send(hello.SerializeToString())
        async for _ in stream:
            pass

    async def _wait_for_move(self, voter: Voter, epoch: BrokerEpoch) -> None:
        """Until another controller leads, or another epoch is ours."""
        leader = self._controllers.leader.until(lambda leader: leader not in (NO_NODE, voter.node_id))
        state = self.state.until(lambda _: self._core.broker_epoch != epoch)
        tasks = [asyncio.ensure_future(leader), asyncio.ensure_future(state)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _on_session_refused(self, voter: Voter, epoch: BrokerEpoch, error: GlasslogError) -> None:
        _log.debug(
            "session of broker %d at controller %d: %s", self._identity.broker_id, voter.node_id, error
        )
        if error.code in _EPOCH_IS_GONE:
            self._core.on_epoch_refused(epoch, self._clock.now_ms())
            self._wake()
        else:
            self._controllers.on_failure(voter)
