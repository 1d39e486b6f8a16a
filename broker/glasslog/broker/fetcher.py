"""Copies partitions from one leader: one framed connection, one fetch session, requests one after the other.

This module knows how a follower asks and what it does with an answer; it refuses to know how leaders are
chosen and where logs lie.  An answer is applied where it arrives, without a task.  When the partitions to
fetch change while a request waits at the leader, another one follows on the same connection at once; the
leader then answers the waiting one with nothing, so that a failover does not wait for a long poll.  A
partition in trouble leaves the session for a while and never holds up the others.
Source: Kafka's ``AbstractFetcherThread``.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from glasslog.broker.kafka.codec import MalformedFrame, Reader
from glasslog.broker.kafka.fetch import (
    API_KEY,
    VERSION,
    FetchAnswer,
    FetchCall,
    PartitionAnswer,
    decode_response,
    encode_request,
    error_code,
)
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.partition.fetch_session_handler import FetchSessionHandler
from glasslog.broker.partition.partition import Following, Partition
from glasslog.broker.partition.reads import PartitionAsk, PartitionKey
from glasslog.broker.replicas import Replicas
from glasslog.broker.replication_throttle import ReplicationThrottle
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation
from glasslog.common.ids import BrokerEpoch, NodeId, Offset, TopicPartition
from glasslog.common.runtime.protocols import FrameConnection, TransportError

_LOGGER = logging.getLogger(__name__)

CONNECT_TIMEOUT_MS = 1_000
ANSWER_TIMEOUT_MS = 3_000
"""Beyond the longest wait that was asked for: then the connection is given up."""

RECONNECT_BACKOFF_MS, MAX_RECONNECT_BACKOFF_MS = 50, 400
FIRST_BACKOFF_MS = 10
"""After a partition's first error. The usual cause is a leader that will hear of its election in a moment."""

_USUAL_FAILURES = 3
"""Of a partition in a row, before it is worth a warning."""

_FRAME_SLACK_BYTES = 1 << 20
_MAX_PIPELINED = 2
_CORRELATION_MASK = 0x7FFF_FFFF
_SESSION_ERRORS = (ErrorCode.FETCH_SESSION_ID_NOT_FOUND, ErrorCode.INVALID_FETCH_SESSION_EPOCH)


@dataclass(slots=True)
class _Followed:
    """A partition to fetch. Answers to requests before ``valid_from`` do not know its present state."""

    partition: Partition
    valid_from: int
    failures: int = 0


class _Line:
    """One connection to the leader; see ``FrameHandler``."""

    def __init__(self, fetcher: "LeaderFetcher") -> None:
        self._fetcher = fetcher
        self.in_flight: deque[tuple[int, int]] = deque()
        """Number of each request that was not answered yet, and when it was sent."""
        self.connection: FrameConnection | None = None
        self.closed = asyncio.Event()

    def on_frame(self, frame: memoryview) -> None:
        if self.connection is None:
            return
        try:
            reader = Reader(frame)
            correlation_id = reader.int32()
            reader.skip_tagged_fields()
            if not self.in_flight:
                raise MalformedFrame(f"answer {correlation_id} was not asked for")
            number = self.in_flight.popleft()[0]
            if number & _CORRELATION_MASK != correlation_id:
                raise MalformedFrame(f"answer {correlation_id} instead of {number & _CORRELATION_MASK}")
            answer = decode_response(reader)
        except MalformedFrame as error:
            _LOGGER.error("broker %d answered nonsense: %s", self._fetcher.leader_id, error)
            self.connection.close()
            self.closed.set()
            return
        try:
            self._fetcher.on_answer(number, answer)
        except InvariantViolation as error:
            # Here it would only cost the connection: the broker has to stop.
            self._fetcher.on_fatal(error)
            self.connection.close()
            self.closed.set()

    def on_closed(self, error: Exception | None) -> None:
        self.closed.set()


