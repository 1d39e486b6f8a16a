"""A controller node's server: data directory, quorum, controller and the CONTROLLER listener, put together.

Refuses to know the process around it (signals, logging, health pages) and any rule of the parts.
"""

import asyncio
import logging
from collections.abc import Callable

from glasslog.common.addresses import (
    ListenAddress,
    Voter,
    parse_bootstrap_servers,
    parse_listeners,
    parse_voters,
)
from glasslog.common.errors import ConfigError, StorageError
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.protocols import Listener, Runtime, Services
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.driver import Controller, ControllerStatus
from glasslog.controller.raft.node import RaftNode
from glasslog.controller.raft.snapshot_rules import SnapshotConfig
from glasslog.controller.raft.types import QuorumConfig
from glasslog.controller.service import ControllerService
from glasslog.log.directory import LogDirectory

_log = logging.getLogger(__name__)

_CLOSE_GRACE_MS = 200
_READY_POLL_MS = 10


class ControllerServer:
    """One controller. ``run`` it once.

    ``directory`` is the already opened folder of the metadata log when the process shares it with a broker,
    which then also closes it; without it the server opens and closes ``metadata.log.dir`` itself. Raises
    ``ConfigError`` for settings that do not fit together.
    """

    def __init__(
        self, *, runtime: Runtime, config: NodeConfig, directory: LogDirectory | None = None
    ) -> None:
        self._runtime = runtime
        self._config = config
        self._shared_directory = directory
        self._node_id = NodeId(config.node_id)
        self._address = _controller_listener(config)
        self._voters = _checked_voters(config)
        self._bootstrap_servers = parse_bootstrap_servers(config.controller_quorum_bootstrap_servers)
        if not config.cluster_id:
            raise ConfigError("cluster.id is missing: every node of a cluster must have the same")
        self._controller = Controller(
            clock=runtime.clock, node_id=self._node_id, settings=controller_settings(config)
        )
        self._raft = self._new_raft()
        self._controller.attach(self._raft)
        self._stopping = asyncio.Event()
        self._port = self._address.port

    # --- for the process around it ---

    @property
    def port(self) -> int:
        """Where it listens; the port really bound once ``run`` has called ``ready``."""
        return self._port

    @property
    def controller(self) -> Controller:
        return self._controller

    @property
    def raft(self) -> RaftNode:
        return self._raft

    @property
    def is_ready(self) -> bool:
        """Knows who leads, and has replayed what it knows to be committed."""
        return self._raft.leader_id != NO_NODE and self._raft.high_watermark > 0

    def controller_status(self) -> ControllerStatus:
        """For ``/readyz`` and metrics."""
        return self._controller.status()

    def stop(self) -> None:
        """Begin an orderly end: leadership is handed over, then ``run`` returns."""
        self._stopping.set()

    # --- its life ---

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until ``stop``; ``ready`` is called once, when ``is_ready`` first holds.

        Raises ``StorageError`` for a directory that can not be used, ``OSError`` for a port that can not be
        bound, ``InvariantViolation`` for a bug. Cancelling ends it at once, as a crash would.
        """
        directory = self._shared_directory or self._open_directory()
        clean = False
        try:
            listener = await self._listen()
            try:
                await self._serve_plainly(ready, directory.directory_id)
                clean = True
            finally:
                await listener.close(grace_ms=_CLOSE_GRACE_MS if clean else 0)
        finally:
            if self._shared_directory is None:
                _close(directory, clean=clean)

    async def _serve_plainly(self, ready: Callable[[], None], directory_id: bytes) -> None:
        """``_serve``, with the first failure of a task in place of a group of them."""
        try:
            await self._serve(ready, directory_id)
        except* Exception as group:
            failure = group
        else:
            return
        raise _first_of(failure)

    async def _serve(self, ready: Callable[[], None], directory_id: bytes) -> None:
        async with asyncio.TaskGroup() as group:
            raft = group.create_task(
                self._raft.run(directory_id=directory_id), name=f"quorum of controller {self._node_id}"
            )
            fencing = group.create_task(self._controller.run(), name=f"controller {self._node_id}")
            becoming_ready = group.create_task(self._announce(ready), name="controller readiness")
            stopping = group.create_task(self._stopping.wait(), name="controller stop")
            await asyncio.wait((raft, stopping), return_when=asyncio.FIRST_COMPLETED)
            await self._raft.shutdown()
            for task in (fencing, becoming_ready, stopping):
                task.cancel()

    async def _announce(self, ready: Callable[[], None]) -> None:
        # The quorum tells of records, not of control batches, and a new cluster has only those.
        while not self.is_ready:  # noqa: ASYNC110 - at start only, for want of an event
            await asyncio.sleep(_READY_POLL_MS / 1000)
        ready()

    async def _listen(self) -> Listener:
        quorum = self._raft.services()
        controller = ControllerService(self._controller, self._runtime.random).services()
        services = Services(
            unary={**quorum.unary, **controller.unary},
            streams={**quorum.streams, **controller.streams},
            names=(*quorum.names, *controller.names),
        )
        listener = await self._runtime.transport.listen(self._address.address, services)
        self._port = listener.port
        _log.info("controller %d listens on %s:%d", self._node_id, self._address.host, self._port)
        return listener

    # --- its parts ---

    def _new_raft(self) -> RaftNode:
        config = self._config
        return RaftNode(
            runtime=self._runtime,
            log_dir=config.effective_metadata_log_dir,
            node_id=self._node_id,
            cluster_id=config.cluster_id,
            voters=self._voters,
            bootstrap_servers=self._bootstrap_servers,
            address=_reachable_address(config, self._voters, self._address),
            config=QuorumConfig(
                election_timeout_ms=config.controller_quorum_election_timeout_ms,
                fetch_timeout_ms=config.controller_quorum_fetch_timeout_ms,
                request_timeout_ms=config.controller_quorum_request_timeout_ms,
                append_linger_ms=config.controller_quorum_append_linger_ms,
                segment_bytes=config.metadata_log_segment_bytes,
                snapshots=snapshot_config(config),
            ),
            listener=self._controller,
        )

    def _open_directory(self) -> LogDirectory:
        return LogDirectory.open(
            files=self._runtime.files,
            path=self._config.effective_metadata_log_dir,
            cluster_id=self._config.cluster_id,
            node_id=self._config.node_id,
            new_directory_id=self._runtime.random.uuid(),
        )


def snapshot_config(config: NodeConfig) -> SnapshotConfig:
    """When the quorum takes snapshots, and what it keeps."""
    return SnapshotConfig(
        max_new_bytes=config.metadata_log_max_record_bytes_between_snapshots,
        max_interval_ms=config.metadata_log_max_snapshot_interval_ms,
        retention_bytes=config.metadata_max_retention_bytes,
        retention_ms=config.metadata_max_retention_ms,
    )


def controller_settings(config: NodeConfig) -> ControllerSettings:
    """What the rules need of a node's settings."""
    return ControllerSettings(
        cluster_id=config.cluster_id,
        num_partitions=config.num_partitions,
        default_replication_factor=config.default_replication_factor,
        unclean_leader_election_enable=config.unclean_leader_election_enable,
        min_insync_replicas=config.min_insync_replicas,
        broker_session_timeout_ms=config.broker_session_timeout_ms,
        broker_failure_grace_ms=config.broker_failure_grace_ms,
        auto_leader_rebalance_enable=config.auto_leader_rebalance_enable,
        leader_imbalance_check_interval_ms=config.leader_imbalance_check_interval_seconds * 1000,
        leader_imbalance_per_broker_percentage=config.leader_imbalance_per_broker_percentage,
    )


