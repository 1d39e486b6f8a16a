"""The second phase of a run: all faults are over, and the cluster must become whole in bounded virtual time.

Refuses to know which faults there were and which clients there are.
"""

import asyncio
from collections.abc import Sequence

from glasslog.common.ids import OFFSETS_TOPIC
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.invariants import differing_replicas, leftover_folders
from glasslog.simulator.outcome import Violated

WHOLE_WITHIN_MS = 30_000
_LOOK_EVERY_MS = 20
_SETTLE_S = 2.0


async def recover(cluster: MemoryCluster) -> int:
    """Every node ready, every partition led, every replica in sync; returns the virtual ms that took.

    Raises ``Violated`` after ``WHOLE_WITHIN_MS``.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    await cluster.healthy(within_ms=WHOLE_WITHIN_MS)
    await _until_whole(cluster)
    return round((loop.time() - began) * 1000)


async def settle(cluster: MemoryCluster, topics: Sequence[str]) -> None:
    """After the last write: whole, and every replica of ``topics`` and of the groups' has the same bytes.

    What brokers held and do not hold any more is gone from their disks.
    """
    await _until_whole(cluster)
    await asyncio.sleep(_SETTLE_S)
    wrong = [*differing_replicas(cluster, (*topics, OFFSETS_TOPIC)), *leftover_folders(cluster)]
    if wrong:
        raise Violated("; ".join(wrong))


async def _until_whole(cluster: MemoryCluster) -> None:
    for _ in range(WHOLE_WITHIN_MS // _LOOK_EVERY_MS):
        if not (wrong := _not_whole(cluster)):
            return
        await asyncio.sleep(_LOOK_EVERY_MS / 1000)
    raise Violated(f"not whole within {WHOLE_WITHIN_MS} ms: {wrong}; {cluster.describe()}")


def _not_whole(cluster: MemoryCluster) -> str:
    offsets = {name: cluster.broker(name).observer.image.offset for name in cluster.broker_names}
    if len(set(offsets.values())) > 1:
        return f"brokers know the metadata up to {offsets}"
    image = cluster.image
    placed = [partition for topic in image.topics.values() for partition in topic.partitions]
    return "; ".join(
        f"{each.topic}-{each.partition}: leader {each.leader}, ISR {each.isr} of {each.replicas}, "
        f"moving to {each.target_replicas}"
        for each in placed
        if not each.has_leader or len(each.isr) < len(each.replicas) or each.is_moving
    )
