"""The consumer's fetching shell: one stream per broker, a bounded amount fetched ahead of the user.

One task feeds the subscription state with answers and asks for what it wants next. Refuses to know groups,
and how records are handed out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from glasslog.client.cluster import BrokerView
from glasslog.client.connections import RequestStream, error_of
from glasslog.client.offsets import OffsetLookup
from glasslog.client.options import ConsumerOptions
from glasslog.client.session import Session
from glasslog.client.subscription import (
    LATEST,
    AwaitingCommitted,
    AwaitingReset,
    PartitionState,
    Positioned,
    Stuck,
    SubscriptionState,
)
from glasslog.client.types import OffsetAndMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.log.batch import CorruptBatch
from glasslog.v1.broker_pb2 import FetchRequest, FetchResponse

_LOG = logging.getLogger(__name__)

_MAX_IN_FLIGHT = 2
"""A second one, so that a partition that becomes free need not wait for the long poll of the others."""

_SHORT_WAIT_MS = 20
"""A long poll's length while some partitions are left out because the user has not caught up."""

_SUSPECT_MS = 500
_DISTRUST_MS = 10_000
"""For so long a follower that failed is not asked for again: by then a dead one is out of the ISR, since
``broker.session.timeout.ms`` is over, and its leader names it no more."""
_ISOLATION_LEVELS = {"read_uncommitted": 0, "read_committed": 1}

