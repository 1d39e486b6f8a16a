"""One simulated run from one seed: a cluster, clients, faults, then healing and the verdict.

Refuses to know what counts as which anomaly (``history``), which faults there are (``faults``), and how a
run is asked for and shown (``command``).
"""

import asyncio
from dataclasses import dataclass
from random import Random

from glasslog.common.ids import OFFSETS_TOPIC
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.simulator.checker.history import History, check
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.faults import Faults
from glasslog.simulator.invariants import Invariants, Violated, differing_replicas
from glasslog.simulator.workload import TOPIC, Load, Workload

FAULTY_MS = 20_000
_CHECK_EVERY_S = 0.05
_LOOK_EVERY_MS = 20
_HEALTHY_WITHIN_MS = 30_000
_FINISH_WITHIN_MS = 70_000
_VIRTUAL_LIMIT_MS = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a seed came to. ``failure`` is empty for a good run.

    ``recovery_ms`` is virtual time from the end of all faults until every replica was in sync.
    """

    seed: int
    failure: str
    records: int
    acknowledged: int
    recovery_ms: int
    trace_hash: str
    lines: tuple[str, ...]


def run_seed(seed: int, *, faulty_ms: int = FAULTY_MS) -> Outcome:
    """Run a whole schedule; every failure is in the outcome."""
    history = History()
    run = _Run(seed, history, faulty_ms)
    failure = ""
    try:
        run_virtual(run.main, timeout_ms=_VIRTUAL_LIMIT_MS)
        anomalies = check(history)
        failure = "\n".join(str(anomaly) for anomaly in anomalies[:20])
    except Exception as error:
        failure = _describe(error)
    return Outcome(
        seed=seed,
        failure=failure,
        records=len(history.sent),
        acknowledged=sum(sent.is_acknowledged for sent in history.sent.values()),
        recovery_ms=run.recovery_ms,
        trace_hash=history.trace_hash(),
        lines=tuple(history.lines),
    )


def _describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_describe(each) for each in error.exceptions)
    notes = " ".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error} {notes}".strip()


class _Run:
    """The pieces of one run."""

    def __init__(self, seed: int, history: History, faulty_ms: int) -> None:
        self._seed = seed
        self._faulty_ms = faulty_ms
        self._random = Random(f"schedule {seed}")
        self._history = history
        self.recovery_ms = 0

    async def main(self) -> None:
        random = self._random
        controllers, brokers = random.choice(((3, 3), (3, 3), (3, 3), (3, 5), (1, 1)))
        load = self._load(brokers)
        world = MemoryWorld(seed=self._seed, blocking_delay_ms=random.choice((0.0, 0.0, 8.0)))
        settings = _settings(random)
        cluster = MemoryCluster(controllers=controllers, brokers=brokers, world=world, settings=settings)
        async with cluster:
            await self._go(cluster, load)

    def _load(self, brokers: int) -> Load:
        random = self._random
        return Load(
            partitions=random.choice((1, 2, 3)),
            replication_factor=min(3, brokers),
            validated_producers=random.choice((1, 2)),
            members=random.choice((1, 2, 3)),
            delivery_timeout_ms=random.choice((4_000, 10_000, 120_000)),
            pause_ms=random.choice((8, 15, 40)),
            batch_size=random.choice((200, 131_072)),
            segment_bytes=random.choice((2_048, 16_384)),
            compression=random.choice(("none", "lz4")),
        )

    async def _go(self, cluster: MemoryCluster, load: Load) -> None:
        invariants = Invariants(cluster)
        workload = Workload(cluster, self._history, invariants, load, Random(f"load {self._seed}"))
        faults = Faults(
            cluster,
            self._history,
            invariants,
            Random(f"faults {self._seed}"),
            at_once=self._random.choice((1, 1, 2, 3, 5)),
            longest_calm_ms=self._random.choice((400, 1_500, 1_500)),
            clients=workload.hosts,
        )
        await workload.create_topic()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(cluster, invariants))
            clients = group.create_task(workload.run())
            await asyncio.sleep(1)
            await faults.run(self._faulty_ms)
            await faults.heal()
            await self._converge(cluster, workload)
            clients.cancel()
            watching.cancel()

    async def _converge(self, cluster: MemoryCluster, workload: Workload) -> None:
        loop = asyncio.get_running_loop()
        healed = loop.time()
        await cluster.healthy(within_ms=_HEALTHY_WITHIN_MS)
        await _until_whole(cluster)
        self.recovery_ms = round((loop.time() - healed) * 1000)
        # Progress is asked for as well: the producers go on for a moment.
        await asyncio.sleep(1)
        workload.is_sending = False
        async with asyncio.timeout(_FINISH_WITHIN_MS / 1000):
            await workload.finished()
            await workload.drain()
        await _until_whole(cluster)
        await asyncio.sleep(2)
        differences = differing_replicas(cluster, (TOPIC, OFFSETS_TOPIC))
        if differences:
            raise Violated("; ".join(differences))
        self._history.note(f"end: {cluster.describe()}")


def _settings(random: Random) -> dict[str, str]:
    """The nodes' settings: often the defaults, sometimes ones that bring rare paths about."""
    drawn: dict[str, tuple[int, ...]] = {
        "replica.lag.time.max.ms": (1_500, 5_000),
        "replica.high.watermark.checkpoint.interval.ms": (200, 5_000),
        "replica.fetch.max.bytes": (400, 1_048_576),
        "replica.fetch.wait.max.ms": (50, 500),
        "max.incremental.fetch.session.cache.slots": (0, 1, 1_000, 1_000),
        "broker.failure.grace.ms": (0, 150, 150, 1_000),
        "broker.session.timeout.ms": (3_000, 9_000),
        "broker.heartbeat.interval.ms": (500, 2_000),
        "log.flush.offset.checkpoint.interval.ms": (300, 60_000),
        "offsets.topic.num.partitions": (1, 3),
    }
    settings = {key: str(random.choice(values)) for key, values in drawn.items()}
    return settings | {"controlled.shutdown.timeout.ms": "5000", "auto.create.topics.enable": "false"}


async def _until_whole(cluster: MemoryCluster) -> None:
    """Every partition led, every replica in the ISR, and everybody agrees on the metadata."""
    for _ in range(_HEALTHY_WITHIN_MS // _LOOK_EVERY_MS):
        if not (wrong := _not_whole(cluster)):
            return
        await asyncio.sleep(_LOOK_EVERY_MS / 1000)
    raise Violated(f"not whole within {_HEALTHY_WITHIN_MS} ms: {wrong}; {cluster.describe()}")


def _not_whole(cluster: MemoryCluster) -> str:
    offsets = {name: cluster.broker(name).observer.image.offset for name in cluster.broker_names}
    if len(set(offsets.values())) > 1:
        return f"brokers know the metadata up to {offsets}"
    image = cluster.image
    placed = [partition for topic in image.topics.values() for partition in topic.partitions]
    return "; ".join(
        f"{each.topic}-{each.partition}: leader {each.leader}, ISR {each.isr} of {each.replicas}"
        for each in placed
        if not each.has_leader or len(each.isr) < len(each.replicas)
    )


async def _watch(cluster: MemoryCluster, invariants: Invariants) -> None:
    while True:
        await asyncio.sleep(_CHECK_EVERY_S)
        if cluster.failures:
            raise BaseExceptionGroup("nodes failed", cluster.failures)
        invariants.check()
