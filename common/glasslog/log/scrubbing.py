"""Reads a closed segment from end to end to see whether it is what was written.

This module knows how to do that in small steps, in any thread, with a file of its own opening; it refuses to
know when.  What the OS has in its page cache is not read from the disk.
"""

from collections.abc import Callable, Iterator

from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import HEADER_BYTES, NO_TIMESTAMP, CorruptBatch, check_header, parse_header
from glasslog.log.checkpoint import LEADER_EPOCH_FILE
from glasslog.log.cleaner_plan import SourceSegment
from glasslog.log.codec import CODEC
from glasslog.log.damage import DamagedLog
from glasslog.log.epoch_cache import UNDEFINED_EPOCH
from glasslog.log.walk_types import ScanState, SoundPart, Stop

_CHUNK_BYTES = 1024 * 1024
_BEYOND_ALL_OFFSETS = (1 << 63) - 1


def scrub_segment(files: FileSystem, source: SourceSegment, epoch_at: Callable[[int], int]) -> Iterator[int]:
    """How many bytes each step has read. Raises ``DamagedLog`` at the first bad batch, ``StorageError``.

    ``epoch_at`` says which leader epoch an offset is of, -1 where nobody remembers: no checksum guards that.
    """
    try:
        file = files.open(source.path, read_only=True)
        try:
            position, offset, wanted = 0, source.base_offset, _CHUNK_BYTES
            while position < source.size_bytes:
                data = file.pread(min(wanted, source.size_bytes - position), position)
                found = CODEC.walk_sound(data, len(data), offset, source.end_offset, source.end_offset)
                _check_epochs(source, memoryview(data)[: found.size_bytes], position, epoch_at)
                wanted = _next_wanted(source, data, found, position, wanted, offset)
                position, offset = position + found.size_bytes, found.next_offset
                yield len(data)
        finally:
            file.close()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{source.path}: can not be read: {error.strerror or error}") from error


def _check_epochs(
    source: SourceSegment, sound: memoryview, position: int, epoch_at: Callable[[int], int]
) -> None:
    """Only batches of another epoch than the one before are looked at: a wrong one stands out."""
    state, end = ScanState(position, source.base_offset, NO_TIMESTAMP, 0, 0, None), position + len(sound)
    for at in CODEC.scan_batches(sound, position, end, _BEYOND_ALL_OFFSETS, end, state).notable:
        header = parse_header(sound, at - position)
        epoch, known = header.partition_leader_epoch, epoch_at(header.base_offset)
        if epoch != known and UNDEFINED_EPOCH not in (epoch, known):
            raise DamagedLog(
                f"batch at position {at} (offset {header.base_offset}): it says leader epoch {epoch}, "
                f"{LEADER_EPOCH_FILE} {known}",
                path=source.path,
                base_offset=source.base_offset,
                position=at,
                offset=header.base_offset,
            )


def _next_wanted(
    source: SourceSegment, data: bytes, found: SoundPart, position: int, wanted: int, offset: int
) -> int:
    """How much to read next: a batch that is larger than a step at once."""
    at = position + found.size_bytes
    left = source.size_bytes - at
    if not found.stop and (found.size_bytes == len(data) or (found.size_bytes and left >= HEADER_BYTES)):
        return _CHUNK_BYTES
    problem = Stop(found.stop).name.lower()
    try:
        header = parse_header(data, found.size_bytes)
        check_header(header, position=at, available_bytes=left)
        if not found.stop and header.size_bytes > wanted:
            return header.size_bytes
    except CorruptBatch as error:
        problem = str(error)
    raise DamagedLog(
        f"batch at position {at} (offset {found.next_offset}): {problem}",
        path=source.path,
        base_offset=source.base_offset,
        position=at,
        offset=found.next_offset,
    )
