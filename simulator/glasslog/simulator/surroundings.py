"""The simulated cluster as clients see it, and the invariant that only they can see broken.

Refuses to know what clients do.
"""

from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.simulator.cluster import GRPC_PORT, MemoryCluster
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.outcome import Violated


class SimulatedSurroundings:
    """Of one run."""

    def __init__(self, cluster: MemoryCluster, invariants: Invariants) -> None:
        self._cluster = cluster
        self._invariants = invariants
        self.bootstrap = [f"{name}:{GRPC_PORT}" for name in cluster.broker_names]

    def runtime(self, host: str) -> Runtime:
        return self._cluster.world.runtime(host)

    def on_given(self, reader: str, partition: TopicPartition, last_offset: int) -> None:
        """Nothing above the highest high watermark that any leader had may be shown."""
        highest = self._invariants.highest_of(partition, beyond=last_offset)
        if last_offset >= highest:
            raise Violated(f"{reader} was given {partition}@{last_offset}, high watermark {highest}")

    async def replicas(self, partition: TopicPartition) -> list[str]:
        placed = self._cluster.partition(partition.topic, partition.partition)
        return [f"broker-{node}" for node in placed.replicas]
