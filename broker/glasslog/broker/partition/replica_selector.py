"""Which replica a consumer should read from: the closest by rack that has what it asks for (KIP-392).

This module knows racks and how far replicas are; it refuses to know how they are found and told.  Source:
Kafka's ``RackAwareReplicaSelector`` and ``ReplicaView``.
"""

from collections.abc import Sequence
from typing import NamedTuple

from glasslog.common.ids import NodeId


class ReplicaView(NamedTuple):
    """One replica as its leader sees it; times in ms, the older the less."""

    node_id: NodeId
    rack: str
    log_end_offset: int
    last_caught_up_ms: int


def closest_replica(rack: str, leader: ReplicaView, followers: Sequence[ReplicaView]) -> NodeId:
    """The leader if it is in ``rack``, else the follower there that is furthest, else the leader again."""
    near = [follower for follower in followers if follower.rack == rack]
    if leader.rack == rack or not near:
        return leader.node_id
    return max(near, key=_progress).node_id


def _progress(replica: ReplicaView) -> tuple[int, int, int]:
    return replica.log_end_offset, replica.last_caught_up_ms, -replica.node_id
