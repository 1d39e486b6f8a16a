"""Looks at the cluster through an ``Admin``: views for targets and the chronicle, and whether all is well.

Refuses to know what follows from a view.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from glasslog.chaos.backends.backend import Backend
from glasslog.chaos.run.chronicle import Chronicle
from glasslog.chaos.scenario.targets import ClusterView, Node, Placed
from glasslog.client.admin import Admin
from glasslog.client.cli.cluster import examine
from glasslog.client.configs import ConfigResource, ResourceType
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition

_LOOK_S = 0.05
MARK = "chaos.enabled"


class Watcher:
    """``run`` looks again and again and writes into the chronicle; ``look`` does so once."""

    def __init__(
        self,
        admin: Admin,
        backend: Backend,
        chronicle: Chronicle,
        topics: Collection[str],
        now_ms: Callable[[], float],
    ) -> None:
        self._admin = admin
        self._backend = backend
        self._chronicle = chronicle
        self._topics = list(topics)
        self._now_ms = now_ms
        self._nodes: Sequence[Node] = backend.nodes()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """One look; while nobody answers, what was known before stays."""
        try:
            cluster = await self._admin.describe_cluster()
            topics = await self._admin.describe_topics(self._topics)
        except GlasslogError as error:
            if not error.retriable:
                raise
            return
        view = ClusterView(
            nodes=tuple(self._nodes),
            controller=cluster.controller_id,
            partitions={
                TopicPartition(topic.name, each.partition): Placed(
                    leader=each.leader,
                    replicas=tuple(each.replicas),
                    isr=tuple(each.isr),
                    leader_epoch=each.leader_epoch,
                    partition_epoch=each.partition_epoch,
                )
                for topic in topics
                for each in topic.partitions
            },
        )
        self._chronicle.observe(view, self._now_ms())

    async def trouble(self) -> str:
        """What keeps the cluster from being well, in a few words; empty when it is."""
        if unready := await self._backend.unready():
            return unready
        try:
            health = await examine(self._admin)
            known = {broker.node_id for broker in (await self._admin.describe_cluster()).brokers}
        except GlasslogError as error:
            return str(error)
        absent = [node.name for node in self._nodes if node.role == "broker" and node.node_id not in known]
        if absent:
            return f"{', '.join(absent)} not registered"
        return "" if health.is_healthy else "; ".join(health.lines()[1:4])

    async def until_well(self, *, within_ms: int) -> float:
        """Wait until nothing is wrong; returns how many ms that took. Raises ``GlasslogError``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while trouble := await self.trouble():
            if (loop.time() - began) * 1000 > within_ms:
                raise GlasslogError(
                    ErrorCode.REQUEST_TIMED_OUT, f"not healthy after {within_ms / 1000:g} s: {trouble}"
                )
            await asyncio.sleep(_LOOK_S)
        return (loop.time() - began) * 1000


async def unmarked(admin: Admin, nodes: Sequence[Node]) -> list[str]:
    """Brokers that may not be broken on purpose, as they say themselves."""
    wanting = []
    for node in nodes:
        if node.role == "broker":
            resource = ConfigResource(ResourceType.BROKER, str(node.node_id))
            found = await admin.describe_configs(resource, [MARK])
            if not any(each.key == MARK and each.value == "true" for each in found):
                wanting.append(node.name)
    return wanting
