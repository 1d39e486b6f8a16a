"""Tells consumers which follower they may read from instead, as ``replica.selector.class`` says (KIP-392).

This module knows which replicas come into question: in sync, alive, with the offset that is asked for.  It
refuses to know how one of them is chosen, and wires.  Source: Kafka's
``ReplicaManager.findPreferredReadReplica``.
"""

from collections.abc import Iterator

from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.broker.partition.replica_selector import ReplicaView, closest_replica
from glasslog.broker.replicas import Replicas
from glasslog.broker.requests import Consumer, Follower
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.common.node_config import RACK_AWARE_SELECTOR


class ClosestReplica:
    """One broker's advice to those who read from its leaders."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def named_for(self, reader: Consumer | Follower, partition: Partition, ask: PartitionAsk) -> NodeId:
        """Who is closer than this leader; ``NO_NODE``: nobody is, or nobody wants to know."""
        if not isinstance(reader, Consumer) or not reader.rack or reader.any_replica:
            return NO_NODE
        state = partition.role
        if self._replicas.config.replica_selector_class != RACK_AWARE_SELECTOR:
            return NO_NODE
        if not isinstance(state, LeaderState):
            return NO_NODE
        end = partition.log_end_offset
        leader = ReplicaView(state.node_id, self._rack_of(state.node_id), end, 0)
        chosen = closest_replica(reader.rack, leader, list(self._candidates(state, ask)))
        if chosen == state.node_id:
            return NO_NODE
        state.names_followers = True
        return chosen

    def _rack_of(self, node: NodeId) -> str:
        broker = self._replicas.image.brokers.get(node)
        return "" if broker is None else broker.rack

    def _candidates(self, state: LeaderState, ask: PartitionAsk) -> Iterator[ReplicaView]:
        brokers = self._replicas.image.brokers
        for node, follower in state.followers.items():
            broker = brokers.get(node)
            has_offset = follower.log_start_offset <= ask.fetch_offset <= follower.log_end_offset
            if broker is not None and broker.active and node in state.isr and has_offset:
                yield ReplicaView(node, broker.rack, follower.log_end_offset, follower.last_caught_up_ms)
