"""One run of a scenario against a cluster: load, faults, healing, and everything read in the end.

The same code runs on real time against processes and on virtual time in the simulator: what differs comes in
with a ``World``.  It refuses to know how a cluster is broken (``backends``), what counts as wrong (the
checker), and how it is shown.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from glasslog.chaos.backends.backend import Backend
from glasslog.chaos.run.chronicle import Chronicle, Span
from glasslog.chaos.run.clients import Clients
from glasslog.chaos.run.injector import Injector
from glasslog.chaos.run.recorder import Recorder
from glasslog.chaos.run.result import Run
from glasslog.chaos.run.watching import MARK, Watcher, unmarked
from glasslog.chaos.scenario.model import Scenario
from glasslog.chaos.scenario.targets import Draws, absence
from glasslog.chaos.scenario.timetable import timetable
from glasslog.chaos.watchdog import watched
from glasslog.checker.operations import Fault
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.errors import CommandError, Interrupted
from glasslog.common.errors import GlasslogError
from glasslog.common.runtime.protocols import Runtime

ADMIN = "chaos-admin"
"""The name of the client that looks at the cluster."""

_SICK_FOR_MS = 10_000
"""A cluster that was just started on a busy machine may hold another election or two."""

_CALM_S = 1.0
_SHOW_S = 0.1
_REQUEST_TIMEOUT_MS = 2_000
_API_TIMEOUT_MS = 6_000
_FORGET_WITHIN_MS = 15_000


class Audience(Protocol):
    """Who watches a run."""

    def event(self, text: str) -> None:
        """Something happened."""
        ...

    def progress(self, recorder: Recorder, chronicle: Chronicle, now_ms: float) -> None:
        """How far it is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where a run takes place. ``runtime_of`` gives a client its world, by the client's name.

    ``draws_of`` makes a source of randomness from a text; ``suffix`` is added to the names of topics and
    groups, so that runs do not meet each other's records.  ``ending`` says whether the user asked to stop.
    """

    backend: Backend
    runtime_of: Callable[[str], Runtime]
    draws_of: Callable[[str], Draws]
    audience: Audience
    suffix: str = ""
    ending: Callable[[], bool] = field(default=lambda: False)


def check_abilities(backend: Backend, scenario: Scenario) -> None:
    """Raise ``CommandError`` if the backend can not do a fault that the scenario asks for, or lacks nodes."""
    for kind in scenario.kinds:
        if reason := backend.refusal(kind):
            raise CommandError(f"scenario {scenario.name}: {reason}")
    nodes, shape = backend.nodes(), scenario.cluster
    brokers = [node for node in nodes if node.role == "broker"]
    there = (
        ("brokers", len(brokers), shape.brokers),
        ("controllers", len(nodes) - len(brokers), shape.controllers),
        ("racks", len({node.rack for node in brokers}), shape.racks),
    )
    for what, has, needs in there:
        if has < needs:
            raise CommandError(f"scenario {scenario.name} needs {needs} {what}, and the cluster has {has}")
    for step in scenario.steps:
        for target in step.targets:
            if unknown := absence(target, nodes):
                where = f", line {step.line}" if step.line else ""
                raise CommandError(f"scenario {scenario.name}{where}: {unknown}")


async def run_scenario(world: World, scenario: Scenario, seed: int, recorder: Recorder) -> Run:
    """Run it to the end; what did not become right again is in the outcome.

    Raises ``CommandError`` before anything was touched if the cluster may not be broken or is unwell, and
    ``Interrupted`` when asked to end.  However it ends, all faults are undone.
    """
    check_abilities(world.backend, scenario)
    admin = Admin(
        list(world.backend.bootstrap),
        runtime=world.runtime_of(ADMIN),
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        default_api_timeout_ms=_API_TIMEOUT_MS,
    )
    try:
        await admin.start()
    except GlasslogError as error:
        raise _unwell(await world.backend.unready() or str(error)) from None
    try:
        return await _Running(world, scenario, seed, recorder, admin).run()
    finally:
        await admin.close()


def _unwell(why: str) -> CommandError:
    return CommandError(f"the cluster is unwell before anything was done to it: {why}")


class _Running:
    """The pieces of one run and what they share."""

    def __init__(self, world: World, scenario: Scenario, seed: int, recorder: Recorder, admin: Admin) -> None:
        self._world = world
        self._scenario = scenario
        self._seed = seed
        self._recorder = recorder
        self._admin = admin
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._names = {topic.name: topic.name + world.suffix for topic in scenario.topics}
        self._chronicle = Chronicle(on_ended=self._note_fault)
        self._troubles: list[str] = []
        self._recovery_ms = 0.0
        self._watcher = Watcher(admin, world.backend, self._chronicle, self._names.values(), self._now_ms)
        self._injector = Injector(
            world.backend,
            self._chronicle,
            self._watcher,
            names=self._names,
            draws_of=self._draws_of,
            now_ms=self._now_ms,
            recovery_ms=scenario.recovery_ms,
            tell=world.audience.event,
        )
        self._clients = Clients(
            scenario,
            world.backend.bootstrap,
            recorder,
            names=self._names,
            runtime_of=world.runtime_of,
            draws_of=self._draws_of,
            now_ms=self._now_ms,
        )

    def _now_ms(self) -> float:
        return round((self._loop.time() - self._began) * 1000, 3)

    def _draws_of(self, what: str) -> Draws:
        return self._world.draws_of(f"{self._seed} {what}")

    async def run(self) -> Run:
        await self._refuse_to_break()
        await self._create_topics()
        self._began = self._loop.time()
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(work, name=name)
                    for name, work in (
                        ("watch", self._watcher.run()),
                        ("show", self._show()),
                        ("clients", self._clients.run()),
                    )
                ]
                await self._break()
                await self._recover()
                for task in helpers:
                    task.cancel()
        except* Interrupted:
            raise Interrupted from None
        except* GlasslogError as errors:
            raise _first(errors) from errors
        return self._outcome()

    async def _refuse_to_break(self) -> None:
        try:
            await self._watcher.until_well(within_ms=_SICK_FOR_MS)
        except GlasslogError as error:
            raise _unwell(str(error)) from None
        if names := await unmarked(self._admin, self._world.backend.nodes()):
            raise CommandError(
                f"this cluster is not marked for chaos: {', '.join(names)} has {MARK}=false; "
                f"set it to true where records may be lost, as in `glasslog local up --set {MARK}=true`"
            )

    async def _create_topics(self) -> None:
        await self._admin.create_topics(
            [
                NewTopic(
                    name=self._names[topic.name],
                    partitions=topic.partitions,
                    replication_factor=topic.replicas,
                    configs=topic.configs,
                )
                for topic in self._scenario.topics
            ]
        )
        await self._watcher.until_well(within_ms=self._scenario.recovery_ms)

    # --- faults -----------------------------------------------------------------------------------------

    async def _break(self) -> None:
        plan = timetable(self._scenario, self._seed, self._world.draws_of)
        with watched(self._world.backend) as guard:
            try:
                await self._injector.run(plan)
                await asyncio.sleep(max(0.0, self._scenario.duration_ms - self._now_ms()) / 1000)
            finally:
                # Also when this is cancelled: undoing goes on, whatever else ends.
                await asyncio.shield(asyncio.ensure_future(self._injector.heal()))
                guard.is_well = True
        self._troubles += self._injector.failures
        if plan and not self._chronicle.spans:
            self._troubles.append("nothing was broken: no fault found whom it was meant for")
        self._world.audience.event("all faults are over")

    async def _recover(self) -> None:
        """Every node back, every replica in sync, the load goes on for a moment, and all of it is read."""
        recovery_ms = self._scenario.recovery_ms
        try:
            self._recovery_ms = await self._watcher.until_well(within_ms=recovery_ms)
            self._world.audience.event(f"the cluster is well again after {self._recovery_ms / 1000:.1f} s")
            await asyncio.sleep(_CALM_S)
            await self._clients.finish()
            await self._clients.drain()
            self._world.audience.event("everything is read")
        except GlasslogError as error:
            self._troubles.append(str(error))

    async def _show(self) -> None:
        while True:
            if self._world.ending():
                raise Interrupted
            self._world.audience.progress(self._recorder, self._chronicle, self._now_ms())
            await asyncio.sleep(_SHOW_S)

    # --- in the end -------------------------------------------------------------------------------------

    def _note_fault(self, span: Span) -> None:
        end_ms = self._now_ms() if span.end_ms is None else span.end_ms
        self._recorder.fault(Fault(name=span.label, start_ms=span.start_ms, end_ms=end_ms))

    def _outcome(self) -> Run:
        now_ms = self._now_ms()
        recorder, chronicle = self._recorder, self._chronicle
        recorder.give_up_the_rest(now_ms)
        for span in chronicle.spans:
            if span.end_ms is None:
                self._note_fault(span)
        if chronicle.view is not None:
            recorder.replicas = {
                str(name): tuple(chronicle.names.get(node, str(node)) for node in placed.replicas)
                for name, placed in chronicle.view.partitions.items()
            }
        return Run(
            scenario=self._scenario,
            seed=self._seed,
            cluster=self._world.backend.description,
            history=recorder.recorded(history_name(self._scenario, self._seed)),
            figures=recorder.figures,
            chronicle=chronicle,
            troubles=tuple(self._troubles),
            recovery_ms=self._recovery_ms,
            length_ms=now_ms,
        )


def history_name(scenario: Scenario, seed: int) -> str:
    """What the history of a run is called."""
    return f"{scenario.name} seed {seed}"


def _first(errors: BaseExceptionGroup[GlasslogError]) -> GlasslogError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def forget(world: World, scenario: Scenario) -> None:
    """Delete the run's topics and groups. Raises ``GlasslogError``, also when that takes long."""
    topics: Sequence[str] = [topic.name + world.suffix for topic in scenario.topics]
    groups = [consumers.group + world.suffix for consumers in scenario.consumers]
    admin = Admin(
        list(world.backend.bootstrap),
        runtime=world.runtime_of(ADMIN),
        default_api_timeout_ms=_FORGET_WITHIN_MS,
    )
    async with admin:
        await admin.delete_topics(topics)
        await admin.delete_groups(groups)
