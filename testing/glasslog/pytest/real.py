"""Stories on real nodes, whatever those run in: asked through ``Admin``, broken through ``Nodes``.

Refuses to know how a node is killed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from glasslog.checker.verdict import Verdict, check
from glasslog.client.admin import Admin, NewTopic, PartitionDescription
from glasslog.client.cli.cluster import examine
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime
from glasslog.pytest.story import Story, StoryFailed, explain
from glasslog.simulator.checker.history import History
from glasslog.simulator.clients import REQUEST_TIMEOUT_MS, Clients, drain
from glasslog.simulator.trace import Trace

RECOVER_WITHIN_S = 90.0
_READ_WITHIN_S = 90.0
_LOOK_S = 0.05


class Nodes(Protocol):
    """Who can break nodes. Every method may block; nodes go by name."""

    @property
    def brokers(self) -> Sequence[str]: ...

    @property
    def controllers(self) -> Sequence[str]: ...

    @property
    def bootstrap(self) -> Sequence[str]:
        """``host:port`` of every broker's GRPC listener, from here."""
        ...

    def name_of(self, node_id: int) -> str:
        """Of the node with this id; empty if there is none."""
        ...

    def kill(self, name: str) -> None: ...

    def stop(self, name: str) -> None:
        """In order; returns when it is gone."""
        ...

    def start(self, name: str) -> None: ...

    def pause(self, name: str) -> None: ...

    def resume(self, name: str) -> None: ...

    def make_whole(self) -> None:
        """End every fault, start whoever is gone; does not wait until they are ready."""
        ...

    def unready(self) -> str:
        """What keeps nodes from being ready, in a few words; empty when all of them are."""
        ...


class _Surroundings:
    """The cluster, as the clients of a story see it."""

    def __init__(self, admin: Admin, nodes: Nodes, runtime: Runtime) -> None:
        self._admin = admin
        self._nodes = nodes
        self._runtime = runtime
        self.bootstrap = nodes.bootstrap

    def runtime(self, host: str) -> Runtime:
        return self._runtime

    def on_given(self, reader: str, partition: TopicPartition, last_offset: int) -> None:
        """Nobody can look at all brokers at the same moment."""

    async def replicas(self, partition: TopicPartition) -> list[str]:
        placed = await self.placed(partition)
        return [self._nodes.name_of(node) for node in placed.replicas]

    async def placed(self, partition: TopicPartition) -> PartitionDescription:
        (topic,) = await self._admin.describe_topics([partition.topic])
        return topic.partitions[partition.partition]


class RealCluster:
    """A ``Cluster`` of real nodes."""

    def __init__(self, nodes: Nodes, admin: Admin, runtime: Runtime) -> None:
        self.nodes = nodes
        self._admin = admin
        self._runtime = runtime
        self._history = History()
        self._trace = Trace(on_fault=self._history.note_fault)
        self._surroundings = _Surroundings(admin, nodes, runtime)
        self._topics: list[TopicPartition] = []
        self.clients = Clients(self._surroundings, self._history, self._trace)

    @property
    def bootstrap(self) -> Sequence[str]:
        return self.nodes.bootstrap

    @property
    def brokers(self) -> Sequence[str]:
        return self.nodes.brokers

    @property
    def controllers(self) -> Sequence[str]:
        return self.nodes.controllers

    def runtime(self, host: str) -> Runtime:
        return self._runtime

    # --- what there is ----------------------------------------------------------------------------------

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = 1,
        replication_factor: int = 3,
        configs: Mapping[str, str] | None = None,
    ) -> Sequence[TopicPartition]:
        topic = NewTopic(
            name=name,
            partitions=partitions,
            replication_factor=replication_factor,
            configs=dict(configs or {}),
        )
        await self._admin.create_topics([topic])
        made = [TopicPartition(name, number) for number in range(partitions)]
        self._topics += made
        await self._until_whole()
        return made

    async def leader(self, partition: TopicPartition) -> str:
        return self.nodes.name_of((await self._surroundings.placed(partition)).leader)

    async def in_sync(self, partition: TopicPartition) -> Sequence[str]:
        return [self.nodes.name_of(node) for node in (await self._surroundings.placed(partition)).isr]

    async def active_controller(self) -> str:
        return self.nodes.name_of((await self._admin.describe_cluster()).controller_id)

    # --- faults -----------------------------------------------------------------------------------------

    async def do(self, fault: Callable[[str], object], name: str) -> None:
        """Do something to a node, in a thread, and note it."""
        self._trace.fault(f"{fault.__name__} {name}")
        await asyncio.to_thread(fault, name)

    async def kill(self, name: str) -> None:
        await self.do(self.nodes.kill, name)

    async def stop(self, name: str) -> None:
        await self.do(self.nodes.stop, name)

    async def start(self, name: str) -> None:
        await self.do(self.nodes.start, name)

    async def restart(self, name: str) -> None:
        await self.stop(name)
        await self.start(name)
        await self._until_whole()

    async def pause(self, name: str) -> None:
        await self.do(self.nodes.pause, name)

    async def resume(self, name: str) -> None:
        await self.do(self.nodes.resume, name)

    async def wait(self, ms: float) -> None:
        await asyncio.sleep(ms / 1000)

    # --- in the end -------------------------------------------------------------------------------------

    async def recover(self) -> None:
        self._trace.fault("all faults end")
        await asyncio.to_thread(self.nodes.make_whole)
        await self._until_whole()

    async def verdict(self, name: str) -> Verdict:
        """Read everything that was written and judge it. Raises ``StoryFailed``."""
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                await drain(self.clients, self._topics)
        except TimeoutError:
            raise StoryFailed(f"{name}: not read to the end within {_READ_WITHIN_S:g} s") from None
        now_ms = asyncio.get_running_loop().time() * 1000
        verdict = check(self._history.recorded(name, now_ms))
        if not verdict.is_good:
            raise StoryFailed(f"{name}\n{explain(verdict)}")
        return verdict

    async def _until_whole(self) -> None:
        deadline = asyncio.get_running_loop().time() + RECOVER_WITHIN_S
        while trouble := await self._trouble():
            if asyncio.get_running_loop().time() > deadline:
                raise StoryFailed(f"not whole within {RECOVER_WITHIN_S:g} s: {trouble}")
            await asyncio.sleep(_LOOK_S)

    async def _trouble(self) -> str:
        if unready := await asyncio.to_thread(self.nodes.unready):
            return unready
        try:
            health = await examine(self._admin)
        except GlasslogError as error:
            return str(error)
        return "" if health.is_healthy else "; ".join(health.lines()[1:])


AnyReal = TypeVar("AnyReal", bound=RealCluster)


def tell(
    story: Story[AnyReal], name: str, nodes: Nodes, make: Callable[[Admin, Runtime], AnyReal]
) -> Verdict:
    """Run a story on nodes that are up; returns a verdict that is good.

    However it ends, all faults are ended. Raises ``StoryFailed``, or what the story itself raised.
    """

    async def work(runtime: Runtime) -> Verdict:
        async with Admin(
            list(nodes.bootstrap), runtime=runtime, request_timeout_ms=REQUEST_TIMEOUT_MS
        ) as admin:
            cluster = make(admin, runtime)
            try:
                await story(cluster)
            except BaseException:
                await asyncio.to_thread(nodes.make_whole)
                raise
            await cluster.recover()
            return await cluster.verdict(name)

    return run_in_process(work)
