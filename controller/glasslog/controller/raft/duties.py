"""Fulfils what a core has handed over: the log, the file, the messages, the state machine, in order.

Everything at hand is synced at once (group commit); what depends on the sync waits for it, the rest does not.
This module refuses to know why any of it is to be done.
"""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import assert_never

from glasslog.common.errors import require
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Runtime
from glasslog.controller.raft.batches import committed_batches, encode_data, encode_leader_change
from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.inbox import Inbox
from glasslog.controller.raft.messages import (
    NO_RECORDS,
    Append,
    Committed,
    DataAppend,
    FetchedAppend,
    FetchedBatches,
    FetchResponse,
    LeaderChangeAppend,
    LeaderChanged,
    LeaderReady,
    LogRange,
    Notice,
    Outgoing,
    Ready,
    Reply,
    Send,
)
from glasslog.controller.raft.peers import Peers
from glasslog.controller.raft.quorum_file import QuorumFile
from glasslog.controller.raft.raft_log import RaftLog
from glasslog.controller.raft.types import RaftListener

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
    ) -> None:
        self._node_id = node_id
        self._runtime = runtime
        self._core = core
        self._log = log
        self._file = file
        self._inbox = inbox
        self._peers = peers
        self._listener = listener
        self._delivered_offset = log.start_offset

    async def fulfil(self) -> None:
        """Until the core has nothing more to hand over."""
        while not (ready := self._core.take_ready()).is_empty:
            await self._fulfil(ready)

    async def _fulfil(self, ready: Ready) -> None:
        if ready.hard_state is not None:
            await self._runtime.blocking(partial(self._file.write, ready.hard_state))
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
                data = encode_leader_change(append, timestamp_ms=now_ms)
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

    # --- the state machine ----------------------------------------------------------------------------------

    async def _tell(self, notice: Notice) -> None:
        match notice:
            case Committed(high_watermark=high_watermark):
                await self._deliver(high_watermark)
            case LeaderReady(epoch=epoch):
                _LOGGER.info("node %d leads the quorum in epoch %d", self._node_id, epoch)
                self._listener.on_leader(epoch)
            case LeaderChanged(epoch=epoch, leader_id=leader_id):
                _LOGGER.info("node %d: epoch %d, leader %d", self._node_id, epoch, leader_id)
                self._listener.on_not_leader(epoch, leader_id)
            case _:
                assert_never(notice)

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
            if self._delivered_offset < high_watermark:
                # A long replay must not keep everybody else from running.
                await asyncio.sleep(0)
