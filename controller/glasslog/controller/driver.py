"""Runs the controller's core over the quorum's log: the shell that owns it.

Requests are decided one after the other on the event loop; records go to the log, and an answer leaves when
everything decided up to it is committed. One task fences the brokers that the heartbeats give up, and has
leaderships rebalanced from time to time. Refuses to know how requests travel (``service``) and how the quorum
agrees (``raft``).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation, require
from glasslog.common.ids import NO_NODE, BrokerEpoch, NodeId, Offset
from glasslog.common.runtime.protocols import Clock
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.events import count_unclean_elections, describe
from glasslog.controller.heartbeats import Heartbeats
from glasslog.controller.raft.types import CommittedBatch, SnapshotSource
from glasslog.controller.requests import (
    BrokerHeartbeatRequest,
    FenceBrokersRequest,
    RebalanceLeadersRequest,
    RebalanceLeadersResponse,
    Request,
    Response,
)
from glasslog.controller.state import Active, ControllerState
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.image_records import encoded_image, image_of
from glasslog.metadata.records import MetadataRecord
from glasslog.metadata.snapshot import Snapshot
from glasslog.metadata.wire import decode_record, encode_record

_log = logging.getLogger(__name__)

R = TypeVar("R", bound=Response)

MAX_WAITING_REQUESTS = 10_000
"""Requests beyond so many that wait for the quorum are refused with THROTTLING_QUOTA_EXCEEDED."""

STALL_MS = 100
"""A timer that fires later than this after its time shows that this process itself stood still."""

_RETRY_MS = 200
_REBALANCE_PAUSE_MS = 100
"""Between two rounds when one did not suffice."""


class MetadataLog(Protocol):
    """What the controller needs of the quorum's log; ``RaftNode`` is one."""

    @property
    def next_offset(self) -> Offset: ...

    def propose(self, records: Sequence[bytes]) -> Offset: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStatus:
    """This controller as metrics and people see it. Counts are of the committed metadata."""

    node_id: NodeId
    is_active: bool
    active_controller_id: NodeId
    controller_epoch: int
    metadata_offset: Offset
    registered_brokers: int
    active_brokers: int
    topics: int
    partitions: int
    offline_partitions: int
    unclean_elections: int


@dataclass(slots=True, kw_only=True)
class _Term:
    """What lasts exactly as long as one leadership of this controller."""

    heartbeats: Heartbeats
    over: asyncio.Future[None]
    rebalance_ms: int | None
    """When to look at the balance of leaders next; ``None``: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Generic[R]):
    """A response that may leave; metadata up to ``offset`` shows what was decided."""

    response: R
    offset: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    offset: Offset
    committed: asyncio.Future[None]


class Session:
    """A broker's open session stream; ``close`` it exactly once, when the stream ends."""

    def __init__(
        self, controller: "Controller", term: _Term, broker_id: NodeId, broker_epoch: BrokerEpoch
    ) -> None:
        self._controller = controller
        self._term = term
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch

    async def hold(self, closed: Awaitable[None]) -> None:
        """Until ``closed``, or NOT_CONTROLLER as soon as this controller is not active any more."""
        reading = asyncio.ensure_future(closed)
        try:
            await asyncio.wait((reading, self._term.over), return_when=asyncio.FIRST_COMPLETED)
            if self._term.over.done():
                raise self._controller.not_active()
            await reading
        finally:
            reading.cancel()

    def close(self) -> None:
        """The stream is gone, for whatever reason."""
        self._controller.on_session_closed(self._term.heartbeats, self._broker_id, self._broker_epoch)


