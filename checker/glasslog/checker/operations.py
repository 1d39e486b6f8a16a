"""What a history is made of: operations of clients, faults, and the mark that says it is complete.

Plain values. Refuses to know where they come from, what is right and what is wrong.  A *key* names one
partition, as in ``orders-0``; a *value* is unique in the whole history.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

UNKNOWN_OFFSET = -1


class Outcome(StrEnum):
    """How an operation ended: acknowledged, definitely not done, or nobody knows."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


class Acks(StrEnum):
    """What a producer waited for. Only what ``ALL`` acknowledged must survive."""

    NONE = "0"
    LEADER = "1"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Send:
    """One value on its way to ``key``; ``offset`` is ``UNKNOWN_OFFSET`` unless the cluster told it."""

    key: str
    value: str
    offset: int = UNKNOWN_OFFSET


@dataclass(frozen=True, slots=True)
class Poll:
    """Offsets and values of each key, in the order in which one poll handed them out."""

    records: Mapping[str, Sequence[tuple[int, str]]]


Step = Send | Poll


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Sends and polls of one process, one after the other; all or nothing if ``is_transaction``.

    ``index`` numbers all operations of a history in the order in which they began.  ``rebalanced`` are the
    keys that came or went meanwhile.  ``is_drain`` marks the fresh client that reads everything in the end,
    ``group`` a member's polls. Times are of one clock, in milliseconds.
    """

    index: int
    process: str
    outcome: Outcome
    start_ms: float
    end_ms: float
    steps: tuple[Step, ...]
    is_transaction: bool = False
    acks: Acks = Acks.ALL
    is_idempotent: bool = True
    rebalanced: frozenset[str] = frozenset()
    is_drain: bool = False
    group: str = ""
    error: str = ""

    def sends(self) -> list[Send]:
        return [step for step in self.steps if isinstance(step, Send)]

    def polls(self) -> list[Poll]:
        return [step for step in self.steps if isinstance(step, Poll)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A process reads these keys from now on: chosen by itself, or by its group (``is_group``).

    ``seeks``: it also jumped to another place, so nothing can be said about what comes next.
    """

    index: int
    process: str
    outcome: Outcome
    start_ms: float
    end_ms: float
    keys: tuple[str, ...]
    is_group: bool = False
    seeks: bool = False
    error: str = ""


Operation = Transfer | Subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was done to the cluster, and how long it lasted."""

    name: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Written last. A fresh client has read every one of ``drained`` from the beginning to the end.

    So have all members of each of ``groups`` together, at their own pace.
    """

    operations: int
    drained: tuple[str, ...]
    groups: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class History:
    """Everything that was recorded. ``end`` is missing when the recording broke off."""

    name: str = ""
    operations: list[Operation] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    replicas: dict[str, tuple[str, ...]] = field(default_factory=dict)
    end: End | None = None
