"""What is in a partition's folder when a log is opened, and what survives of it.

This module knows file names and what a crash can leave behind; it refuses to know which batches are sound
(``recovery``) and how an open log works.  Source: Kafka's ``LogLoader``.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import BatchHeader, CorruptBatch, validate_batch
from glasslog.log.checkpoint import LEADER_EPOCH_FILE, MalformedFile
from glasslog.log.config import LogConfig
from glasslog.log.epoch_cache import LeaderEpochCache
from glasslog.log.folders import make_durable_folder
from glasslog.log.producer_snapshot import CorruptSnapshot, decode_snapshot, encode_snapshot
from glasslog.log.producer_state import ProducerStates
from glasslog.log.segment import Segment
from glasslog.log.segment_file import DELETED_SUFFIX, LOG_SUFFIX, SWAP_SUFFIX, file_name
from glasslog.log.segment_indexes import INDEX_SUFFIX, INDEX_SUFFIXES, TRANSACTION_INDEX_SUFFIX
from glasslog.log.segment_recovery import notable_batches, recover_segment

SNAPSHOT_SUFFIX = ".snapshot"
_LEFTOVER_SUFFIXES = (".cleaned", ".swap", ".deleted", ".tmp")
_DIGITS = 20


@dataclass(slots=True, kw_only=True)
class Folder:
    """A partition's folder: its parsed names, kept up to date by those who add and remove files."""

    files: FileSystem
    path: str
    config: LogConfig
    segment_offsets: list[int] = field(default_factory=list)
    snapshot_offsets: list[int] = field(default_factory=list)
    bare_offsets: set[int] = field(default_factory=set)
    """Of segments beside which no index was found: that of aborted transactions may be gone as well."""
    cleaner_offset: int = 0
    """Below it a cleaner has been. Offsets may be missing between segments, too, then: Kafka leaves it so."""

    def segment(self, base_offset: int, *, suffix: str = "") -> Segment:
        return Segment(
            self.files,
            self.path,
            base_offset=base_offset,
            index_interval_bytes=self.config.index_interval_bytes,
            suffix=suffix,
        )

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}"

    def put_down(self, segment: Segment) -> None:
        """Give a segment's handle and memory back, for now.

        The index of one that had none gets no file before the aborted transactions have theirs.
        """
        if segment.base_offset in self.bare_offsets:
            segment.abandon()
        else:
            segment.release()

    def names(self) -> Sequence[str]:
        """What is in it."""
        try:
            return self.files.list(self.path)
        except OSError as error:
            raise StorageError(f"{self.path}: can not be listed: {error.strerror or error}") from error

    def sync(self) -> None:
        """Make creations and removals durable."""
        try:
            self.files.sync_dir(self.path)
        except OSError as error:
            raise StorageError(f"{self.path}: can not be synced: {error.strerror or error}") from error

    def remove(self, name: str) -> None:
        try:
            self.files.remove(self.path_of(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(
                f"{self.path_of(name)}: can not be removed: {error.strerror or error}"
            ) from error

    # --- producer snapshots -----------------------------------------------------------------------------

    def write_snapshot(self, offset: int, states: ProducerStates, *, keep: set[int]) -> None:
        """Write the state before ``offset``; older ones go, except at the offsets in ``keep``."""
        path = self.path_of(file_name(offset, SNAPSHOT_SUFFIX))
        try:
            self.files.write_atomic(path, encode_snapshot(states))
        except OSError as error:
            raise StorageError(f"{path}: can not be written: {error.strerror or error}") from error
        for old in self.snapshot_offsets:
            if old != offset and old not in keep:
                self.remove(file_name(old, SNAPSHOT_SUFFIX))
        kept = [old for old in self.snapshot_offsets if old in keep and old != offset]
        self.snapshot_offsets = sorted([*kept, offset])

    def remove_snapshots(self, *, above: int) -> None:
        """Remove the snapshots of offsets above ``above``, durably: they may be wrong for what comes next."""
        if not self.snapshot_offsets or self.snapshot_offsets[-1] <= above:
            return
        while self.snapshot_offsets and self.snapshot_offsets[-1] > above:
            self.remove(file_name(self.snapshot_offsets.pop(), SNAPSHOT_SUFFIX))
        self.sync()

    def drop_snapshot(self, offset: int) -> None:
        """Remove the snapshot of ``offset`` if there is one."""
        if offset in self.snapshot_offsets:
            self.snapshot_offsets.remove(offset)
            self.remove(file_name(offset, SNAPSHOT_SUFFIX))

    def newest_snapshot(self, *, at_most: int | None = None) -> tuple[ProducerStates, int]:
        """The newest usable one, of an offset not above ``at_most``, and its offset.

        Without one there is no state and the offset is -1.
        """
        for offset in reversed(self.snapshot_offsets.copy()):
            if at_most is not None and offset > at_most:
                continue
            name = file_name(offset, SNAPSHOT_SUFFIX)
            try:
                return decode_snapshot(self.files.read(self.path_of(name))), offset
            except (CorruptSnapshot, FileNotFoundError):
                # It only saves time: what it held is in the batches.
                self.remove(name)
                self.snapshot_offsets.remove(offset)
            except OSError as error:
                raise StorageError(
                    f"{self.path_of(name)}: can not be read: {error.strerror or error}"
                ) from error
        return ProducerStates(), -1


def scan_folder(files: FileSystem, path: str, config: LogConfig) -> Folder:
    """Parse a partition's folder, created if missing; leftovers of a crash are removed.

    Raises ``StorageError`` for a file that looks like part of a log and can not be, or when the OS refuses.
    """
    folder = Folder(files=files, path=path, config=config)
    try:
        make_durable_folder(files, path)
    except OSError as error:
        raise StorageError(f"{path}: can not be used: {error.strerror or error}") from error
    names = folder.names()
    if any(name.endswith(SWAP_SUFFIX) for name in names):
        names = _complete_swaps(folder, names)
    for name in names:
        if name.endswith(_LEFTOVER_SUFFIXES):
            folder.remove(name)
        elif name.endswith(LOG_SUFFIX):
            folder.segment_offsets.append(_parse_offset(path, name))
        elif name.endswith(SNAPSHOT_SUFFIX):
            folder.snapshot_offsets.append(_parse_offset(path, name))
    for name in names:
        if name.endswith(INDEX_SUFFIXES) and _parse_offset(path, name) not in folder.segment_offsets:
            folder.remove(name)
    suffixes = (INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)
    indexed = {_parse_offset(path, name) for name in names if name.endswith(suffixes)}
    folder.bare_offsets = set(folder.segment_offsets) - indexed
    return folder


def _complete_swaps(folder: Folder, names: Sequence[str]) -> Sequence[str]:
    """Put rewritten segments in their place where a crash came between; returns the names there are then.

    A log's file was renamed after its indexes, and all old ones before any new one: while an old log is
    there, no index of these offsets is new.  See ``replacement``.
    """
    swap = LOG_SUFFIX + SWAP_SUFFIX
    logs = [_parse_offset(folder.path, name) for name in names if name.endswith(LOG_SUFFIX)]
    for offset in [_parse_offset(folder.path, name) for name in names if name.endswith(swap)]:
        segment = folder.segment(offset, suffix=SWAP_SUFFIX)
        found = recover_segment(segment, trusted_below=0, on_batch=_ignore)
        segment.abandon()
        if found.problem is not None or not found.size_bytes:
            if offset in logs:
                # The first to go of those whose place it was to take is there: so are all.
                continue
            raise StorageError(f"{found.problem or segment.path + ' is empty'}; nothing else has its offsets")
        for old in logs:
            if offset <= old < found.next_offset:
                folder.segment(old).change_suffix(DELETED_SUFFIX)
        folder.sync()
        segment.change_suffix("")
    folder.sync()
    return folder.names()


def _ignore(header: BatchHeader, position: int) -> None:
    """Nothing is to be learned of a batch."""


def bytes_to_recover(files: FileSystem, path: str, *, recovery_point: int) -> int:
    """How much of a folder's segments recovery reads after an unclean stop. Raises ``StorageError``."""
    try:
        names = [name for name in files.list(path) if name.endswith(LOG_SUFFIX)]
        offsets = [_parse_offset(path, name) for name in names]
        first = max(0, sum(offset <= recovery_point for offset in offsets) - 1)
        return sum(_file_bytes(files, f"{path}/{name}") for name in names[first:])
    except OSError as error:
        raise StorageError(f"{path}: can not be read: {error.strerror or error}") from error


def _file_bytes(files: FileSystem, path: str) -> int:
    file = files.open(path, read_only=True)
    try:
        return file.size()
    finally:
        file.close()


def _parse_offset(path: str, name: str) -> int:
    digits = name.partition(".")[0]
    if len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
        raise StorageError(f"{path}/{name}: not a name of this log's files (20 digits and a suffix)")
    return int(digits)


# --- segments ---------------------------------------------------------------------------------------------


def open_clean(folder: Folder, *, recovery_point: int) -> list[Segment] | None:
    """The segments after an orderly stop; None when recovery has to look where they end.

    All up to ``recovery_point`` was synced then: damage before it is left for readers to meet, but the end
    must be there.
    """
    segments = [folder.segment(offset) for offset in folder.segment_offsets]
    measure_closed(folder, segments)
    last = segments[-1]
    try:
        last.measure()
        last.find_end()
    except CorruptBatch:
        if recovery_point <= last.base_offset:
            return None
        last.next_offset = recovery_point
    if last.next_offset > recovery_point > last.base_offset and not _goes_on(last, recovery_point):
        # The last batch has lost sight of its offsets.
        last.next_offset = recovery_point
    return segments if last.next_offset >= recovery_point else None


def _goes_on(segment: Segment, offset: int) -> bool:
    """Whether sound batches follow each other past ``offset``: a checkpoint that was written too early."""
    end = segment.base_offset
    for header, position in segment.headers(segment.position_before(offset - 1)):
        if header.next_offset > offset:
            try:
                validate_batch(segment.batch_at(position, header.size_bytes))
            except CorruptBatch:
                return False
            if header.base_offset != end:
                return False
        end = header.next_offset
    return True


def measure_closed(folder: Folder, segments: list[Segment]) -> None:
    """Learn the sizes of all but the last, and that each begins where the one before ends.

    ``StorageError`` says which offsets are missing.  Damage inside is left for readers to meet.
    """
    for segment, following in pairwise(segments):
        segment.measure()
        with suppress(CorruptBatch):
            segment.find_end()
            if segment.next_offset < following.base_offset and folder.cleaner_offset:
                folder.put_down(segment)
                continue
            if segment.next_offset != following.base_offset:
                raise StorageError(
                    f"{following.path}: begins at offset {following.base_offset}, the segment before ends "
                    f"at {segment.next_offset}: synced offsets are missing"
                )
        segment.next_offset = following.base_offset
        folder.put_down(segment)


def load_epochs(folder: Folder) -> LeaderEpochCache | None:
    """The epoch checkpoint; None when there is none or it is damaged, and the batches must tell.

    Raises ``StorageError`` when the disk refuses: it may know epochs whose batches compaction took.
    """
    path = folder.path_of(LEADER_EPOCH_FILE)
    try:
        if not folder.files.exists(path):
            return None
        return LeaderEpochCache.load(folder.files, path)
    except MalformedFile:
        return None


def rebuild_epochs(folder: Folder, segments: list[Segment]) -> LeaderEpochCache:
    """The epoch cache from the batches' headers."""
    cache = LeaderEpochCache(folder.files, folder.path_of(LEADER_EPOCH_FILE))
    for segment in segments:
        for header, _ in notable_batches(segment, segment.base_offset):
            if header.partition_leader_epoch > cache.latest_epoch:
                cache.assign(header.partition_leader_epoch, header.base_offset)
    cache.write()
    return cache
