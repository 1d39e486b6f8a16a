"""The producer's shell: one task that feeds the accumulator with answers and sends what it gives.

Refuses to know records and partitioning, and decides nothing about order and retries: the accumulator does.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from glasslog.client.accumulator import Accumulator
from glasslog.client.backoff import Backoff
from glasslog.client.cluster import BrokerView
from glasslog.client.connections import Connections, RequestStream, error_of
from glasslog.client.metadata import ClusterMetadata
from glasslog.client.options import ProducerOptions
from glasslog.client.pending_batch import Delivered, Failed, PendingBatch, ProducerIdentity
from glasslog.client.tasks import TaskScope
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import Runtime, TransportError
from glasslog.v1.broker_pb2 import (
    InitProducerIdRequest,
    InitProducerIdResponse,
    ProduceRequest,
    ProduceResponse,
)

_LOG = logging.getLogger(__name__)

_SUSPECT_MS = 500
"""After so long without an answer it is worth asking whether the leader is still the leader."""

_NEVER_MS = 1 << 62

_LEADER_ERRORS = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerStats:
    """What a producer has done so far.

    ``longest_stall_ms`` is the longest time that any one partition had something to send without an
    acknowledgement coming, ``longest_silence_ms`` the same over all partitions together; both include a wait
    that still lasts only once it ends.
    """

    records_acked: int
    bytes_acked: int
    batches_acked: int
    records_failed: int
    requests: int
    retries: int
    buffered_bytes: int
    longest_stall_ms: int
    longest_silence_ms: int


@dataclass(slots=True, kw_only=True)
class _Sent:
    """A request under way. ``expires_ms`` is when the first of its batches is to be given up."""

    sent_ms: int
    expires_ms: int
    batches: tuple[PendingBatch, ...]


@dataclass(slots=True, kw_only=True)
class _Link:
    """The stream to one broker and what is under way on it, oldest first."""

    broker: BrokerView
    stream: RequestStream[ProduceResponse]
    sent: dict[int, _Sent] = field(default_factory=dict)
    throttled_until_ms: int = 0
    """A quota was exceeded: the broker takes nothing before."""


Answer = asyncio.Future[ProduceResponse]


class Sender:
    """Drives the accumulator; see the module."""

    def __init__(
        self,
        runtime: Runtime,
        options: ProducerOptions,
        metadata: ClusterMetadata,
        connections: Connections,
        scope: TaskScope,
        accumulator: Accumulator,
    ) -> None:
        self._runtime = runtime
        self._options = options
        self._metadata = metadata
        self._connections = connections
        self._scope = scope
        self._accumulator = accumulator
        self._wake = asyncio.Event()
        self._links: dict[NodeId, _Link] = {}
        self._answers: list[tuple[_Link, int, Answer]] = []
        self._correlation_id = 0
        self._identifying = False
        self._sent_to: dict[TopicPartition, tuple[NodeId, int]] = {}
        """Leader and leader epoch that a partition's batches were sent to last."""

        self._busy_since_ms: int | None = None
        self._records_acked = self._bytes_acked = self._batches_acked = 0
        self._records_failed = self._requests = self._longest_silence_ms = 0
        self.unseen_error: GlasslogError | None = None
        """The first failure that nobody was waiting for."""

        self.room: list[asyncio.Future[None]] = []
        """Whoever waits for memory to be freed."""

    def start(self) -> None:
        self._metadata.on_change(self.wake)
        self._scope.spawn(self._run(), "producer sender")

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    @property
    def stats(self) -> ProducerStats:
        return ProducerStats(
            records_acked=self._records_acked,
            bytes_acked=self._bytes_acked,
            batches_acked=self._batches_acked,
            records_failed=self._records_failed,
            requests=self._requests,
            retries=self._accumulator.retries,
            buffered_bytes=self._accumulator.used_bytes,
            longest_stall_ms=self._accumulator.longest_stall_ms,
            longest_silence_ms=self._longest_silence_ms,
        )

    async def drained(self) -> None:
        """With ``acks=0``: wait until the brokers that can be reached have taken what was sent.

        A request without partitions is answered after all before it, whatever their acks.
        """
        if self._options.acks != 0:
            return
        answers = []
        for link in self._links.values():
            self._correlation_id += 1
            barrier = ProduceRequest(correlation_id=self._correlation_id, acks=1)
            answers.append(link.stream.submit(self._correlation_id, barrier.SerializeToString()))
        if answers:
            await asyncio.wait(answers, timeout=_SUSPECT_MS / 1_000)
            for answer in answers:
                if not answer.cancel():
                    answer.exception()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now_ms = self._runtime.clock.now_ms()
            self._take_answers(now_ms)
            self._notice_new_leaders(now_ms)
            self._check_silent_brokers(now_ms)
            self._give_up_late_batches(now_ms)
            self._accumulator.expire(now_ms)
            self._identify_if_needed()
            self._send_ready(now_ms)
            self.settle()
            self._note_silence(now_ms)
            await self._sleep(now_ms)

    async def _sleep(self, now_ms: int) -> None:
        deadline_ms = self._accumulator.next_deadline_ms(now_ms)
        expires_ms = min(
            (sent.expires_ms for link in self._links.values() for sent in link.sent.values()), default=None
        )
        if expires_ms is not None:
            deadline_ms = min(deadline_ms or expires_ms, expires_ms, now_ms + _SUSPECT_MS)
        for link in self._links.values():
            if link.throttled_until_ms > now_ms:
                deadline_ms = min(deadline_ms or link.throttled_until_ms, link.throttled_until_ms)
        if deadline_ms is None:
            await self._wake.wait()
            return
        delay_s = max(1, deadline_ms - now_ms) / 1_000
        timer = asyncio.get_running_loop().call_later(delay_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    # --- sending ----------------------------------------------------------------------------------------

    def _send_ready(self, now_ms: int) -> None:
        drained = self._accumulator.drain(now_ms, leader_of=self._leader_of, room=self._room)
        for node_id, batches in drained.requests:
            self._send(node_id, batches, now_ms)
        if drained.leaderless or self._accumulator.retrying():
            self._metadata.request_update()
        if self._busy_since_ms is None and self._accumulator.unfinished_batches:
            self._busy_since_ms = now_ms

    def _leader_of(self, partition: TopicPartition) -> NodeId | None:
        broker = self._metadata.view.leader(partition)
        return None if broker is None else broker.node_id

    def _room(self, node_id: NodeId) -> int:
        link = self._links.get(node_id)
        if link is None:
            return self._options.max_in_flight
        is_throttled = self._runtime.clock.now_ms() < link.throttled_until_ms
        return 0 if is_throttled else self._options.max_in_flight - len(link.sent)

    def _send(self, node_id: NodeId, batches: tuple[PendingBatch, ...], now_ms: int) -> None:
        link = self._link(self._metadata.view.brokers[node_id])
        self._correlation_id += 1
        self._requests += 1
        message = self._encode(self._correlation_id, batches)
        if self._options.acks == 0:
            link.stream.post(message)
            for batch in batches:
                self._deliver(batch, base_offset=-1, log_append_time_ms=-1, now_ms=now_ms)
            return
        for batch in batches:
            self._sent_to[batch.partition] = (node_id, self._metadata.view.leader_epoch(batch.partition))
        link.sent[self._correlation_id] = _Sent(
            sent_ms=now_ms, expires_ms=self._expires_ms(batches), batches=batches
        )
        future = link.stream.submit(self._correlation_id, message)
        future.add_done_callback(partial(self._on_answer, link, self._correlation_id))

    def _link(self, broker: BrokerView) -> _Link:
        link = self._links.get(broker.node_id)
        if link is None or link.stream.broken is not None or link.broker.address != broker.address:
            if link is not None:
                link.stream.abandon(f"broker {broker.node_id} moved to {broker.address}")
            stream = self._connections.stream(broker.address, "Produce", ProduceResponse.FromString)
            link = self._links[broker.node_id] = _Link(broker=broker, stream=stream)
        return link

    def _encode(self, correlation_id: int, batches: Sequence[PendingBatch]) -> bytes:
        return ProduceRequest(
            correlation_id=correlation_id,
            acks=self._options.acks,
            timeout_ms=self._options.request_timeout_ms,
            client_id=self._options.client_id,
            partitions=[
                ProduceRequest.Partition(
                    topic=batch.partition.topic,
                    partition=batch.partition.partition,
                    records=bytes(batch.payload),
                )
                for batch in batches
            ],
        ).SerializeToString()

    # --- answers ----------------------------------------------------------------------------------------

    def _on_answer(self, link: _Link, correlation_id: int, answer: Answer) -> None:
        self._answers.append((link, correlation_id, answer))
        self._wake.set()

    def _take_answers(self, now_ms: int) -> None:
        answers, self._answers = self._answers, []
        for link, correlation_id, answer in answers:
            sent = link.sent.pop(correlation_id)
            error = answer.exception()
            if error is None:
                response = answer.result()
                link.throttled_until_ms = max(link.throttled_until_ms, now_ms + response.throttle_time_ms)
                self._take_response(sent, response, now_ms)
            elif isinstance(error, GlasslogError):
                self._metadata.mark_unreachable(link.broker)
                for batch in sent.batches:
                    self._accumulator.on_error(batch, _as_retriable(error), now_ms=now_ms)
            else:
                raise error

    def _take_response(self, sent: _Sent, response: ProduceResponse, now_ms: int) -> None:
        results = {(result.topic, result.partition): result for result in response.partitions}
        for batch in sent.batches:
            result = results.get((batch.partition.topic, batch.partition.partition))
            if result is None:
                error = TransportError(f"the answer says nothing about {batch.partition}")
                self._accumulator.on_error(batch, error, now_ms=now_ms)
            elif result.error_code:
                self._refuse(batch, result, now_ms)
            else:
                self._deliver(
                    batch,
                    base_offset=result.base_offset,
                    log_append_time_ms=result.log_append_time_ms,
                    now_ms=now_ms,
                )

    def _refuse(self, batch: PendingBatch, result: ProduceResponse.Partition, now_ms: int) -> None:
        code = error_of(result.error_code)
        message = f"{batch.partition}: {result.error_message or code.name}"
        self._accumulator.on_error(batch, GlasslogError(code, message), now_ms=now_ms)
        if code in _LEADER_ERRORS:
            self._metadata.learn_leader(
                batch.partition, leader=result.current_leader_id, leader_epoch=result.current_leader_epoch
            )

    def _deliver(
        self, batch: PendingBatch, *, base_offset: int, log_append_time_ms: int, now_ms: int
    ) -> None:
        self._accumulator.on_delivered(
            batch, base_offset=base_offset, log_append_time_ms=log_append_time_ms, now_ms=now_ms
        )
        if self._busy_since_ms is not None:
            self._longest_silence_ms = max(self._longest_silence_ms, now_ms - self._busy_since_ms)
            self._busy_since_ms = now_ms

    def _note_silence(self, now_ms: int) -> None:
        """Nothing is left to be sent, be it that all was given up: whatever silence there was is over."""
        if self._busy_since_ms is not None and not self._accumulator.unfinished_batches:
            self._longest_silence_ms = max(self._longest_silence_ms, now_ms - self._busy_since_ms)
            self._busy_since_ms = None

    def settle(self) -> None:
        """Tell everybody who waits for what has been decided."""
        finished = self._accumulator.take_finished()
        for batch in finished:
            self._count(batch)
            for callback in [*batch.callbacks, *batch.watchers]:
                try:
                    callback()
                except Exception:
                    # A user's: it must not end the sending, nor keep the outcome from those who wait.
                    _LOG.exception("a callback for a batch of %s failed", batch.partition)
            batch.callbacks.clear()
            batch.watchers.clear()
        if finished and self._accumulator.has_room:
            waiting, self.room = self.room, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def _count(self, batch: PendingBatch) -> None:
        if isinstance(batch.outcome, Delivered):
            self._records_acked += batch.record_count
            self._bytes_acked += batch.size_bytes
            self._batches_acked += 1
        elif isinstance(batch.outcome, Failed):
            self._records_failed += batch.record_count
            if not batch.is_awaited and self.unseen_error is None:
                self.unseen_error = batch.outcome.error

    # --- leaders that moved, brokers that are silent ----------------------------------------------------

    def _notice_new_leaders(self, now_ms: int) -> None:
        for partition in self._accumulator.retrying():
            leader = self._leader_of(partition)
            if leader is None:
                continue
            target = (leader, self._metadata.view.leader_epoch(partition))
            if target != self._sent_to.get(partition):
                self._sent_to[partition] = target
                self._accumulator.on_leader_change(partition, now_ms)

    def _check_silent_brokers(self, now_ms: int) -> None:
        """A paused broker keeps its connection: leave it once somebody else leads, or time is up."""
        for link in self._links.values():
            oldest = next(iter(link.sent.values()), None)
            if oldest is None or now_ms - oldest.sent_ms < _SUSPECT_MS:
                continue
            if now_ms - oldest.sent_ms >= self._options.request_timeout_ms:
                link.stream.abandon(f"no answer within {self._options.request_timeout_ms} ms")
            elif any(self._leader_of(batch.partition) != link.broker.node_id for batch in oldest.batches):
                link.stream.abandon("it does not answer, and another broker leads now")
            else:
                self._metadata.request_update()

    def _give_up_late_batches(self, now_ms: int) -> None:
        """``delivery_timeout_ms`` holds for batches under way too, be their request as young as it may."""
        for link in self._links.values():
            for sent in link.sent.values():
                if now_ms < sent.expires_ms:
                    continue
                late = [batch for batch in sent.batches if now_ms >= self._expires_ms((batch,))]
                sent.batches = tuple(batch for batch in sent.batches if batch not in late)
                sent.expires_ms = self._expires_ms(sent.batches)
                for batch in late:
                    error = TransportError(f"broker {link.broker.node_id} has not answered yet")
                    self._accumulator.on_error(batch, error, now_ms=now_ms)

    def _expires_ms(self, batches: Sequence[PendingBatch]) -> int:
        created_ms = min((batch.created_ms for batch in batches), default=_NEVER_MS)
        return created_ms + self._options.delivery_timeout_ms

    # --- the producer id --------------------------------------------------------------------------------

    def _identify_if_needed(self) -> None:
        if self._accumulator.needs_identity and not self._identifying:
            self._identifying = True
            self._scope.spawn(self._identify(), "producer id")

    async def _identify(self) -> None:
        backoff = Backoff(
            base_ms=self._options.retry_backoff_ms, maximum_ms=self._options.retry_backoff_max_ms
        )
        attempts = 0
        while True:
            attempts += 1
            try:
                self._accumulator.set_identity(await self._request_identity())
                break
            except GlasslogError as error:
                if not error.retriable and not isinstance(error, TransportError):
                    self._accumulator.fail_waiting(error)
                    break
            await asyncio.sleep(backoff.delay_ms(attempts, self._runtime.random) / 1_000)
        self._identifying = False
        self._wake.set()

    async def _request_identity(self) -> ProducerIdentity:
        response = await self._connections.unary(
            self._metadata.any_broker(),
            "InitProducerId",
            InitProducerIdRequest(producer_id=-1, producer_epoch=-1),
            InitProducerIdResponse,
            timeout_ms=min(5_000, self._options.request_timeout_ms),
        )
        if response.error_code:
            code = error_of(response.error_code)
            raise GlasslogError(code, f"no producer id: {code.name}")
        return ProducerIdentity(producer_id=response.producer_id, producer_epoch=response.producer_epoch)


def _as_retriable(error: GlasslogError) -> GlasslogError:
    """A stream that ended with an error of the broker's says nothing about the batches it carried."""
    if error.retriable:
        return error
    return TransportError(f"the stream ended: {error}")
