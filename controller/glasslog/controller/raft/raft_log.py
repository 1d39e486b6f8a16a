"""The quorum's log as its node needs it, over the common log in the folder ``__cluster_metadata-0``.

Opening validates everything above the recovery point and cuts a torn tail; what lies below was synced once,
so damage there is an error, never cut.  A log may begin at the
end of a snapshot.  This module refuses to know epochs' leaders and the high watermark.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from glasslog.common.errors import StorageError, require
from glasslog.common.ids import METADATA_TOPIC, TopicPartition
from glasslog.common.runtime.protocols import Blocking, FileSystem
from glasslog.controller.raft.epochs import NO_SNAPSHOT, LogOutline
from glasslog.controller.raft.snapshot_files import SnapshotFiles
from glasslog.controller.raft.voters import VoterHistory, read_history
from glasslog.log.batch import iterate_batches
from glasslog.log.checkpoint import LOG_START_OFFSET_FILE, RECOVERY_POINT_FILE, read_offsets, write_offsets
from glasslog.log.config import LogConfig
from glasslog.log.damage import DamagedLog
from glasslog.log.log import Log
from glasslog.log.segment import Segment
from glasslog.metadata.control_records import VoterEntry, VotersRecord
from glasslog.metadata.snapshot import Snapshot, SnapshotId
from glasslog.metadata.voter_batches import voters_in

PARTITION = TopicPartition(METADATA_TOPIC, 0)
_CHECKPOINT_EVERY_OFFSETS = 10_000
_SCAN_BYTES = 1024 * 1024
_SEGMENT_BYTES = 64 * 1024 * 1024
_FOREVER_MS = (1 << 63) - 1


class RaftLog(Protocol):
    """Offsets are dense: each batch begins where the one before ends. Errors are ``StorageError``."""

    @property
    def start_offset(self) -> int: ...

    @property
    def end_offset(self) -> int: ...

    @property
    def epoch_starts(self) -> Sequence[tuple[int, int]]:
        """Pairs of epoch and first offset, oldest first."""
        ...

    def append_own(self, batch: bytearray, *, base_offset: int, epoch: int) -> None:
        """Append one batch as the leader of ``epoch``."""
        ...

    def append_fetched(self, batches: bytes) -> None:
        """Append a leader's batches as they are."""
        ...

    def truncate_to(self, end_offset: int) -> None: ...

    def replace_by(self, snapshot_id: SnapshotId) -> None:
        """Drop everything and begin at the snapshot's end, durably; blocks."""
        ...

    def read(self, start_offset: int, *, end_offset: int, max_bytes: int) -> bytes:
        """Whole batches; at least one if there is any."""
        ...

    async def sync(self, blocking: Blocking) -> None:
        """Make durable what was appended before the call; appending meanwhile is allowed."""
        ...

    def close(self) -> None:
        """After a sync, leave in order."""
        ...

    def abandon(self) -> None:
        """Give handles back without writing, as a crash would."""
        ...


def log_config(*, max_batch_bytes: int, segment_bytes: int = _SEGMENT_BYTES) -> LogConfig:
    """Old entries go with snapshots only; a batch of full size must always fit, with its records' framing."""
    largest = 2 * max_batch_bytes + 1024 * 1024
    return LogConfig(
        segment_bytes=max(segment_bytes, largest),
        segment_ms=_FOREVER_MS,
        max_message_bytes=largest,
        retention_ms=-1,
    )


