"""A whole broker: data directories, logs, listeners, metadata, membership and coordinators, put together.

Refuses to know the process around it (signals, logging, health pages) and any rule of its parts. The order
matters: logs are recovered before anybody can ask for them, listeners are bound before their ports are
registered, and metadata reaches replication before the coordinators that rest on it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial

from glasslog.broker.alter_partition import AlterPartitionManager
from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.config_view import ConfigView
from glasslog.broker.controller_channel import ControllerChannel
from glasslog.broker.coordinators import CoordinatorFinder
from glasslog.broker.directory_reports import DirectoryReports
from glasslog.broker.endpoints import GRPC, broker_listeners, endpoints_to_register
from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.types import GroupLimits
from glasslog.broker.grpc.changes import ChangeHandlers
from glasslog.broker.grpc.configs import ConfigHandlers
from glasslog.broker.grpc.data import DataHandlers
from glasslog.broker.grpc.features import FeatureHandlers
from glasslog.broker.grpc.groups import GroupHandlers
from glasslog.broker.grpc.heartbeats import HeartbeatHandlers
from glasslog.broker.grpc.log_dirs import LogDirHandlers
from glasslog.broker.grpc.metadata import MetadataHandlers
from glasslog.broker.grpc.offsets import OffsetHandlers
from glasslog.broker.grpc.quotas import QuotaHandlers
from glasslog.broker.grpc.reassignments import ReassignmentHandlers
from glasslog.broker.grpc.replication import ReplicationHandlers
from glasslog.broker.grpc.service import BrokerHandlers, broker_services
from glasslog.broker.kafka.apis import ClientParts, client_apis
from glasslog.broker.kafka.feature_api import feature_tags
from glasslog.broker.kafka.listener import KafkaListener, ListenerLimits, OpenConnections
from glasslog.broker.lifecycle import BrokerIdentity, BrokerMembership
from glasslog.broker.lifecycle_core import LifecycleSettings, Running, Starting
from glasslog.broker.metadata_observer import MetadataObserver
from glasslog.broker.offsets_storage import OffsetsLeadership, ReplicatedOffsetsStorage
from glasslog.broker.producer_ids import ProducerIds
from glasslog.broker.quorum_admin import QuorumHandlers
from glasslog.broker.replica_manager import ReplicaManager
from glasslog.broker.status import BrokerStatus
from glasslog.broker.topic_lookup import AutoTopics
from glasslog.common.errors import ConfigError, InvariantViolation
from glasslog.common.ids import NO_BROKER_EPOCH, BrokerEpoch, NodeId
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.protocols import Listener, Runtime
from glasslog.log.directories import OpenedDirectories, open_directories
from glasslog.log.directory import LogDirectory

_log = logging.getLogger(__name__)

_CLOSE_GRACE_MS = 200


class BrokerServer:
    """One broker. ``run`` it once.

    ``directories`` are the already opened ``log.dirs`` when the process shares one with a controller; without
    them the server opens them itself. It closes them either way. Raises ``ConfigError`` for settings that do
    not fit together.
    """

    def __init__(
        self, *, runtime: Runtime, config: NodeConfig, directories: OpenedDirectories | None = None
    ) -> None:
        if not config.cluster_id:
            raise ConfigError("cluster.id is missing: every node of a cluster must have the same")
        self._runtime = runtime
        self._config = config
        self._node_id = NodeId(config.node_id)
        self._given_directories = directories
        self._addresses = broker_listeners(config)
        self._ports: dict[str, int] = {}
        self._stopping = asyncio.Event()
        self._fatal: asyncio.Future[None] | None = None
        self._membership: BrokerMembership | None = None
        self._replicas: ReplicaManager | None = None
        self._controllers = ControllerChannel(
            runtime,
            config.known_controllers,
            attempt_timeout_ms=config.controller_quorum_request_timeout_ms,
            first=config.node_id,
        )
        self._isr_changes = AlterPartitionManager(
            self._controllers, broker_id=self._node_id, broker_epoch=self._broker_epoch
        )
        self._directory_reports = DirectoryReports(
            self._controllers,
            broker_id=self._node_id,
            broker_epoch=self._broker_epoch,
            on_failed=self._report_failed_directory,
        )
        self._observer = MetadataObserver(
            runtime,
            self._controllers,
            node_id=self._node_id,
            cluster_id=config.cluster_id,
            answer_timeout_ms=config.controller_quorum_request_timeout_ms,
        )

    # --- for the process around it ---

    @property
    def ports(self) -> dict[str, int]:
        """The ports really bound, by the listener's name (``GRPC``, ``KAFKA``); empty before."""
        return dict(self._ports)

    @property
    def observer(self) -> MetadataObserver:
        return self._observer

    @property
    def replicas(self) -> ReplicaManager | None:
        """Replication and its counters, once ``run`` has begun."""
        return self._replicas

    def status(self) -> BrokerStatus:
        """For ``/readyz`` and metrics."""
        membership = self._membership
        own = self._observer.image.brokers.get(self._node_id)
        epoch = NO_BROKER_EPOCH if membership is None else membership.broker_epoch
        state = Starting() if membership is None else membership.state.value
        fenced = own is None or own.broker_epoch != epoch or own.fenced
        return BrokerStatus(
            state=type(state).__name__,
            missing=self._missing(is_running=isinstance(state, Running), fenced=fenced),
            fenced=fenced,
            caught_up=membership is not None and membership.has_caught_up,
            broker_epoch=epoch,
            metadata_offset=self._observer.applied_offset,
            metadata_high_watermark=self._observer.high_watermark,
            controller_id=self._controllers.leader_id,
        )

    def _missing(self, *, is_running: bool, fenced: bool) -> str:
        if not self._ports:
            replicas = self._replicas
            return "recovering logs" if replicas is None else f"recovering: {replicas.recovery_progress}"
        if self._observer.high_watermark < 0:
            return "no active controller was found yet"
        if self._membership is None or self._membership.broker_epoch == NO_BROKER_EPOCH:
            return "not registered"
        if not self._membership.has_caught_up:
            return "catching up with the metadata"
        return "" if is_running and not fenced else "fenced"

    def out_of_sync(self) -> int:
        """How many replicas of this broker are not in their ISR, as the newest metadata says."""
        return sum(
            self._node_id in placed.replicas and self._node_id not in placed.isr
            for topic in self._observer.image.topics.values()
            for placed in topic.partitions
        )

    def stop(self) -> None:
        """Begin an orderly end: leaderships move away, logs are closed, then ``run`` returns."""
        self._stopping.set()

    # --- its life ---

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until ``stop``; ``on_ready`` is called once, when ``status().is_ready`` first holds.

        Raises ``StorageError`` for a directory that can not be used, ``OSError`` for a port that can not be
        bound, ``GlasslogError`` when the cluster does not take this broker, ``InvariantViolation`` for a bug.
        Cancelling ends it at once, as a crash would.
        """
        self._fatal = asyncio.get_running_loop().create_future()
        directories = self._given_directories or self._open_directories()
        self._replicas = replicas = self._new_replicas(directories)
        clean = False
        try:
            if await self._recover(replicas):
                await self._serve_plainly(replicas, directories, on_ready)
                clean = True
        finally:
            await replicas.close(clean=clean)
            await self._controllers.close()

    async def _recover(self, replicas: ReplicaManager) -> bool:
        """Recover the logs; False when a stop came first."""
        recovering = asyncio.ensure_future(replicas.start())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((recovering, stopping), return_when=asyncio.FIRST_COMPLETED)
            if recovering.done():
                recovering.result()
                return True
            return False
        finally:
            recovering.cancel()
            stopping.cancel()
            await asyncio.gather(recovering, stopping, return_exceptions=True)

    async def _serve_plainly(
        self, replicas: ReplicaManager, directories: OpenedDirectories, on_ready: Callable[[], None]
    ) -> None:
        """``_serve``, with the first failure of a task in place of a group of them."""
        try:
            await self._serve(replicas, directories, on_ready)
        except* Exception as group:
            failure = group
        else:
            return
        raise _gravest(failure)

    async def _serve(
        self, replicas: ReplicaManager, directories: OpenedDirectories, on_ready: Callable[[], None]
    ) -> None:
        coordinator = self._new_coordinator(replicas)
        producer_ids = ProducerIds(
            self._controllers, broker_id=self._node_id, broker_epoch=self._broker_epoch
        )
        leadership = OffsetsLeadership(coordinator, replicas, self._node_id)
        self._observer.apply_with(replicas.follow_metadata)
        self._observer.subscribe(leadership)

        async def on_registered() -> None:
            await replicas.on_registered()
            leadership.check(replicas.image)

        listeners = Listeners()
        grace_ms = 0
        try:
            await self._listen(listeners, self._new_parts(replicas, coordinator, producer_ids))
            membership = self._membership = self._new_membership(replicas, directories.usable, on_registered)
            async with asyncio.TaskGroup() as group:
                background = self._start(
                    group,
                    observer=self._observer.run(),
                    isr_changes=self._isr_changes.run(),
                    directory_reports=self._directory_reports.run(),
                    replication=replicas.run(),
                    groups=coordinator.run(),
                    producer_ids=producer_ids.run(),
                    readiness=self._announce(membership, on_ready),
                    stop=self._pass_on_stop(membership),
                    invariants=self._watch_invariants(),
                )
                await membership.run()
                for task in background:
                    task.cancel()
            grace_ms = _CLOSE_GRACE_MS
        finally:
            await listeners.close(grace_ms=grace_ms)

    def _start(
        self, group: asyncio.TaskGroup, **work: Coroutine[object, object, None]
    ) -> list[asyncio.Task[None]]:
        return [
            group.create_task(coroutine, name=f"broker {self._node_id} {name}")
            for name, coroutine in work.items()
        ]

    async def _announce(self, membership: BrokerMembership, on_ready: Callable[[], None]) -> None:
        while not self.status().is_ready:
            await membership.state.until(lambda state: isinstance(state, Running))
            await self._observer.wait_for(lambda _: not self.status().fenced)
        on_ready()

    async def _pass_on_stop(self, membership: BrokerMembership) -> None:
        await self._stopping.wait()
        membership.shut_down()

    async def _watch_invariants(self) -> None:
        assert self._fatal is not None
        await self._fatal

    def _on_fatal(self, error: InvariantViolation) -> None:
        _log.critical("broker %d stops: %s", self._node_id, error)
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_exception(error)

    def _report_failed_directory(self) -> None:
        if self._membership is not None:
            self._membership.report_now()

    def _broker_epoch(self) -> BrokerEpoch:
        return NO_BROKER_EPOCH if self._membership is None else self._membership.broker_epoch

    # --- its parts ---

    def _open_directories(self) -> OpenedDirectories:
        return open_directories(
            files=self._runtime.files,
            paths=self._config.log_dirs,
            cluster_id=self._config.cluster_id,
            node_id=self._config.node_id,
            new_directory_id=self._runtime.random.uuid,
        )

    def _new_replicas(self, directories: OpenedDirectories) -> ReplicaManager:
        return ReplicaManager(
            runtime=self._runtime,
            config=self._config,
            directories=directories,
            alter_partition=self._isr_changes,
            broker_epoch=self._broker_epoch,
            reports=self._directory_reports,
            on_fatal=self._on_fatal,
        )

    def _new_coordinator(self, replicas: ReplicaManager) -> GroupCoordinator:
        config = self._config
        limits = GroupLimits(
            initial_rebalance_delay_ms=config.group_initial_rebalance_delay_ms,
            min_session_timeout_ms=config.group_min_session_timeout_ms,
            max_session_timeout_ms=config.group_max_session_timeout_ms,
            max_group_size=config.group_max_size,
            max_offset_metadata_bytes=config.offset_metadata_max_bytes,
            offsets_retention_ms=config.offsets_retention_minutes * 60_000,
            offsets_retention_check_interval_ms=config.offsets_retention_check_interval_ms,
        )
        storage = ReplicatedOffsetsStorage(replicas, self._observer)
        return GroupCoordinator(runtime=self._runtime, limits=limits, storage=storage)

    def _new_membership(
        self,
        replicas: ReplicaManager,
        directories: Sequence[LogDirectory],
        on_registered: Callable[[], Awaitable[None]],
    ) -> BrokerMembership:
        config = self._config
        identity = BrokerIdentity(
            broker_id=self._node_id,
            cluster_id=config.cluster_id,
            incarnation_id=self._runtime.random.uuid(),
            endpoints=endpoints_to_register(config, self._ports),
            rack=config.broker_rack,
            log_dir_ids=tuple(each.directory_id for each in directories),
            previous_broker_epoch=_previous_epoch(directories),
        )
        settings = LifecycleSettings(
            heartbeat_interval_ms=config.broker_heartbeat_interval_ms,
            registration_timeout_ms=config.initial_broker_registration_timeout_ms,
            controlled_shutdown_timeout_ms=config.controlled_shutdown_timeout_ms,
        )
        return BrokerMembership(
            self._runtime,
            self._controllers,
            self._observer,
            identity=identity,
            settings=settings,
            on_registered=on_registered,
            offline_log_dirs=lambda: replicas.offline_directory_ids,
        )

    async def _listen(self, listeners: "Listeners", parts: ClientParts) -> None:
        ports: dict[str, int] = {}
        open_connections = OpenConnections()
        for name, address in self._addresses.items():
            if address.protocol == GRPC:
                services = broker_services(
                    self._new_handlers(parts, name),
                    self._on_fatal,
                    max_in_flight=self._config.stream_max_in_flight_requests,
                )
                grpc = await self._runtime.transport.listen(address.address, services)
                listeners.grpc.append(grpc)
                ports[name] = grpc.port
            else:
                kafka = self._new_kafka_listener(parts, name, open_connections)
                ports[name] = await kafka.start(address.address)
                listeners.kafka.append(kafka)
        self._ports = ports
        _log.info("broker %d listens on %s", self._node_id, self._ports)

    def _new_kafka_listener(
        self, parts: ClientParts, name: str, open_connections: OpenConnections
    ) -> KafkaListener:
        config = self._config
        return KafkaListener(
            transport=self._runtime.transport,
            apis=(*parts.replicas.kafka_apis(), *client_apis(parts, name)),
            max_request_bytes=config.socket_request_max_bytes,
            name=name,
            limits=ListenerLimits(
                max_connections=config.max_connections,
                max_connections_per_address=config.max_connections_per_ip,
                max_idle_ms=config.connections_max_idle_ms,
                max_in_flight=config.stream_max_in_flight_requests,
            ),
            open_connections=open_connections,
            now_ms=self._runtime.clock.now_ms,
            feature_tags=partial(feature_tags, parts.metadata),
            quotas=parts.replicas.quotas,
            on_fatal=self._on_fatal,
        )

    def _new_parts(
        self, replicas: ReplicaManager, coordinator: GroupCoordinator, producer_ids: ProducerIds
    ) -> ClientParts:
        config, observer = self._config, self._observer
        changes = ClusterChanges(self._controllers, observer, self._runtime.clock)
        return ClientParts(
            node_id=self._node_id,
            config=config,
            metadata=observer,
            replicas=replicas,
            coordinator=coordinator,
            producer_ids=producer_ids,
            changes=changes,
            config_view=ConfigView(observer, config),
            auto_topics=AutoTopics(observer, changes, enabled=config.auto_create_topics_enable),
            quorum=QuorumHandlers(self._controllers, timeout_ms=config.controller_quorum_request_timeout_ms),
            wall_ms=self._runtime.clock.wall_ms,
            finder=CoordinatorFinder(
                observer,
                changes,
                partitions=config.offsets_topic_num_partitions,
                replication_factor=config.offsets_topic_replication_factor,
                segment_bytes=config.offsets_topic_segment_bytes,
            ),
        )

    def _new_handlers(self, parts: ClientParts, listener: str) -> BrokerHandlers:
        config = self._config
        return BrokerHandlers(
            data=DataHandlers(
                parts.replicas, quotas=parts.replicas.quotas, fetch_max_bytes=config.fetch_max_bytes
            ),
            metadata=MetadataHandlers(
                self._observer,
                cluster_id=config.cluster_id,
                controller_id=lambda: self._controllers.leader_id,
                auto_topics=parts.auto_topics,
                listener=listener,
            ),
            offsets=OffsetHandlers(parts.replicas, parts.producer_ids),
            groups=GroupHandlers(parts.finder, parts.coordinator, listener=listener),
            heartbeats=HeartbeatHandlers(parts.coordinator),
            changes=ChangeHandlers(parts.changes),
            features=FeatureHandlers(parts.metadata),
            configs=ConfigHandlers(parts.config_view),
            quotas=QuotaHandlers(lambda: parts.metadata.image),
            reassignments=ReassignmentHandlers(parts.metadata),
            quorum=parts.quorum,
            log_dirs=LogDirHandlers(parts.replicas.log_sizes, parts.replicas.alter_log_dirs),
            replication=ReplicationHandlers(parts.replicas),
        )


class Listeners:
    """Those that are open, so that they close together whatever happens."""

    def __init__(self) -> None:
        self.grpc: list[Listener] = []
        self.kafka: list[KafkaListener] = []

    async def close(self, *, grace_ms: int) -> None:
        """Stop accepting; calls in flight over gRPC may end for ``grace_ms``."""
        await asyncio.gather(*(each.close(grace_ms=grace_ms) for each in self.grpc))
        for each in self.kafka:
            await each.close()


def _previous_epoch(directories: Sequence[LogDirectory]) -> BrokerEpoch:
    """What the clean-shutdown markers agree on: one directory without it may have lost records."""
    epochs = {each.previous_broker_epoch if each.clean_shutdown else NO_BROKER_EPOCH for each in directories}
    return BrokerEpoch(epochs.pop()) if len(epochs) == 1 else NO_BROKER_EPOCH


def _gravest(group: ExceptionGroup[Exception]) -> Exception:
    """A broken invariant if there is one, else the first failure."""
    failures = _leaves(group)
    return next((each for each in failures if isinstance(each, InvariantViolation)), failures[0])


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return found