class LeaderFetcher:
    """Fetches from ``leader_id`` whatever is assigned. ``run`` until cancelled.

    ``broker_epoch`` is this broker's registration, which the leader compares with the metadata (KIP-903).
    """

    def __init__(
        self,
        leader_id: NodeId,
        *,
        replicas: Replicas,
        throttle: ReplicationThrottle,
        broker_epoch: Callable[[], BrokerEpoch],
    ) -> None:
        self.leader_id = leader_id
        self._throttle = throttle
        self._replicas = replicas
        self._runtime = replicas.runtime
        self._config = replicas.config
        self._broker_epoch = broker_epoch
        self._session = FetchSessionHandler()
        self._followed: dict[PartitionKey, _Followed] = {}
        self._line: _Line | None = None
        self._next_number = 0
        self._client_id = f"broker-{replicas.config.node_id}"
        self._has_work = asyncio.Event()
        self._send_is_due = False
        self._syncing = 0
        """How many partitions are left out of requests till what came is durable."""
        self._paused_until_ms = 0
        self._refusals = 0
        self._errors: dict[tuple[ErrorCode, int], list[TopicPartition]] = {}
        """Of the answer that is being applied: which, how loud to say so, and of whom."""

    # --- what to fetch ---

    def assign(self, partition: Partition) -> None:
        """Fetch ``partition`` from now on, from where its log ends."""
        followed = _Followed(partition=partition, valid_from=self._next_number)
        self._followed[partition.key] = followed
        self._ask_for(followed)
        self._has_work.set()
        self._send_soon()

    def remove(self, partition: Partition) -> None:
        """Fetch ``partition`` no more."""
        if self._followed.pop(partition.key, None) is not None:
            self._session.forget(partition.key)
            self._send_soon()
        if not self._followed:
            self._has_work.clear()

    def __len__(self) -> int:
        return len(self._followed)

    def _ask_for(self, followed: _Followed) -> None:
        """Let the next request say where the partition's log ends; a throttle may have that wait."""
        followed.valid_from = self._next_number
        partition = followed.partition
        delay_ms = self._throttle.delay_ms(partition)
        if delay_ms:
            self._session.forget(partition.key)
            loop = asyncio.get_running_loop()
            loop.call_later(delay_ms / 1000, self._try_again, partition.key, followed)
            return
        try:
            log = partition.log
        except GlasslogError:
            self._session.forget(partition.key)
            return
        ask = PartitionAsk(
            fetch_offset=log.log_end_offset,
            max_bytes=self._config.replica_fetch_max_bytes,
            current_leader_epoch=partition.leader_epoch,
            last_fetched_epoch=log.latest_epoch,
            log_start_offset=log.log_start_offset,
        )
        self._session.want(partition.key, ask)

    # --- the connection ---

    async def run(self) -> None:
        """Keep a connection while there is something to fetch."""
        failures = 0
        while True:
            await self._has_work.wait()
            line = await self._connect()
            if line is None:
                failures += 1
            else:
                failures = 0
                try:
                    await self._until_closed(line)
                finally:
                    self._hang_up(line)
            backoff_ms = min(RECONNECT_BACKOFF_MS << min(failures, 10), MAX_RECONNECT_BACKOFF_MS)
            await asyncio.sleep(backoff_ms / 1000)

    async def _connect(self) -> _Line | None:
        broker = self._replicas.image.brokers.get(self.leader_id)
        endpoint = None if broker is None else broker.endpoint("KAFKA")
        if endpoint is None:
            _LOGGER.warning("broker %d has no KAFKA listener in the metadata", self.leader_id)
            return None
        line = _Line(self)
        limit_bytes = self._config.replica_fetch_response_max_bytes + self._config.replica_fetch_max_bytes
        try:
            connection = await self._runtime.transport.dial_frames(
                endpoint.address,
                line,
                timeout_ms=CONNECT_TIMEOUT_MS,
                max_frame_bytes=max(limit_bytes, self._config.socket_request_max_bytes) + _FRAME_SLACK_BYTES,
            )
        except (TransportError, OSError) as error:
            _LOGGER.info("broker %d at %s: %s", self.leader_id, endpoint.address, error)
            return None
        line.connection = connection
        self._line = line
        self._session.reset()
        self._send_soon()
        return line

    async def _until_closed(self, line: _Line) -> None:
        """Returns when the connection is closed or the leader has not answered for too long."""
        limit_ms = self._config.replica_fetch_wait_max_ms + ANSWER_TIMEOUT_MS
        while not line.closed.is_set():
            try:
                async with asyncio.timeout(1.0):
                    await line.closed.wait()
            except TimeoutError:
                now_ms = self._runtime.clock.now_ms()
                if line.in_flight and now_ms - line.in_flight[0][1] > limit_ms:
                    _LOGGER.warning("broker %d does not answer: connecting anew", self.leader_id)
                    return

    def _hang_up(self, line: _Line) -> None:
        self._line = None
        if line.connection is not None:
            line.connection.close()
            line.connection = None

    # --- asking ---

    def _send_soon(self) -> None:
        """Send once this turn of the loop is over: many assignments make one request."""
        if not self._send_is_due:
            self._send_is_due = True
            asyncio.get_running_loop().call_soon(self._send_if_due)

    def _send_if_due(self) -> None:
        self._send_is_due = False
        line = self._line
        if line is None or line.connection is None or line.closed.is_set():
            return
        if self._runtime.clock.now_ms() < self._paused_until_ms:
            return
        if line.in_flight:
            may_follow = self._session.is_established and len(line.in_flight) < _MAX_PIPELINED
            if not may_follow or not self._session.has_changes:
                return
        elif not len(self._session):
            self._session.reset()
            return
        elif self._syncing and not self._session.is_established:
            # Nothing could follow this request, which may wait at the leader: it would hold those back.
            return
        self._send(line, line.connection)

    def _send(self, line: _Line, connection: FrameConnection) -> None:
        number = self._next_number
        self._next_number = number + 1
        session = self._session.next_request(number)
        config = self._config
        call = FetchCall(
            replica_id=self._replicas.node_id,
            broker_epoch=self._broker_epoch(),
            max_wait_ms=config.replica_fetch_wait_max_ms,
            min_bytes=config.replica_fetch_min_bytes,
            max_bytes=config.replica_fetch_response_max_bytes,
            session_id=session.session_id,
            session_epoch=session.session_epoch,
            asks=session.asks,
            forgotten=session.forgotten,
        )
        header = encode_request_header(
            API_KEY,
            VERSION,
            correlation_id=number & _CORRELATION_MASK,
            client_id=self._client_id,
        )
        line.in_flight.append((number, self._runtime.clock.now_ms()))
        connection.send((header, encode_request(call)))

    # --- the answer ---

    def on_fatal(self, error: InvariantViolation) -> None:
        """A broken invariant was met."""
        self._replicas.on_fatal(error)

    def on_answer(self, number: int, answer: FetchAnswer) -> None:
        """Apply an answer and ask on."""
        is_current = self._session.on_response(number, session_id=answer.session_id, error=answer.error)
        if is_current and answer.error is not ErrorCode.NONE:
            self._on_refusal(answer.error)
        elif is_current:
            self._refusals = 0
            for partition in answer.partitions:
                self._apply(number, partition)
            if self._errors:
                self._tell_of_errors()
        self._send_if_due()

    def _on_refusal(self, error: ErrorCode) -> None:
        """The whole request was refused; an unknown session just begins anew."""
        if error in _SESSION_ERRORS:
            _LOGGER.info("broker %d: %s, fetching with a new session", self.leader_id, error.name)
            return
        _LOGGER.warning("broker %d refuses to serve this broker: %s", self.leader_id, error.name)
        delay_ms = self._backoff_ms(self._refusals)
        self._refusals += 1
        self._paused_until_ms = self._runtime.clock.now_ms() + delay_ms
        # A millisecond more, so that the pause is over in whole milliseconds too.
        asyncio.get_running_loop().call_later((delay_ms + 1) / 1000, self._send_soon)

    def _apply(self, number: int, answer: PartitionAnswer) -> None:
        followed = self._followed.get(answer.key)
        if followed is None or followed.valid_from > number:
            return
        partition = followed.partition
        role = partition.role
        if not isinstance(role, Following) or role.leader_id != self.leader_id:
            return
        try:
            error = error_code(answer.error)
            if error is not ErrorCode.NONE:
                self._on_error(followed, error, answer)
            elif answer.diverging_epoch is not None:
                counters, committed = self._replicas.counters, partition.high_watermark
                partition.truncate_to_leader(answer.diverging_epoch)
                counters.truncations += 1
                counters.committed_offsets_cut += max(0, committed - partition.high_watermark)
                self._ask_for(followed)
            else:
                self._append(followed, answer)
        except GlasslogError as problem:
            _LOGGER.error("%s: what broker %d sent is refused: %s", partition.name, self.leader_id, problem)
            self._replicas.on_error(partition, problem)
            self._back_off(followed)

    def _append(self, followed: _Followed, answer: PartitionAnswer) -> None:
        partition = followed.partition
        start, high_watermark = partition.log_start_offset, partition.high_watermark
        size_bytes = partition.append_from_leader(
            answer.records,
            leader_high_watermark=Offset(answer.high_watermark),
            leader_log_start_offset=Offset(answer.log_start_offset),
            now_ms=self._runtime.clock.wall_ms(),
        )
        followed.failures = 0
        if partition.high_watermark > high_watermark:
            self._replicas.on_follower_high_watermark(partition)
        self._replicas.counters.replication_bytes_in += size_bytes
        self._throttle.on_fetched(partition, size_bytes)
        if size_bytes and partition.log.is_flush_due:
            self._ask_when_durable(followed)
        elif size_bytes or partition.log_start_offset != start:
            self._ask_for(followed)

    def _ask_when_durable(self, followed: _Followed) -> None:
        """To ask for more is to say that what came is here to stay: ``flush.messages`` wants it synced."""
        partition = followed.partition
        self._session.forget(partition.key)
        followed.valid_from = self._next_number
        self._syncing += 1

        def on_synced(error: ErrorCode) -> None:
            self._syncing -= 1
            if error is ErrorCode.NONE and self._followed.get(partition.key) is followed:
                self._ask_for(followed)
            self._send_soon()

        self._replicas.sync_soon(partition, on_synced)

    def _on_error(self, followed: _Followed, error: ErrorCode, answer: PartitionAnswer) -> None:
        partition = followed.partition
        begins_later = answer.log_start_offset > partition.log_end_offset
        has_nothing_in_common = begins_later or partition.log.latest_epoch < 0
        is_out_of_range = error is ErrorCode.OFFSET_OUT_OF_RANGE and answer.log_start_offset >= 0
        if is_out_of_range and has_nothing_in_common:
            partition.restart_at(Offset(answer.log_start_offset))
            self._ask_for(followed)
            return
        level = logging.INFO if followed.failures < _USUAL_FAILURES else logging.WARNING
        self._errors.setdefault((error, level), []).append(partition.name)
        self._back_off(followed)

    def _tell_of_errors(self) -> None:
        """One line for all partitions with the same error: a failover moves thousands at one time."""
        errors, self._errors = self._errors, {}
        for (error, level), names in errors.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            _LOGGER.log(level, "broker %d answers %s for %s%s", self.leader_id, error.name, names[0], more)
            for name in names[1:]:
                _LOGGER.debug("broker %d answers %s for %s", self.leader_id, error.name, name)

    def _back_off(self, followed: _Followed) -> None:
        """Leave the partition out of the session for a while."""
        key = followed.partition.key
        self._session.forget(key)
        followed.valid_from = self._next_number
        delay_ms = self._backoff_ms(followed.failures)
        followed.failures += 1
        asyncio.get_running_loop().call_later(delay_ms / 1000, self._try_again, key, followed)

    def _backoff_ms(self, failures: int) -> int:
        return min(FIRST_BACKOFF_MS << min(failures, 10), self._config.replica_fetch_backoff_ms)

    def _try_again(self, key: PartitionKey, followed: _Followed) -> None:
        if self._followed.get(key) is followed:
            self._ask_for(followed)
            self._send_soon()


