"""Stories, and any test at all, on a cluster of processes on this machine: the one of ``glasslog local``.

Refuses to know how processes are started and signalled.
"""

import asyncio
from collections.abc import Sequence

from glasslog.chaos.backends.links import placements
from glasslog.chaos.backends.toxiproxy import Toxiproxy
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import Some
from glasslog.checker.verdict import Verdict
from glasslog.client.admin import Admin
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.processes import Condition
from glasslog.common.runtime.protocols import Runtime
from glasslog.pytest.real import RealCluster, tell
from glasslog.pytest.story import Story


class ProcessCluster:
    """A cluster that is up, for as long as one test lasts. Every method waits until it is done.

    Call it with a story to have what its clients did and saw judged.
    """

    def __init__(self, local: LocalCluster, name: str) -> None:
        self.local = local
        self._name = name

    def __call__(self, story: "Story[StoryOfProcesses]") -> Verdict:
        """Run it; returns the verdict, a good one.

        After the story whoever is dead or paused comes back, every replica must get in sync, everything is
        read back and checked. Raises ``StoryFailed``, or what the story itself raised.
        """
        return tell(story, self._name, self, lambda admin, runtime: StoryOfProcesses(self, admin, runtime))

    # --- what there is ----------------------------------------------------------------------------------

    @property
    def brokers(self) -> Sequence[str]:
        """Their names."""
        return [node.name for node in self.local.state().brokers]

    @property
    def controllers(self) -> Sequence[str]:
        """Their names."""
        return [node.name for node in self.local.state().controllers]

    @property
    def bootstrap(self) -> Sequence[str]:
        """``host:port`` of every broker for glasslog's clients."""
        return self.local.bootstrap

    @property
    def kafka_bootstrap(self) -> Sequence[str]:
        """``host:port`` of every broker for Kafka's clients."""
        return [node.address("KAFKA") for node in self.local.state().brokers]

    def name_of(self, node_id: int) -> str:
        """Of the node with this id; empty if there is none."""
        return next((node.name for node in self.local.nodes() if node.node_id == node_id), "")

    # --- faults -----------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.local.kill(name)

    def stop(self, name: str) -> None:
        """SIGTERM; it hands its leaderships over first."""
        self.local.stop(name)

    def start(self, name: str) -> None:
        """Start a node that is gone; ``wait_ready`` waits for it."""
        self.local.start(name)

    def restart(self, name: str) -> None:
        """Stop it if it runs, start it, wait until it is ready."""
        self.local.restart(name)

    def pause(self, name: str) -> None:
        """SIGSTOP: it keeps its connections and answers nobody."""
        self.local.pause(name)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.local.resume(name)

    def partition(self, name: str, *others: str) -> None:
        """Nothing passes between ``name`` and each of ``others``: without any, every other node.

        Raises ``CommandError`` unless the cluster was made with the setting chaos.enabled.
        """
        fault = Fault(kind=FaultKind.PARTITION, target=Some(how="any", role="node"))
        everybody = (*self.controllers, *self.brokers)
        beyond = others or tuple(each for each in everybody if each != name)
        server = self._proxies()
        server.put(placements(fault, [name], beyond, server.links()))

    def heal(self) -> None:
        """End every partition. Raises ``CommandError`` as ``partition``."""
        self._proxies().reset()

    def _proxies(self) -> Toxiproxy:
        found = self.local.proxies
        if found is None:
            raise CommandError(
                "this cluster has no proxies between its nodes: mark the test with "
                '@pytest.mark.glasslog(settings={"chaos.enabled": "true"})'
            )
        return Toxiproxy(found.api)

    def make_whole(self) -> None:
        """Start whoever is gone, resume whoever is paused, cut nobody off."""
        if self.local.proxies is not None:
            self.heal()
        for node in self.local.nodes():
            match self.local.condition(node.name):
                case Condition.GONE:
                    self.local.start(node.name)
                case Condition.PAUSED:
                    self.local.resume(node.name)
                case Condition.RUNNING:
                    pass

    def wait_ready(self) -> None:
        """Until every node is ready. Raises ``CommandError``."""
        self.local.wait_ready([node.name for node in self.local.nodes()])

    def unready(self) -> str:
        """Which node is not ready, and why; empty when all are."""
        for node in self.local.nodes():
            if not (answer := self.local.readiness(node.name)).ready:
                return f"{node.name}: {answer.reason}"
        return ""


class StoryOfProcesses(RealCluster):
    """A ``Cluster`` of processes, whose ways to each other can be cut."""

    def __init__(self, processes: ProcessCluster, admin: Admin, runtime: Runtime) -> None:
        super().__init__(processes, admin, runtime)
        self._processes = processes

    async def partition(self, name: str, *others: str) -> None:
        """As ``ProcessCluster.partition``."""

        def partition(name: str) -> None:
            self._processes.partition(name, *others)

        await self.do(partition, name)

    async def heal(self) -> None:
        """As ``ProcessCluster.heal``."""
        await asyncio.to_thread(self._processes.heal)
