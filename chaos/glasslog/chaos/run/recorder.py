"""What the clients of a run did and saw: operations for ``glasslog.checker``, and figures for people.

Refuses to know clients and clusters.  Times are milliseconds of the run, from its start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from glasslog.checker.operations import (
    UNKNOWN_OFFSET,
    Acks,
    End,
    Fault,
    History,
    Operation,
    Outcome,
    Poll,
    Send,
    Transfer,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Values on their way to one partition, stored side by side or not at all."""

    index: int
    process: str
    start_ms: float
    key: str
    values: tuple[str, ...]
    acks: Acks
    is_idempotent: bool


@dataclass(slots=True)
class Interval:
    """What happened in one interval of the run."""

    acknowledged: int = 0
    read: int = 0
    failed: int = 0
    latencies_ms: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Figures:
    """Counts of the whole run, and by interval of ``interval_ms``."""

    interval_ms: int = 250
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    read: int = 0
    intervals: dict[int, Interval] = field(default_factory=dict)

    def at(self, now_ms: float) -> Interval:
        return self.intervals.setdefault(int(now_ms // self.interval_ms), Interval())


class Recorder:
    """``on_operation`` and ``on_fault`` are given each when it has ended, to be written down at once."""

    def __init__(
        self,
        on_operation: Callable[[Operation], object] = lambda operation: None,
        on_fault: Callable[[Fault], object] = lambda fault: None,
    ) -> None:
        self._on_operation = on_operation
        self._on_fault = on_fault
        self._operations: list[Operation] = []
        self._under_way: dict[int, Batch] = {}
        self._begun = 0
        self.figures = Figures()
        self._faults: list[Fault] = []
        self.replicas: dict[str, tuple[str, ...]] = {}
        self.drained: tuple[str, ...] | None = None
        """The partitions, once a fresh consumer has read them to the end."""

        self.groups: tuple[str, ...] = ()
        """Those that have read to the end."""

    def _next(self) -> int:
        self._begun += 1
        return self._begun - 1

    def _add(self, operation: Operation) -> None:
        self._operations.append(operation)
        self._on_operation(operation)

    # --- producers --------------------------------------------------------------------------------------

    def sending(
        self,
        process: str,
        key: str,
        values: tuple[str, ...],
        *,
        acks: Acks,
        is_idempotent: bool,
        now_ms: float,
    ) -> Batch:
        """A batch is handed to a producer."""
        batch = Batch(
            index=self._next(),
            process=process,
            start_ms=now_ms,
            key=key,
            values=values,
            acks=acks,
            is_idempotent=is_idempotent,
        )
        self._under_way[batch.index] = batch
        self.figures.sent += len(values)
        return batch

    def acknowledged(self, batch: Batch, base_offset: int, now_ms: float) -> None:
        """It is stored; an offset of -1 is not known, as with acks=0: then nobody knows whether it is."""
        del self._under_way[batch.index]
        outcome = Outcome.INFO if batch.acks is Acks.NONE else Outcome.OK
        self._add(_transfer(batch, outcome, now_ms, base_offset=base_offset))
        self.figures.acknowledged += len(batch.values)
        interval = self.figures.at(now_ms)
        interval.acknowledged += len(batch.values)
        interval.latencies_ms.append(now_ms - batch.start_ms)

    def failed(self, batch: Batch, error: str, now_ms: float, *, is_definite: bool) -> None:
        """It was given up. Only if it is ``is_definite`` can nothing of it be stored."""
        del self._under_way[batch.index]
        outcome = Outcome.FAIL if is_definite else Outcome.INFO
        self._add(_transfer(batch, outcome, now_ms, error=error))
        self.figures.failed += len(batch.values)
        self.figures.at(now_ms).failed += len(batch.values)

    # --- consumers --------------------------------------------------------------------------------------

    def polled(
        self,
        process: str,
        records: Mapping[str, Sequence[tuple[int, str]]],
        *,
        start_ms: float,
        now_ms: float,
        group: str = "",
        is_drain: bool = False,
    ) -> None:
        """One poll's records by partition."""
        self._add(
            Transfer(
                index=self._next(),
                process=process,
                outcome=Outcome.OK,
                start_ms=start_ms,
                end_ms=now_ms,
                steps=(Poll(records),),
                group=group,
                is_drain=is_drain,
            )
        )
        if not is_drain:
            count = sum(map(len, records.values()))
            self.figures.read += count
            self.figures.at(now_ms).read += count

    # --- faults -----------------------------------------------------------------------------------------

    def fault(self, fault: Fault) -> None:
        """One is over."""
        self._faults.append(fault)
        self._on_fault(fault)

    # --- the end ----------------------------------------------------------------------------------------

    def give_up_the_rest(self, now_ms: float) -> None:
        """Nobody will ever know what became of what is still under way."""
        for batch in list(self._under_way.values()):
            self.failed(batch, "still under way", max(now_ms, batch.start_ms), is_definite=False)

    def recorded(self, name: str) -> History:
        """All of it; complete once it was drained and nothing is under way."""
        end = None
        if self.drained is not None:
            end = End(operations=self._begun, drained=self.drained, groups=self.groups)
        return History(
            name=name,
            operations=sorted(self._operations, key=lambda each: each.index),
            faults=sorted(self._faults, key=lambda each: each.start_ms),
            replicas=dict(self.replicas),
            end=end,
        )


def _transfer(
    batch: Batch, outcome: Outcome, now_ms: float, *, base_offset: int = UNKNOWN_OFFSET, error: str = ""
) -> Transfer:
    known = base_offset >= 0
    return Transfer(
        index=batch.index,
        process=batch.process,
        outcome=outcome,
        start_ms=batch.start_ms,
        end_ms=now_ms,
        steps=tuple(
            Send(batch.key, value, base_offset + place if known else UNKNOWN_OFFSET)
            for place, value in enumerate(batch.values)
        ),
        acks=batch.acks,
        is_idempotent=batch.is_idempotent,
        error=error,
    )
