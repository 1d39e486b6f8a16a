"""Faults are done when they are due; one that can not be done is no quiet remark."""

import asyncio
from pathlib import Path
from random import Random

from glasslog.chaos.backends.local import LocalBackend
from glasslog.chaos.run.chronicle import Chronicle
from glasslog.chaos.run.injector import Injector
from glasslog.chaos.run.watching import Watcher
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import ClusterView, Node, OneNode
from glasslog.chaos.scenario.timetable import Due
from glasslog.client.cli.errors import CommandError


class Refusing(LocalBackend):
    """Its nodes can be stopped, but not killed."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.done: list[str] = []

    async def kill(self, name: str) -> None:
        raise CommandError("the system forbids it")

    async def stop(self, name: str) -> None:
        self.done.append(f"stop {name}")

    async def start(self, name: str) -> None:
        self.done.append(f"start {name}")


class Still(Watcher):
    """Sees nothing new."""

    def __init__(self) -> None:
        return

    async def look(self) -> None:
        return


def due(kind: FaultKind, number: int) -> Due:
    fault = Fault(kind=kind, target=OneNode(role="broker", number=number))
    return Due(index=0, at_ms=0, end_ms=0, fault=fault, line=1)


def test_a_fault_that_can_not_be_done_is_a_failure_of_the_run() -> None:
    """`docker pause` was refused by the system: the run broke nothing at all and was told to have passed."""
    chronicle, backend, told = Chronicle(), Refusing(), list[str]()
    node = Node(name="broker-1", node_id=1, role="broker")
    chronicle.observe(ClusterView(nodes=(node,), partitions={}, controller=101), 0)
    injector = Injector(
        backend,
        chronicle,
        Still(),
        names={},
        draws_of=Random,
        now_ms=lambda: 0.0,
        recovery_ms=1000,
        tell=told.append,
    )
    asyncio.run(injector.run([due(FaultKind.STOP, 1), due(FaultKind.KILL, 1), due(FaultKind.STOP, 2)]))
    assert backend.done == ["stop broker-1", "start broker-1"]
    assert any("left out: stop broker 2: nobody is it now" in text for text in told)
    assert any("left out: kill broker 1: broker-1 has another fault" in text for text in told)
    assert injector.failures == []
    asyncio.run(injector.run([due(FaultKind.KILL, 1)]))
    assert injector.failures == ["kill broker-1 (broker 1): the system forbids it"]
