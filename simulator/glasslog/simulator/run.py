"""One simulated run from one seed: a cluster, clients, faults, then healing and the verdict.

Refuses to know what counts as which anomaly (``history``), which faults there are (``faults``), and how a
run is asked for and shown (``command``).
"""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from random import Random

from glasslog.checker.operations import History as Recorded
from glasslog.checker.verdict import check
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.simulator.checker.history import History
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.convergence import recover, settle
from glasslog.simulator.faults import Faults
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.outcome import FailedCheck, Outcome, blame, describe
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage
from glasslog.simulator.switches.switch import Switch
from glasslog.simulator.workload import TOPIC, Load, Workload

FAULTY_MS = 20_000
_CHECK_EVERY_S = 0.05
_FINISH_WITHIN_MS = 70_000
_VIRTUAL_LIMIT_MS = 400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A run to make: the drawn mix of faults, or ``scenario``; with the bug that ``switch`` puts back."""

    seed: int
    faulty_ms: int = FAULTY_MS
    scenario: Scenario | None = None
    switch: Switch | None = None


def run(request: Request, *, on_history: Callable[[Recorded], None] | None = None) -> Outcome:
    """Make the run; every failure is in the outcome. ``on_history`` gets what clients did and saw."""
    history = History()
    made = _Run(request, history)
    failure = ""
    failed: FailedCheck = ""
    try:
        with request.switch.bug() if request.switch else nullcontext():
            run_virtual(made.main, timeout_ms=_VIRTUAL_LIMIT_MS)
        verdict = check(history.recorded(_name_of(request), made.virtual_ms))
        failure = "\n".join([*verdict.missing, *map(str, verdict.anomalies[:20])])
        failed = "" if verdict.is_good else "history"
    except Exception as error:
        failure, failed = describe(error), blame(error)
    if on_history is not None:
        on_history(history.recorded(_name_of(request), made.virtual_ms))
    return Outcome(
        seed=request.seed,
        failure=failure,
        check=failed,
        records=len(history.sent),
        acknowledged=sum(sent.is_acknowledged for sent in history.sent.values()),
        recovery_ms=made.recovery_ms,
        virtual_ms=made.virtual_ms,
        trace_hash=history.trace_hash(),
        lines=tuple(history.lines),
    )


def _name_of(request: Request) -> str:
    """The command that makes this run."""
    scenario = f" --scenario {request.scenario.name}" if request.scenario else ""
    switch = f" --switch {request.switch.name}" if request.switch else ""
    return f"glasslog simulate --seed {request.seed}{scenario}{switch}"


class _Run:
    """The pieces of one run."""

    def __init__(self, request: Request, history: History) -> None:
        self._seed = request.seed
        self._faulty_ms = request.faulty_ms
        self._scenario = request.scenario
        self._random = Random(f"schedule {request.seed}")
        self._history = history
        self.recovery_ms = 0
        self.virtual_ms = 0

    async def main(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await (self._drawn() if self._scenario is None else self._told(self._scenario))
        finally:
            self.virtual_ms = round((loop.time() - began) * 1000)

    async def _told(self, scenario: Scenario) -> None:
        cluster = MemoryCluster(
            controllers=scenario.controllers,
            brokers=scenario.brokers,
            world=MemoryWorld(seed=self._seed),
            settings=scenario.settings,
        )
        async with cluster:
            invariants = Invariants(cluster, may_lose=scenario.may_lose)
            random = Random(f"{scenario.name} {self._seed}")
            stage = Stage(cluster, self._history, invariants, random)
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_watch(cluster, invariants))
                await scenario.script(stage)
                await stage.finish()
                watching.cancel()
            self.recovery_ms = stage.recovery_ms

    async def _drawn(self) -> None:
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
        self.recovery_ms = await recover(cluster)
        # Progress is asked for as well: the producers go on for a moment.
        await asyncio.sleep(1)
        workload.is_sending = False
        async with asyncio.timeout(_FINISH_WITHIN_MS / 1000):
            await workload.finished()
            await workload.drain()
        await settle(cluster, (TOPIC,))
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


async def _watch(cluster: MemoryCluster, invariants: Invariants) -> None:
    while True:
        await asyncio.sleep(_CHECK_EVERY_S)
        if cluster.failures:
            raise BaseExceptionGroup("nodes failed", cluster.failures)
        invariants.check()
