"""What ``send`` returns: an awaitable per record, or one for many, over the batches that carry them.

No future exists until somebody waits, since most records are never awaited one by one. Refuses to know how
batches travel.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator, Sequence

from glasslog.client.pending_batch import Delivered, Divided, Failed, PendingBatch
from glasslog.client.types import BatchMetadata, RecordMetadata
from glasslog.common.errors import GlasslogError


class Delivery:
    """One record's fate: ``await`` it for ``RecordMetadata`` or the error it failed with."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: PendingBatch, index: int) -> None:
        self._batch = batch
        self._index = index

    def __await__(self) -> Generator[object, None, RecordMetadata]:
        yield from _outcome(self._batch)
        return self._metadata()

    def done(self) -> bool:
        """Whether it was acknowledged or given up."""
        return self._batch.outcome is not None

    def add_done_callback(self, callback: Callable[[RecordMetadata | GlasslogError], None]) -> None:
        """Have ``callback`` called with the outcome, on the event loop; at once if it is known."""

        def tell() -> None:
            callback(self.outcome())

        if self.done():
            tell()
        else:
            self._batch.callbacks.append(tell)

    def outcome(self) -> RecordMetadata | GlasslogError:
        """Only once it is ``done``."""
        try:
            return self._metadata()
        except GlasslogError as error:
            return error

    def _metadata(self) -> RecordMetadata:
        ((batch, index, _),) = _in_parts(self._batch, self._index, 1)
        delivered, partition = _delivered(batch), batch.partition
        offset = delivered.base_offset + index if delivered.base_offset >= 0 else -1
        appended_ms = delivered.log_append_time_ms
        timestamp = batch.timestamp if appended_ms < 0 else appended_ms
        return RecordMetadata(partition.topic, partition.partition, offset, timestamp)


class Deliveries:
    """The fate of many records: ``await`` it for where each run of them was written, in the order given."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Sequence[tuple[PendingBatch, int, int]]) -> None:
        self._runs = runs
        """Batch, index of the run's first record in it, number of records."""

    def __await__(self) -> Generator[object, None, list[BatchMetadata]]:
        for batch, _, _ in self._runs:
            yield from _outcome(batch)
        return [_run_metadata(*part) for run in self._runs for part in _in_parts(*run)]

    def done(self) -> bool:
        """Whether everything was acknowledged or given up."""
        return all(batch.outcome is not None for batch, _, _ in self._runs)


def _outcome(batch: PendingBatch) -> Generator[object, None, None]:
    if batch.outcome is None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        batch.callbacks.append(wake)
        yield from future


def _in_parts(batch: PendingBatch, first: int, count: int) -> Iterator[tuple[PendingBatch, int, int]]:
    """The batches that carried a run of records: one, unless it was split."""
    if not isinstance(batch.outcome, Divided):
        yield batch, first, count
        return
    for part in batch.outcome.parts:
        taken = max(0, min(count, part.record_count - first))
        if taken:
            yield from _in_parts(part, first, taken)
        first, count = max(0, first - part.record_count), count - taken


def _delivered(batch: PendingBatch) -> Delivered:
    outcome = batch.outcome
    assert isinstance(outcome, Delivered | Failed)
    if isinstance(outcome, Delivered):
        return outcome
    # A fresh one for each waiter: raising one object at several places would pile up its traceback.
    raise GlasslogError(outcome.error.code, str(outcome.error)) from outcome.error


def _run_metadata(batch: PendingBatch, first: int, count: int) -> BatchMetadata:
    delivered = _delivered(batch)
    base_offset = delivered.base_offset + first if delivered.base_offset >= 0 else -1
    return BatchMetadata(batch.partition.topic, batch.partition.partition, base_offset, count)