class Controller:
    """One controller of the quorum; the ``RaftListener`` of its node. ``attach`` the log before it runs."""

    def __init__(self, *, clock: Clock, node_id: NodeId, settings: ControllerSettings) -> None:
        self._clock = clock
        self._node_id = node_id
        self._state = ControllerState(settings)
        self._log: MetadataLog = _NoLog()
        self._term: _Term | None = None
        self._waiting: deque[_Waiting] = deque()
        self._woken = asyncio.Event()
        self._armed_ms: int | None = None
        self._failure: InvariantViolation | None = None
        self.unclean_elections = 0
        """Committed while this controller was active."""

    def attach(self, log: MetadataLog) -> None:
        """Where decided records go."""
        self._log = log

    @property
    def node_id(self) -> NodeId:
        return self._node_id

    @property
    def cluster_id(self) -> str:
        return self._state.settings.cluster_id

    @property
    def is_active(self) -> bool:
        return self._term is not None

    @property
    def committed(self) -> MetadataImage:
        """The metadata as committed, to look at."""
        return self._state.committed

    # --- RaftListener ---

    def on_committed(self, batch: CommittedBatch) -> None:
        """Replay; then whatever waited for this may leave."""
        before = self._state.committed
        records = self._state.commit(
            batch.base_offset, batch.epoch, len(batch.records), lambda: _records_in(batch)
        )
        if self.is_active:
            self._tell(before, records)
        while self._waiting and self._waiting[0].offset <= self._state.committed.offset:
            waiting = self._waiting.popleft()
            if not waiting.committed.done():
                waiting.committed.set_result(None)

    def _tell(self, before: MetadataImage, records: Sequence[MetadataRecord]) -> None:
        after = self._state.committed
        self.unclean_elections += count_unclean_elections(before, after, records)
        if _log.isEnabledFor(logging.INFO):
            for line in describe(before, after, records):
                _log.info(line)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Begin anew with the image in ``snapshot``: only a controller that follows is told so."""
        records = (decode_record(data) for batch in snapshot.batches for data in batch)
        image = image_of(records, offset=snapshot.last_offset, epoch=snapshot.id.epoch)
        self._state.begin_with(image)

    def take_snapshot(self) -> SnapshotSource:
        """The committed image, which never changes."""
        return partial(encoded_image, self._state.committed)

    def on_leader(self, epoch: int) -> None:
        """Start a term: every broker has a fresh session."""
        self._end_term()
        self._state.activate(epoch, self._clock.now_ms())
        over = asyncio.get_running_loop().create_future()
        self._term = _Term(
            heartbeats=self._state.active.heartbeats,
            over=over,
            rebalance_ms=self._next_rebalance_ms(has_more=False),
        )
        brokers = len(self._state.committed.brokers)
        _log.info("controller %d is active in epoch %d, %d brokers", self._node_id, epoch, brokers)
        self._woken.set()

    def on_not_leader(self, epoch: int, leader_id: NodeId) -> None:
        """End the term, if there was one: what is not committed may or may not become so."""
        if self.is_active:
            _log.info("controller %d is not active any more (epoch %d)", self._node_id, epoch)
        self._state.stand_by(epoch, leader_id)
        self._end_term()
        self._woken.set()

    def _end_term(self) -> None:
        if self._term is None:
            return
        self._term.over.set_result(None)
        self._term = None
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            if not each.committed.done():
                each.committed.set_exception(self.not_active())

    def not_active(self) -> GlasslogError:
        """The refusal of a controller that is not the active one; says which is, if known."""
        role = self._state.role
        leader_id = NO_NODE if isinstance(role, Active) else role.leader_id
        known = "none is known" if leader_id == NO_NODE else f"controller {leader_id} is"
        return GlasslogError(
            ErrorCode.NOT_CONTROLLER, f"controller {self._node_id} is not the active one; {known}"
        )

    # --- requests ---

    async def submit(self, request: Request, expected: type[R], *, timeout_ms: int = 0) -> R:
        """The response of ``change``, for whom it is not needed where it can be seen."""
        return (await self.change(request, expected, timeout_ms=timeout_ms)).response

    async def change(self, request: Request, expected: type[R], *, timeout_ms: int = 0) -> Committed[R]:
        """Decide ``request`` now and answer once that is committed.

        Raises ``GlasslogError``: NOT_CONTROLLER, also when leadership is lost meanwhile (the outcome is
        open then); REQUEST_TIMED_OUT after ``timeout_ms``, if positive (likewise);
        THROTTLING_QUOTA_EXCEEDED.
        """
        if len(self._waiting) >= MAX_WAITING_REQUESTS:
            raise GlasslogError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED, f"{MAX_WAITING_REQUESTS} requests wait for the quorum"
            )
        response, offset = self._decide(request)
        if offset > self._state.committed.offset:
            await self._until_committed(offset, timeout_ms)
        if not isinstance(response, expected):
            raise InvariantViolation(f"{type(request).__name__} was answered with {type(response).__name__}")
        return Committed(response=response, offset=offset)

    def _decide(self, request: Request) -> tuple[Response, Offset]:
        """Decide and append without a pause; returns the answer and up to where the log must be committed."""
        if self._term is None:
            raise self.not_active()
        try:
            return self._act(self._state.active, request)
        except InvariantViolation as error:
            # The node has to stop; whoever asked is only the first to know.
            self._failure = error
            self._woken.set()
            raise

    def _act(self, active: Active, request: Request) -> tuple[Response, Offset]:
        now_ms = self._clock.now_ms()
        if isinstance(request, BrokerHeartbeatRequest):
            active.heartbeats.contact(request.broker_id, request.broker_epoch, now_ms)
        next_offset = self._log.next_offset
        decision = self._state.decide(request, next_offset=next_offset, now_ms=now_ms)
        if decision.records:
            # Before they are in the log, where every node would stumble over a contradiction.
            replayed = self._state.replay(next_offset, decision.records)
            base_offset = self._log.propose([encode_record(record) for record in decision.records])
            require(base_offset == next_offset, f"records meant for {next_offset} went to {base_offset}")
            self._state.adopt(replayed, now_ms)
            self._rearm()
        return decision.response, active.image.offset

    async def _until_committed(self, offset: Offset, timeout_ms: int) -> None:
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(offset=offset, committed=committed))
        try:
            async with asyncio.timeout(timeout_ms / 1000 if timeout_ms > 0 else None):
                await committed
        except TimeoutError:
            raise GlasslogError(
                ErrorCode.REQUEST_TIMED_OUT, f"not committed within {timeout_ms} ms; it may still be"
            ) from None

    # --- session streams ---

    def open_session(self, broker_id: NodeId, broker_epoch: BrokerEpoch) -> Session:
        """A broker's stream has said hello. Raises NOT_CONTROLLER, STALE_BROKER_EPOCH for an unknown one."""
        if self._term is None:
            raise self.not_active()
        heartbeats = self._term.heartbeats
        if not heartbeats.session_opened(broker_id, broker_epoch, self._clock.now_ms()):
            raise GlasslogError(
                ErrorCode.STALE_BROKER_EPOCH,
                f"broker {broker_id} is not registered with epoch {broker_epoch}",
            )
        self._rearm()
        return Session(self, self._term, broker_id, broker_epoch)

    def on_session_closed(self, heartbeats: Heartbeats, broker_id: NodeId, broker_epoch: BrokerEpoch) -> None:
        """One of the sessions of ``heartbeats``' term ended."""
        heartbeats.session_lost(broker_id, broker_epoch, self._clock.now_ms())
        self._rearm()

    # --- what it does by itself ---

    async def run(self) -> None:
        """Fence who is to be fenced, and rebalance leaders, until cancelled.

        Raises ``InvariantViolation`` if a decision met one.
        """
        while True:
            self._woken.clear()
            if self._failure is not None:
                raise self._failure
            self._armed_ms, armed_at_ms = self._next_deadline_ms(), self._clock.now_ms()
            await self._sleep(self._armed_ms)
            if self._armed_ms is not None:
                # What was overdue before the sleep (the log had refused) is no sign of a stall.
                self._forgive_stall(self._clock.now_ms() - max(self._armed_ms, armed_at_ms))
            if not self._fence_expired() or not self._rebalance_if_due():
                await asyncio.sleep(_RETRY_MS / 1000)

    async def _sleep(self, deadline_ms: int | None) -> None:
        # At least a millisecond: the clock shows whole ones and may still be just short of the deadline.
        seconds = None if deadline_ms is None else max(1, deadline_ms - self._clock.now_ms()) / 1000
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def _next_deadline_ms(self) -> int | None:
        if self._term is None:
            return None
        deadlines_ms = (self._term.heartbeats.next_deadline_ms(), self._term.rebalance_ms)
        return min((each for each in deadlines_ms if each is not None), default=None)

    def _rearm(self) -> None:
        """Wake the fencing task if it would sleep past the next deadline; a later one it finds by itself."""
        deadline_ms = self._next_deadline_ms()
        if deadline_ms is not None and (self._armed_ms is None or deadline_ms < self._armed_ms):
            self._woken.set()

    def _forgive_stall(self, late_ms: int) -> None:
        if self._term is not None and late_ms > STALL_MS:
            _log.warning("controller %d stood still for %d ms", self._node_id, late_ms)
            self._term.heartbeats.postpone(late_ms)

    def _fence_expired(self) -> bool:
        """Returns false if the log refused and it must be tried again later."""
        if self._term is None:
            return True
        lost = self._term.heartbeats.expired(self._clock.now_ms())
        if not lost:
            return True
        for broker in lost:
            _log.warning("fencing broker %d: %s", broker.broker_id, broker.reason)
        try:
            self._decide(FenceBrokersRequest(brokers=lost))
        except GlasslogError as error:
            _log.warning("fencing has to wait: %s", error)
            return False
        return True

    def _next_rebalance_ms(self, *, has_more: bool) -> int | None:
        settings = self._state.settings
        if not settings.auto_leader_rebalance_enable:
            return None
        pause_ms = _REBALANCE_PAUSE_MS if has_more else settings.leader_imbalance_check_interval_ms
        return self._clock.now_ms() + pause_ms

    def _rebalance_if_due(self) -> bool:
        """Returns false if the log refused and it must be tried again later."""
        term = self._term
        if term is None or term.rebalance_ms is None or self._clock.now_ms() < term.rebalance_ms:
            return True
        try:
            response, _ = self._decide(RebalanceLeadersRequest())
        except GlasslogError as error:
            _log.warning("leaderships can not be rebalanced now: %s", error)
            return False
        assert isinstance(response, RebalanceLeadersResponse)
        if response.elected:
            _log.info("%d leaderships return to the first of their replicas", response.elected)
        term.rebalance_ms = self._next_rebalance_ms(has_more=response.has_more)
        return True

    # --- status ---

    def status(self) -> ControllerStatus:
        """For metrics, health and ``DescribeController``. Linear in the number of partitions."""
        image, role = self._state.committed, self._state.role
        partitions = [partition for topic in image.topics.values() for partition in topic.partitions]
        return ControllerStatus(
            node_id=self._node_id,
            is_active=self.is_active,
            active_controller_id=self._node_id if isinstance(role, Active) else role.leader_id,
            controller_epoch=role.epoch,
            metadata_offset=image.offset,
            registered_brokers=len(image.brokers),
            active_brokers=sum(broker.active for broker in image.brokers.values()),
            topics=len(image.topics),
            partitions=len(partitions),
            offline_partitions=sum(not partition.has_leader for partition in partitions),
            unclean_elections=self.unclean_elections,
        )


def _records_in(batch: CommittedBatch) -> tuple[MetadataRecord, ...]:
    return tuple(map(decode_record, batch.records))


class _NoLog:
    """Before ``attach``: nothing can be decided."""

    @property
    def next_offset(self) -> Offset:
        return Offset(0)

    def propose(self, records: Sequence[bytes]) -> Offset:
        raise InvariantViolation("a controller without a log was asked to decide")
