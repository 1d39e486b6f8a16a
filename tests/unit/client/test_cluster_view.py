"""What a client knows of the cluster only ever gets newer."""

from glasslog.client.cluster import BrokerView, ClusterView, PartitionView, TopicView, merge, with_leader_hint
from glasslog.common.ids import NO_NODE, NodeId, TopicPartition

T0 = TopicPartition("t", 0)
BROKERS = {NodeId(n): BrokerView(node_id=NodeId(n), host=f"h{n}", port=1) for n in (1, 2)}


def view(leader: int, epoch: int, *, offset: int, topic_id: bytes = b"a", cluster: str = "c") -> ClusterView:
    partition = PartitionView(partition=0, leader=NodeId(leader), leader_epoch=epoch)
    topic = TopicView(name="t", topic_id=topic_id, partitions=(partition,))
    return ClusterView(cluster_id=cluster, brokers=BROKERS, topics={"t": topic}, metadata_offset=offset)


def test_a_broker_that_lags_behind_changes_nothing() -> None:
    known = view(2, 5, offset=10)
    merged = merge(known, view(1, 4, offset=8))
    assert merged.leader(T0) == BROKERS[NodeId(2)]
    assert merged.metadata_offset == 10


def test_a_higher_epoch_wins_even_from_an_older_picture() -> None:
    assert merge(view(2, 5, offset=10), view(1, 6, offset=8)).leader_epoch(T0) == 6


def test_a_topic_made_again_starts_over() -> None:
    assert merge(view(2, 5, offset=10), view(1, 0, offset=11, topic_id=b"b")).leader_epoch(T0) == 0
    assert merge(view(2, 5, offset=10), view(1, 9, offset=9, topic_id=b"b")).leader_epoch(T0) == 5


def test_another_cluster_replaces_everything() -> None:
    assert merge(view(2, 5, offset=10), view(1, 0, offset=1, cluster="d")).leader_epoch(T0) == 0


def test_topics_that_were_not_asked_for_are_kept() -> None:
    merged = merge(view(2, 5, offset=10), ClusterView(cluster_id="c", brokers=BROKERS, metadata_offset=11))
    assert merged.leader_epoch(T0) == 5


def test_a_hint_counts_if_it_is_news_about_a_known_broker() -> None:
    known = view(1, 5, offset=10)
    hinted = with_leader_hint(known, T0, leader=NodeId(2), leader_epoch=6)
    assert hinted.leader(T0) == BROKERS[NodeId(2)]
    assert with_leader_hint(known, T0, leader=NodeId(2), leader_epoch=5) is known
    assert with_leader_hint(known, T0, leader=NodeId(9), leader_epoch=7) is known
    assert with_leader_hint(known, T0, leader=NO_NODE, leader_epoch=-1) is known
