"""What the process around them needs of a broker and of a controller, in one shape.

Refuses to know how either works, and loads only the one that is asked for.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from glasslog.common.addresses import parse_detours, parse_listeners
from glasslog.common.errors import ConfigError
from glasslog.common.ids import NO_NODE
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.protocols import Runtime
from glasslog.node.metrics import Metric, counter, gauge

if TYPE_CHECKING:
    from glasslog.broker.replica_manager import ReplicaManager
    from glasslog.broker.server import BrokerServer
    from glasslog.controller.server import ControllerServer
    from glasslog.log.directories import OpenedDirectories


class Role(Protocol):
    """A broker or a controller as part of a process."""

    @property
    def name(self) -> str: ...

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Until stopped; ``on_ready`` once, at the first readiness. Raises what it can not go on after."""
        ...

    def stop(self) -> None:
        """Begin an orderly end; ``run`` then returns."""
        ...

    def missing(self) -> str:
        """What it still lacks to be ready; empty when it is."""
        ...

    def behind(self) -> str:
        """What others would miss if they relied on it now; empty when it has all that it should."""
        ...

    def metrics(self) -> Iterable[Metric]: ...


class ControllerRole:
    """See ``Role``."""

    name = "controller"

    def __init__(self, server: "ControllerServer") -> None:
        self._server = server

    async def run(self, on_ready: Callable[[], None]) -> None:
        await self._server.run(on_ready)

    def stop(self) -> None:
        self._server.stop()

    def missing(self) -> str:
        if self._server.is_ready:
            return ""
        return (
            "no leader of the quorum is known" if self._server.raft.leader_id == NO_NODE else "not caught up"
        )

    def behind(self) -> str:
        return self.missing()

    def metrics(self) -> Iterable[Metric]:
        status, raft = self._server.controller_status(), self._server.raft
        controller, quorum = "kafka_controller_kafkacontroller_", "kafka_server_raftmetrics_"
        yield gauge(controller + "activecontrollercount", "1 on the active controller", status.is_active)
        yield gauge(controller + "offlinepartitionscount", "without a leader", status.offline_partitions)
        unclean = "kafka_controller_controllerstats_uncleanleaderelections_total"
        yield counter(unclean, "by this controller; they may lose records", status.unclean_elections)
        yield gauge(controller + "globaltopiccount", "topics in the cluster", status.topics)
        yield gauge(controller + "globalpartitioncount", "partitions in the cluster", status.partitions)
        yield gauge(controller + "activebrokercount", "registered and not fenced", status.active_brokers)
        fenced = status.registered_brokers - status.active_brokers
        yield gauge(controller + "fencedbrokercount", "registered and fenced", fenced)
        yield gauge(quorum + "current_leader", "-1: unknown", raft.leader_id)
        yield gauge(quorum + "current_epoch", "of the quorum", raft.epoch)
        yield gauge(quorum + "high_watermark", "committed below, exclusive", raft.high_watermark)
        yield gauge(quorum + "log_end_offset", "next to be written", raft.next_offset)


class BrokerRole:
    """See ``Role``."""

    name = "broker"

    def __init__(self, server: "BrokerServer", *, node_id: int) -> None:
        self._server = server
        self._node_id = node_id

    async def run(self, on_ready: Callable[[], None]) -> None:
        await self._server.run(on_ready)

    def stop(self) -> None:
        self._server.stop()

    def missing(self) -> str:
        return self._server.status().missing

    def behind(self) -> str:
        if missing := self.missing():
            return missing
        count = self._server.out_of_sync()
        return f"{count} of its replicas not in sync" if count else ""

    def metrics(self) -> Iterable[Metric]:
        replicas = self._server.replicas
        if replicas is None:
            return
        manager, topics = "kafka_server_replicamanager_", "kafka_server_brokertopicmetrics_"
        here, counters = replicas.partitions(), replicas.counters
        led = sum(partition.leader_id == self._node_id for partition in here)
        yield gauge(manager + "leadercount", "replicas here that lead", led)
        yield gauge(manager + "partitioncount", "replicas here", len(here))
        yield gauge(manager + "underreplicatedpartitions", "led here", replicas.count_under_replicated())
        yield gauge(manager + "underminisrpartitioncount", "led here", replicas.count_under_min_isr())
        yield gauge(manager + "offlinereplicacount", "replicas on a failed disk", replicas.count_offline())
        yield counter(manager + "isrshrinks_total", "members removed", counters.isr_shrinks)
        yield counter(manager + "isrexpands_total", "members added", counters.isr_expands)
        yield counter(topics + "bytesin_total", "appended by producers", counters.bytes_in)
        yield counter(topics + "bytesout_total", "read by consumers", counters.bytes_out)
        yield counter(topics + "replicationbytesin_total", "from leaders", counters.replication_bytes_in)
        yield counter(topics + "replicationbytesout_total", "to followers", counters.replication_bytes_out)
        yield counter(topics + "totalproducerequests_total", "of clients", counters.produce_requests)
        yield counter(topics + "totalfetchrequests_total", "of clients and replicas", counters.fetch_requests)
        yield counter(topics + "failedproducerequests_total", "partitions refused", counters.failed_produces)
        yield counter(topics + "failedfetchrequests_total", "partitions refused", counters.failed_fetches)
        cut = counters.committed_offsets_cut
        yield counter("glasslog_replication_committedoffsetscut_total", "lost uncleanly, seen here", cut)
        yield counter("glasslog_quota_throttledrequests_total", "held back", counters.throttled_requests)
        yield counter("kafka_log_segmentsdeleted_total", "by retention", counters.segments_deleted)
        yield counter("kafka_log_segmentbytesdeleted_total", "by retention", counters.segment_bytes_deleted)
        yield from _cleaner_metrics(replicas)
        yield from _damage_metrics(replicas)
        yield Metric(
            name="kafka_log_log_size",
            help="bytes of a replica",
            samples=tuple(
                ({"topic": partition.name.topic, "partition": str(partition.name.partition)}, size_bytes)
                for partition in here
                if partition.is_online
                for size_bytes in (partition.log.size_bytes,)
            ),
        )


