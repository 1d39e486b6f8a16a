"""Scenario files of ``glasslog chaos run`` on the simulated cluster: the same files, the same run.

The run itself is ``glasslog.chaos.run``; here is who breaks simulated nodes for it.  Refuses to know what a
scenario means.
"""

from collections.abc import Collection, Mapping
from functools import partial
from random import Random

from glasslog.chaos.run.chronicle import Chronicle
from glasslog.chaos.run.clients import DRAINER
from glasslog.chaos.run.recorder import Recorder
from glasslog.chaos.run.run import ADMIN, World, run_scenario
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.model import Scenario as ScenarioFile
from glasslog.chaos.scenario.targets import Node, Role
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Json
from glasslog.simulator.convergence import settle
from glasslog.simulator.episodes import both_ways
from glasslog.simulator.outcome import Violated
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_RACKS = "abcdefghijklmnopqrstuvwxyz"
_DELAY_MS = 0.1
_IMPOSSIBLE = frozenset({FaultKind.BANDWIDTH, FaultKind.RESET})


class SimulatedBackend:
    """Breaks the nodes of a stage. ``clients`` are the hosts that a disconnected node does not reach, too."""

    def __init__(self, stage: Stage, clients: Collection[str]) -> None:
        self._stage = stage
        self._cluster = stage.cluster
        self._clients = tuple(clients)

    @property
    def description(self) -> str:
        return "a simulated cluster"

    @property
    def bootstrap(self) -> tuple[str, ...]:
        return tuple(self._stage.clients.bootstrap)

    @property
    def options(self) -> Mapping[str, str]:
        return {}

    @property
    def keepsake(self) -> Mapping[str, Json] | None:
        """It is gone with this process."""
        return None

    def nodes(self) -> tuple[Node, ...]:
        cluster = self._cluster
        controllers = (self._node(name, "controller") for name in cluster.controller_names)
        return (*controllers, *(self._node(name, "broker") for name in cluster.broker_names))

    def _node(self, name: str, role: Role) -> Node:
        config = self._cluster.config(name)
        return Node(name=name, node_id=config.node_id, role=role, rack=config.broker_rack)

    def refusal(self, kind: FaultKind) -> str:
        return impossible(kind)

    async def unready(self) -> str:
        for node in self.nodes():
            if not self._cluster.is_alive(node.name):
                return f"{node.name} does not run"
            if node.role == "broker" and not self._cluster.broker(node.name).status().is_ready:
                return f"{node.name} is not ready"
        return "" if self._cluster.active_controller() else "no controller is active"

    async def kill(self, name: str) -> None:
        await self._stage.kill(name)

    async def stop(self, name: str) -> None:
        await self._stage.stop(name)

    async def start(self, name: str) -> None:
        if not self._cluster.is_alive(name):
            self._stage.start(name)

    async def pause(self, name: str) -> None:
        self._stage.pause(name)

    async def resume(self, name: str) -> None:
        self._stage.resume(name)

    async def disturb(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        self._stage.note(f"{fault.kind} {', '.join(names)} | {', '.join(others)}")
        for source, target in self._links(fault, names, others):
            if fault.kind is FaultKind.LATENCY:
                self._delay(source, target, fault.delay_ms)
            else:
                self._stage.network.partition_one_way(source, target)

    async def calm(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        self._stage.note(f"no more {fault.kind} {', '.join(names)} | {', '.join(others)}")
        for source, target in self._links(fault, names, others):
            if fault.kind is FaultKind.LATENCY:
                self._delay(source, target, _DELAY_MS)
            else:
                self._stage.network.heal(source, target)

    def _links(self, fault: Fault, names: Collection[str], others: Collection[str]) -> list[tuple[str, str]]:
        if fault.kind is FaultKind.ONE_WAY:
            return [(name, other) for name in names for other in others]
        beyond = self._clients if fault.kind is FaultKind.DISCONNECT else ()
        return both_ways([*names], [*others, *beyond])

    def _delay(self, source: str, target: str, delay_ms: float) -> None:
        self._stage.network.set_delay(source, target, minimum_ms=delay_ms, jitter_ms=_DELAY_MS)

    async def heal(self) -> None:
        self._stage.heal()
        everybody = [node.name for node in self.nodes()]
        for source, target in both_ways(everybody, everybody):
            self._delay(source, target, _DELAY_MS)
        for name in everybody:
            self._stage.resume(name)
            await self.start(name)


def impossible(kind: FaultKind) -> str:
    """Why the simulated network can not do this; empty if it can."""
    return f"{kind} is of TCP, and the simulated network has none" if kind in _IMPOSSIBLE else ""


def simulated(file: ScenarioFile, name: str) -> Scenario:
    """A scenario for the simulator. ``name`` is how to ask for it. Raises ``CommandError``."""
    for kind in file.kinds:
        if reason := impossible(kind):
            raise CommandError(f"scenario {file.name}: {reason}")
    shape = file.cluster
    racks = _RACKS[: max(shape.racks, 3)]
    return Scenario(
        name=file.name,
        description=file.description,
        origin="a scenario file",
        script=partial(_play, file),
        controllers=shape.controllers,
        brokers=shape.brokers,
        settings={"chaos.enabled": "true"},
        racks={f"broker-{n + 1}": f"rack-{racks[n % len(racks)]}" for n in range(shape.brokers)},
        file=name,
        length_ms=file.duration_ms + 3 * file.recovery_ms,
    )


class _Told:
    """Into the trace."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def event(self, text: str) -> None:
        self._stage.trace.add("chaos", text=text)

    def progress(self, recorder: Recorder, chronicle: Chronicle, now_ms: float) -> None:
        return


async def _play(file: ScenarioFile, stage: Stage) -> None:
    producers = sum(load.count for load in file.producers)
    hosts = [f"producer-{number}" for number in range(1, producers + 1)]
    hosts += [f"{load.group}-{n}" for load in file.consumers for n in range(1, load.members + 1)]
    world = World(
        backend=SimulatedBackend(stage, [*hosts, ADMIN, DRAINER]),
        runtime_of=stage.cluster.world.runtime,
        draws_of=Random,
        audience=_Told(stage),
    )
    run = await run_scenario(world, file, stage.seed, Recorder())
    stage.history.adopt(run.history, sent=run.figures.sent, acknowledged=run.figures.acknowledged)
    stage.recovery_ms = round(run.recovery_ms)
    if run.troubles:
        raise Violated("; ".join(run.troubles))
    await settle(stage.cluster, [topic.name for topic in file.topics])