class DiskRaftLog:
    """``RaftLog`` on disk. Its recovery point is checkpointed in its own folder, apart from the broker's."""

    def __init__(self, files: FileSystem, directory: str, config: LogConfig) -> None:
        """Open or create; what the log holds afterwards is durable. Blocks."""
        self._files = files
        self._directory = directory
        self._checkpoint_path = f"{directory}/{RECOVERY_POINT_FILE}"
        self._start_path = f"{directory}/{LOG_START_OFFSET_FILE}"
        checkpointed = read_offsets(files, self._checkpoint_path).get(PARTITION, 0)
        self._log = Log.open(
            files=files,
            directory=directory,
            config=config,
            clean_shutdown=False,
            recovery_point=checkpointed,
            log_start_offset=read_offsets(files, self._start_path).get(PARTITION, 0),
        )
        self._checkpointed = checkpointed
        self.snapshots = SnapshotFiles(files, directory)
        self.loaded: Snapshot | None = None
        self.base = NO_SNAPSHOT
        try:
            self._join_snapshot()
        except StorageError:
            self._log.abandon()
            raise
        self.problem = self._log.recovery.problem
        # Entries that survived in the page cache only must not be claimed as held.
        self._log.flush()
        self._checkpoint()

    # --- snapshots ------------------------------------------------------------------------------------------

    def _join_snapshot(self) -> None:
        """Find what the log goes on from. A log that begins behind every sound snapshot says too little."""
        self.snapshots.remove_leftovers()
        self.loaded = loaded = self.snapshots.load_newest()
        start_offset = self.start_offset
        if loaded is None or loaded.id.end_offset < start_offset:
            if start_offset > 0:
                raise StorageError(
                    f"{self._directory}: the log begins at offset {start_offset}, and no sound snapshot "
                    f"reaches so far: restore {start_offset:020d}-*.checkpoint, or give the node an empty "
                    f"disk and add it to the quorum anew"
                )
            return
        if self._is_superseded_by(loaded.id):
            # Fetched before a crash, which came before the log was replaced by it.
            self.replace_by(loaded.id)
            return
        ids = {each.end_offset: each for each in self.snapshots.ids()}
        if start_offset > 0:
            self.base = ids.get(start_offset, loaded.id)
            self._log.advance_start(self.base.end_offset)

    def _is_superseded_by(self, snapshot_id: SnapshotId) -> bool:
        if snapshot_id.end_offset > self.end_offset:
            return True
        if snapshot_id.end_offset == self.start_offset:
            return False
        return self._log.epochs.epoch_at(snapshot_id.end_offset - 1) != snapshot_id.epoch

    def outline(self) -> LogOutline:
        """What the core is to know of this log."""
        return LogOutline(
            base=self.base,
            snapshot=None if self.loaded is None else self.loaded.id,
            end_offset=self.end_offset,
            epoch_starts=self.epoch_starts,
        )

    def replace_by(self, snapshot_id: SnapshotId) -> None:
        self._log.truncate_fully_and_start_at(snapshot_id.end_offset)
        self.base = snapshot_id
        self._checkpoint()

    def checkpoint_start(self, offset: int) -> None:
        """Durably allow the log to begin where a snapshot ends; blocks. ``trim_to`` follows."""
        write_offsets(self._files, self._start_path, {PARTITION: offset})

    def trim_to(self, base: SnapshotId) -> list[Segment]:
        """Begin at the base's end; the segments that are not needed any more are left to ``remove``."""
        self._log.advance_start(base.end_offset)
        self.base = base
        return self._log.retire_segments_below(base.end_offset)

    def remove(self, segments: Sequence[Segment]) -> None:
        """Delete what ``trim_to`` took out; blocks."""
        for segment in segments:
            segment.remove_files()
        self._log.sync_folder()

    def roll(self) -> None:
        """Close the active segment, so that it can go when it is not needed any more."""
        self._log.roll()

    @property
    def size_bytes(self) -> int:
        return self._log.size_bytes

    # --- voters ---------------------------------------------------------------------------------------------

    def read_voters(self, bootstrap: Sequence[VoterEntry]) -> VoterHistory:
        """Whom settings, snapshot and log name as voters; reads the whole log above the snapshot."""
        named = None if self.loaded is None else self.loaded.voters
        begin = self.start_offset if self.loaded is None else self.loaded.id.end_offset
        snapshot = None if named is None else (begin, named)
        return read_history(bootstrap, snapshot=snapshot, records=self._voter_records(begin))

    def _voter_records(self, offset: int) -> Iterator[tuple[int, VotersRecord]]:
        while offset < self.end_offset:
            data = self.read(offset, end_offset=self.end_offset, max_bytes=_SCAN_BYTES)
            require(bool(data), f"{self._directory}: nothing to read at offset {offset}")
            for header, position in iterate_batches(data):
                record = voters_in(data, header, position)
                if record is not None:
                    yield header.base_offset, record
                offset = header.next_offset

    # --- entries --------------------------------------------------------------------------------------------

    @property
    def start_offset(self) -> int:
        return self._log.log_start_offset

    @property
    def end_offset(self) -> int:
        return self._log.log_end_offset

    @property
    def epoch_starts(self) -> Sequence[tuple[int, int]]:
        return [entry for entry in self._log.epochs.entries if entry[1] < self.end_offset]

    def append_own(self, batch: bytearray, *, base_offset: int, epoch: int) -> None:
        info = self._log.append_as_leader(batch, leader_epoch=epoch, now_ms=0, origin_is_client=False)
        require(info.first_offset == base_offset, f"batch for {base_offset} went to {info.first_offset}")

    def append_fetched(self, batches: bytes) -> None:
        self._log.append_as_follower(batches)

    def truncate_to(self, end_offset: int) -> None:
        self._log.truncate_to(end_offset)
        require(self.end_offset == end_offset, f"truncation to {end_offset} left {self.end_offset}")

    def read(self, start_offset: int, *, end_offset: int, max_bytes: int) -> bytes:
        try:
            return bytes(self._log.read(start_offset, max_bytes=max_bytes, upper_offset=end_offset))
        except DamagedLog as error:
            raise StorageError(str(error)) from error

    async def sync(self, blocking: Blocking) -> None:
        pending = self._log.begin_flush()
        if pending is None:
            return
        try:
            await blocking(pending.sync)
        except StorageError as error:
            self._log.fail_flush(pending, error)
            raise
        self._log.complete_flush(pending)
        if self._log.recovery_point - self._checkpointed >= _CHECKPOINT_EVERY_OFFSETS:
            self._checkpoint()

    def close(self) -> None:
        self._log.close()
        self._checkpoint()

    def abandon(self) -> None:
        self._log.abandon()

    def _checkpoint(self) -> None:
        """Remember the recovery point. A truncation below it is noted by the log itself."""
        if self._log.recovery_point != self._checkpointed:
            self._checkpointed = self._log.recovery_point
            write_offsets(self._files, self._checkpoint_path, {PARTITION: self._checkpointed})