Committed = Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, OffsetAndMetadata]]]
Answer = asyncio.Future[FetchResponse]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One partition of a request: its state then, and whether its leader was asked."""

    state: PartitionState
    version: int
    fetch_offset: int
    of_leader: bool


@dataclass(slots=True, kw_only=True)
class _Sent:
    sent_ms: int
    asked: dict[tuple[str, int], _Asked]


@dataclass(slots=True, kw_only=True)
class _Link:
    broker: BrokerView
    stream: RequestStream[FetchResponse]
    sent: dict[int, _Sent] = field(default_factory=dict)
    throttled_until_ms: int = 0
    """A quota was exceeded: the broker takes nothing before."""


class Fetcher:
    """``committed`` asks for the group's positions. ``arrived`` is set when something may be there."""

    def __init__(
        self,
        session: Session,
        options: ConsumerOptions,
        subscription: SubscriptionState,
        committed: Committed,
    ) -> None:
        self._session = session
        self._options = options
        self._subscription = subscription
        self._committed = committed
        self.isolation_level = _ISOLATION_LEVELS[options.isolation_level]
        self._lookup = OffsetLookup(session, isolation_level=self.isolation_level)
        self._wake = asyncio.Event()
        self._links: dict[NodeId, _Link] = {}
        self._answers: list[tuple[_Link, int, Answer]] = []
        self._correlation_id = 0
        self._resolving = False
        self.arrived = asyncio.Event()

    def start(self) -> None:
        self._session.metadata.on_change(self.wake)
        self._session.scope.spawn(self._run(), "consumer fetcher")

    def wake(self) -> None:
        """Something changed: assignment, position, room, leaders."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now_ms = self._session.runtime.clock.now_ms()
            self._take_answers(now_ms)
            self._check_silent_brokers(now_ms)
            self._resolve_if_needed()
            self._fetch(now_ms)
            await self._sleep(now_ms)

    async def _sleep(self, now_ms: int) -> None:
        deadline_ms = self._subscription.next_retry_ms(now_ms)
        for link in self._links.values():
            if link.throttled_until_ms > now_ms:
                deadline_ms = min(deadline_ms or link.throttled_until_ms, link.throttled_until_ms)
        if any(link.sent for link in self._links.values()):
            deadline_ms = min(deadline_ms or now_ms + _SUSPECT_MS, now_ms + _SUSPECT_MS)
        if deadline_ms is None:
            await self._wake.wait()
            return
        timer = asyncio.get_running_loop().call_later(max(1, deadline_ms - now_ms) / 1_000, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    # --- asking -----------------------------------------------------------------------------------------

    def _fetch(self, now_ms: int) -> None:
        by_broker: dict[NodeId, list[PartitionState]] = {}
        for state in self._subscription.fetchable(now_ms):
            broker = self._source(state, now_ms)
            if broker is None:
                self._session.metadata.add_topics((state.partition.topic,))
                self._session.metadata.request_update()
            else:
                by_broker.setdefault(broker.node_id, []).append(state)
        for node_id, states in by_broker.items():
            link = self._link(self._session.metadata.view.brokers[node_id])
            if len(link.sent) < _MAX_IN_FLIGHT and now_ms >= link.throttled_until_ms:
                self._send(link, states, now_ms)

    def _source(self, state: PartitionState, now_ms: int) -> BrokerView | None:
        view = self._session.metadata.view
        preferred = view.brokers.get(NodeId(state.preferred_at(now_ms)))
        return preferred if preferred is not None else view.leader(state.partition)

    def _link(self, broker: BrokerView) -> _Link:
        link = self._links.get(broker.node_id)
        if link is None or link.stream.broken is not None or link.broker.address != broker.address:
            if link is not None:
                link.stream.abandon(f"broker {broker.node_id} moved to {broker.address}")
            stream = self._session.connections.stream(broker.address, "Fetch", FetchResponse.FromString)
            link = self._links[broker.node_id] = _Link(broker=broker, stream=stream)
        return link

    def _send(self, link: _Link, states: Iterable[PartitionState], now_ms: int) -> None:
        self._correlation_id += 1
        asked = {}
        view = self._session.metadata.view
        for state in states:
            state.fetching = True
            key = (state.partition.topic, state.partition.partition)
            asked[key] = _Asked(
                state=state,
                version=state.version,
                fetch_offset=state.fetch_offset,
                of_leader=view.leader(state.partition) == link.broker,
            )
        link.sent[self._correlation_id] = _Sent(sent_ms=now_ms, asked=asked)
        takes_followers = all(item.state.leader_only_until_ms <= now_ms for item in asked.values())
        rack = self._options.client_rack if takes_followers else ""
        request = self._encode(self._correlation_id, asked.values(), rack=rack)
        future = link.stream.submit(self._correlation_id, request)
        future.add_done_callback(partial(self._on_answer, link, self._correlation_id))

    def _encode(self, correlation_id: int, asked: Iterable[_Asked], *, rack: str) -> bytes:
        options, view = self._options, self._session.metadata.view
        max_wait_ms = options.fetch_max_wait_ms
        if self._subscription.some_are_full:
            max_wait_ms = min(max_wait_ms, _SHORT_WAIT_MS)
        return FetchRequest(
            correlation_id=correlation_id,
            max_wait_ms=max_wait_ms,
            min_bytes=options.fetch_min_bytes,
            max_bytes=options.fetch_max_bytes,
            isolation_level=self.isolation_level,
            rack=rack,
            client_id=options.client_id,
            partitions=[self._encode_one(item, view.leader_epoch(item.state.partition)) for item in asked],
        ).SerializeToString()

    def _encode_one(self, item: _Asked, leader_epoch: int) -> FetchRequest.Partition:
        """A leader older than what was read can not judge it, so it is not asked to."""
        read_epoch = item.state.fetch_epoch
        return FetchRequest.Partition(
            topic=item.state.partition.topic,
            partition=item.state.partition.partition,
            fetch_offset=item.fetch_offset,
            current_leader_epoch=leader_epoch,
            max_bytes=self._options.max_partition_fetch_bytes,
            last_fetched_epoch=read_epoch if 0 <= read_epoch <= leader_epoch else None,
        )

    # --- answers ----------------------------------------------------------------------------------------

    def _on_answer(self, link: _Link, correlation_id: int, answer: Answer) -> None:
        self._answers.append((link, correlation_id, answer))
        self._wake.set()

    def _take_answers(self, now_ms: int) -> None:
        answers, self._answers = self._answers, []
        for link, correlation_id, answer in answers:
            sent = link.sent.pop(correlation_id)
            for item in sent.asked.values():
                item.state.fetching = False
            error = answer.exception()
            if error is None:
                response = answer.result()
                link.throttled_until_ms = max(link.throttled_until_ms, now_ms + response.throttle_time_ms)
                self._take_response(sent, response, now_ms)
            elif isinstance(error, GlasslogError):
                self._session.metadata.mark_unreachable(link.broker)
                for item in sent.asked.values():
                    self._back_off(item.state, now_ms)
            else:
                raise error

    def _take_response(self, sent: _Sent, response: FetchResponse, now_ms: int) -> None:
        if response.error_code:
            for item in sent.asked.values():
                self._back_off(item.state, now_ms)
        for result in response.partitions:
            asked = sent.asked.get((result.topic, result.partition))
            if asked is None or self._subscription.find(asked.state.partition, asked.version) is None:
                # Sought elsewhere meanwhile, or given up, perhaps to be given back with another state.
                continue
            if result.error_code:
                self._on_error(asked, result, now_ms)
            elif result.HasField("diverging_epoch"):
                self._on_diverging(asked.state, result.diverging_epoch)
            else:
                self._on_records(asked.state, result, now_ms)

    def _on_records(self, state: PartitionState, result: FetchResponse.Partition, now_ms: int) -> None:
        state.high_watermark = result.high_watermark
        state.log_start_offset = result.log_start_offset
        if result.preferred_read_replica >= 0:
            self._on_named_replica(state, result.preferred_read_replica, now_ms)
        if not result.records:
            return
        try:
            state.add(
                result.records,
                [(each.producer_id, each.first_offset) for each in result.aborted_transactions],
            )
        except CorruptBatch as error:
            message = f"{state.partition} can not be read at offset {state.fetch_offset}: {error}"
            self._subscription.move_to(state.partition, Stuck(error=GlasslogError(error.code, message)))
        self.arrived.set()

    def _on_named_replica(self, state: PartitionState, replica: int, now_ms: int) -> None:
        if NodeId(replica) in self._session.metadata.view.brokers:
            state.read_from(replica, until_ms=now_ms + self._options.metadata_max_age_ms)
        else:
            self._session.metadata.request_update()
            state.leader_only_until_ms = now_ms + _DISTRUST_MS

    def _on_diverging(self, state: PartitionState, parts: FetchResponse.DivergingEpoch) -> None:
        position = state.position
        if self._subscription.on_diverging(
            state.partition, epoch=parts.epoch, end_offset=max(0, parts.end_offset)
        ):
            _LOG.warning(
                "%s was truncated: what was read from %d to %d is not there any more",
                state.partition,
                parts.end_offset,
                position,
            )
        self.arrived.set()

    def _on_error(self, asked: _Asked, result: FetchResponse.Partition, now_ms: int) -> None:
        code, state = error_of(result.error_code), asked.state
        if code is ErrorCode.OFFSET_OUT_OF_RANGE and asked.of_leader:
            self._subscription.move_to(state.partition, self._subscription.reset_place(state.partition))
            self.arrived.set()
        elif code is ErrorCode.OFFSET_OUT_OF_RANGE or code.retriable:
            self._back_off(state, now_ms)
            self._session.metadata.learn_leader(
                state.partition, leader=result.current_leader_id, leader_epoch=result.current_leader_epoch
            )
        else:
            message = f"{state.partition} can not be read: {code.name}"
            self._subscription.move_to(state.partition, Stuck(error=GlasslogError(code, message)))
            self.arrived.set()

    def _back_off(self, state: PartitionState, now_ms: int) -> None:
        state.distrust_replica(until_ms=now_ms + _DISTRUST_MS)
        state.retry_at_ms = now_ms + self._options.retry_backoff_ms

    def _check_silent_brokers(self, now_ms: int) -> None:
        """A paused broker keeps its connection: leave it once somebody else leads, or time is up."""
        for link in self._links.values():
            oldest = next(iter(link.sent.values()), None)
            if oldest is None:
                continue
            # One that was sent before the broker said so has to wait as well.
            since_ms = max(oldest.sent_ms, link.throttled_until_ms)
            late_ms = now_ms - since_ms - self._options.fetch_max_wait_ms
            if late_ms >= self._options.request_timeout_ms:
                link.stream.abandon(f"no answer within {self._options.request_timeout_ms} ms")
            elif late_ms >= _SUSPECT_MS:
                states = [item.state for item in oldest.asked.values()]
                for state in states:
                    # It may be only a follower: the leader does as well.
                    state.distrust_replica(until_ms=now_ms + _DISTRUST_MS)
                if any(self._source(state, now_ms) != link.broker for state in states):
                    link.stream.abandon("it does not answer, and another broker leads or will do")
                else:
                    self._session.metadata.request_update()

    # --- positions --------------------------------------------------------------------------------------

    def _resolve_if_needed(self) -> None:
        """Positions are asked for by a task of its own, one at a time."""
        if not self._resolving and any(
            isinstance(state.place, AwaitingCommitted | AwaitingReset) for state in self._subscription.states
        ):
            self._resolving = True
            self._session.scope.spawn(self._resolve(), "consumer positions")

    async def _resolve(self) -> None:
        try:
            if not (await self._resolve_committed() and await self._resolve_resets()):
                await asyncio.sleep(self._options.retry_backoff_ms / 1_000)
        finally:
            self._resolving = False
        self._wake.set()

    async def _resolve_committed(self) -> bool:
        waiting = {
            state.partition: state.version
            for state in self._subscription.states
            if isinstance(state.place, AwaitingCommitted)
        }
        if not waiting:
            return True
        try:
            committed = await self._committed(tuple(waiting))
        except GlasslogError as error:
            if error.retriable:
                return False
            for partition, version in waiting.items():
                if self._subscription.find(partition, version) is not None:
                    self._subscription.move_to(partition, Stuck(error=error))
            self.arrived.set()
            return True
        for partition, version in waiting.items():
            position = committed.get(partition, OffsetAndMetadata(-1))
            self._subscription.on_committed(partition, version, position.offset, position.leader_epoch)
        self.arrived.set()
        return True

    async def _resolve_resets(self) -> bool:
        waiting = {
            state.partition: (state.version, state.place.timestamp)
            for state in self._subscription.states
            if isinstance(state.place, AwaitingReset)
        }
        if not waiting:
            return True
        wanted = {partition: timestamp for partition, (_, timestamp) in waiting.items()}
        found, failed = await self._lookup.list_once(wanted)
        for partition, position in found.items():
            version, timestamp = waiting[partition]
            if self._subscription.find(partition, version) is None:
                continue
            if position.offset < 0 and timestamp >= 0:
                # No record is that young: whatever comes next is.
                self._subscription.move_to(partition, AwaitingReset(timestamp=LATEST))
                continue
            self._subscription.move_to(partition, Positioned(offset=max(0, position.offset)))
        self.arrived.set()
        return not failed
