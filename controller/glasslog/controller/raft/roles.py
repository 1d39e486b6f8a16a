"""The roles a voter can be in, each a class of its own, and the table of legal changes between them.

The epoch, the vote and the leader of the epoch are no part of a role: they are ``HardState``.  This module
refuses to know what makes a voter change its role.

    Unattached    knows the epoch, not its leader
    Voted         gave its vote in this epoch to another voter and waits for the outcome
    Prospective   asks whether it would be elected, before it disturbs anybody with a new epoch (KIP-996)
    Candidate     voted for itself in a new epoch and asks for votes
    Leader        was elected
    Follower      fetches from the epoch's leader
    Resigned      led this epoch and does not any more

A newer epoch always leads through Unattached.  Source: Kafka's ``QuorumState``.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from glasslog.common.ids import NodeId
from glasslog.controller.raft.messages import FetchRequest
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY
from glasslog.metadata.snapshot import SnapshotId

NEVER_MS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattached:
    """Seeks election at ``election_deadline_ms`` unless it hears of a leader."""

    election_deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Voted:
    """As ``Unattached``, after its vote was given."""

    candidate_id: NodeId
    election_deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLeader:
    """Who leads this epoch, as a voter says that was asked for its vote."""

    node_id: NodeId
    address: str


@dataclass(slots=True, kw_only=True)
class Poll:
    """The asking around that ``Prospective`` and ``Candidate`` have in common.

    Every other voter is in exactly one of ``in_flight``, ``retry_at_ms``, ``granted`` and ``rejected``.
    """

    granted: set[NodeId]
    rejected: set[NodeId] = field(default_factory=set)
    in_flight: dict[int, NodeId] = field(default_factory=dict)
    retry_at_ms: dict[NodeId, int] = field(default_factory=dict)
    named: NamedLeader | None = None


@dataclass(slots=True, kw_only=True)
class Prospective:
    """Campaigns if ``poll`` is won, asks anew at ``election_deadline_ms``."""

    poll: Poll
    election_deadline_ms: int


@dataclass(slots=True, kw_only=True)
class Candidate:
    """Leads if ``poll`` is won, becomes prospective again at ``election_deadline_ms``."""

    poll: Poll
    election_deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchInFlight:
    """A fetch was sent and not answered yet."""

    correlation_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPending:
    """The next fetch leaves at ``at_ms``."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchingLog:
    """The next fetch asks for what follows the own log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchingSnapshot:
    """The leader's log begins behind the own one's end: the next fetch asks for this part of a snapshot."""

    snapshot_id: SnapshotId
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Nothing is known against the leader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspected:
    """The leader's process refuses connections; at ``election_deadline_ms`` it is taken for dead."""

    election_deadline_ms: int


@dataclass(slots=True, kw_only=True)
class Follower:
    """Seeks election at ``fetch_deadline_ms`` unless a fetch succeeds before."""

    leader_id: NodeId
    fetch_deadline_ms: int
    fetch: FetchInFlight | FetchPending
    has_fetched: bool = False
    wanted: FetchingLog | FetchingSnapshot = field(default_factory=FetchingLog)
    leader: Trusted | Suspected = field(default_factory=Trusted)


@dataclass(slots=True, kw_only=True)
class Progress:
    """A fetcher as its leader sees it. ``end_offset`` is -1 until its log was found to be a prefix."""

    end_offset: int = -1
    last_fetch_ms: int = NEVER_MS
    last_caught_up_ms: int = NEVER_MS
    leader_end_at_last_fetch: int = -1
    directory_id: bytes = UNKNOWN_DIRECTORY
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetcherKey:
    """A controller that is also a broker fetches twice: as voter and as observer."""

    replica_id: NodeId
    observer: bool
    directory_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedFetch:
    """A fetch that waits for something new."""

    request_id: int
    request: FetchRequest
    deadline_ms: int


@dataclass(slots=True, kw_only=True)
class Leader:
    """``voters`` has every voter but the leader itself; a fetcher has at most one parked fetch.

    ``is_ready``: the first own entry is committed.  ``elected_at_ms`` stands in for fetches never made.
    """

    epoch_start_offset: int
    elected_at_ms: int
    next_announcement_ms: int
    voters: dict[NodeId, Progress]
    observers: dict[FetcherKey, Progress] = field(default_factory=dict)
    parked: dict[FetcherKey, ParkedFetch] = field(default_factory=dict)
    announcing: dict[NodeId, int] = field(default_factory=dict)
    is_ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resigned:
    """May seek election again at ``election_deadline_ms``."""

    election_deadline_ms: int


Role: TypeAlias = Unattached | Voted | Prospective | Candidate | Follower | Leader | Resigned

NEXT_ROLES: dict[type[Role], frozenset[type[Role]]] = {
    Unattached: frozenset({Unattached, Voted, Prospective, Candidate, Follower}),
    Voted: frozenset({Unattached, Prospective, Candidate, Follower}),
    Prospective: frozenset({Unattached, Voted, Prospective, Candidate, Follower}),
    Candidate: frozenset({Unattached, Prospective, Leader, Follower}),
    Follower: frozenset({Unattached, Prospective, Candidate}),
    Leader: frozenset({Unattached, Resigned}),
    Resigned: frozenset({Unattached, Prospective, Candidate}),
}
"""From each role to those that may follow it; anything else is a bug. Candidate without Prospective before
it is for a quorum of one, which has nobody to ask."""
