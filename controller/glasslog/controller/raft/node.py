"""The task that runs one voter: it owns the core, the log, the inbox and the calls to the others.

One task feeds the core and fulfils what it hands over; see ``duties`` for the disk, ``inbox`` and ``peers``
for the network.  The state machine above sees committed batches and leadership through ``RaftListener``.
This module refuses to know Raft's rules and what records mean.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from glasslog.common.addresses import Voter
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError, require
from glasslog.common.ids import NO_NODE, NodeId, Offset
from glasslog.common.runtime.protocols import Peer, Runtime, Services
from glasslog.controller.raft import wire
from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.duties import Duties
from glasslog.controller.raft.inbox import Inbox
from glasslog.controller.raft.peers import Peers
from glasslog.controller.raft.quorum_admin import QuorumAdmin
from glasslog.controller.raft.quorum_file import QuorumFile
from glasslog.controller.raft.raft_log import PARTITION, DiskRaftLog, log_config
from glasslog.controller.raft.snapshots import SnapshotKeeper
from glasslog.controller.raft.types import (
    HardState,
    Identity,
    QuorumConfig,
    QuorumDescription,
    RaftListener,
)
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY, VoterEntry

_LOGGER = logging.getLogger(__name__)
_POLL_MS = 20


class RaftNode:
    """One voter of the quorum: ``run`` it in a task, serve its ``services`` on the CONTROLLER listener.

    The folder ``__cluster_metadata-0`` in ``log_dir`` is this node's alone.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        log_dir: str,
        node_id: NodeId,
        cluster_id: str,
        voters: tuple[Voter, ...],
        config: QuorumConfig,
        listener: RaftListener,
        bootstrap_servers: tuple[str, ...] = (),
        address: str = "",
    ) -> None:
        """``voters`` are those of the settings: they count until the log itself names voters.

        A node that knows no voters asks ``bootstrap_servers`` and follows without a vote.  Others reach it at
        ``address``.
        """
        self._runtime = runtime
        self._directory = f"{log_dir}/{PARTITION}"
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._config = config
        self._listener = listener
        self._settings = tuple(
            VoterEntry(node_id=NodeId(voter.node_id), address=voter.address) for voter in voters
        )
        self._bootstrap_servers = bootstrap_servers
        self._address = address
        self._directory_id = UNKNOWN_DIRECTORY
        self._file = QuorumFile(
            runtime.files,
            self._directory,
            cluster_id=cluster_id,
            voters=tuple(voter.node_id for voter in self._settings),
        )
        self._inbox = Inbox(limit=config.max_inbox)
        self._core: RaftCore | None = None
        self._stopped = asyncio.Event()
        self._was_started = False
        self._is_stopping = False
        self._is_lingering = False

    # --- life -----------------------------------------------------------------------------------------------

    async def run(self, *, directory_id: bytes = UNKNOWN_DIRECTORY) -> None:
        """Open the log and take part until cancelled or ``shutdown``. Runs once.

        ``directory_id`` is of the folder around the log: with it a node that lost its disk is told from the
        voter that it was, and never votes by mistake.

        Raises ``StorageError`` when the disk fails or holds another cluster's state, ``InvariantViolation``
        for a bug, and whatever the listener raises.  Cancelling it is like a crash: nothing more is written.
        """
        require(not self._was_started, "a RaftNode runs once")
        self._was_started = True
        self._directory_id = directory_id
        try:
            hard_state, log = await self._runtime.blocking(self._open)
            try:
                await self._take_part(self._make_core(hard_state, log), log)
                log.close()
            finally:
                log.abandon()
        finally:
            self._core = None
            self._inbox.refuse_all(self._not_running())
            self._stopped.set()

    async def shutdown(self) -> None:
        """Resign if leading, tell the others, close the log; ``run`` then returns. Bounded in time."""
        self._is_stopping = True
        self._inbox.wake()
        if self._was_started:
            await self._stopped.wait()

    async def resign(self) -> None:
        """Give leadership up for the most caught-up voters; nothing if this node does not lead."""
        if self._core is not None:
            self._core.resign(self._now_ms())
            self._inbox.wake()
            await asyncio.sleep(0)

    def _open(self) -> tuple[HardState, DiskRaftLog]:
        config = log_config(
            max_batch_bytes=self._config.max_batch_bytes, segment_bytes=self._config.segment_bytes
        )
        log = DiskRaftLog(self._runtime.files, self._directory, config)
        try:
            return self._file.read(), log
        except StorageError:
            log.abandon()
            raise

    def _make_core(self, hard_state: HardState, log: DiskRaftLog) -> RaftCore:
        if log.problem is not None:
            _LOGGER.warning("node %d: cut the metadata log's torn tail: %s", self._node_id, log.problem)
        outline = log.outline()
        if outline.last_epoch > hard_state.epoch:
            raise StorageError(
                f"{self._directory}: the log reaches epoch {outline.last_epoch}, quorum-state only "
                f"{hard_state.epoch}: they are not of one voter, or quorum-state was lost"
            )
        return RaftCore(
            node_id=self._node_id,
            cluster_id=self._cluster_id,
            history=log.read_voters(self._settings),
            identity=Identity(
                directory_id=self._directory_id,
                address=self._address or self._own_address(),
                bootstrap_servers=self._bootstrap_servers,
            ),
            config=self._config,
            random=self._runtime.random,
            hard_state=hard_state,
            log=outline,
        )

    def _own_address(self) -> str:
        return next((voter.address for voter in self._settings if voter.node_id == self._node_id), "")

    async def _take_part(self, core: RaftCore, log: DiskRaftLog) -> None:
        try:
            async with asyncio.TaskGroup() as calls:
                transport = self._runtime.transport
                peers = Peers(transport, inbox=self._inbox, calls=calls)
                keeper = self._make_keeper(core, log, calls)
                duties = Duties(
                    node_id=self._node_id,
                    runtime=self._runtime,
                    core=core,
                    log=log,
                    file=self._file,
                    inbox=self._inbox,
                    peers=peers,
                    listener=self._listener,
                    snapshots=log.snapshots,
                    keeper=keeper,
                    calls=calls,
                )
                self._core = core
                try:
                    if log.loaded is not None:
                        duties.begin_with(log.loaded)
                        log.loaded = None
                    await self._loop(core, duties, keeper)
                    keeper.stop()
                    await self._leave(core, duties, peers)
                finally:
                    await peers.close()
        except BaseExceptionGroup as group:
            # Whoever awaits ``run`` matches on the error itself.
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    def _make_keeper(self, core: RaftCore, log: DiskRaftLog, tasks: asyncio.TaskGroup) -> SnapshotKeeper:
        return SnapshotKeeper(
            node_id=self._node_id,
            runtime=self._runtime,
            core=core,
            log=log,
            listener=self._listener,
            config=self._config.snapshots,
            tasks=tasks,
            wake=self._inbox.wake,
        )

    async def _loop(self, core: RaftCore, duties: Duties, keeper: SnapshotKeeper) -> None:
        core.start(self._now_ms())
        await duties.fulfil()
        while not self._is_stopping:
            keeper.settle(duties.delivered_offset)
            deadlines = (core.next_deadline_ms(), keeper.next_deadline_ms())
            deadline_ms = min((each for each in deadlines if each is not None), default=None)
            timeout_ms = None if deadline_ms is None else max(0, deadline_ms - self._now_ms())
            await self._inbox.wait(timeout_ms=timeout_ms)
            now_ms = self._now_ms()
            for message in self._inbox.take():
                core.step(message, now_ms)
            core.tick(now_ms)
            await duties.fulfil()

    async def _leave(self, core: RaftCore, duties: Duties, peers: Peers) -> None:
        """Resign, and give the messages that say so a moment to arrive."""
        core.resign(self._now_ms())
        await duties.fulfil()
        await peers.stop(grace_ms=self._config.election_timeout_ms)

    def _not_running(self) -> GlasslogError:
        return GlasslogError(
            ErrorCode.NOT_LEADER_OR_FOLLOWER, f"node {self._node_id} does not take part in the quorum now"
        )

    def _now_ms(self) -> int:
        return self._runtime.clock.now_ms()

    # --- for the state machine ------------------------------------------------------------------------------

    def propose(self, records: Sequence[bytes]) -> Offset:
        """Append ``records`` as one atomic batch; returns the first one's offset, the rest follow.

        Raises ``GlasslogError``: NOT_CONTROLLER when this node does not lead, MESSAGE_TOO_LARGE,
        THROTTLING_QUOTA_EXCEEDED when too much is uncommitted, INVALID_REQUEST for no records.  They are
        committed when ``on_committed`` delivers them; if ``on_not_leader`` comes first, their fate is open.
        """
        if self._core is None:
            raise GlasslogError(ErrorCode.NOT_CONTROLLER, f"node {self._node_id} is not running")
        offset = self._core.propose(records, self._now_ms())
        if not self._config.append_linger_ms:
            self._inbox.wake()
        elif not self._is_lingering:
            self._is_lingering = True
            asyncio.get_running_loop().call_later(self._config.append_linger_ms / 1000, self._end_linger)
        return offset

    def _end_linger(self) -> None:
        """What else the node had to do meanwhile may have written them already."""
        self._is_lingering = False
        self._inbox.wake()

    @property
    def next_offset(self) -> Offset:
        """The log end offset: what the next ``propose`` returns on the leader."""
        return Offset(0) if self._core is None else self._core.log_end_offset

    @property
    def leader_id(self) -> NodeId:
        """``NO_NODE`` while unknown."""
        return NO_NODE if self._core is None else self._core.leader_id

    @property
    def epoch(self) -> int:
        return 0 if self._core is None else self._core.epoch

    @property
    def high_watermark(self) -> Offset:
        return Offset(0) if self._core is None else self._core.high_watermark

    @property
    def core(self) -> RaftCore | None:
        """To look at only (invariant checks, metrics); None while not running."""
        return self._core

    def describe(self) -> QuorumDescription:
        """Raises ``GlasslogError`` (retriable) while not running."""
        if self._core is None:
            raise self._not_running()
        return self._core.describe(self._now_ms())

    # --- changes of the voters ------------------------------------------------------------------------------

    async def add_voter(self, node_id: NodeId, directory_id: bytes, *, timeout_ms: int) -> None:
        """Let a controller vote that follows without a vote; returns once that is committed.

        Raises ``GlasslogError``; see ``membership``. What may work a little later is tried until then.
        """
        await self._change(lambda core: core.add_voter(node_id, directory_id, self._now_ms()), timeout_ms)

    async def remove_voter(self, node_id: NodeId, directory_id: bytes, *, timeout_ms: int) -> None:
        """Let a voter vote no more; returns once that is committed. Raises as ``add_voter``."""
        await self._change(lambda core: core.remove_voter(node_id, directory_id, self._now_ms()), timeout_ms)

    async def transfer(self, to: NodeId, *, timeout_ms: int) -> NodeId:
        """Hand leadership over to ``to``; returns who leads then, which may be another. As ``add_voter``."""
        deadline_ms = self._now_ms() + timeout_ms
        core = await self._attempt(lambda core: core.transfer(to, self._now_ms()), deadline_ms)
        self._inbox.wake()
        while core.leader_id == NO_NODE and self._now_ms() < deadline_ms:  # noqa: ASYNC110 - a rare request
            await asyncio.sleep(_POLL_MS / 1000)
        return core.leader_id

    async def _change(self, change: Callable[[RaftCore], Offset], timeout_ms: int) -> None:
        deadline_ms = self._now_ms() + timeout_ms
        offsets: list[Offset] = []
        core = await self._attempt(lambda core: offsets.append(change(core)), deadline_ms)
        epoch = core.epoch
        self._inbox.wake()
        while not core.has_committed(offsets[0], epoch=epoch):
            # Both are answers that say: ask again, it may have been done.
            if core is not self._core or core.epoch != epoch:
                raise GlasslogError(
                    ErrorCode.REQUEST_TIMED_OUT,
                    f"node {self._node_id} lost the leadership; the change may still be committed",
                )
            if self._now_ms() >= deadline_ms:
                raise GlasslogError(
                    ErrorCode.REQUEST_TIMED_OUT, f"not committed within {timeout_ms} ms; it may still be"
                )
            await asyncio.sleep(_POLL_MS / 1000)

    async def _attempt(self, action: Callable[[RaftCore], None], deadline_ms: int) -> RaftCore:
        """Until it works, or is refused for good, or time is up."""
        while True:
            if self._core is None:
                raise self._not_running()
            try:
                action(self._core)
            except GlasslogError as error:
                if error.code is not ErrorCode.REQUEST_TIMED_OUT or self._now_ms() >= deadline_ms:
                    raise
                await asyncio.sleep(_POLL_MS / 1000)
            else:
                return self._core

    # --- for the other nodes --------------------------------------------------------------------------------

    def services(self) -> Services:
        """Handlers of glasslog.v1.Quorum; outside ``run`` they refuse with a retriable error."""
        methods = (
            wire.FETCH,
            wire.FETCH_SNAPSHOT,
            wire.VOTE,
            wire.BEGIN_QUORUM_EPOCH,
            wire.END_QUORUM_EPOCH,
        )
        unary = {method: partial(self._serve, method) for method in methods}
        changes = QuorumAdmin(self, cluster_id=self._cluster_id).handlers()
        return Services(
            unary={**unary, **changes, wire.DESCRIBE: self._serve_describe}, names=(wire.SERVICE,)
        )

    async def _serve(self, method: str, data: bytes, peer: Peer) -> bytes:
        if self._core is None:
            raise self._not_running()
        return await self._inbox.ask(method, data)

    async def _serve_describe(self, data: bytes, peer: Peer) -> bytes:
        return wire.encode_description(self.describe())