class Fetchers:
    """One fetcher per leader; made when first needed, idle when it has nothing to fetch."""

    def __init__(
        self,
        *,
        replicas: Replicas,
        throttle: ReplicationThrottle,
        broker_epoch: Callable[[], BrokerEpoch],
    ) -> None:
        self._replicas = replicas
        self._throttle = throttle
        self._broker_epoch = broker_epoch
        self._by_leader: dict[NodeId, LeaderFetcher] = {}
        self._source: dict[Partition, LeaderFetcher] = {}
        self._new: asyncio.Queue[LeaderFetcher] = asyncio.Queue()

    def assign(self, partition: Partition, leader_id: NodeId) -> None:
        """Fetch ``partition`` from ``leader_id`` and from nobody else."""
        self.remove(partition)
        fetcher = self._by_leader.get(leader_id)
        if fetcher is None:
            fetcher = LeaderFetcher(
                leader_id,
                replicas=self._replicas,
                throttle=self._throttle,
                broker_epoch=self._broker_epoch,
            )
            self._by_leader[leader_id] = fetcher
            self._new.put_nowait(fetcher)
        self._source[partition] = fetcher
        fetcher.assign(partition)

    def remove(self, partition: Partition) -> None:
        """Fetch ``partition`` from nobody."""
        fetcher = self._source.pop(partition, None)
        if fetcher is not None:
            fetcher.remove(partition)

    async def run(self) -> None:
        """Run every fetcher until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                fetcher = await self._new.get()
                group.create_task(fetcher.run(), name=f"fetcher of broker {fetcher.leader_id}")
