"""What the batches of a log tell of its producers, from the newest snapshot on, and of aborted transactions.

This module knows how to replay headers and markers; it refuses to know when that is needed.
Source: Kafka's ``UnifiedLog.rebuildProducerState`` and ``LogSegment.recover``.
"""

from collections.abc import Iterator, Sequence

from glasslog.log.batch import BatchHeader
from glasslog.log.loading import Folder
from glasslog.log.markers import is_marker_batch
from glasslog.log.producer_state import ProducerStates
from glasslog.log.segment import Segment
from glasslog.log.segment_recovery import notable_batches
from glasslog.log.transaction_index import AbortedTransaction, TransactionIndex


def replay_producers(
    folder: Folder, segments: Sequence[Segment], *, now_ms: int, at_most: int | None = None
) -> ProducerStates:
    """The newest usable snapshot of an offset not above ``at_most``, and every batch after it.

    How long ago these were appended is not known, only how old their records say they are: they count as
    appended at ``now_ms`` (wall clock), since to forget a producer too early would double its retries.
    Raises ``StorageError`` for a marker that can not be read.
    """
    states, offset = folder.newest_snapshot(at_most=at_most)
    for segment, header, position in _batches_from(segments, offset):
        replay_batch(states, segment, header, position, now_ms=now_ms)
    return states


def replay_batch(
    states: ProducerStates, segment: Segment, header: BatchHeader, position: int, *, now_ms: int = 0
) -> AbortedTransaction | None:
    """Let ``states`` learn from one batch; returns the transaction that it aborted, for the index."""
    marker = segment.marker_at(header, position) if is_marker_batch(header) else None
    return states.replay(header, now_ms=now_ms, marker=marker)


def transactions_of(folder: Folder, segments: Sequence[Segment], segment: Segment) -> TransactionIndex:
    """The transaction index of ``segment``, made from the batches when its file is unsound."""
    index = segment.transactions
    if index is None:
        index = segment.transactions = aborted_by_batches(folder, segments, segment)
    return index


def aborted_by_batches(folder: Folder, segments: Sequence[Segment], segment: Segment) -> TransactionIndex:
    """The transactions that were aborted in ``segment``. Raises ``StorageError`` and ``CorruptBatch``."""
    number = segments.index(segment)
    states, offset = folder.newest_snapshot(at_most=segment.base_offset)
    index = TransactionIndex()
    for holder, header, position in _batches_from(segments[: number + 1], offset):
        aborted = replay_batch(states, holder, header, position)
        if aborted is not None and holder is segment:
            index.append(aborted)
    return index


def _batches_from(segments: Sequence[Segment], offset: int) -> Iterator[tuple[Segment, BatchHeader, int]]:
    """The headers of all batches from ``offset`` on that producers' state depends on, and where they lie."""
    for segment in segments:
        if segment.next_offset > offset:
            for header, position in notable_batches(segment, offset):
                yield segment, header, position
