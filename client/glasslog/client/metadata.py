"""Keeps a client's view of the cluster fresh: on demand, by age, after errors; one request at a time.

Asks known brokers and the bootstrap addresses in turn, those that failed lately last, with short growing
pauses. Refuses to know what the view is used for.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from glasslog.client.backoff import Backoff
from glasslog.client.cluster import (
    BrokerView,
    ClusterView,
    PartitionView,
    TopicView,
    merge,
    with_leader_hint,
)
from glasslog.client.connections import Connections, error_of
from glasslog.client.diagnose import all_speak_kafka, explain_unreachable
from glasslog.client.options import ClientOptions
from glasslog.client.tasks import TaskScope
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.v1.broker_pb2 import MetadataRequest, MetadataResponse

FIRST_ATTEMPT_MS = 1_000
"""A broker that is alive answers far sooner; a paused one must not hold up the search for a new leader."""

_SHUNNED_MS = 5_000
_QUIET_MS = 1_000
"""After so long without a refresh the pauses are short again."""

_PAUSES_MS = ((20, 50), (60, 200))
"""Up to how many fruitless refreshes in a row which longest pause holds: elections show within 50 ms."""


class ClusterMetadata:
    """``view`` is the newest picture; ``on_change`` callbacks run after each refresh that brought one."""

    def __init__(
        self, runtime: Runtime, options: ClientOptions, connections: Connections, scope: TaskScope
    ) -> None:
        self._runtime = runtime
        self._options = options
        self._connections = connections
        self._scope = scope
        self._topics: dict[str, None] = {}
        self._all_topics = False
        self._wanted = asyncio.Event()
        self._refreshed = asyncio.Event()
        """Set, and replaced by another, after each refresh."""

        self._ended: GlasslogError | None = None
        self._started = 0
        self._finished = 0
        self._fruitless = 0
        self._failures = 0
        self._ended_ms = 0
        self._failed_at: dict[str, int] = {}
        self._turn = 0
        self._reasons: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []
        self.view = ClusterView()

    async def start(self) -> None:
        """Read metadata once. Raises when no broker answered within ``bootstrap_timeout_ms``, saying why."""
        self._scope.spawn(self._run(), "metadata")
        self.request_update()
        addresses, limit_ms = self._options.bootstrap_servers, self._options.bootstrap_timeout_ms
        early_ms = min(FIRST_ATTEMPT_MS, limit_ms)
        for wait_ms in (early_ms, limit_ms - early_ms):
            try:
                async with asyncio.timeout(wait_ms / 1_000):
                    return await self._await_refresh(0)
            except TimeoutError:
                if await all_speak_kafka(self._runtime, addresses):
                    # The cluster need not come up first: it is there, and patience changes no port.
                    break
        raise await explain_unreachable(self._runtime, addresses, dict(self._reasons))

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after every refresh, on the event loop."""
        self._listeners.append(listener)

    def add_topics(self, topics: Iterable[str]) -> None:
        """Keep these topics in the view from now on. Raises INVALID_TOPIC_EXCEPTION, and keeps none then."""
        before = len(self._topics)
        self._topics.update(dict.fromkeys([_checked_name(topic) for topic in topics]))
        if len(self._topics) != before:
            self.request_update()

    def follow_all_topics(self) -> None:
        """Keep every topic of the cluster in the view from now on."""
        if not self._all_topics:
            self._all_topics = True
            self.request_update()

    def request_update(self) -> None:
        """Ask for a refresh soon; cheap to repeat."""
        self._wanted.set()

    def mark_unreachable(self, broker: BrokerView) -> None:
        """A connection to that broker broke: ask others first, and ask now."""
        self.avoid(broker.address)
        self.request_update()

    def avoid(self, address: str) -> None:
        """No answer came from there: ask others first, for a while."""
        self._failed_at[address] = self._runtime.clock.now_ms()

    def learn_leader(self, partition: TopicPartition, *, leader: int, leader_epoch: int) -> None:
        """Take a hint that came with an error; without one, ask for a refresh."""
        view = with_leader_hint(self.view, partition, leader=NodeId(leader), leader_epoch=leader_epoch)
        if view is self.view:
            self.request_update()
        else:
            self.view = view
            self._notify()

    def end(self, error: GlasslogError) -> None:
        """There will be no further refresh: whoever waits for one is told why."""
        self._ended = error
        self._refreshed.set()

    async def refresh(self) -> ClusterView:
        """The view after a refresh that began later than this call."""
        started = self._started
        self.request_update()
        await self._await_refresh(started)
        return self.view

    async def await_topic(self, topic: str, timeout_ms: int, *, create: bool = False) -> TopicView:
        """The topic, once it exists. Raises ``UNKNOWN_TOPIC_OR_PARTITION`` after ``timeout_ms``.

        ``create`` asks for it to be made where ``auto.create.topics.enable`` allows that.
        """
        self.add_topics((topic,))
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while (found := self.view.topic(topic)) is None:
                    self._raise_if_hopeless(topic)
                    if create:
                        await self._ask_for_creation(topic)
                    await self.refresh()
        except TimeoutError:
            raise self._unknown_topic(topic, timeout_ms) from None
        return found

    async def _ask_for_creation(self, topic: str) -> None:
        """In a request of its own: a refresh names every topic, and one just deleted must not come back."""
        request = MetadataRequest(topics=[topic], allow_auto_topic_creation=True)
        with suppress(GlasslogError):  # the refresh that follows deals with brokers that do not answer
            await self._connections.unary(
                self.any_broker(),
                "Metadata",
                request,
                MetadataResponse,
                timeout_ms=self._options.request_timeout_ms,
            )

    def any_broker(self) -> str:
        """An address to send a question to that every broker can answer; a different one each time."""
        candidates = self._candidates()
        self._turn += 1
        return candidates[0]

    def _raise_if_hopeless(self, topic: str) -> None:
        found = self.view.topics.get(topic)
        if found is not None and found.error is ErrorCode.INVALID_TOPIC_EXCEPTION:
            raise GlasslogError(found.error, f"{topic!r} is not a valid topic name")

    def _unknown_topic(self, topic: str, timeout_ms: int) -> GlasslogError:
        found = self.view.topics.get(topic)
        code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if found is None else found.error
        if code is ErrorCode.NONE:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return GlasslogError(code, f"topic {topic!r} was not found within {timeout_ms} ms: {code.name}")

    async def _await_refresh(self, started: int) -> None:
        while self._finished <= started:
            if self._ended is not None:
                raise GlasslogError(self._ended.code, str(self._ended))
            await self._refreshed.wait()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._options.metadata_max_age_ms / 1_000):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            before, started_ms = self.view, self._runtime.clock.now_ms()
            if started_ms - self._ended_ms > _QUIET_MS:
                self._fruitless = 0
            if await self._refresh_once():
                changed = self.view.topics != before.topics or self.view.brokers != before.brokers
                self._fruitless = 0 if changed else self._fruitless + 1
                await self._pause(self._fruitless)
            else:
                self._wanted.set()
                await self._pause(self._failures)
            self._ended_ms = self._runtime.clock.now_ms()

    async def _pause(self, attempts: int) -> None:
        """Bounds the rate of refreshes while whoever asks does not find what it waits for."""
        if attempts:
            longest_ms = next(
                (pause_ms for limit, pause_ms in _PAUSES_MS if attempts <= limit),
                self._options.retry_backoff_max_ms,
            )
            backoff = Backoff(base_ms=self._options.retry_backoff_ms, maximum_ms=longest_ms)
            await asyncio.sleep(backoff.delay_ms(attempts, self._runtime.random) / 1_000)

    async def _refresh_once(self) -> bool:
        self._started += 1
        started = self._started
        address = self.any_broker()
        timeout_ms = min(self._options.request_timeout_ms, FIRST_ATTEMPT_MS << min(self._failures, 10))
        is_of_all = self._all_topics
        request = MetadataRequest(topics=[] if is_of_all else list(self._topics), all_topics=is_of_all)
        try:
            response = await self._connections.unary(
                address, "Metadata", request, MetadataResponse, timeout_ms=timeout_ms
            )
        except GlasslogError as error:
            self._failures += 1
            self.avoid(address)
            self._reasons[address] = str(error)
            return False
        self._failures = 0
        self._failed_at.pop(address, None)
        found = view_of(response)
        self.view = merge(self.view, found)
        if is_of_all and self.view.metadata_offset == found.metadata_offset:
            self.view = replace(self.view, topics=self._existing(found))
        await self._connections.retain(self._addresses())
        self._notify()
        self._finished = started
        self._refreshed.set()
        self._refreshed = asyncio.Event()
        return True

    def _existing(self, found: ClusterView) -> Mapping[str, TopicView]:
        """After an answer about all topics: what is not in it does not exist."""
        gone = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        known = {name: topic for name, topic in self.view.topics.items() if name in found.topics}
        missing = [name for name in self._topics if name not in known]
        return known | {name: TopicView(name=name, error=gone) for name in missing}

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    def _addresses(self) -> Collection[str]:
        known = dict.fromkeys(broker.address for broker in self.view.brokers.values())
        return {**known, **dict.fromkeys(self._options.bootstrap_servers)}

    def _candidates(self) -> list[str]:
        """All addresses, in turn; those that failed lately come last, the longest ago first."""
        addresses = list(self._addresses())
        turn = self._turn % len(addresses)
        in_turn = addresses[turn:] + addresses[:turn]
        limit = self._runtime.clock.now_ms() - _SHUNNED_MS
        self._failed_at = {address: at for address, at in self._failed_at.items() if at > limit}
        return sorted(in_turn, key=lambda address: self._failed_at.get(address, 0))


