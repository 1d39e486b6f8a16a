"""Everything that this broker holds of the partitions: makes replicas lead, follow and go as metadata says.

This module knows how the metadata becomes roles, and which background work there is; how a request is served
is ``produce_path``'s and ``fetch_path``'s, how a partition is copied ``fetcher``'s.  It refuses to know
transports and where metadata comes from.  Source: Kafka's ``ReplicaManager``.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from glasslog.broker.client_quotas import ClientQuotas
from glasslog.broker.cold_reads import ColdReads
from glasslog.broker.counters import ReplicationCounters
from glasslog.broker.delete_records import RecordDeletion
from glasslog.broker.directory_reports import DirectorySink, IgnoredDirectories
from glasslog.broker.directory_sizes import DirectorySizes
from glasslog.broker.fetch_path import FetchPath, FetchResults
from glasslog.broker.fetcher import Fetchers
from glasslog.broker.group_commit import GroupCommit
from glasslog.broker.isr_changes import IsrChanges
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.fetch_api import FetchApi
from glasslog.broker.kafka.produce_api import ProduceApi
from glasslog.broker.list_offsets import epoch_end, list_offset
from glasslog.broker.log_cleaner import CleanerStatus
from glasslog.broker.log_creation import WantedLog
from glasslog.broker.log_maintenance import LogMaintenance
from glasslog.broker.log_recovery import RecoveryProgress
from glasslog.broker.log_return import LogReturn
from glasslog.broker.partition.isr import AlterPartitionSender
from glasslog.broker.partition.leader_state import LeaderState, LeaderTerms
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.produce_path import ProducePath, ProduceResults
from glasslog.broker.replica_move import MoveParts
from glasslog.broker.replica_moves import DirectoryWish, ReplicaMoves
from glasslog.broker.replicas import Replicas
from glasslog.broker.replication_throttle import ReplicationThrottle
from glasslog.broker.replication_view import LeaderView, leader_view
from glasslog.broker.requests import (
    ACKS_ALL,
    DeleteRecordsPartition,
    DeleteRecordsResult,
    EpochEnd,
    EpochEndAsk,
    FetchRequest,
    IsolationLevel,
    ListOffsetsPartition,
    ListOffsetsResult,
    ProducePartition,
    ProducePartitionResult,
    ProduceRequest,
)
from glasslog.broker.stored_logs import BrokenLog, StoredLog
from glasslog.common.dynamic_config import with_overrides
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation, StorageError
from glasslog.common.ids import NO_BROKER_EPOCH, NO_NODE, BrokerEpoch, Offset, TopicPartition
from glasslog.common.node_config import NEVER_MS, NodeConfig
from glasslog.common.runtime.protocols import Buffer, Runtime
from glasslog.common.topic_config import TopicConfig, topic_config
from glasslog.log.damage import DamagedLog
from glasslog.log.directories import OpenedDirectories
from glasslog.log.producer_state import ProducerEntry
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.metadata.records import ResourceType

_LOGGER = logging.getLogger(__name__)

_STEPS_A_TURN = 16
"""Partitions that metadata is applied to before others have their turn: some milliseconds if they are new."""

_TERMS_SHOWN = 50
"""Of those that begin by one step of the metadata; a dead broker may have led thousands."""


class ReplicaManager:
    """One broker's replicas. ``start`` recovers the logs, ``run`` does the background work until cancelled.

    ``directories`` are open and are closed with it; ``reports`` takes to the controller what lies in which.
    ``broker_epoch`` says which registration is in force, -1
    before there is one: until the metadata shows it, nothing leads or follows here, since older metadata may
    name this broker as a leader that it can not be any more.  ``on_fatal`` is told of a broken invariant met
    outside of ``run``: it must stop the node.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        config: NodeConfig,
        directories: OpenedDirectories,
        alter_partition: AlterPartitionSender,
        broker_epoch: Callable[[], BrokerEpoch],
        reports: DirectorySink | None = None,
        on_fatal: Callable[[InvariantViolation], None] | None = None,
    ) -> None:
        self._runtime = runtime
        self._config = config
        self._broker_epoch = broker_epoch
        self._replicas = Replicas(runtime=runtime, config=config)
        self._node_id = self._replicas.node_id
        self._reports = reports or IgnoredDirectories()
        self._logs = PartitionLogs(
            runtime=runtime, config=config, directories=directories.usable, missing=directories.missing
        )
        self._logs.on_failed_directory = self._on_failed_directory
        throttle = ReplicationThrottle(self._replicas)
        self._fetchers = Fetchers(replicas=self._replicas, throttle=throttle, broker_epoch=broker_epoch)
        self._maintenance = LogMaintenance(replicas=self._replicas, logs=self._logs)
        self._log_return = LogReturn(
            replicas=self._replicas,
            logs=self._logs,
            is_current=lambda: self._is_caught_up,
            bring_back=self._bring_back,
        )
        self._cold_reads = ColdReads(runtime, max_in_flight=config.cold_reads_max_in_flight)
        self._moves = ReplicaMoves(
            MoveParts(
                replicas=self._replicas,
                logs=self._logs,
                claims=self._maintenance.claims,
                cold_reads=self._cold_reads,
            ),
            self._reports,
        )
        self._group_commit = GroupCommit(self._replicas)
        self._deletion = RecordDeletion(replicas=self._replicas, logs=self._logs)
        self._isr_changes = IsrChanges(replicas=self._replicas, sender=alter_partition)
        self._produce_path = ProducePath(self._replicas)
        self._fetch_path = FetchPath(self._replicas, self._cold_reads, throttle)
        self.quotas = ClientQuotas(
            clock=runtime.clock,
            image=lambda: self._replicas.image,
            counters=self._replicas.counters,
            windows=config.quota_window_num,
            window_ms=config.quota_window_size_seconds * 1_000,
        )
        self._fetch_api = FetchApi(replicas=self._replicas, path=self._fetch_path, quotas=self.quotas)
        self._is_caught_up = False
        self._begun_terms = 0
        self._applying = asyncio.Lock()
        self._out_of_directories = asyncio.Event()
        self._replicas.propose = self._isr_changes.propose
        self._replicas.sync_soon = self._group_commit.sync_soon
        self._replicas.on_disk_failure = self._on_disk_failure
        if on_fatal is not None:
            self._replicas.on_fatal = on_fatal

    # --- life ---

    async def start(self) -> None:
        """Recover every log. Raises ``StorageError`` for what the operator has to solve."""
        await self._logs.recover()

    async def run(self) -> None:
        """Fetch, checkpoint, shrink ISRs, remove files; until cancelled.

        Raises ``StorageError`` when the last data directory has failed: a broker that went on without any
        would keep its leaderships and serve none of them.
        """
        config = self._config
        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_no_directory_is_left(), name="watch over the data directories")
            group.create_task(self._fetchers.run(), name="fetchers")
            group.create_task(self._logs.remove_retired(), name="removal of deleted partitions")
            group.create_task(self._maintenance.run(), name="log maintenance")
            group.create_task(self._log_return.run(), name="return of damaged logs")
            group.create_task(self._moves.run(), name="moves between data directories")
            group.create_task(self._group_commit.run(), name="group commit")
            group.create_task(self._cold_reads.run(), name="cold reads")
            if config.log_flush_scheduler_interval_ms < NEVER_MS:
                overdue = _every(config.log_flush_scheduler_interval_ms, self._logs.flush_overdue)
                group.create_task(overdue, name="flushing by time")
            for name, interval_ms, work in (
                ("ISR shrinking", max(config.replica_lag_time_max_ms // 2, 1), self._shrink_isrs),
                (
                    "high watermark checkpoints",
                    config.replica_high_watermark_checkpoint_interval_ms,
                    self._checkpoint_high_watermarks,
                ),
                (
                    "flushing",
                    config.log_flush_offset_checkpoint_interval_ms,
                    self._logs.flush_closed_segments,
                ),
            ):
                group.create_task(_every(interval_ms, work), name=name)

    async def close(self, *, clean: bool = True) -> None:
        """Answer whoever waits; ``clean`` also syncs and closes the logs so that they need no recovery."""
        self._replicas.stop()
        self._isr_changes.close()
        self._moves.close()
        if clean:
            await self._logs.close(high_watermarks=self._high_watermarks(), broker_epoch=self._own_epoch())
        else:
            self._logs.abandon()

    def _own_epoch(self) -> BrokerEpoch:
        """Of the registration that the metadata has shown: at the end of a controlled shutdown it is over."""
        known = self._replicas.image.broker_epoch(self._node_id) if self._is_caught_up else None
        return NO_BROKER_EPOCH if known is None else known

    # --- requests ---

    def produce(self, request: ProduceRequest) -> "asyncio.Future[ProduceResults]":
        """Append; with ``acks`` all done when replicated. Refusals are in the results, one per partition."""
        return self._produce_path.produce(request)

    def fetch(self, request: FetchRequest) -> "asyncio.Future[FetchResults]":
        """Read, waiting for ``min_bytes``. Refusals are in the results; cancelling frees what waits."""
        return self._fetch_path.fetch(request)

    def list_offsets(
        self, partitions: Sequence[ListOffsetsPartition], isolation: IsolationLevel
    ) -> tuple[ListOffsetsResult, ...]:
        """The first offsets at or after timestamps. Refusals are in the results."""
        return tuple(list_offset(self._replicas, each, isolation) for each in partitions)

    def epoch_ends(self, asks: Sequence[EpochEndAsk]) -> tuple[EpochEnd, ...]:
        """Where leader epochs ended. Refusals are in the results."""
        return tuple(epoch_end(self._replicas, each) for each in asks)

    def describe_leader(self, partition: TopicPartition) -> LeaderView:
        """A partition led here, as it is. Raises as ``log_end_offset`` does."""
        return leader_view(self._replicas, partition)

    def log_sizes(self) -> Sequence[DirectorySizes]:
        """What lies in which data directory, and what is on its way there."""
        return [self._with_moves(each) for each in self._logs.sizes()]

    def _with_moves(self, sizes: DirectorySizes) -> DirectorySizes:
        if not sizes.is_online:
            return sizes
        replicas = (*sizes.replicas, *self._moves.sizes(sizes.path))
        try:
            space = self._runtime.files.space(sizes.path)
        except OSError:
            return replace(sizes, replicas=replicas)
        return replace(
            sizes, replicas=replicas, total_bytes=space.total_bytes, usable_bytes=space.usable_bytes
        )

    async def alter_log_dirs(self, wishes: Sequence[DirectoryWish]) -> list[ErrorCode]:
        """Move replicas to other data directories of this broker. Refusals are in the outcomes."""
        return await self._moves.alter(wishes)

    def producers_of(self, partition: TopicPartition) -> Sequence[tuple[int, ProducerEntry]]:
        """Producers that a partition led here remembers, by id. Raises as ``log_end_offset`` does."""
        return sorted(self._led(partition).log.producers.entries.items())

    async def delete_records(
        self, partitions: Sequence[DeleteRecordsPartition], *, timeout_ms: int
    ) -> tuple[DeleteRecordsResult, ...]:
        """Let logs begin later, on every replica that lives. Refusals are in the results."""
        return await self._deletion.delete(partitions, timeout_ms=timeout_ms)

    def kafka_apis(self) -> Sequence[Api]:
        """What the Kafka listener serves of logs: Fetch, for clients and replicas alike, and Produce."""
        produce = ProduceApi(self._produce_path, lambda: self._replicas.image, self.quotas)
        return (self._fetch_api.api(), produce.api())

    # --- for coordinators in this broker ---

    async def append_local(
        self, partition: TopicPartition, records: Buffer, *, timeout_ms: int
    ) -> ProducePartitionResult:
        """Append with ``acks`` all. Raises ``GlasslogError`` with the code and text of a refusal."""
        request = ProduceRequest(
            acks=ACKS_ALL,
            timeout_ms=timeout_ms,
            partitions=(ProducePartition(partition=partition, records=records),),
        )
        (result,) = await self._produce_path.produce(request, origin_is_client=False)
        if result.error is not ErrorCode.NONE:
            raise GlasslogError(result.error, result.error_message)
        return result

    def read_local(self, partition: TopicPartition, offset: Offset, *, max_bytes: int) -> Buffer:
        """Whole batches from ``offset`` up to the log's end, committed or not; one at least, if there is any.

        Raises ``GlasslogError``: OFFSET_OUT_OF_RANGE and what ``log_end_offset`` does.
        """
        led = self._led(partition)
        try:
            return led.log.read(offset, max_bytes=max_bytes)
        except DamagedLog as error:
            raise GlasslogError(self._replicas.on_damage(led, error), str(error)) from error

    def log_start_offset(self, partition: TopicPartition) -> Offset:
        """Raises as ``log_end_offset`` does."""
        return self._led(partition).log_start_offset

    def log_end_offset(self, partition: TopicPartition) -> Offset:
        """Raises ``GlasslogError`` when this broker does not lead ``partition`` or its disk failed."""
        return self._led(partition).log_end_offset

    def high_watermark(self, partition: TopicPartition) -> Offset:
        """Raises as ``log_end_offset`` does."""
        return self._led(partition).high_watermark

    def _led(self, name: TopicPartition) -> Partition:
        partition = self._replicas.get(name)
        partition.leader()
        return partition

    # --- looking in ---

    @property
    def recovery_progress(self) -> RecoveryProgress:
        """How far ``start`` is."""
        return self._logs.recovery_progress

    @property
    def offline_directory_ids(self) -> tuple[bytes, ...]:
        """Data directories that have failed since the start."""
        return self._logs.offline_directory_ids

    @property
    def image(self) -> MetadataImage:
        """The metadata that was last taken in here; the cluster's may be newer."""
        return self._replicas.image

    @property
    def counters(self) -> ReplicationCounters:
        return self._replicas.counters

    def find(self, partition: TopicPartition) -> Partition | None:
        """The replica held here, for inspection."""
        return self._replicas.find(partition)

    def partitions(self) -> list[Partition]:
        """All replicas held here, for inspection."""
        return list(self._replicas)

    def count_under_replicated(self) -> int:
        """Partitions led here whose ISR lacks a replica."""
        return sum(state.is_under_replicated for _, state in self._replicas.leaders())

    def count_under_min_isr(self) -> int:
        """Partitions led here that take no ``acks`` all."""
        return sum(state.is_under_min_isr for _, state in self._replicas.leaders())

    @property
    def cleaner_status(self) -> CleanerStatus:
        return self._maintenance.cleaner_status

    def damaged(self) -> list[tuple[Partition, DamagedLog]]:
        """Replicas here that hold something else than was written, and where, until they are mended."""
        return self._maintenance.repair.damaged()

    def count_unmaintained(self) -> int:
        """Replicas here whose old records are neither deleted nor compacted, since that failed."""
        return self._maintenance.count_unmaintained()

    def count_offline(self) -> int:
        """Replicas here whose disk has failed."""
        return sum(not partition.is_online for partition in self._replicas)

    # --- metadata ---

    async def on_registered(self) -> None:
        """The broker epoch is known now; metadata that arrived earlier may already show it."""
        async with self._applying:
            image = self._replicas.image
            if self._must_catch_up(image):
                await self._create_logs(_partitions_of(image), image)
            await _in_turns(self._catching_up(image))

    async def follow_metadata(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Take in ``image``, which ``delta`` made; in the order of the metadata log.

        Thousands of partitions take seconds; requests for others are served meanwhile.
        """
        async with self._applying:
            if self._is_caught_up:
                await self._create_logs(delta.changed_partitions, image)
            elif self._must_catch_up(image):
                await self._create_logs(_partitions_of(image), image)
            await _in_turns(self._taking_in(delta, image))

    async def _create_logs(self, placed: Iterable[PartitionImage], image: MetadataImage) -> None:
        """Those that are new here, if they are many: what comes after finds them made."""
        new = [
            WantedLog(
                name=TopicPartition(each.topic, each.partition),
                topic_id=each.topic_id,
                topic=topic_config(self._replicas.config, image.topic_config(each.topic)),
                directory_id=each.directory_of(self._node_id),
            )
            for each in placed
            if self._node_id in each.replicas
            and self._replicas.find(TopicPartition(each.topic, each.partition)) is None
        ]
        if len(new) > 1:
            await self._logs.create_ahead(new)

    def apply_metadata(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """The same at one go; not while ``follow_metadata`` is under way."""
        deque(self._taking_in(delta, image), maxlen=0)

    def _taking_in(self, delta: MetadataDelta, image: MetadataImage) -> Iterator[None]:
        """In steps, each of one partition."""
        self._replicas.image = image
        self._begun_terms = 0
        has_new_defaults = self._take_broker_config(delta, image)
        if not self._is_caught_up:
            yield from self._catching_up(image)
            return
        for topic in delta.removed_topics:
            for removed in topic.partitions:
                self._remove(removed, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "its topic was deleted")
                yield
        for changed in delta.changed_partitions:
            self._apply(changed, image)
            yield
        if self._begun_terms > _TERMS_SHOWN:
            _LOGGER.info("and leads %d more partitions likewise", self._begun_terms - _TERMS_SHOWN)
        topics = [name for kind, name in delta.changed_configs if kind is ResourceType.TOPIC]
        for name in image.topic_ids if has_new_defaults else topics:
            self._apply_config(name, image)
        if delta.changed_brokers:
            self._expand_isrs()

    def _take_broker_config(self, delta: MetadataDelta, image: MetadataImage) -> bool:
        """Whether settings of this broker, which are its topics' defaults, were changed while it runs."""
        own = {(ResourceType.BROKER, ""), (ResourceType.BROKER, str(self._node_id))}
        if own.isdisjoint(delta.changed_configs):
            return False
        made = with_overrides(self._config, image.broker_config(None), image.broker_config(self._node_id))
        has_changed = made != self._replicas.config
        self._replicas.config = made
        return has_changed

    def _must_catch_up(self, image: MetadataImage) -> bool:
        own_epoch = self._broker_epoch()
        if self._is_caught_up or own_epoch == NO_BROKER_EPOCH:
            return False
        return image.broker_epoch(self._node_id) == own_epoch

    def _catching_up(self, image: MetadataImage) -> Iterator[None]:
        """The first metadata that knows this incarnation is applied as a whole, in steps."""
        if not self._must_catch_up(image):
            return
        self._is_caught_up = True
        self._logs.retire_strays(image, self._node_id)
        for partition in _partitions_of(image):
            self._apply(partition, image)
            yield
        self._moves.resume()

    def _apply(self, placed: PartitionImage, image: MetadataImage) -> None:
        if self._node_id not in placed.replicas:
            self._remove(placed, ErrorCode.NOT_LEADER_OR_FOLLOWER, "it was moved to other brokers")
            return
        settings = topic_config(self._replicas.config, image.topic_config(placed.topic))
        partition = self._find_or_make(placed, settings)
        if not partition.is_online:
            return
        try:
            if placed.leader == self._node_id:
                self._lead(partition, placed, settings)
            else:
                self._follow(partition, placed)
        except GlasslogError as error:
            _LOGGER.error("%s can not take its role: %s", partition.name, error)
            self._replicas.on_error(partition, error)

    def _find_or_make(self, placed: PartitionImage, settings: TopicConfig) -> Partition:
        name = TopicPartition(placed.topic, placed.partition)
        partition = self._replicas.find(name)
        if partition is not None and partition.topic_id == placed.topic_id:
            return partition
        if partition is not None:
            self._drop(partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "another topic has its name now")
        placed_in = placed.directory_of(self._node_id)
        stored = self._logs.adopt(name, placed.topic_id, settings, directory_id=placed_in)
        is_broken = isinstance(stored, BrokenLog)
        partition = Partition(
            name=name,
            topic_id=placed.topic_id,
            log=None if isinstance(stored, BrokenLog) else stored.log,
            high_watermark=Offset(0) if isinstance(stored, BrokenLog) else stored.high_watermark,
            offline_reason=stored.reason if isinstance(stored, BrokenLog) else "",
        )
        if is_broken:
            _LOGGER.error("%s is offline on this broker: %s", name, partition.role)
        self._replicas.add(partition)
        if isinstance(stored, StoredLog) and stored.directory_id != placed_in:
            self._reports.assigned(placed.topic_id, placed.partition, stored.directory_id)
        return partition

    async def _bring_back(self, name: TopicPartition) -> None:
        """Its log could not be opened before and is open now."""
        async with self._applying:
            image, partition = self._replicas.image, self._replicas.find(name)
            placed = image.partition(name.topic, name.partition)
            if placed is not None and partition is not None and not partition.is_online:
                self._replicas.remove(partition)
                self._apply(placed, image)
                self._moves.resume()

    def _lead(self, partition: Partition, placed: PartitionImage, settings: TopicConfig) -> None:
        state = partition.role
        now_ms = self._runtime.clock.now_ms()
        if isinstance(state, LeaderState) and state.leader_epoch == placed.leader_epoch:
            if state.on_metadata(
                replicas=placed.replicas,
                isr=placed.isr,
                adding_replicas=placed.adding_replicas,
                elr=placed.elr,
                partition_epoch=placed.partition_epoch,
                now_ms=now_ms,
            ):
                self._replicas.on_isr_changed(partition)
            return
        if placed.leader_epoch <= partition.leader_epoch:
            return
        self._fetchers.remove(partition)
        terms = LeaderTerms(
            node_id=self._node_id,
            broker_epoch=self._broker_epoch(),
            replicas=placed.replicas,
            isr=placed.isr,
            leader_epoch=placed.leader_epoch,
            partition_epoch=placed.partition_epoch,
            adding_replicas=placed.adding_replicas,
            elr=placed.elr,
        )
        partition.become_leader(
            terms,
            min_insync_replicas=settings.min_insync_replicas,
            lag_time_max_ms=self._config.replica_lag_time_max_ms,
            eligible=partial(self._replicas.is_eligible, partition.name),
            now_ms=now_ms,
        )
        self._replicas.on_role_changed(partition, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if partition.log.is_flush_due:
            self._replicas.sync_soon(partition, _ignore_outcome)
        self._begun_terms += 1
        if self._begun_terms > _TERMS_SHOWN:
            return
        _LOGGER.info(
            "%s: leads in epoch %d from %d, ISR %s",
            partition.name,
            placed.leader_epoch,
            partition.log_end_offset,
            list(placed.isr),
        )

    def _follow(self, partition: Partition, placed: PartitionImage) -> None:
        is_new = placed.leader_epoch > partition.leader_epoch
        is_old = placed.leader_epoch < partition.leader_epoch
        if is_old or (isinstance(partition.role, LeaderState) and not is_new):
            return
        partition.become_follower(
            leader_id=placed.leader,
            leader_epoch=placed.leader_epoch,
            partition_epoch=placed.partition_epoch,
        )
        if not is_new:
            return
        self._replicas.on_role_changed(partition, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if placed.leader == NO_NODE:
            self._fetchers.remove(partition)
        else:
            self._fetchers.assign(partition, placed.leader)

    def _remove(self, placed: PartitionImage, error: ErrorCode, why: str) -> None:
        partition = self._replicas.find(TopicPartition(placed.topic, placed.partition))
        if partition is not None and partition.topic_id == placed.topic_id:
            self._drop(partition, error, why)

    def _drop(self, partition: Partition, error: ErrorCode, why: str) -> None:
        """The replica is not wanted here any more: its files go too."""
        _LOGGER.info("%s is removed from this broker: %s", partition.name, why)
        self._fetchers.remove(partition)
        self._moves.on_removed(partition.name)
        partition.go_offline(error, why)
        self._replicas.on_role_changed(partition, error)
        self._replicas.remove(partition)
        self._logs.retire(partition.name)

    def _apply_config(self, topic: str, image: MetadataImage) -> None:
        settings = topic_config(self._replicas.config, image.topic_config(topic))
        known = image.topic(topic)
        for placed in () if known is None else known.partitions:
            name = TopicPartition(topic, placed.partition)
            partition = self._replicas.find(name)
            if partition is None:
                continue
            self._logs.set_config(name, settings)
            state = partition.role
            if isinstance(state, LeaderState):
                state.min_insync_replicas = settings.min_insync_replicas
                self._replicas.on_isr_changed(partition)

    # --- in the background ---

    def _expand_isrs(self) -> None:
        """A broker was let in again: whoever has caught up need not wait for its next fetch."""
        for partition, state in self._replicas.leaders():
            for follower in state.followers.values():
                proposal = state.maybe_expand_isr(follower)
                if proposal is not None:
                    self._replicas.propose(partition, proposal)

    async def _until_no_directory_is_left(self) -> None:
        await self._out_of_directories.wait()
        raise StorageError("no data directory is left: see the failures above")

    async def _shrink_isrs(self) -> None:
        now_ms = self._runtime.clock.now_ms()
        for partition, state in self._replicas.leaders():
            proposal = state.maybe_shrink_isr(leader_end_offset=partition.log_end_offset, now_ms=now_ms)
            if proposal is not None:
                self._replicas.propose(partition, proposal)

    async def _checkpoint_high_watermarks(self) -> None:
        await self._logs.checkpoint_high_watermarks(self._high_watermarks())

    def _high_watermarks(self) -> dict[TopicPartition, int]:
        return {each.name: int(each.high_watermark) for each in self._replicas if each.is_online}

    def _on_disk_failure(self, partition: Partition, error: GlasslogError) -> None:
        self._logs.fail_directory_of(partition.name, str(error))

    def _on_failed_directory(self, reason: str, lost: Sequence[TopicPartition]) -> None:
        """All that lies in it goes offline, the controller hears of it, and the last one ends the broker."""
        self._replicas.counters.log_directory_failures += 1
        for name in lost:
            partition = self._replicas.find(name)
            if partition is not None and partition.is_online:
                self._fetchers.remove(partition)
                partition.go_offline(ErrorCode.KAFKA_STORAGE_ERROR, reason)
                self._replicas.on_role_changed(partition, ErrorCode.KAFKA_STORAGE_ERROR)
        if self._logs.has_directory:
            self._reports.failed()
        else:
            self._out_of_directories.set()


def _partitions_of(image: MetadataImage) -> Iterator[PartitionImage]:
    for topic in image.topics.values():
        yield from topic.partitions


async def _in_turns(steps: Iterator[None]) -> None:
    """Take the steps, a few at each turn of the event loop."""
    for count, _ in enumerate(steps, start=1):
        if count % _STEPS_A_TURN == 0:
            await asyncio.sleep(0)


def _ignore_outcome(error: ErrorCode) -> None:
    """The high watermark advances, or the disk has failed, by itself."""


async def _every(interval_ms: int, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(interval_ms / 1000)
        await work()
