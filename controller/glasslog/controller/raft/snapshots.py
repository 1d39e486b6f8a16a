"""Takes snapshots beside the quorum's work, and cuts the log behind them.

The state machine hands over a state that does not change any more.  It is encoded batch by batch, each in a
turn of its own of the event loop, and written off the loop, so that elections and commits go on: a thread
that encoded all of it would keep the interpreter for 5 ms at each system call of the loop.  What touches the
log or the core waits for ``settle``, which the node's task calls between its duties.  A snapshot that can not
be written is a warning: the log still has everything.  This module refuses to know what is in a snapshot, and
when one is due (``snapshot_rules``).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from glasslog.common.errors import StorageError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Runtime
from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.raft_log import DiskRaftLog
from glasslog.controller.raft.snapshot_rules import Kept, SnapshotConfig, is_due, new_base
from glasslog.controller.raft.types import RaftListener
from glasslog.log.segment import Segment
from glasslog.metadata.snapshot import SnapshotId, encode_snapshot

_LOGGER = logging.getLogger(__name__)
_RETRY_MS = 60_000


class SnapshotKeeper:
    """One node's. ``count`` what is delivered, ``settle`` between duties; one snapshot is taken at a time."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        runtime: Runtime,
        core: RaftCore,
        log: DiskRaftLog,
        listener: RaftListener,
        config: SnapshotConfig,
        tasks: asyncio.TaskGroup,
        wake: Callable[[], None],
    ) -> None:
        """``wake`` makes the node's task come round."""
        self._node_id = node_id
        self._runtime = runtime
        self._core = core
        self._log = log
        self._files = log.snapshots
        self._listener = listener
        self._config = config
        self._tasks = tasks
        self._wake = wake
        self._running: asyncio.Task[None] | None = None
        self._taken: SnapshotId | None = None
        self._base: SnapshotId | None = None
        self._new_bytes = 0
        self._is_demanded = False
        self._since_ms = runtime.clock.now_ms()
        self._not_before_ms = 0

    def count(self, size_bytes: int) -> None:
        """So many bytes of batches were delivered."""
        self._new_bytes += size_bytes

    def miss(self, snapshot_id: SnapshotId) -> None:
        """A fetcher was sent to this snapshot, and it is not there: it was damaged. Replace it."""
        if snapshot_id == self._core.log.snapshot and self._running is None:
            self._demand()
            self._wake()

    def _demand(self) -> None:
        self._new_bytes = max(self._new_bytes, self._config.max_new_bytes)
        self._is_demanded = True

    def next_deadline_ms(self) -> int | None:
        """When ``settle`` may have something to do; None while only more records can change that."""
        if not self._new_bytes or self._running is not None:
            return None
        if self._new_bytes >= self._config.max_new_bytes:
            return self._not_before_ms
        interval_ms = self._config.max_interval_ms
        return max(self._since_ms + interval_ms, self._not_before_ms) if interval_ms else None

    def settle(self, delivered_offset: int) -> None:
        """Let the core know what has been done since; begin what is due."""
        if self._running is not None and self._running.done():
            self._running = None
        if self._taken is not None:
            self._core.on_snapshot_taken(self._taken)
            self._taken = None
        if self._base is not None:
            self._trim(self._base)
            self._base = None
        now_ms = self._runtime.clock.now_ms()
        is_idle = self._running is None and now_ms >= self._not_before_ms
        if is_idle and is_due(self._config, new_bytes=self._new_bytes, waited_ms=now_ms - self._since_ms):
            self._begin(delivered_offset, now_ms)

    def stop(self) -> None:
        """Give up what is under way."""
        if self._running is not None:
            self._running.cancel()

    # --- taking ---------------------------------------------------------------------------------------------

    def _begin(self, end_offset: int, now_ms: int) -> None:
        is_demanded, self._is_demanded = self._is_demanded, False
        self._new_bytes, self._since_ms = 0, now_ms
        outline = self._core.log
        if end_offset <= outline.snapshot.end_offset and not is_demanded:
            return
        snapshot_id = SnapshotId(end_offset=end_offset, epoch=outline.epoch_before(end_offset))
        batches = self._listener.take_snapshot()()
        parts = encode_snapshot(
            snapshot_id,
            batches,
            timestamp_ms=self._runtime.clock.wall_ms(),
            voters=self._core.voters_before(end_offset),
        )
        self._log.roll()
        name = f"snapshot {snapshot_id} of node {self._node_id}"
        self._running = self._tasks.create_task(self._take(snapshot_id, parts), name=name)

    async def _take(self, snapshot_id: SnapshotId, parts: Iterator[bytes]) -> None:
        try:
            position = 0
            for part in parts:
                await self._runtime.blocking(partial(self._files.write, snapshot_id, part, position=position))
                position += len(part)
            await self._runtime.blocking(partial(self._files.finish_written, snapshot_id))
            _LOGGER.info("node %d: snapshot %s is written", self._node_id, snapshot_id)
            self._taken = snapshot_id
            find = partial(self._find_base, self._log.base, self._log.size_bytes)
            self._base = await self._runtime.blocking(find)
        except StorageError as error:
            _LOGGER.warning("node %d: no snapshot %s for now: %s", self._node_id, snapshot_id, error)
            self._not_before_ms = self._runtime.clock.now_ms() + _RETRY_MS
            self._demand()
        self._wake()

    # --- cutting --------------------------------------------------------------------------------------------

    def _find_base(self, base: SnapshotId, log_bytes: int) -> SnapshotId | None:
        """Where the log may begin from now on; on the way there the snapshot is read once more. Blocks."""
        measured = [(each, *self._files.measure(each)) for each in self._files.ids()]
        kept = [Kept(id=each, size_bytes=size, timestamp_ms=at_ms) for each, size, at_ms in measured]
        wall_ms = self._runtime.clock.wall_ms()
        found = new_base(self._config, kept, base=base, log_bytes=log_bytes, now_ms=wall_ms)
        if found is None or self._files.load_or_discard(found) is None:
            return None
        self._log.checkpoint_start(found.end_offset)
        return found

    def _trim(self, base: SnapshotId) -> None:
        if base.end_offset <= self._core.log.start_offset:
            return
        segments = self._log.trim_to(base)
        self._core.on_trimmed(base)
        _LOGGER.info("node %d: the metadata log begins at %d", self._node_id, base.end_offset)
        remove = partial(self._remove, segments, base)
        self._running = self._tasks.create_task(self._remove_off_loop(remove), name=f"before {base}")

    async def _remove_off_loop(self, remove: Callable[[], None]) -> None:
        try:
            await self._runtime.blocking(remove)
        except StorageError as error:
            # The next start finds them, and removes them.
            _LOGGER.warning("node %d: %s", self._node_id, error)
        self._wake()

    def _remove(self, segments: Sequence[Segment], base: SnapshotId) -> None:
        self._log.remove(segments)
        for old in self._files.ids():
            if old.end_offset < base.end_offset:
                self._files.remove(old)
