"""What leaders and followers make of a move that the metadata tells them of."""

from glasslog.common.ids import LeaderEpoch, NodeId
from glasslog.metadata.records import PartitionChange

from tests.unit.replication.replica_cluster import TOPIC_ID, ReplicaCluster, batch, until
from tests.unit.replication.test_replication import play


def nodes(*each: int) -> tuple[NodeId, ...]:
    return tuple(map(NodeId, each))


def test_a_replica_that_left_and_came_back_empty_is_not_taken_for_what_it_was() -> None:
    """Broker 3 lost the partition and got it anew, and the leader saw both at once. What it knew of the old
    log there would have let the empty one into the ISR; the leader epoch, which rises when a replica goes,
    has it begin anew."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        for number in range(5):
            await cluster.produced(1, batch(f"v{number}"))
        await until(lambda: cluster.partition(3).log_end_offset == 5)
        await until(lambda: cluster.leader_state(1).followers[NodeId(3)].log_end_offset == 5)
        cluster.behind.add(1)
        cluster.write(
            PartitionChange(
                topic_id=TOPIC_ID, partition=0, leader=NodeId(1), replicas=nodes(1, 2), isr=nodes(1, 2)
            )
        )
        cluster.write(
            PartitionChange(topic_id=TOPIC_ID, partition=0, replicas=nodes(1, 2, 3), adding_replicas=nodes(3))
        )
        assert cluster.partition(3).log_end_offset == 0
        cluster.world.network.partition("b1", "b3")
        cluster.isr_changes.clear()
        cluster.catch_up_all()
        state = cluster.leader_state(1)
        assert state.leader_epoch == LeaderEpoch(1)
        assert state.followers[NodeId(3)].log_end_offset < 5
        assert cluster.isr_changes == []
        cluster.world.network.heal()
        await until(lambda: 3 in cluster.leader_state(1).isr)
        assert cluster.values(3) == cluster.values(1)

    play(story)


def test_a_replica_that_is_being_added_is_not_missed_yet() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        manager = cluster.nodes[1].manager
        cluster.world.network.partition("b1", "b3")
        cluster.write(
            PartitionChange(topic_id=TOPIC_ID, partition=0, replicas=nodes(1, 2, 3), adding_replicas=nodes(3))
        )
        assert manager.count_under_replicated() == 0
        cluster.write(PartitionChange(topic_id=TOPIC_ID, partition=0, adding_replicas=()))
        assert manager.count_under_replicated() == 1
        cluster.world.network.heal()
        await until(lambda: manager.count_under_replicated() == 0)

    play(story)


def test_a_new_replica_begins_where_the_leaders_log_begins() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        for number in range(5):
            await cluster.produced(1, batch(f"v{number}"))
        cluster.partition(1).delete_records(3)
        cluster.write(PartitionChange(topic_id=TOPIC_ID, partition=0, replicas=nodes(1, 2, 3)))
        await until(lambda: 3 in cluster.leader_state(1).isr)
        assert cluster.partition(3).log_start_offset == 3
        assert cluster.values(3) == ["v3", "v4"]

    play(story)
