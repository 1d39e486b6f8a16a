"""Who votes, and since which offset: the sets of voters as the log names them.

A new set counts as soon as it is in a node's own log, committed or not; because sets differ by one voter at a
time, the majorities of two that follow each other always overlap.  A voter is a node with a directory: a node
whose disk was replaced is another voter, and as such none until it is added.  This module refuses to know who
changes the set and when that is allowed.  Source: KIP-853, Raft's dissertation section 4.1.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glasslog.common.errors import require
from glasslog.common.ids import NodeId
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY, VoterEntry, VotersRecord

_BEFORE_THE_LOG = -1


def same_directory(one: bytes, other: bytes) -> bool:
    """Whether two directory ids may mean the same; one that is not known may be any."""
    return one == other or UNKNOWN_DIRECTORY in (one, other)


@dataclass(frozen=True, slots=True)
class VoterSet:
    """Voters by id. ``is_recorded``: the log or a snapshot names them, not a node's settings."""

    voters: tuple[VoterEntry, ...]
    is_recorded: bool = False

    @classmethod
    def of(cls, voters: Iterable[VoterEntry], *, is_recorded: bool = False) -> "VoterSet":
        ordered = tuple(sorted(voters, key=lambda voter: voter.node_id))
        require(len({voter.node_id for voter in ordered}) == len(ordered), "a voter is named twice")
        return cls(ordered, is_recorded)

    @property
    def ids(self) -> tuple[NodeId, ...]:
        return tuple(voter.node_id for voter in self.voters)

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    @property
    def record(self) -> VotersRecord:
        return VotersRecord(voters=self.voters)

    def find(self, node_id: NodeId) -> VoterEntry | None:
        return next((voter for voter in self.voters if voter.node_id == node_id), None)

    def has(self, node_id: NodeId, directory_id: bytes) -> bool:
        """Whether that node with that directory votes."""
        voter = self.find(node_id)
        return voter is not None and same_directory(voter.directory_id, directory_id)

    def with_voter(self, voter: VoterEntry) -> "VoterSet":
        """With a voter more, or another in place of the one of its id."""
        others = [each for each in self.voters if each.node_id != voter.node_id]
        return VoterSet.of([*others, voter], is_recorded=True)

    def without(self, node_id: NodeId) -> "VoterSet":
        return VoterSet.of([each for each in self.voters if each.node_id != node_id], is_recorded=True)


class VoterHistory:
    """The sets of voters by the offset that made them; the last one counts."""

    def __init__(self, bootstrap: VoterSet, *, snapshot: tuple[int, VotersRecord] | None = None) -> None:
        """``bootstrap`` is from a node's settings; ``snapshot``: its end offset, and whom it names."""
        self._bootstrap = bootstrap
        self._offsets = [_BEFORE_THE_LOG]
        self._sets = [bootstrap]
        if snapshot is not None:
            self.begin_with(*snapshot)

    @property
    def bootstrap(self) -> VoterSet:
        """Whom the node's settings name."""
        return self._bootstrap

    @property
    def latest(self) -> VoterSet:
        return self._sets[-1]

    def had_before_latest(self, node_id: NodeId, directory_id: bytes) -> bool:
        """Whether that node voted until the latest set, which may not be committed."""
        return len(self._sets) > 1 and self._sets[-2].has(node_id, directory_id)

    @property
    def latest_offset(self) -> int:
        """Of the record that made it, -1 for the settings'."""
        return self._offsets[-1]

    def begin_with(self, end_offset: int, record: VotersRecord | None) -> None:
        """A snapshot stands for everything below ``end_offset``."""
        known = self._bootstrap if record is None else VoterSet.of(record.voters, is_recorded=True)
        self._offsets, self._sets = [_BEFORE_THE_LOG if record is None else end_offset - 1], [known]

    def append(self, offset: int, record: VotersRecord) -> None:
        require(offset > self.latest_offset, f"voters at {offset} after those at {self.latest_offset}")
        self._offsets.append(offset)
        self._sets.append(VoterSet.of(record.voters, is_recorded=True))

    def truncate(self, end_offset: int) -> None:
        """Records from ``end_offset`` on are gone."""
        while len(self._offsets) > 1 and self._offsets[-1] >= end_offset:
            self._offsets.pop()
            self._sets.pop()

    def before(self, end_offset: int) -> VoterSet:
        """The voters that entries below ``end_offset`` name."""
        return self._sets[max(0, bisect_left(self._offsets, end_offset) - 1)]

    def forget_before(self, end_offset: int) -> None:
        """Everything below is committed and in a snapshot."""
        kept = max(0, bisect_left(self._offsets, end_offset) - 1)
        del self._offsets[:kept], self._sets[:kept]


def read_history(
    bootstrap: Sequence[VoterEntry],
    *,
    snapshot: tuple[int, VotersRecord] | None,
    records: Iterable[tuple[int, VotersRecord]],
) -> VoterHistory:
    """What a node finds at its start: settings, a snapshot's end and voters, and records after it."""
    history = VoterHistory(VoterSet.of(bootstrap), snapshot=snapshot)
    for offset, record in records:
        history.append(offset, record)
    return history
