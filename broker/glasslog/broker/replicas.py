"""What the parts of replication share: the partitions here, who waits on them, the newest metadata.

This module knows how one event (an append, a new high watermark, a failed disk) reaches everything that
waits for it; it refuses to know requests and wires.  Readers are woken once per turn of the event loop, so
that many small appends make one answer.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator

from glasslog.broker.counters import ReplicationCounters
from glasslog.broker.partition.isr import IsrProposal
from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.purgatory import DelayedOperation, Purgatory
from glasslog.broker.partition.reads import PartitionKey, ReadOutcome
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation
from glasslog.common.ids import NO_BROKER_EPOCH, BrokerEpoch, NodeId, TopicPartition
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.damage import DamagedLog
from glasslog.metadata.image import EMPTY_IMAGE, MetadataImage

_LOGGER = logging.getLogger(__name__)

MAX_WAITING_REQUESTS = 50_000
"""Requests of all clients and followers that may wait at one time."""


ReadKey = tuple[Partition, int, int, bool]
"""Of whom, from which offset, how many bytes at most, and whether one batch in any case."""

OnSynced = Callable[[ErrorCode], None]
"""Called once: NONE when what a log held is durable, else KAFKA_STORAGE_ERROR."""


class Replicas:
    """Every partition of this broker by name and by topic id. Lives on the event loop.

    ``config`` are the node's settings as they are now: what may change while it runs must be read anew.
    ``propose`` takes an ISR change to the controller; ``sync_soon`` calls back when all that a log holds now
    is durable; ``on_log_start`` hears where a follower's log begins; ``on_disk_failure`` of a disk that
    refused; ``on_damage`` of bytes that are not what was written, and says what readers are to be told;
    ``on_fatal`` of a broken invariant met where no task would die of it: it must stop the node.
    """

    def __init__(self, *, runtime: Runtime, config: NodeConfig) -> None:
        self.runtime = runtime
        self.config = config
        self.node_id = NodeId(config.node_id)
        self.image: MetadataImage = EMPTY_IMAGE
        self.counters = ReplicationCounters()
        self.purgatory: Purgatory[Partition] = Purgatory(max_operations=MAX_WAITING_REQUESTS)
        self.propose: Callable[[Partition, IsrProposal], None] = _ignore_proposal
        self.sync_soon: Callable[[Partition, OnSynced], None] = _ignore_sync
        self.on_log_start: Callable[[Partition], None] = _ignore_log_start
        self.on_disk_failure: Callable[[Partition, GlasslogError], None] = _ignore_failure
        self.on_damage: Callable[[Partition, DamagedLog], ErrorCode] = _ignore_damage
        self.on_fatal: Callable[[InvariantViolation], None] = _log_fatal
        self._by_name: dict[TopicPartition, Partition] = {}
        self._by_key: dict[PartitionKey, Partition] = {}
        self._touched: dict[Partition, bool] = {}
        """Of whom readers are to be woken at the end of this turn, and whether followers at any rate."""
        self.shared_reads: dict[ReadKey, ReadOutcome] | None = None
        """What was read while readers are woken: followers of one partition wait for the same records."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0

    # --- which ---

    def __iter__(self) -> Iterator[Partition]:
        return iter(list(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def add(self, partition: Partition) -> None:
        self._by_name[partition.name] = partition
        self._by_key[partition.key] = partition

    def remove(self, partition: Partition) -> None:
        self._by_name.pop(partition.name, None)
        self._by_key.pop(partition.key, None)
        self._touched.pop(partition, None)

    def find(self, name: TopicPartition) -> Partition | None:
        return self._by_name.get(name)

    def find_by_key(self, key: PartitionKey) -> Partition | None:
        return self._by_key.get(key)

    def get(self, name: TopicPartition) -> Partition:
        """Raises ``GlasslogError``: NOT_LEADER_OR_FOLLOWER or UNKNOWN_TOPIC_OR_PARTITION."""
        partition = self._by_name.get(name)
        if partition is None:
            if self.image.partition(name.topic, name.partition) is None:
                raise GlasslogError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{name} does not exist")
            raise GlasslogError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{name} is not on this broker")
        return partition

    def leaders(self) -> Iterator[tuple[Partition, LeaderState]]:
        """The partitions that this broker leads."""
        for partition in self:
            role = partition.role
            if isinstance(role, LeaderState):
                yield partition, role

    def is_eligible(self, name: TopicPartition, node: NodeId, broker_epoch: BrokerEpoch) -> bool:
        """Whether this incarnation of a broker may be in a partition's ISR (KIP-841, KIP-903, KIP-858)."""
        broker = self.image.brokers.get(node)
        if broker is None or not broker.active or broker_epoch not in (NO_BROKER_EPOCH, broker.broker_epoch):
            return False
        placed = self.image.partition(name.topic, name.partition)
        return placed is None or broker.has_directory(placed.directory_of(node))

    # --- events ---

    def on_appended(self, partition: Partition) -> None:
        """Records were appended to a leader's log; with a single replica they are committed as well."""
        self._touch(partition)

    def on_high_watermark(self, partition: Partition) -> None:
        """A leader's high watermark advanced."""
        state = partition.role
        if isinstance(state, LeaderState):
            enough = len(state.maximal_isr) >= state.effective_min_isr
            error = ErrorCode.NONE if enough else ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
            self.purgatory.produces.complete_up_to(partition, state.high_watermark, error)
            self._touch(partition, tells_followers=state.names_followers)

    def on_follower_high_watermark(self, partition: Partition) -> None:
        """A follower has heard of a higher high watermark: consumers may wait for it here too (KIP-392)."""
        if self.purgatory.committed.has(partition):
            self._touch(partition)

    def on_leader_start(self, partition: Partition) -> None:
        """A log was cut at its start: followers are told."""
        self._touch(partition)

    def on_isr_changed(self, partition: Partition) -> None:
        """The controller confirmed or ordered another ISR, or ``min.insync.replicas`` changed."""
        if partition.advance_high_watermark(now_ms=self.runtime.clock.now_ms()):
            self.on_high_watermark(partition)
        self._touch(partition)
        state = partition.role
        if isinstance(state, LeaderState) and state.is_under_min_isr:
            # The high watermark stands still now: whoever waits is told rather than left to time out.
            self.purgatory.produces.complete_all(partition, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)

    def on_role_changed(self, partition: Partition, error: ErrorCode) -> None:
        """Nothing that waited on the former role can succeed: it is answered with ``error``."""
        self.purgatory.complete_all(partition, error)

    def on_error(self, partition: Partition, error: GlasslogError) -> None:
        """A request failed; a disk that refuses takes its partitions offline, bad bytes are mended."""
        if isinstance(error, DamagedLog):
            self.on_damage(partition, error)
            return
        if error.code is ErrorCode.KAFKA_STORAGE_ERROR and partition.is_online:
            self.on_disk_failure(partition, error)

    def _touch(self, partition: Partition, *, tells_followers: bool = False) -> None:
        if not self._touched:
            asyncio.get_running_loop().call_soon(self._wake_readers)
        self._touched[partition] = tells_followers or self._touched.get(partition, False)

    def _wake_readers(self) -> None:
        touched, self._touched = self._touched, {}
        self.shared_reads = {}
        try:
            if len(touched) > 1:
                for partition in touched:
                    self.purgatory.appended.on_news(partition)
                    self.purgatory.committed.on_news(partition)
            for partition, tells_followers in touched.items():
                ledger = partition.ledger
                self.purgatory.appended.on_readable(
                    partition, total_bytes=ledger.appended, is_urgent=tells_followers
                )
                self.purgatory.committed.on_readable(partition, total_bytes=ledger.committed)
        except InvariantViolation as error:
            self.on_fatal(error)
        finally:
            self.shared_reads = None

    # --- waiting ---

    def park(self, operation: DelayedOperation) -> None:
        """Let ``operation`` wait until it is completed or its deadline passes."""
        self.purgatory.park(operation)
        if self._timer is None or operation.deadline_ms < self._timer_ms:
            self._arm(operation.deadline_ms)

    def _arm(self, deadline_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = deadline_ms
        delay_ms = max(deadline_ms - self.runtime.clock.now_ms(), 0)
        self._timer = asyncio.get_running_loop().call_later(delay_ms / 1000, self._expire)

    def _expire(self) -> None:
        self._timer = None
        try:
            self.purgatory.expire(self.runtime.clock.now_ms())
        except InvariantViolation as error:
            self.on_fatal(error)
        deadline_ms = self.purgatory.next_deadline_ms()
        if deadline_ms is not None:
            self._arm(deadline_ms)

    def stop(self) -> None:
        """Answer whoever still waits."""
        for partition in self:
            self.purgatory.complete_all(partition, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _ignore_proposal(partition: Partition, proposal: IsrProposal) -> None:
    _LOGGER.warning("%s: nobody takes ISR change %s to the controller", partition.name, proposal)


def _ignore_sync(partition: Partition, on_synced: OnSynced) -> None:
    _LOGGER.warning("%s: nobody syncs its log", partition.name)
    on_synced(ErrorCode.NONE)


def _ignore_log_start(partition: Partition) -> None:
    """Nobody waits for records to be deleted everywhere."""


def _ignore_damage(partition: Partition, error: DamagedLog) -> ErrorCode:
    _LOGGER.error("%s: %s", partition.name, error)
    return error.code


def _log_fatal(error: InvariantViolation) -> None:
    _LOGGER.critical("replication met a broken invariant: %s", error)


def _ignore_failure(partition: Partition, error: GlasslogError) -> None:
    _LOGGER.error("%s: %s", partition.name, error)
