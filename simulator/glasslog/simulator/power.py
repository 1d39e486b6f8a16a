"""When a broker may lose power, and who must not die meanwhile.

A broker does not sync what it appends, so acknowledged records survive a power loss in the other replicas
only.  When all members of an ISR come back as new processes at once, the controller can not tell who lost
records, and the last to register leads, as in Kafka: that loss is within the guarantees.  So nobody else dies
until the metadata has the powerless broker out of the ISRs.  Refuses to know other faults.
"""

import asyncio

from glasslog.common.ids import BrokerEpoch
from glasslog.metadata.image import MetadataImage
from glasslog.simulator.cluster import MemoryCluster, broker_id

_LOOK_EVERY_S = 0.005
_NOBODY = "nobody"


class PowerGuard:
    """``watch`` a broker that is about to lose power; ask ``is_needed`` before any other one dies."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._powerless = ""
        self._watching: asyncio.Task[None] | None = None

    def may_lose_power(self) -> bool:
        """Everybody is alive and in sync, and each partition has another replica."""
        cluster, images = self._cluster, self._committed()
        nodes = (*cluster.controller_names, *cluster.broker_names)
        if len(cluster.broker_names) == 1 or self._powerless or not cluster.active_controller():
            return False
        if not images or not all(map(cluster.is_alive, nodes)):
            return False
        newest = images[-1].topics.values()
        placed = [each for topic in newest for each in topic.partitions]
        if any(len(each.isr) < max(2, len(each.replicas)) for each in placed):
            return False
        return all(cluster.broker(name).status().is_ready for name in cluster.broker_names)

    def watch(self, name: str) -> None:
        """``name`` loses power now: the others are needed until the metadata shows that."""
        self._powerless = name
        epoch = self._cluster.broker(name).status().broker_epoch
        self._watching = asyncio.create_task(self._until_noticed(name, epoch), name=f"power loss of {name}")

    def hold(self) -> None:
        """Some replica is damaged, and who knows it when: no broker may die until ``release``."""
        self._powerless = _NOBODY

    def release(self) -> None:
        self._powerless = ""

    def is_needed(self, name: str) -> bool:
        """Whether nobody else is sure to have every record that ``name`` has."""
        return bool(self._powerless) and name != self._powerless and name in self._cluster.broker_names

    async def _until_noticed(self, name: str, epoch: BrokerEpoch) -> None:
        noticed = False
        while not noticed:
            await asyncio.sleep(_LOOK_EVERY_S)
            lives = [image.brokers.get(broker_id(name)) for image in self._committed()]
            # An older epoch is what a controller that is still reading its log knows.
            noticed = any(
                life is not None
                and (life.broker_epoch > epoch or (life.broker_epoch == epoch and life.fenced))
                for life in lives
            )
        self._powerless = ""

    def _committed(self) -> list[MetadataImage]:
        """What each controller that runs knows to be committed, the newest last."""
        alive = [name for name in self._cluster.controller_names if self._cluster.is_alive(name)]
        images = [self._cluster.controller(name).controller.committed for name in alive]
        return sorted(images, key=lambda image: image.offset)
