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
from glasslog.log.transaction_index import TransactionIndex


def replay_producers(
    folder: Folder, segments: Sequence[Segment], *, now_ms: int, index_from: int | None = None
) -> ProducerStates:
    """The newest usable snapshot, and every batch after it.

    How long ago these were appended is not known, only how old their records say they are: they count as
    appended at ``now_ms`` (wall clock), since to forget a producer too early would double its retries.
    With ``index_from``, the base offset of a segment, the transaction indexes from there on, which must be
    empty, are filled.
    Raises ``StorageError`` for a marker that can not be read.
    """
    states, offset = folder.newest_snapshot(at_most=index_from)
    for segment, header, position in _batches_from(segments, offset):
        marker = segment.marker_at(header, position) if is_marker_batch(header) else None
        aborted = states.replay(header, now_ms=now_ms, marker=marker)
        if aborted is not None and index_from is not None and segment.base_offset >= index_from:
            transactions_of(folder, segments, segment).append(aborted)
    return states


def transactions_of(folder: Folder, segments: Sequence[Segment], segment: Segment) -> TransactionIndex:
    """The transaction index of ``segment``, made from the batches when its file is unsound."""
    index = segment.transactions
    if index is None:
        number = segments.index(segment)
        states, offset = folder.newest_snapshot(at_most=segment.base_offset)
        index = TransactionIndex()
        for holder, header, position in _batches_from(segments[: number + 1], offset):
            marker = holder.marker_at(header, position) if is_marker_batch(header) else None
            aborted = states.replay(header, marker=marker)
            if aborted is not None and holder is segment:
                index.append(aborted)
        segment.transactions = index
    return index


def _batches_from(segments: Sequence[Segment], offset: int) -> Iterator[tuple[Segment, BatchHeader, int]]:
    """The headers of all batches from ``offset`` on, with where they lie."""
    for segment in segments:
        if segment.next_offset > offset:
            for header, position in segment.headers(segment.position_before(offset)):
                if header.base_offset >= offset:
                    yield segment, header, position
