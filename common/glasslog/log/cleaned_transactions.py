"""Which transactional batches compaction may drop: what was aborted, and markers whose data is gone.

This module knows the order of batches and markers in a log; it refuses to know keys and tombstones.  It is
told of every batch once, from the log's start on.  Source: Kafka's ``CleanedTransactionMetadata``.
"""

from collections import deque
from collections.abc import Iterable

from glasslog.log.batch import BatchHeader
from glasslog.log.markers import EndTransactionMarker
from glasslog.log.transaction_index import AbortedTransaction


class CleanedTransactions:
    """``aborted`` are the log's aborted transactions, in any order."""

    def __init__(self, aborted: Iterable[AbortedTransaction]) -> None:
        self._coming = deque(sorted(aborted, key=lambda each: each.first_offset))
        self._aborting: dict[int, AbortedTransaction] = {}
        self._with_aborted_data: set[int] = set()
        self._with_data: set[int] = set()

    def copy(self) -> "CleanedTransactions":
        """To go back to when a piece of work is done once more."""
        other = CleanedTransactions(self._coming)
        other._aborting = dict(self._aborting)
        other._with_aborted_data = set(self._with_aborted_data)
        other._with_data = set(self._with_data)
        return other

    def on_batch(self, header: BatchHeader) -> bool:
        """The next batch of data; True when its transaction was aborted, so that nothing of it matters."""
        self._begin_up_to(header.last_offset)
        if not header.is_transactional:
            return False
        producer_id = header.producer_id
        if producer_id in self._aborting:
            self._with_aborted_data.add(producer_id)
            return True
        self._with_data.add(producer_id)
        return False

    def on_marker(
        self, header: BatchHeader, marker: EndTransactionMarker
    ) -> tuple[bool, AbortedTransaction | None]:
        """The next marker: whether its transaction has no data any more, and what to index if it was aborted.

        An aborted transaction that had data when it was passed is indexed once more: a reader of the segment
        as it is now may still meet batches of it.
        """
        self._begin_up_to(header.last_offset)
        producer_id = header.producer_id
        if marker.is_commit:
            had_data = producer_id in self._with_data
            self._with_data.discard(producer_id)
            return not had_data, None
        aborted = self._aborting.pop(producer_id, None)
        had_data = producer_id in self._with_aborted_data
        self._with_aborted_data.discard(producer_id)
        return not had_data, aborted if had_data else None

    def _begin_up_to(self, offset: int) -> None:
        while self._coming and self._coming[0].first_offset <= offset:
            transaction = self._coming.popleft()
            self._aborting.setdefault(transaction.producer_id, transaction)
