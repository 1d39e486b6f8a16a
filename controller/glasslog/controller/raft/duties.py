"""Fulfils what a core has handed over: the log, the file, the messages, the state machine, in order.

Everything at hand is synced at once (group commit); what depends on the sync waits for it, the rest does not.
This module refuses to know why any of it is to be done.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import assert_never

from glasslog.common.errors import ErrorCode, GlasslogError, StorageError, require
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Runtime
from glasslog.controller.raft.batches import (
    committed_batches,
    encode_data,
    encode_leader_change_batch,
    encode_voters_batch,
)
from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.inbox import Inbox
from glasslog.controller.raft.messages import (
    NO_RECORDS,
    Append,
    Committed,
    DamagedSnapshot,
    DataAppend,
    FetchedAppend,
    FetchedBatches,
    FetchResponse,
    FetchSnapshotResponse,
    LeaderChangeAppend,
    LeaderChanged,
    LeaderReady,
    LogRange,
    NoSnapshotPart,
    Notice,
    Outgoing,
    Ready,
    ReceivedSnapshot,
    Reply,
    Send,
    SnapshotInstalled,
    SnapshotPart,
    SnapshotRange,
    SoundSnapshot,
    VotersAppend,
)
from glasslog.controller.raft.peers import Peers
from glasslog.controller.raft.quorum_file import QuorumFile
from glasslog.controller.raft.raft_log import RaftLog
from glasslog.controller.raft.snapshot_files import SnapshotFiles
from glasslog.controller.raft.snapshots import SnapshotKeeper
from glasslog.controller.raft.types import RaftListener
from glasslog.metadata.snapshot import Snapshot, SnapshotId

_LOGGER = logging.getLogger(__name__)
_DELIVERY_BYTES = 1024 * 1024


class Duties:
    """Does for one core what it can not do itself. ``fulfil`` is called by one task only."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        runtime: Runtime,
        core: RaftCore,
        log: RaftLog,
        file: QuorumFile,
        inbox: Inbox,
        peers: Peers,
        listener: RaftListener,
        snapshots: SnapshotFiles,
        keeper: SnapshotKeeper,
        calls: asyncio.TaskGroup,
    ) -> None:
        self._node_id = node_id
        self._runtime = runtime
        self._core = core
        self._log = log
        self._file = file
        self._inbox = inbox
        self._peers = peers
        self._listener = listener
        self._snapshots = snapshots
        self._keeper = keeper
        self._calls = calls
        self._installed: Snapshot | None = None
        self._delivered_offset = log.start_offset

    @property
    def delivered_offset(self) -> int:
        """The state machine has everything below."""
        return self._delivered_offset

    def begin_with(self, snapshot: Snapshot) -> None:
        """The snapshot that was found on disk, before anything else."""
        self._listener.on_snapshot(snapshot)
        self._delivered_offset = snapshot.id.end_offset

    async def fulfil(self) -> None:
        """Until the core has nothing more to hand over."""
        while not (ready := self._core.take_ready()).is_empty:
            await self._fulfil(ready)

    async def _fulfil(self, ready: Ready) -> None:
        if ready.hard_state is not None:
            await self._runtime.blocking(partial(self._file.write, ready.hard_state))
        for part in ready.snapshot_parts:
            await self._take_part(part)
        self._write(ready)
        self._dispatch(ready.messages)
        for notice in ready.notices:
            await self._tell(notice)
        if ready.needs_sync:
            await self._sync()
        self._dispatch(ready.messages_after_sync)

    # --- the disk -------------------------------------------------------------------------------------------

    def _write(self, ready: Ready) -> None:
        if ready.truncate_to is not None:
            _LOGGER.warning(
                "node %d: truncating to offset %d: the leader's log differs", self._node_id, ready.truncate_to
            )
            self._log.truncate_to(ready.truncate_to)
        for append in ready.appends:
            self._append(append)

    def _append(self, append: Append) -> None:
        end_offset = self._log.end_offset
        require(append.base_offset == end_offset, f"{append.base_offset} appended at {end_offset}")
        now_ms = self._runtime.clock.wall_ms()
        match append:
            case DataAppend(base_offset=base_offset, epoch=epoch):
                data = encode_data(append, timestamp_ms=now_ms)
                self._log.append_own(data, base_offset=base_offset, epoch=epoch)
            case LeaderChangeAppend(base_offset=base_offset, epoch=epoch):
                data = encode_leader_change_batch(append, timestamp_ms=now_ms)
                self._log.append_own(data, base_offset=base_offset, epoch=epoch)
            case VotersAppend(base_offset=base_offset, epoch=epoch):
                data = encode_voters_batch(append, timestamp_ms=now_ms)
                self._log.append_own(data, base_offset=base_offset, epoch=epoch)
            case FetchedAppend(data=fetched):
                self._log.append_fetched(fetched)
            case _:
                assert_never(append)

    async def _sync(self) -> None:
        # Proposals made meanwhile are in the core already, but not in the log.
        end_offset = self._log.end_offset
        await self._log.sync(self._runtime.blocking)
        self._core.on_synced(end_offset)

    # --- a snapshot that is fetched -------------------------------------------------------------------------

    async def _take_part(self, part: SnapshotPart) -> None:
        await self._runtime.blocking(partial(self._snapshots.write_part, part))
        if part.is_last:
            await self._complete(part.snapshot_id)

    async def _complete(self, snapshot_id: SnapshotId) -> None:
        """Nothing of the log goes before the snapshot is whole, sound and durable."""
        snapshot = await self._runtime.blocking(partial(self._snapshots.finish_fetched, snapshot_id))
        if snapshot is not None:
            _LOGGER.info("node %d: the log begins with snapshot %s now", self._node_id, snapshot_id)
            await self._runtime.blocking(partial(self._log.replace_by, snapshot_id))
            self._installed = snapshot
        received: ReceivedSnapshot = DamagedSnapshot()
        if snapshot is not None:
            received = SoundSnapshot(snapshot_id=snapshot_id, voters=snapshot.voters)
        self._core.on_snapshot_received(received, self._runtime.clock.now_ms())

    # --- messages -------------------------------------------------------------------------------------------

    def _dispatch(self, messages: Iterable[Outgoing]) -> None:
        for message in messages:
            match message:
                case Send():
                    self._peers.send(message)
                case Reply():
                    self._reply(message)
                case _:
                    assert_never(message)

    def _reply(self, reply: Reply) -> None:
        """Answer the caller, unless it has gone; then nothing need be read for it."""
        if not self._inbox.is_waiting(reply.request_id):
            return
        response = reply.response
        if isinstance(response, FetchResponse) and isinstance(response.body, LogRange):
            response = self._fill(response, response.body)
        if isinstance(response, FetchSnapshotResponse) and isinstance(response.body, SnapshotRange):
            answer = self._answer_part(reply.request_id, response, response.body)
            self._calls.create_task(answer, name="part of a snapshot")
            return
        self._inbox.answer(reply.request_id, response)

    def _fill(self, response: FetchResponse, wanted: LogRange) -> FetchResponse:
        data = self._log.read(wanted.start_offset, end_offset=wanted.end_offset, max_bytes=wanted.max_bytes)
        return FetchResponse(
            error=response.error,
            epoch=response.epoch,
            leader_id=response.leader_id,
            high_watermark=response.high_watermark,
            log_start_offset=response.log_start_offset,
            body=FetchedBatches(data=data, spans=NO_RECORDS.spans),
        )

    async def _answer_part(
        self, request_id: int, response: FetchSnapshotResponse, wanted: SnapshotRange
    ) -> None:
        """Read beside the loop. A damaged snapshot is found out before its first part leaves."""
        try:
            part = await self._runtime.blocking(partial(self._read_part, wanted))
        except StorageError as error:
            _LOGGER.warning("node %d: %s", self._node_id, error)
            filled = replace(response, error=ErrorCode.KAFKA_STORAGE_ERROR, body=NoSnapshotPart())
        except GlasslogError as error:
            if error.code is ErrorCode.SNAPSHOT_NOT_FOUND:
                self._keeper.miss(wanted.snapshot_id)
            filled = replace(response, error=error.code, body=NoSnapshotPart())
        else:
            filled = replace(response, body=part)
        self._inbox.answer(request_id, filled)

    def _read_part(self, wanted: SnapshotRange) -> SnapshotPart:
        if wanted.position == 0 and wanted.snapshot_id in self._snapshots.ids():
            self._snapshots.load_or_discard(wanted.snapshot_id)
        return self._snapshots.read_part(
            wanted.snapshot_id, position=wanted.position, max_bytes=wanted.max_bytes
        )

    # --- the state machine ----------------------------------------------------------------------------------

    async def _tell(self, notice: Notice) -> None:
        match notice:
            case Committed(high_watermark=high_watermark):
                await self._deliver(high_watermark)
            case SnapshotInstalled(snapshot_id=snapshot_id):
                self._start_over(snapshot_id)
            case LeaderReady(epoch=epoch):
                _LOGGER.info("node %d leads the quorum in epoch %d", self._node_id, epoch)
                self._listener.on_leader(epoch)
            case LeaderChanged(epoch=epoch, leader_id=leader_id):
                _LOGGER.info("node %d: epoch %d, leader %d", self._node_id, epoch, leader_id)
                self._listener.on_not_leader(epoch, leader_id)
            case _:
                assert_never(notice)

    def _start_over(self, snapshot_id: SnapshotId) -> None:
        snapshot, self._installed = self._installed, None
        require(snapshot is not None and snapshot.id == snapshot_id, f"{snapshot_id} was not installed")
        assert snapshot is not None
        self.begin_with(snapshot)

    async def _deliver(self, high_watermark: int) -> None:
        """Read committed batches back from the log and hand them over, in bounded portions."""
        while self._delivered_offset < high_watermark:
            data = self._log.read(
                self._delivered_offset, end_offset=high_watermark, max_bytes=_DELIVERY_BYTES
            )
            require(bool(data), f"nothing to read at {self._delivered_offset}, below {high_watermark}")
            for end_offset, batch in committed_batches(data):
                if batch is not None:
                    self._listener.on_committed(batch)
                self._delivered_offset = end_offset
            self._keeper.count(len(data))
            if self._delivered_offset < high_watermark:
                # A long replay must not keep everybody else from running.
                await asyncio.sleep(0)