def _checked_name(topic: object) -> str:
    """A name that a request can carry; which of these are valid is for brokers to say."""
    if isinstance(topic, str) and topic and topic.isprintable():
        return topic
    raise GlasslogError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{topic!r} is not a valid topic name")


def view_of(response: MetadataResponse) -> ClusterView:
    """The protobuf answer as our own values."""
    return ClusterView(
        cluster_id=response.cluster_id,
        controller_id=NodeId(response.controller_id),
        brokers={
            NodeId(broker.id): BrokerView(
                node_id=NodeId(broker.id), host=broker.host, port=broker.port, rack=broker.rack
            )
            for broker in response.brokers
        },
        topics={topic.name: _topic_of(topic) for topic in response.topics},
        metadata_offset=response.metadata_offset,
    )


def _topic_of(topic: MetadataResponse.Topic) -> TopicView:
    partitions = sorted(topic.partitions, key=lambda partition: partition.partition)
    return TopicView(
        name=topic.name,
        error=error_of(topic.error_code),
        topic_id=topic.topic_id,
        internal=topic.internal,
        partitions=tuple(
            PartitionView(
                partition=partition.partition,
                leader=NodeId(partition.leader),
                leader_epoch=partition.leader_epoch,
                replicas=tuple(map(NodeId, partition.replicas)),
                isr=tuple(map(NodeId, partition.isr)),
                offline_replicas=tuple(map(NodeId, partition.offline_replicas)),
            )
            for partition in partitions
        ),
    )
