"""The names of what can be wrong with a history, and one finding with all that is known about it.

Refuses to know how anything is found. The names are those of Jepsen's Kafka workload where it has one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from glasslog.checker.operations import Operation


class Kind(StrEnum):
    """What can be wrong; the comments say when, ``docs/checker.md`` says more."""

    INCONSISTENT_OFFSETS = "inconsistent-offsets"
    """Two values at one offset."""
    DUPLICATE = "duplicate"
    """One value at two offsets."""
    LOST_WRITE = "lost-write"
    """Never read, although committed and something behind it was read."""
    UNSEEN = "unseen"
    """Acknowledged, and not even the final drain read it."""
    ABORTED_READ = "G1a"
    """Read, although its writer definitely failed or aborted."""
    PRECOMMITTED_READ = "precommitted-read"
    """A transaction read what it sent itself."""
    POLL_SKIP = "poll-skip"
    """A consumer's next poll left something out."""
    NONMONOTONIC_POLL = "nonmonotonic-poll"
    """A consumer's next poll went back."""
    INT_POLL_SKIP = "int-poll-skip"
    """Something was left out within one poll."""
    INT_NONMONOTONIC_POLL = "int-nonmonotonic-poll"
    """One poll went back."""
    NONMONOTONIC_SEND = "nonmonotonic-send"
    """A producer's later value lies before its earlier one."""
    INT_NONMONOTONIC_SEND = "int-nonmonotonic-send"
    """The same within one operation."""
    INT_SEND_SKIP = "int-send-skip"
    """Somebody else's value lies between two of one operation."""
    DIRTY_WRITE_CYCLE = "G0"
    """Operations overwrote each other in a circle."""
    INFORMATION_CYCLE = "G1c"
    """Operations saw each other in a circle."""
    NEVER_SENT = "never-sent"
    """Read, and nobody sent it there."""
    VANISHED = "vanished"
    """Some consumer read it, the final drain did not."""
    UNSEEN_BY_GROUP = "unseen-by-group"
    """Acknowledged, and no member of a group ever read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One finding. ``allowed`` is empty, or says why the promises bear it."""

    kind: Kind
    key: str
    detail: str
    values: tuple[str, ...] = ()
    offsets: tuple[int, ...] = ()
    operations: tuple[int, ...] = ()
    replicas: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    allowed: str = ""

    def __str__(self) -> str:
        where = f" in {self.key}" if self.key else ""
        return f"{self.kind}{where}: {self.detail}"


def indices(operations: Iterable[Operation]) -> tuple[int, ...]:
    """The operations' numbers, each once, in the order given."""
    return tuple(dict.fromkeys(operation.index for operation in operations))
