"""What the quorum shares with whoever runs it: settings, committed batches, the listener, descriptions.

This module refuses to know how agreement is reached; it holds values and the one callback protocol.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from glasslog.common.errors import ConfigError
from glasslog.common.ids import NO_NODE, NodeId, Offset
from glasslog.controller.raft.snapshot_rules import SnapshotConfig
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY
from glasslog.metadata.snapshot import Snapshot

__all__ = [
    "CommittedBatch",
    "HardState",
    "QuorumConfig",
    "QuorumDescription",
    "RaftListener",
    "ReplicaDescription",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumConfig:
    """Timeouts and bounds of one voter.

    ``fetch_timeout_ms``: how long a follower bears its leader's silence before it seeks election.
    ``election_timeout_ms``: how long a candidate waits for votes; up to as much again is added at random.
    ``request_timeout_ms``: for one request, beyond what the request itself waits.
    ``retry_backoff_ms``: after a failed request to a peer.
    ``append_linger_ms``: how long a leader at most collects proposals before it writes and syncs them.
    ``max_fetch_bytes``: of records in one fetch's answer (one larger batch is sent alone).
    ``max_batch_bytes``: of the values in one proposal.
    ``max_uncommitted_records``: proposals are refused while so many wait for the majority.
    ``max_observers``: fetchers that are no voters, remembered for ``describe``.
    ``max_inbox``: events that wait for the node's task; requests beyond are refused.
    ``segment_bytes``: of the log's segments, at least what one proposal may take.
    ``snapshots``: when they are taken, and what goes then.
    """

    election_timeout_ms: int = 500
    fetch_timeout_ms: int = 800
    request_timeout_ms: int = 2000
    retry_backoff_ms: int = 50
    append_linger_ms: int = 0
    max_fetch_bytes: int = 1024 * 1024
    max_batch_bytes: int = 8 * 1024 * 1024
    max_uncommitted_records: int = 200_000
    max_observers: int = 10_000
    max_inbox: int = 10_000
    segment_bytes: int = 64 * 1024 * 1024
    snapshots: SnapshotConfig = field(default_factory=SnapshotConfig)

    def __post_init__(self) -> None:
        for name in ("election_timeout_ms", "fetch_timeout_ms", "request_timeout_ms", "retry_backoff_ms"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"quorum setting {name} is {getattr(self, name)}; it must be positive")

    @property
    def check_quorum_timeout_ms(self) -> int:
        """A leader that no majority fetched from for so long resigns (as Kafka: 1.5 fetch timeouts)."""
        return self.fetch_timeout_ms * 3 // 2

    @property
    def fetch_wait_ms(self) -> int:
        """How long a leader may park a follower's fetch."""
        return max(1, self.fetch_timeout_ms // 4)

    @property
    def fetch_attempt_timeout_ms(self) -> int:
        """How long a follower waits for one answer: short enough that a lost one is borne."""
        return max(1, self.fetch_timeout_ms * 2 // 3)

    @property
    def suspicion_ms(self) -> int:
        """A leader that refuses connections for so long is taken for dead before the fetch timeout."""
        return max(1, self.fetch_timeout_ms // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells one node from others, beyond its id.

    ``directory_id``: of the folder its log lies in, zeros when there is none to know it by.
    ``address``: where others reach it.
    ``bootstrap_servers``: whom a node asks for the leader that knows no voters.
    """

    directory_id: bytes = UNKNOWN_DIRECTORY
    address: str = ""
    bootstrap_servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HardState:
    """What a voter must never forget: the newest epoch it has seen, whom it voted for and who leads in it."""

    epoch: int = 0
    voted_for: NodeId = NO_NODE
    leader_id: NodeId = NO_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedBatch:
    """One proposal that the majority holds: its records have consecutive offsets from ``base_offset``."""

    base_offset: Offset
    epoch: int
    records: tuple[bytes, ...]

    @property
    def next_offset(self) -> Offset:
        return Offset(self.base_offset + len(self.records))


SnapshotSource: TypeAlias = Callable[[], Iterator[Sequence[bytes]]]
"""Makes the records of a state that does not change any more, batch by batch; any thread may call it."""


class RaftListener(Protocol):
    """What the replicated state machine is told, on the node's task, in order.

    An exception out of any of these stops the node.
    """

    def on_committed(self, batch: CommittedBatch) -> None:
        """The next committed batch: in offset order, each once at most in a life, no control batches."""
        ...

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Forget everything and start over from this; the next batch is of its end offset or later."""
        ...

    def take_snapshot(self) -> SnapshotSource:
        """The state as the batches given so far made it."""
        ...

    def on_leader(self, epoch: int) -> None:
        """This node leads, and everything before its epoch is committed and was given to ``on_committed``."""
        ...

    def on_not_leader(self, epoch: int, leader_id: NodeId) -> None:
        """Leadership was lost, or a new leader is known, or none is any more (``NO_NODE``)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaDescription:
    """One fetcher as the leader sees it; times in milliseconds ago, -1: never."""

    node_id: NodeId
    log_end_offset: Offset
    last_fetch_ms_ago: int
    last_caught_up_ms_ago: int
    directory_id: bytes = UNKNOWN_DIRECTORY
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumDescription:
    """The quorum as this node knows it; replicas' progress is known to the leader only."""

    leader_id: NodeId
    epoch: int
    high_watermark: Offset
    voters: tuple[ReplicaDescription, ...]
    observers: tuple[ReplicaDescription, ...]
