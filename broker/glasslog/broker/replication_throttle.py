"""Copies of replicas that are not in sync, at the rate that the operator allows: clients have the rest.

Topics say which replicas, the broker how many bytes per second, apart for what it sends as a leader and what
it fetches as a follower. Members of the ISR are never held back, or a throttle would push them out of it.
Refuses to know how bytes are sent. Source: KIP-73, Kafka's ``ReplicationQuotaManager``.
"""

from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.rate_quota import RateQuota
from glasslog.broker.replicas import Replicas
from glasslog.common.config import LONG_MAX
from glasslog.common.ids import NodeId
from glasslog.common.throttled_replicas import is_throttled
from glasslog.common.topic_config import TopicConfig, topic_config

MAX_DELAY_MS = 1_000
"""After so long it is looked again, since the operator may have changed or lifted the throttle."""


class ReplicationThrottle:
    """One broker's; asked before and told after each copy."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._sent = RateQuota()
        self._fetched = RateQuota()

    # --- as a leader ---

    @property
    def limits_leaders(self) -> bool:
        """Whether a follower of some partition may have to wait."""
        return self._replicas.config.leader_replication_throttled_rate != LONG_MAX

    def holds_back(self, partition: Partition, follower: NodeId) -> bool:
        """Whether a follower gets nothing for now."""
        rate = self._replicas.config.leader_replication_throttled_rate
        if rate == LONG_MAX or not self._is_limited_leader(partition, follower):
            return False
        return self._sent.delay_ms(per_second=rate, now_ms=self._now_ms) > 0

    def on_sent(self, partition: Partition, follower: NodeId, size_bytes: int) -> None:
        """A follower got so much."""
        rate = self._replicas.config.leader_replication_throttled_rate
        if size_bytes and rate != LONG_MAX and self._is_limited_leader(partition, follower):
            self._sent.record(size_bytes, per_second=rate, now_ms=self._now_ms)

    def _is_limited_leader(self, partition: Partition, follower: NodeId) -> bool:
        state = partition.role
        if isinstance(state, LeaderState) and follower in state.maximal_isr:
            return False
        entries = self._settings(partition).leader_replication_throttled_replicas
        return self._names(entries, partition)

    # --- as a follower ---

    def delay_ms(self, partition: Partition) -> int:
        """How long to wait before more of a partition is fetched; 0: not at all."""
        rate = self._replicas.config.follower_replication_throttled_rate
        if rate == LONG_MAX or not self._is_limited_follower(partition):
            return 0
        return min(self._fetched.delay_ms(per_second=rate, now_ms=self._now_ms), MAX_DELAY_MS)

    def on_fetched(self, partition: Partition, size_bytes: int) -> None:
        """So much of a partition came."""
        rate = self._replicas.config.follower_replication_throttled_rate
        if size_bytes and rate != LONG_MAX and self._is_limited_follower(partition):
            self._fetched.record(size_bytes, per_second=rate, now_ms=self._now_ms)

    def _is_limited_follower(self, partition: Partition) -> bool:
        name = partition.name
        placed = self._replicas.image.partition(name.topic, name.partition)
        if placed is not None and self._replicas.node_id in placed.isr:
            return False
        return self._names(self._settings(partition).follower_replication_throttled_replicas, partition)

    # --- both ---

    @property
    def _now_ms(self) -> int:
        return self._replicas.runtime.clock.now_ms()

    def _names(self, entries: tuple[str, ...], partition: Partition) -> bool:
        return is_throttled(entries, partition=partition.name.partition, broker_id=self._replicas.node_id)

    def _settings(self, partition: Partition) -> TopicConfig:
        image = self._replicas.image
        return topic_config(self._replicas.config, image.topic_config(partition.name.topic))
