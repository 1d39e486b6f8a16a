"""What the simulator's checks say of metadata in which a move went wrong."""

import asyncio
from dataclasses import replace

import pytest
from glasslog.common.ids import LeaderEpoch, NodeId, Offset, PartitionEpoch
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.outcome import Violated

from tests.unit.controller.controller_bench import Bench


def nodes(*each: int) -> tuple[NodeId, ...]:
    return tuple(map(NodeId, each))


def judged(before: PartitionImage, after: PartitionImage, image: MetadataImage) -> None:
    """Raises what is found when a partition becomes another one."""

    async def main() -> None:
        invariants = Invariants(MemoryCluster())
        for number, placed in enumerate((before, after)):
            topic = replace(image.topics[placed.topic_id], partitions=(placed,))
            topics = {placed.topic_id: topic}
            invariants.on_metadata("c", replace(image, offset=Offset(image.offset + number), topics=topics))
        invariants.raise_violation()
        await asyncio.sleep(0)

    run_virtual(main)


def start() -> tuple[MetadataImage, PartitionImage, PartitionImage]:
    """An image, a partition of it, and the same in its next partition epoch."""
    bench = Bench()
    bench.start(1, 2, 3, 4)
    bench.create_on("t", (1, 2, 3))
    placed = bench.partition("t")
    return bench.image, placed, placed._replace(partition_epoch=PartitionEpoch(placed.partition_epoch + 1))


def test_a_replica_that_goes_raises_the_leader_epoch() -> None:
    image, before, after = start()
    after = after._replace(replicas=nodes(1, 2), isr=nodes(1, 2))
    judged(before, after._replace(leader_epoch=LeaderEpoch(1)), image)
    with pytest.raises(Violated, match="the leader epoch stays 0"):
        judged(before, after, image)


def test_a_move_that_could_be_over_is() -> None:
    image, before, after = start()
    after = after._replace(replicas=nodes(1, 2, 4, 3), removing_replicas=nodes(3), adding_replicas=nodes(4))
    judged(before, after._replace(isr=nodes(1, 2, 3)), image)
    with pytest.raises(Violated, match="still moving"):
        judged(before, after._replace(isr=nodes(1, 2, 4, 3)), image)


def test_a_move_concerns_replicas_that_there_are() -> None:
    image, before, after = start()
    with pytest.raises(Violated, match="adding"):
        judged(before, after._replace(adding_replicas=nodes(4)), image)