def _cleaner_metrics(replicas: "ReplicaManager") -> Iterable[Metric]:
    cleaner, manager, status = (
        "kafka_log_logcleaner_",
        "kafka_log_logcleanermanager_",
        replicas.cleaner_status,
    )
    unmaintained = replicas.count_unmaintained()
    dirty_percent = round(status.max_dirty_ratio * 100)
    yield gauge(manager + "uncleanable_partitions_count", "given up after an error", unmaintained)
    yield gauge(manager + "max_dirty_percent", "of the log that needs compaction most", dirty_percent)
    recopied, utilization = status.last_recopy_ratio * 100, status.last_map_utilization * 100
    yield gauge(cleaner + "cleaner_recopy_percent", "kept by the last compaction", round(recopied))
    yield gauge(cleaner + "max_buffer_utilization_percent", "of its key map", round(utilization))
    yield gauge(cleaner + "max_clean_time_secs", "of the last compaction", status.last_cleaning_ms / 1000)
    yield counter(cleaner + "cleanings_total", "logs compacted", status.cleanings)
    yield counter(cleaner + "bytesread_total", "of compacted segments", status.bytes_read)
    yield counter(cleaner + "byteswritten_total", "left of them", status.bytes_written)


def _damage_metrics(replicas: "ReplicaManager") -> Iterable[Metric]:
    log, counters = "glasslog_log_", replicas.counters
    yield Metric(
        name=log + "damagedreplicas",
        help="1 for each replica here with a damaged batch that is not mended yet",
        samples=tuple(
            ({"topic": partition.name.topic, "partition": str(partition.name.partition)}, 1)
            for partition, _ in replicas.damaged()
        ),
    )
    yield counter(log + "damagesfound_total", "replicas found damaged", counters.damages_found)
    yield counter(log + "damagesmended_total", "replicas put right", counters.damages_mended)
    yield counter(log + "scrubbedbytes_total", "read by log.scrub.interval.ms", counters.bytes_scrubbed)


def build(runtime: Runtime, config: NodeConfig) -> tuple[Role, ...]:
    """The roles of ``process.roles``. Raises ``ConfigError`` for settings that do not fit together.

    A folder that both roles use is opened here, since it can be locked only once; the broker closes it.
    """
    _check(config)
    shared = open_shared(runtime, config) if _share_a_folder(config) else None
    try:
        roles: list[Role] = []
        if config.is_controller:
            roles.append(ControllerRole(_controller(runtime, config, shared)))
        if config.is_broker:
            roles.append(BrokerRole(_broker(runtime, config, shared), node_id=config.node_id))
        return tuple(roles)
    except BaseException:
        for directory in () if shared is None else shared.usable:
            directory.abandon()
        raise


def _check(config: NodeConfig) -> None:
    """What can be known to be wrong before a data directory is touched."""
    if not config.cluster_id:
        raise ConfigError("cluster.id is missing: every node of a cluster must have the same")
    parse_listeners(config.listeners)
    parse_listeners(config.advertised_listeners)
    _ = config.known_controllers
    if parse_detours(config.chaos_detours) and not config.chaos_enabled:
        raise ConfigError(
            "chaos.detours is for clusters to be broken on purpose: it needs chaos.enabled=true"
        )


def _share_a_folder(config: NodeConfig) -> bool:
    both = config.is_broker and config.is_controller
    return both and config.effective_metadata_log_dir in config.log_dirs


def open_shared(runtime: Runtime, config: NodeConfig) -> "OpenedDirectories":
    """``log.dirs``, one of which holds the metadata log too: that one must be usable."""
    from glasslog.log.directories import open_directories

    return open_directories(
        files=runtime.files,
        paths=config.log_dirs,
        cluster_id=config.cluster_id,
        node_id=config.node_id,
        new_directory_id=runtime.random.uuid,
        required=(config.effective_metadata_log_dir,),
    )


def _controller(
    runtime: Runtime, config: NodeConfig, shared: "OpenedDirectories | None"
) -> "ControllerServer":
    from glasslog.controller.server import ControllerServer

    own = config.effective_metadata_log_dir
    usable = () if shared is None else shared.usable
    directory = next((each for each in usable if each.path == own), None)
    return ControllerServer(runtime=runtime, config=config, directory=directory)


def _broker(runtime: Runtime, config: NodeConfig, shared: "OpenedDirectories | None") -> "BrokerServer":
    from glasslog.broker.server import BrokerServer

    return BrokerServer(runtime=runtime, config=config, directories=shared)
