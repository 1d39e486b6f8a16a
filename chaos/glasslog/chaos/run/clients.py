"""The load of a run: producers at a rate, members of groups, and the reader that reads everything in the end.

The library's own ``Producer`` and ``Consumer``, on whatever ``Runtime`` each is given.  They bear every error
of the cluster and write down all that they do.  Refuses to know faults.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from glasslog.chaos.run.recorder import Batch, Recorder
from glasslog.chaos.scenario.model import Consumers, Producers, Scenario
from glasslog.chaos.scenario.targets import Draws
from glasslog.checker.operations import Acks
from glasslog.client.consumer import Consumer
from glasslog.client.delivery import Deliveries
from glasslog.client.options import ConsumerKeywords, ProducerKeywords
from glasslog.client.producer import Producer
from glasslog.client.types import ConsumerRecord
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime

DRAINER = "reader-of-everything"
"""The fresh client that reads all in the end."""

_TICK_MS = 20
"""Between two batches of a producer, unless its rate is lower."""

_REQUEST_TIMEOUT_MS = 3_000
_BOOTSTRAP_TIMEOUT_MS = 60_000
_POLL_MS = 500
_AFTER_ERROR_S = 0.05
_LOOK_S = 0.02
_ACKS: Mapping[str, tuple[Acks, int]] = {
    "all": (Acks.ALL, -1),
    "1": (Acks.LEADER, 1),
    "0": (Acks.NONE, 0),
}


class Clients:
    """``run`` until cancelled; ``finish`` sending, then ``drain``.

    ``names`` are those of the scenario's topics on the cluster.  ``runtime_of`` gives each client the world
    it lives in, by its name; ``now_ms`` is the run's clock.
    """

    def __init__(
        self,
        scenario: Scenario,
        bootstrap: Sequence[str],
        recorder: Recorder,
        *,
        names: Mapping[str, str],
        runtime_of: Callable[[str], Runtime],
        draws_of: Callable[[str], Draws],
        now_ms: Callable[[], float],
    ) -> None:
        self._scenario = scenario
        self._bootstrap = list(bootstrap)
        self._recorder = recorder
        self._names = names
        self._runtime_of = runtime_of
        self._draws_of = draws_of
        self._now_ms = now_ms
        self._is_sending = True
        self._senders: list[asyncio.Task[None]] = []
        self._reached: dict[tuple[str, TopicPartition], int] = {}

    @property
    def partitions(self) -> list[TopicPartition]:
        """Those that the load goes to, by their names on the cluster."""
        return [
            TopicPartition(self._names[topic.name], number)
            for topic in self._scenario.topics
            for number in range(topic.partitions)
        ]

    def hosts(self) -> Iterator[str]:
        """The names of all clients that ``run`` makes."""
        for name, _ in self._producers():
            yield name
        for name, _ in self._members():
            yield name

    async def run(self) -> None:
        """Who sends ends by itself after ``finish``; who reads goes on until this is cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, load in self._producers():
                self._senders.append(group.create_task(self._produce(name, load), name=name))
            for name, members in self._members():
                group.create_task(self._consume(name, members), name=name)

    async def finish(self) -> None:
        """Send no more, and wait until everything sent is acknowledged or given up."""
        self._is_sending = False
        if self._senders:
            await asyncio.wait(self._senders)

    def _producers(self) -> Iterator[tuple[str, Producers]]:
        loads = [load for load in self._scenario.producers for _ in range(load.count)]
        return ((f"producer-{number}", load) for number, load in enumerate(loads, 1))

    def _members(self) -> Iterator[tuple[str, Consumers]]:
        for consumers in self._scenario.consumers:
            for number in range(1, consumers.members + 1):
                yield f"{consumers.group}-{number}", consumers

    # --- producers --------------------------------------------------------------------------------------

    async def _produce(self, name: str, load: Producers) -> None:
        keywords: ProducerKeywords = {
            "acks": _ACKS[load.acks][1],
            "enable_idempotence": load.is_idempotent,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            "bootstrap_timeout_ms": _BOOTSTRAP_TIMEOUT_MS,
            "delivery_timeout_ms": self._scenario.recovery_ms,
            "max_block_ms": self._scenario.recovery_ms,
        }
        producer = Producer(self._bootstrap, runtime=self._runtime_of(name), **keywords)
        await producer.start()
        try:
            async with asyncio.TaskGroup() as group:
                await self._send_at_rate(name, load, producer, group)
        finally:
            await _closed(producer)

    async def _send_at_rate(
        self, name: str, load: Producers, producer: Producer, group: asyncio.TaskGroup
    ) -> None:
        draws, loop = self._draws_of(name), asyncio.get_running_loop()
        partitions = [each for each in self.partitions if each.topic == self._names[load.topic]]
        tick_s = max(_TICK_MS / 1000, 1 / load.rate)
        count, sent, next_at = max(1, round(load.rate * tick_s)), 0, loop.time()
        while self._is_sending:
            partition = partitions[draws.randrange(len(partitions))]
            values = tuple(f"{name}/{number}" for number in range(sent, sent + count))
            sent += count
            batch = self._recorder.sending(
                name,
                str(partition),
                values,
                acks=_ACKS[load.acks][0],
                is_idempotent=load.is_idempotent,
                now_ms=self._now_ms(),
            )
            deliveries = await self._send(producer, partition, batch, load.size_bytes)
            if deliveries is not None:
                group.create_task(self._follow(batch, deliveries))
            # Who was held up does not send all at once what would have been due meanwhile.
            next_at = max(next_at + tick_s, loop.time())
            await asyncio.sleep(next_at - loop.time())

    async def _send(
        self, producer: Producer, partition: TopicPartition, batch: Batch, size_bytes: int
    ) -> Deliveries | None:
        records = [(None, value.encode().ljust(size_bytes)) for value in batch.values]
        try:
            return await producer.send_batch(partition.topic, records, partition.partition)
        except GlasslogError as error:
            # It was never queued, so nothing of it can have left.
            self._recorder.failed(batch, error.code.name, self._now_ms(), is_definite=True)
            return None

    async def _follow(self, batch: Batch, deliveries: Deliveries) -> None:
        try:
            (run,) = await deliveries
        except GlasslogError as error:
            self._recorder.failed(batch, error.code.name, self._now_ms(), is_definite=False)
        else:
            self._recorder.acknowledged(batch, run.base_offset, self._now_ms())

    # --- consumers --------------------------------------------------------------------------------------

    def _consumer(self, name: str, *topics: str, group: str | None) -> Consumer:
        keywords: ConsumerKeywords = {
            "auto_offset_reset": "earliest",
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            "bootstrap_timeout_ms": _BOOTSTRAP_TIMEOUT_MS,
            "session_timeout_ms": 6_000,
            "heartbeat_interval_ms": 1_000,
            "max_poll_interval_ms": 10_000,
            "auto_commit_interval_ms": 500,
        }
        runtime = self._runtime_of(name)
        return Consumer(
            *topics, bootstrap_servers=self._bootstrap, group_id=group, runtime=runtime, **keywords
        )

    async def _consume(self, name: str, load: Consumers) -> None:
        group = self._group(load)
        consumer = self._consumer(name, self._names[load.topic], group=group)
        await consumer.start()
        try:
            while True:
                await self._poll(name, consumer, group=group)
        finally:
            await consumer.close()

    def _group(self, load: Consumers) -> str:
        """Named like its topic on the cluster, so that no earlier run's offsets count."""
        return load.group + self._names[load.topic].removeprefix(load.topic)

    async def _poll(self, name: str, consumer: Consumer, *, group: str = "", is_drain: bool = False) -> None:
        start_ms = self._now_ms()
        try:
            records = await consumer.poll(timeout_ms=_POLL_MS)
        except GlasslogError:
            await asyncio.sleep(_AFTER_ERROR_S)
            return
        if records:
            self._take(name, records, start_ms, group=group, is_drain=is_drain)

    def _take(
        self, name: str, records: Sequence[ConsumerRecord], start_ms: float, *, group: str, is_drain: bool
    ) -> None:
        runs: dict[TopicPartition, list[tuple[int, str]]] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            value = (record.value or b"").rstrip().decode("utf-8", "replace")
            runs.setdefault(partition, []).append((record.offset, value))
        self._recorder.polled(
            name,
            {str(partition): run for partition, run in runs.items()},
            start_ms=start_ms,
            now_ms=self._now_ms(),
            group=group,
            is_drain=is_drain,
        )
        for partition, run in runs.items():
            place = (group, partition)
            self._reached[place] = max(self._reached.get(place, 0), run[-1][0] + 1)

    # --- in the end -------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Read everything with a fresh consumer, and wait until the groups have got as far.

        Raises ``GlasslogError`` when that takes longer than the scenario grants.
        """
        ends: Mapping[TopicPartition, int] = {}
        try:
            async with asyncio.timeout(self._scenario.recovery_ms / 1000):
                ends = await self._drain()
                await self._caught_up(ends)
        except TimeoutError:
            waiting = ", ".join(self._behind(ends)) or DRAINER
            raise GlasslogError(
                ErrorCode.REQUEST_TIMED_OUT,
                f"not read to the end within {self._scenario.recovery_ms / 1000:g} s: {waiting}",
            ) from None
        self._recorder.groups = tuple(self._group(load) for load in self._scenario.consumers)

    async def _drain(self) -> dict[TopicPartition, int]:
        async with self._consumer(DRAINER, group=None) as consumer:
            ends = dict(await consumer.end_offsets(self.partitions))
            consumer.assign(self.partitions)
            for partition, end in ends.items():
                while await consumer.position(partition) < end:
                    await self._poll(DRAINER, consumer, is_drain=True)
        self._recorder.drained = tuple(map(str, self.partitions))
        return ends

    async def _caught_up(self, ends: Mapping[TopicPartition, int]) -> None:
        while True:
            if not self._behind(ends):
                return
            await asyncio.sleep(_LOOK_S)

    def _behind(self, ends: Mapping[TopicPartition, int]) -> list[str]:
        """Groups and where they have not read to the end."""
        return [
            f"{load.group} of {partition}"
            for load in self._scenario.consumers
            for partition, end in ends.items()
            if partition.topic == self._names[load.topic]
            and self._reached.get((self._group(load), partition), 0) < end
        ]


async def _closed(producer: Producer) -> None:
    """Every batch has its outcome already, or is given up."""
    try:
        await producer.close(timeout_ms=1_000)
    except GlasslogError:
        return
