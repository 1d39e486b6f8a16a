"""Clients of one run: producers, consumers by group and by assignment, and a topic that comes and goes.

Everything they do is written into a ``History``. They bear whatever error the cluster gives them, but not
hanging: a client that stands still after all faults are over fails the run. Refuses to know faults.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.producer import Producer
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.simulator.checker.history import History
from glasslog.simulator.clients import Clients, RecordingConsumer, drain
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.operator import Estate, Operator
from glasslog.simulator.surroundings import SimulatedSurroundings
from glasslog.simulator.trace import Trace

TOPIC = "kept"
GROUP = "readers"
_PASSING = ("passing-0", "passing-1")
_RESTART_MS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much goes on. ``operator_ms`` between two things that an operator does; 0: there is none.

    ``reader_racks`` are where consumers say that they are, in turn; none: they do not say.
    """

    partitions: int
    replication_factor: int
    validated_producers: int
    members: int
    delivery_timeout_ms: int
    pause_ms: int
    churn_ms: int
    operator_ms: int
    min_insync_replicas: int
    careless_acks: int
    linger_ms: int
    batch_size: int
    segment_bytes: int
    compression: str
    reader_racks: tuple[str, ...]
    metadata_max_age_ms: int


class Workload:
    """All clients. ``run`` them until cancelled; ``drain`` once everything has healed.

    The producers whose records are checked and the careless one send at most ``most_sends`` records together.
    """

    def __init__(
        self,
        cluster: MemoryCluster,
        history: History,
        invariants: Invariants,
        load: Load,
        random: Random,
        trace: Trace,
        *,
        most_sends: int | None = None,
    ) -> None:
        self._cluster = cluster
        self._history = history
        self._trace = trace
        self._load = load
        self._random = random
        self._clients = Clients(SimulatedSurroundings(cluster, invariants), history, trace)
        self.is_sending = True
        self._serial = 0
        self._sends = 0
        self._most_sends = most_sends
        self._reached: dict[tuple[str, TopicPartition], int] = {}
        """The next offset, by assigned consumer or group."""

        self._senders: list[asyncio.Task[None]] = []

    # --- life -------------------------------------------------------------------------------------------

    async def create_topic(self) -> None:
        """The topic whose records are checked."""
        await self._cluster.create_topic(
            TOPIC,
            partitions=self._load.partitions,
            replication_factor=self._load.replication_factor,
            configs={
                "min.insync.replicas": str(self._load.min_insync_replicas),
                "segment.bytes": str(self._load.segment_bytes),
            },
        )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines of the clients whose history counts, for faults between them and brokers."""
        producers = [f"producer-{number}" for number in range(self._load.validated_producers)]
        members = [f"member-{number}" for number in range(self._load.members)]
        return (*producers, "careless", *members, "assigned")

    async def run(self) -> None:
        """Until cancelled; who sends ends by itself after ``is_sending`` was cleared."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._load.validated_producers):
                work = self._produce(f"producer-{number}", validated=True)
                self._senders.append(group.create_task(work, name=f"producer-{number}"))
            careless = self._produce("careless", validated=False)
            self._senders.append(group.create_task(careless, name="careless"))
            self._senders.append(group.create_task(self._churn(), name="churn"))
            if self._load.operator_ms:
                self._senders.append(group.create_task(self._operate(), name="operator"))
            for number in range(self._load.members):
                work = self._member(f"member-{number}", self._rack(number))
                group.create_task(work, name=f"member-{number}")
            group.create_task(self._assigned("assigned"), name="assigned")

    async def finished(self) -> None:
        """Everything that was sent has been acknowledged or given up."""
        await asyncio.wait(self._senders)

    # --- producers --------------------------------------------------------------------------------------

    async def _produce(self, name: str, *, validated: bool) -> None:
        producer = self._clients.producer(
            name,
            validated=validated,
            acks="all" if validated else self._load.careless_acks,
            linger_ms=self._load.linger_ms,
            batch_size=self._load.batch_size,
            compression_type=self._load.compression,
            delivery_timeout_ms=self._load.delivery_timeout_ms,
        )
        async with producer:
            while self.is_sending and self._may_send():
                await producer.send(TopicPartition(TOPIC, self._random.randrange(self._load.partitions)))
                await asyncio.sleep(self._random.uniform(0, 2 * self._load.pause_ms) / 1000)
            await producer.flush()

    def _may_send(self) -> bool:
        self._sends += 1
        return self._most_sends is None or self._sends <= self._most_sends

    # --- consumers --------------------------------------------------------------------------------------

    def _rack(self, number: int) -> str:
        racks = self._load.reader_racks
        return racks[number % len(racks)] if racks else ""

    async def _member(self, name: str, rack: str) -> None:
        """A member of the group that now and then dies without a word, and comes back as another."""
        life = 0
        while True:
            life += 1
            span_ms = self._random.choice((4_000, 10_000, 60_000_000))
            reader = self._clients.consumer(
                f"{name}.{life}",
                TOPIC,
                host=name,
                group=GROUP,
                session_timeout_ms=6_000,
                heartbeat_interval_ms=1_000,
                # Also bounds the wait for an answer to a join whose call was lost.
                max_poll_interval_ms=8_000,
                auto_commit_interval_ms=500,
                max_poll_records=self._random.choice((5, 50, 500)),
                client_rack=rack,
                metadata_max_age_ms=self._load.metadata_max_age_ms,
            )
            try:
                async with asyncio.timeout(span_ms / 1000):
                    await self._read(reader, GROUP)
            except TimeoutError:
                self._trace.add("client", reader.name, does="ends")
            if not self._random.randrange(2):
                self._cluster.world.network.kill_host(name)
            await reader.consumer.close()
            await asyncio.sleep(_RESTART_MS / 1000)

    async def _assigned(self, name: str) -> None:
        max_age_ms = self._load.metadata_max_age_ms
        reader = self._clients.consumer(name, client_rack=self._rack(-1), metadata_max_age_ms=max_age_ms)
        try:
            reader.assign(self.partitions())
            await self._read(reader, name)
        finally:
            await reader.consumer.close()

    def partitions(self) -> list[TopicPartition]:
        """Those whose records are checked."""
        return [TopicPartition(TOPIC, number) for number in range(self._load.partitions)]

    async def _read(self, reader: RecordingConsumer, party: str) -> None:
        """``party``: the group, or the consumer's own name when it has none."""
        await reader.consumer.start()
        while True:
            for record in await reader.poll(timeout_ms=500):
                key = (party, TopicPartition(record.topic, record.partition))
                self._reached[key] = max(self._reached.get(key, 0), record.offset + 1)

    # --- topics that come and go ------------------------------------------------------------------------

    async def _churn(self) -> None:
        """Create, use and delete a topic under one of two names, over and over."""
        async with self._clients.admin("admin") as admin:
            while self.is_sending:
                name = self._random.choice(_PASSING)
                await self._bear(partial(self._create, admin, name), "create")
                await self._bear(partial(self._use, name), "use")
                await asyncio.sleep(self._random.uniform(0, 2 * self._load.churn_ms) / 1000)
                await self._bear(partial(admin.delete_topics, [name]), "delete")

    async def _create(self, admin: Admin, name: str) -> None:
        factor = self._load.replication_factor
        topic = NewTopic(name=name, partitions=self._random.choice((1, 3)), replication_factor=factor)
        await admin.create_topics([topic])

    async def _use(self, name: str) -> None:
        self._serial += 1
        producer = Producer(
            self._clients.bootstrap,
            runtime=self._cluster.world.runtime(f"passer-{self._serial % 2}"),
            request_timeout_ms=1_000,
            delivery_timeout_ms=2_000,
            max_block_ms=1_000,
        )
        async with producer:
            await (await producer.send_many(name, [b"x" * 100] * self._random.randrange(1, 50)))

    async def _bear(self, action: Callable[[], Awaitable[object]], what: str) -> None:
        try:
            await action()
            self._trace.add("client", "admin", does=what)
        except GlasslogError as error:
            self._trace.add("failed", "admin", does=what, error=error.code.name)
            await asyncio.sleep(0.1)

    async def _operate(self) -> None:
        cluster = self._cluster
        estate = Estate(
            controllers=cluster.controller_names,
            brokers=cluster.broker_names,
            topic=TOPIC,
            partitions=self._load.partitions,
            replication_factor=self._load.replication_factor,
            passing=_PASSING,
        )
        random = Random(self._random.random())
        async with self._clients.admin("operator") as admin:
            operator = Operator(
                admin,
                estate,
                random,
                self._trace,
                name="operator",
                pause_ms=self._load.operator_ms,
                voters_touched=cluster.voters_touched,
            )
            await operator.run(lambda: self.is_sending)

    # --- in the end -------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Read everything with a fresh consumer, then wait for the others to have got as far."""
        ends = await drain(self._clients, self.partitions())
        await self._cluster.until(
            lambda: self._have_all(ends), within_ms=40_000, what="the other consumers read to the end"
        )
        self._history.through = tuple(self._history.groups)

    def _have_all(self, ends: Mapping[TopicPartition, int]) -> bool:
        return all(
            self._reached.get((reader, partition), 0) >= end
            for reader in (*self._history.assigned, *self._history.groups)
            for partition, end in ends.items()
        )