def _first_of(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, ExceptionGroup) else first


def _close(directory: LogDirectory, *, clean: bool) -> None:
    if not clean:
        directory.abandon()
        return
    try:
        directory.close()
    except StorageError as error:
        # The next start recovers; nothing is lost by it.
        _log.warning("%s", error)


def _controller_listener(config: NodeConfig) -> ListenAddress:
    for listener in parse_listeners(config.listeners):
        if listener.protocol == "CONTROLLER":
            return listener
    raise ConfigError("listeners: a controller needs one as CONTROLLER://host:port")


def _checked_voters(config: NodeConfig) -> tuple[Voter, ...]:
    voters = parse_voters(config.controller_quorum_voters)
    if not voters and config.controller_quorum_bootstrap_servers:
        return ()
    if all(voter.node_id != config.node_id for voter in voters):
        named = ", ".join(config.controller_quorum_voters) or "nobody"
        raise ConfigError(
            f"controller.quorum.voters names {named}, but not this controller, node.id={config.node_id}; "
            "one that is to be added has controller.quorum.bootstrap.servers instead"
        )
    return voters


def _reachable_address(config: NodeConfig, voters: tuple[Voter, ...], listener: ListenAddress) -> str:
    """Where other controllers reach this one: as it is advertised, is named among voters, or listens."""
    named = [voter.address for voter in voters if voter.node_id == config.node_id]
    listeners = parse_listeners(config.advertised_listeners)
    advertised = [each.address for each in listeners if each.protocol == "CONTROLLER"]
    return next(iter((*advertised, *named, listener.address)))
