"""The quorum's log as its node needs it, over the common log in the folder ``__cluster_metadata-0``.

Opening validates everything above the recovery point and cuts a torn tail; what lies below was synced once,
so damage there is an error, never cut.  This module refuses to know epochs' leaders and the high watermark.
"""

from collections.abc import Sequence
from typing import Protocol

from glasslog.common.errors import StorageError, require
from glasslog.common.ids import METADATA_TOPIC, TopicPartition
from glasslog.common.runtime.protocols import Blocking, FileSystem
from glasslog.log.checkpoint import RECOVERY_POINT_FILE, read_offsets, write_offsets
from glasslog.log.config import LogConfig
from glasslog.log.log import Log

PARTITION = TopicPartition(METADATA_TOPIC, 0)
_CHECKPOINT_EVERY_OFFSETS = 10_000
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


def log_config(*, max_batch_bytes: int) -> LogConfig:
    """The metadata log is kept whole; a batch of full size must always fit, with its records' framing."""
    largest = 2 * max_batch_bytes + 1024 * 1024
    return LogConfig(
        segment_bytes=max(_SEGMENT_BYTES, largest),
        segment_ms=_FOREVER_MS,
        max_message_bytes=largest,
        retention_ms=-1,
    )


class DiskRaftLog:
    """``RaftLog`` on disk. Its recovery point is checkpointed in its own folder, apart from the broker's."""

    def __init__(self, files: FileSystem, directory: str, config: LogConfig) -> None:
        """Open or create; what the log holds afterwards is durable. Blocks."""
        self._files = files
        self._checkpoint_path = f"{directory}/{RECOVERY_POINT_FILE}"
        checkpointed = read_offsets(files, self._checkpoint_path).get(PARTITION, 0)
        self._log = Log.open(
            files=files,
            directory=directory,
            config=config,
            clean_shutdown=False,
            recovery_point=checkpointed,
        )
        self.problem = self._log.recovery.problem
        self._checkpointed = checkpointed
        # Entries that survived in the page cache only must not be claimed as held.
        self._log.flush()
        self._checkpoint()

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
        return bytes(self._log.read(start_offset, max_bytes=max_bytes, upper_offset=end_offset))

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
