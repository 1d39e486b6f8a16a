"""What passes between raft nodes and through a core: requests, responses, inputs, outputs, ``Ready``.

This module refuses to know how anything travels or is stored: it is data.  Source of the requests: KIP-595,
KIP-630 (snapshots), KIP-996 (pre-vote).
"""

from dataclasses import dataclass
from typing import TypeAlias

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.raft.types import HardState
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY, VotersRecord
from glasslog.metadata.snapshot import SnapshotId

# --- requests ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRequest:
    """Asks ``voter_id`` for its vote in ``candidate_epoch``; as a pre-vote, whether it would give one."""

    cluster_id: str
    candidate_epoch: int
    candidate_id: NodeId
    voter_id: NodeId
    last_epoch: int
    log_end_offset: int
    pre_vote: bool
    voter_directory_id: bytes = UNKNOWN_DIRECTORY


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginQuorumEpochRequest:
    """A new leader makes itself known."""

    cluster_id: str
    leader_id: NodeId
    leader_epoch: int
    voter_id: NodeId
    voter_directory_id: bytes = UNKNOWN_DIRECTORY
    leader_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndQuorumEpochRequest:
    """A leader gives up; the first of ``preferred_successors`` should seek election at once."""

    cluster_id: str
    leader_id: NodeId
    leader_epoch: int
    preferred_successors: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """A voter's or observer's long poll; ``last_fetched_epoch`` is of its last entry, -1 for an empty log.

    ``current_leader_epoch`` -1 (observers only) and ``known_high_watermark`` -1: not known, not compared.
    ``observer``: it is no controller, and applies what it gets at once.  Whether a controller is a voter, its
    ``directory_id`` tells; ``address`` is where it can be reached.
    """

    cluster_id: str
    replica_id: NodeId
    current_leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    max_wait_ms: int
    max_bytes: int
    observer: bool
    known_high_watermark: int
    directory_id: bytes = UNKNOWN_DIRECTORY
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSnapshotRequest:
    """Asks for a part of a snapshot, from byte ``position`` on; epochs as in ``FetchRequest``."""

    cluster_id: str
    replica_id: NodeId
    current_leader_epoch: int
    snapshot_id: SnapshotId
    position: int
    max_bytes: int
    observer: bool
    directory_id: bytes = UNKNOWN_DIRECTORY


Request: TypeAlias = (
    VoteRequest | BeginQuorumEpochRequest | EndQuorumEpochRequest | FetchRequest | FetchSnapshotRequest
)

