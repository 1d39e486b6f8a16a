"""Which batches of a fetch belong to aborted transactions: those must not be handed out (KIP-98).

The broker tells where aborted transactions begin; each ends at its producer's next abort marker.  Sans-I/O.
Source: Kafka's ``CompletedFetch``.
"""

from collections import deque
from collections.abc import Sequence

from glasslog.log.batch import BatchHeader
from glasslog.log.markers import decode_marker


class AbortedFilter:
    """For the batches of one answer, in order."""

    __slots__ = ("_aborting", "_to_come")

    def __init__(self, aborted: Sequence[tuple[int, int]]) -> None:
        """``aborted``: producer id and first offset of each transaction."""
        self._to_come = deque(sorted((offset, producer_id) for producer_id, offset in aborted))
        self._aborting: set[int] = set()

    def hides(self, header: BatchHeader, data: bytes, position: int) -> bool:
        """Whether the batch is part of an aborted transaction. Ask once for each."""
        while self._to_come and self._to_come[0][0] < header.next_offset:
            self._aborting.add(self._to_come.popleft()[1])
        if not header.is_transactional or header.producer_id not in self._aborting:
            return False
        if not header.is_control:
            return True
        marker = decode_marker(data, position)
        if marker is not None and not marker.is_commit:
            self._aborting.discard(header.producer_id)
        return False
