"""One simulated run from one seed: a cluster, clients, faults, then healing and the verdict.

Refuses to know what counts as which anomaly (``checker``), what is drawn (``plan``), what faults do
(``episodes``), and how a run is asked for and shown (``command``).
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from random import Random
from types import TracebackType

from glasslog.checker.operations import History as Recorded
from glasslog.checker.verdict import check
from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.network import MemoryNetwork
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.simulator.checker.history import History
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.convergence import recover, settle
from glasslog.simulator.faults import Faults
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.observation import Observation
from glasslog.simulator.outcome import FailedCheck, Outcome, blame, describe
from glasslog.simulator.plan import Plan, draw_plan
from glasslog.simulator.request import Request
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage
from glasslog.simulator.trace import Trace
from glasslog.simulator.workload import TOPIC, Workload

_CHECK_ALL_EVERY_S = 0.5
_FINISH_WITHIN_MS = 70_000
_VIRTUAL_LIMIT_MS = 400_000
_SHOWN_ANOMALIES = 20
_SHOWN_EVENTS = 40
_COLLECT_AFTER = 100_000
"""New objects between two looks for garbage: with Python's own 700 a seventh of a run went into that."""


def run(
    request: Request,
    *,
    sink: Callable[[str], object] | None = None,
    on_history: Callable[[Recorded], None] | None = None,
) -> Outcome:
    """Make the run; every failure is in the outcome.

    ``sink`` is given each line of the trace, ``on_history`` what clients did and saw.
    """
    history = History()
    trace = Trace(sink, history.note_fault)
    made = _Run(request, history, trace)
    began = time.perf_counter()
    failure = ""
    failed: FailedCheck = ""
    try:
        with _seldom_collecting(), request.switch.bug() if request.switch else nullcontext():
            length_ms = request.scenario.length_ms if request.scenario else request.faulty_ms
            run_virtual(made.main, timeout_ms=_VIRTUAL_LIMIT_MS + length_ms)
        verdict = check(history.recorded(request.command(), made.virtual_ms))
        failure = "\n".join([*verdict.missing, *map(str, verdict.anomalies[:_SHOWN_ANOMALIES])])
        failed = "" if verdict.is_good else "history"
    except Exception as error:
        failure, failed = describe(error), blame(error)
    if on_history is not None:
        on_history(history.recorded(request.command(), made.virtual_ms))
    return Outcome(
        seed=request.seed,
        failure=failure,
        check=failed,
        plan=made.description,
        faults=dict(sorted(trace.faults.items())),
        events=dict(sorted(trace.counts.items())),
        records=history.sent_count,
        acknowledged=history.acknowledged_count,
        recovery_ms=made.recovery_ms,
        virtual_ms=made.virtual_ms,
        real_s=time.perf_counter() - began,
        trace_hash=trace.hash,
        last_events=tuple(trace.last_telling(_SHOWN_EVENTS)),
    )


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Run:
    """The pieces of one run."""

    def __init__(self, request: Request, history: History, trace: Trace) -> None:
        self._request = request
        self._history = history
        self._trace = trace
        self.description = ""
        self.recovery_ms = 0
        self.virtual_ms = 0

    async def main(self) -> None:
        request = self._request
        self._trace.add("run", seed=request.seed, switch=request.switch.name if request.switch else None)
        try:
            if request.scenario is None:
                await self._drawn(draw_plan(request.seed, faulty_ms=request.faulty_ms))
            else:
                await self._told(request.scenario)
        except Exception as error:
            self._trace.add("violated", text=describe(error))
            raise
        finally:
            self.virtual_ms = round(self._trace.now_s() * 1000)

    async def _told(self, scenario: Scenario) -> None:
        self.description = f"{scenario.name}: {scenario.description}"
        self._trace.add("plan", text=self.description)
        cluster = MemoryCluster(
            controllers=scenario.controllers,
            brokers=scenario.brokers,
            world=MemoryWorld(seed=self._request.seed),
            settings=scenario.settings,
            racks=scenario.racks,
        )
        invariants = Invariants(cluster, may_lose=scenario.may_lose)
        with Observation(self._trace, cluster, invariants).watching():
            async with cluster, _Watched(cluster, invariants):
                random = Random(f"{scenario.name} {self._request.seed}")
                stage = Stage(
                    cluster, self._history, invariants, random, self._trace, seed=self._request.seed
                )
                await scenario.script(stage)
                await stage.finish()
                self.recovery_ms = stage.recovery_ms

    async def _drawn(self, plan: Plan) -> None:
        self.description = plan.describe()
        self._trace.add("plan", text=self.description)
        cluster = _cluster(plan)
        invariants = Invariants(cluster)
        with Observation(self._trace, cluster, invariants).watching():
            async with cluster, _Watched(cluster, invariants):
                await self._disturb(cluster, invariants, plan)

    async def _disturb(self, cluster: MemoryCluster, invariants: Invariants, plan: Plan) -> None:
        workload = Workload(
            cluster,
            self._history,
            invariants,
            plan.load,
            Random(f"load {plan.seed}"),
            self._trace,
            most_sends=self._request.most_sends,
        )
        faults = Faults(
            cluster, invariants, self._trace, plan, skipped=self._request.skipped, clients=workload.hosts
        )
        await workload.create_topic()
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(workload.run(), name="clients")
            await faults.run()
            await faults.heal()
            self.recovery_ms = await recover(cluster)
            # Progress is asked for as well: the producers go on for a moment.
            await asyncio.sleep(1)
            workload.is_sending = False
            async with asyncio.timeout(_FINISH_WITHIN_MS / 1000):
                await workload.finished()
                await workload.drain()
            await settle(cluster, (TOPIC,))
            clients.cancel()


def _cluster(plan: Plan) -> MemoryCluster:
    least_ms, most_ms = plan.delay_ms
    network = MemoryNetwork(
        SeededRandom(f"network {plan.seed}"), minimum_delay_ms=least_ms, jitter_ms=most_ms - least_ms
    )
    world = MemoryWorld(seed=plan.seed, network=network, blocking_delay_ms=plan.sync_ms)
    for name, offset_ms in plan.clock_offsets_ms.items():
        world.clock(name).wall_offset_ms = offset_ms
    return MemoryCluster(
        controllers=plan.controllers,
        first_voters=plan.first_voters,
        brokers=plan.brokers,
        world=world,
        settings=plan.settings,
        racks=plan.racks,
    )


class _Watched:
    """A context that a violated invariant or a failed node ends at once."""

    def __init__(self, cluster: MemoryCluster, invariants: Invariants) -> None:
        self._cluster = cluster
        self._invariants = invariants
        self._group = asyncio.TaskGroup()
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        await self._group.__aenter__()
        for work in (self._invariants.until_violated(), self._look()):
            self._watching.append(self._group.create_task(work))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._watching:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)
        self._invariants.raise_violation()

    async def _look(self) -> None:
        """Now and then everything, should a change have gone unseen."""
        while True:
            await asyncio.sleep(_CHECK_ALL_EVERY_S)
            if self._cluster.failures:
                raise BaseExceptionGroup("nodes failed", self._cluster.failures)
            self._invariants.check()
