"""What clients did and saw in one run, as it is recorded.

Becomes a ``glasslog.checker`` history in the end, which is also what ``--history`` writes.  Refuses to know
clusters, and what is wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from glasslog.checker import operations
from glasslog.checker.operations import (
    UNKNOWN_OFFSET,
    Acks,
    End,
    Fault,
    Outcome,
    Poll,
    Send,
    Subscription,
    Transfer,
)
from glasslog.common.ids import TopicPartition


@dataclass(slots=True, kw_only=True)
class Sent:
    """One value on its way: ``number`` counts its producer's sends, ``offset`` is known once acknowledged.

    ``validated`` values must survive (acks=all) and be there once and in order (idempotent).
    """

    value: str
    producer: str
    number: int
    partition: TopicPartition
    validated: bool
    offset: int = UNKNOWN_OFFSET
    is_acknowledged: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An operation that has begun: its number, and when."""

    index: int
    start_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A history that others have recorded."""

    history: operations.History
    sent: int
    acknowledged: int


@dataclass(slots=True)
class History:
    """Everything that was sent and polled.

    ``assigned`` are the consumers that nobody rebalances.  ``drained`` is missing until a fresh consumer has
    read everything in the end, ``through`` are the groups that have done so too.
    """

    sent: dict[str, Sent] = field(default_factory=dict)
    assigned: list[str] = field(default_factory=list)
    groups: dict[str, None] = field(default_factory=dict)
    drained: tuple[TopicPartition, ...] | None = None
    through: tuple[str, ...] = ()
    replicas: dict[str, tuple[str, ...]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    _operations: list[operations.Operation] = field(default_factory=list)
    _sending: dict[int, tuple[Sent, Begun]] = field(default_factory=dict)
    _begun: int = 0
    _adopted: "Adopted | None" = None

    def adopt(self, history: operations.History, *, sent: int, acknowledged: int) -> None:
        """Somebody else has recorded the whole run, with so many records: their history counts."""
        self._adopted = Adopted(history=history, sent=sent, acknowledged=acknowledged)

    @property
    def sent_count(self) -> int:
        """How many records were sent."""
        return len(self.sent) if self._adopted is None else self._adopted.sent

    @property
    def acknowledged_count(self) -> int:
        """How many of them were acknowledged."""
        if self._adopted is not None:
            return self._adopted.acknowledged
        return sum(sent.is_acknowledged for sent in self.sent.values())

    def note_fault(self, text: str, now_s: float) -> None:
        """Something that was done to the cluster, for verdicts."""
        at_ms = round(now_s * 1000, 3)
        self.faults.append(Fault(name=text, start_ms=at_ms, end_ms=at_ms))

    # --- recording --------------------------------------------------------------------------------------

    def begin(self, now_ms: float) -> Begun:
        self._begun += 1
        return Begun(index=self._begun - 1, start_ms=now_ms)

    def sending(self, sent: Sent, now_ms: float) -> Begun:
        """A value is handed to a producer."""
        begun = self.begin(now_ms)
        self.sent[sent.value] = sent
        self._sending[begun.index] = sent, begun
        return begun

    def has_sent(self, begun: Begun, outcome: Outcome, now_ms: float) -> None:
        """What became of it."""
        sent, _ = self._sending.pop(begun.index)
        self._operations.append(_transfer(sent, begun, outcome, now_ms))

    def has_polled(
        self,
        consumer: str,
        records: Mapping[str, Sequence[tuple[int, str]]],
        *,
        start_ms: float,
        end_ms: float,
        group: str = "",
        is_drain: bool = False,
    ) -> None:
        """One poll's records by partition; numbered now, so that polls without records need no number."""
        self._operations.append(
            Transfer(
                index=self.begin(start_ms).index,
                process=consumer,
                outcome=Outcome.OK,
                start_ms=start_ms,
                end_ms=end_ms,
                steps=(Poll(records),),
                group=group,
                is_drain=is_drain,
            )
        )

    def has_assigned(self, consumer: str, partitions: Iterable[TopicPartition], now_ms: float) -> None:
        """A consumer reads these from now on, and nobody rebalances it."""
        self.assigned.append(consumer)
        begun = self.begin(now_ms)
        self._operations.append(
            Subscription(
                index=begun.index,
                process=consumer,
                outcome=Outcome.OK,
                start_ms=now_ms,
                end_ms=now_ms,
                keys=tuple(map(str, partitions)),
            )
        )

    # --- the end ----------------------------------------------------------------------------------------

    def recorded(self, name: str, now_ms: float) -> operations.History:
        """All of it, complete if it was drained; nobody knows what becomes of values still under way."""
        if self._adopted is not None:
            return replace(self._adopted.history, name=name)
        unknown = [
            _transfer(sent, begun, Outcome.INFO, max(now_ms, begun.start_ms))
            for sent, begun in self._sending.values()
        ]
        end = None
        if self.drained is not None:
            keys = tuple(map(str, self.drained))
            end = End(operations=self._begun, drained=keys, groups=self.through)
        return operations.History(
            name=name,
            operations=sorted([*self._operations, *unknown], key=lambda each: each.index),
            faults=list(self.faults),
            replicas=dict(self.replicas),
            end=end,
        )


def _transfer(sent: Sent, begun: Begun, outcome: Outcome, end_ms: float) -> Transfer:
    return Transfer(
        index=begun.index,
        process=sent.producer,
        outcome=outcome,
        start_ms=begun.start_ms,
        end_ms=end_ms,
        steps=(Send(str(sent.partition), sent.value, sent.offset),),
        acks=Acks.ALL if sent.validated else Acks.LEADER,
        is_idempotent=sent.validated,
        error=sent.error,
    )