# --- responses --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteResponse:
    """``epoch`` and ``leader_id`` are the voter's own view (``NO_NODE``: none known)."""

    error: ErrorCode
    epoch: int
    leader_id: NodeId
    granted: bool
    leader_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResponse:
    """Answers BeginQuorumEpoch and EndQuorumEpoch alike."""

    error: ErrorCode
    epoch: int
    leader_id: NodeId
    leader_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergingEpoch:
    """The leader's end of the largest epoch not above the fetcher's last one: truncate there."""

    epoch: int
    end_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRange:
    """Records that the leader's shell reads from its log: whole batches, at least one if any is there."""

    start_offset: int
    end_offset: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class BatchSpan:
    """What a core needs to know of one batch."""

    base_offset: int
    end_offset: int
    epoch: int
    voters: VotersRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBatches:
    """Whole, checked batches as a fetcher received them, and what each spans."""

    data: bytes
    spans: tuple[BatchSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInstead:
    """What the fetcher asks for is not in the leader's log any more: it fetches this snapshot first."""

    snapshot_id: SnapshotId


FetchBody: TypeAlias = DivergingEpoch | LogRange | FetchedBatches | SnapshotInstead
NO_RECORDS = FetchedBatches(data=b"", spans=())


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResponse:
    """A core emits ``DivergingEpoch`` or ``LogRange``; its shell turns the latter into ``FetchedBatches``."""

    error: ErrorCode
    epoch: int
    leader_id: NodeId
    high_watermark: int
    log_start_offset: int
    body: FetchBody = NO_RECORDS
    leader_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRange:
    """A part that the leader's shell reads from a snapshot's file; it may turn out that there is none."""

    snapshot_id: SnapshotId
    position: int
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPart:
    """Bytes of a snapshot from ``position`` on, and the size of the whole."""

    snapshot_id: SnapshotId
    position: int
    size_bytes: int
    data: bytes

    @property
    def is_last(self) -> bool:
        return self.position + len(self.data) >= self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSnapshotPart:
    """With every error."""


SnapshotBody: TypeAlias = SnapshotRange | SnapshotPart | NoSnapshotPart


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSnapshotResponse:
    """A core emits ``SnapshotRange``; its shell turns that into ``SnapshotPart``, or into an error."""

    error: ErrorCode
    epoch: int
    leader_id: NodeId
    body: SnapshotBody
    leader_address: str = ""


Response: TypeAlias = VoteResponse | EpochResponse | FetchResponse | FetchSnapshotResponse

# --- into a core ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReceived:
    """``request_id`` is the shell's: the ``Reply`` carries it back."""

    request_id: int
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseReceived:
    """``correlation_id`` is the core's, of the ``Send`` that is answered."""

    sender: NodeId
    correlation_id: int
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """No answer will come. ``refused``: the peer's connection failed at once, its process is likely dead."""

    sender: NodeId
    correlation_id: int
    refused: bool


Message: TypeAlias = RequestReceived | ResponseReceived | RequestFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundSnapshot:
    """A snapshot was received whole, and the log replaced by it. ``voters``: whom it names, if it does."""

    snapshot_id: SnapshotId
    voters: VotersRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedSnapshot:
    """What was received was thrown away, and nothing else was changed."""


ReceivedSnapshot: TypeAlias = SoundSnapshot | DamagedSnapshot

# --- out of a core ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A request to the node at ``address``; one ``ResponseReceived`` or ``RequestFailed`` should follow."""

    to: NodeId
    correlation_id: int
    timeout_ms: int
    request: Request
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a ``RequestReceived``."""

    request_id: int
    response: Response


Outgoing: TypeAlias = Send | Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAppend:
    """A leader's own batch: one record per value."""

    base_offset: int
    epoch: int
    values: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderChangeAppend:
    """The control batch that begins a leader's epoch."""

    base_offset: int
    epoch: int
    leader_id: NodeId
    voters: tuple[NodeId, ...]
    granting_voters: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VotersAppend:
    """The control batch that names the voters from its offset on; with a version record in front, if set."""

    base_offset: int
    epoch: int
    voters: VotersRecord
    with_version: bool

    @property
    def end_offset(self) -> int:
        return self.base_offset + (2 if self.with_version else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedAppend:
    """Batches copied from the leader, as they are."""

    base_offset: int
    data: bytes


Append: TypeAlias = DataAppend | LeaderChangeAppend | VotersAppend | FetchedAppend


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """Everything below ``high_watermark`` is held by the majority, and is in this node's log."""

    high_watermark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderReady:
    """This node leads ``epoch`` and its first own entry is committed, so everything before is as well."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderChanged:
    """Another leads, or nobody that is known."""

    epoch: int
    leader_id: NodeId = NO_NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInstalled:
    """The log below the snapshot's end was replaced by it: the state machine starts over from there."""

    snapshot_id: SnapshotId


Notice: TypeAlias = Committed | LeaderReady | LeaderChanged | SnapshotInstalled


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The shell's duties, in this order; all are done before the next ``take_ready``.

    1. ``hard_state``: make it durable, if set, before the log can hold anything of its epoch.
    2. ``snapshot_parts``: write them.  The last part completes the snapshot: check it whole; if it is sound,
       replace the log by it durably; report with ``on_snapshot_received``, sound or not.
    3. ``truncate_to``: cut the log, if set.
    4. ``appends``: write these to the log.
    5. ``messages``: may leave at once, before the log is synced.
    6. ``notices``: tell the state machine, in order; what was committed is in the log by now.
    7. Sync the log if it was changed; report with ``on_synced``.
    8. ``messages_after_sync``: they depend on 1 and 7.
    """

    truncate_to: int | None
    appends: tuple[Append, ...]
    messages: tuple[Outgoing, ...]
    notices: tuple[Notice, ...]
    hard_state: HardState | None
    messages_after_sync: tuple[Outgoing, ...]
    snapshot_parts: tuple[SnapshotPart, ...] = ()

    @property
    def needs_sync(self) -> bool:
        """Whether the log was changed."""
        return bool(self.appends) or self.truncate_to is not None

    @property
    def is_empty(self) -> bool:
        return not (
            self.needs_sync
            or self.messages
            or self.hard_state is not None
            or self.messages_after_sync
            or self.notices
            or self.snapshot_parts
        )
