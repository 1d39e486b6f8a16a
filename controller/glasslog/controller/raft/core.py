"""The Raft core of one voter: messages and time in, duties out; KIP-595 with pre-vote (KIP-996).

How it works.  One voter per epoch leads: it appends entries, and the others fetch them, as Kafka's replicas
do.  A fetch names the fetcher's log end and the epoch of its last entry; if that is no prefix of the leader's
log, the answer says where the leader's copy of that epoch ends, and the follower truncates.  A fetch is also
the acknowledgement of everything before its offset: what the majority's fetch offsets have passed is
committed, and the next answers carry the new high watermark.

The parts: ``gate`` (whose messages count), ``election``, ``leading``, ``following``, over one ``VoterState``.
This module refuses to know clocks, files, sockets and tasks.
"""

from collections.abc import Sequence
from typing import assert_never

from glasslog.common.errors import ErrorCode, require
from glasslog.common.ids import NodeId, Offset
from glasslog.common.runtime.protocols import Random
from glasslog.controller.raft import election, following, gate, leading, membership
from glasslog.controller.raft.description import describe
from glasslog.controller.raft.epochs import LogOutline
from glasslog.controller.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    EpochResponse,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Message,
    Ready,
    ReceivedSnapshot,
    RequestFailed,
    RequestReceived,
    ResponseReceived,
    VoteRequest,
    VoteResponse,
)
from glasslog.controller.raft.quorum_state import QuorumState
from glasslog.controller.raft.roles import (
    Candidate,
    Follower,
    Leader,
    Prospective,
    Resigned,
    Role,
    Unattached,
    Voted,
)
from glasslog.controller.raft.types import (
    HardState,
    Identity,
    QuorumConfig,
    QuorumDescription,
)
from glasslog.controller.raft.voter_state import VoterState
from glasslog.controller.raft.voters import VoterHistory, VoterSet
from glasslog.metadata.control_records import VotersRecord
from glasslog.metadata.snapshot import SnapshotId


class RaftCore:
    """One voter. Call ``start`` once; after any input, ``take_ready`` until it is empty and fulfil it."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        cluster_id: str,
        history: VoterHistory,
        config: QuorumConfig,
        random: Random,
        hard_state: HardState,
        log: LogOutline,
        identity: Identity,
    ) -> None:
        """``hard_state``, ``history`` and ``log`` as they were found on disk, all durable."""
        quorum = QuorumState(node_id, hard_state, Unattached(election_deadline_ms=0))
        self._state = VoterState(
            node_id=node_id,
            cluster_id=cluster_id,
            identity=identity,
            history=history,
            config=config,
            random=random,
            quorum=quorum,
            log=log,
        )

    # --- inputs ---------------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> None:
        """Take up where the hard state left off; an only voter is elected at once."""
        state = self._state
        state.now_ms = now_ms
        self._resume()
        if state.may_be_elected and not state.others:
            election.seek_election(state)
        state.tell_leader_change()

    def step(self, message: Message, now_ms: int) -> None:
        """Take one message. Raises ``InvariantViolation`` when a peer or this node broke the protocol."""
        self._state.now_ms = now_ms
        match message:
            case RequestReceived():
                self._on_request(message)
            case ResponseReceived():
                self._on_response(message)
            case RequestFailed():
                self._state.note_unreached(message.sender)
                self._on_failed(message)
            case _:
                assert_never(message)
        self._state.tell_leader_change()

    def tick(self, now_ms: int) -> None:
        """Do what is due; calling it early does nothing."""
        state = self._state
        state.now_ms = now_ms
        role = state.quorum.role
        match role:
            case Leader():
                leading.tick(state, role)
            case Follower():
                if following.has_lost_patience(state, role):
                    election.seek_election(state)
                else:
                    following.tick(state, role)
            case Prospective() | Candidate():
                election.tick_poll(state, role)
            case Unattached() | Voted() | Resigned():
                if now_ms >= role.election_deadline_ms:
                    election.seek_election(state)
            case _:
                assert_never(role)
        state.tell_leader_change()

    def propose(self, values: Sequence[bytes], now_ms: int) -> Offset:
        """Append one batch as the leader; see ``RaftNode.propose``."""
        self._state.now_ms = now_ms
        return Offset(leading.propose(self._state, tuple(values)))

    def resign(self, now_ms: int) -> None:
        """Give leadership up, if this node has it."""
        state = self._state
        state.now_ms = now_ms
        if isinstance(state.quorum.role, Leader):
            leading.resign(state, state.quorum.role)
            state.tell_leader_change()

    def on_synced(self, end_offset: int) -> None:
        """The log is durable up to ``end_offset``: only now it counts towards the high watermark."""
        state = self._state
        state.log.synced_offset = max(state.log.synced_offset, min(end_offset, state.log.end_offset))
        if isinstance(state.quorum.role, Leader):
            leading.maybe_advance_high_watermark(state, state.quorum.role)

    def on_snapshot_received(self, received: ReceivedSnapshot, now_ms: int) -> None:
        """All parts of a snapshot were written."""
        self._state.now_ms = now_ms
        following.on_snapshot_received(self._state, received)

    def on_snapshot_taken(self, snapshot_id: SnapshotId) -> None:
        """A snapshot of what is committed here is on disk: fetchers may be sent to it."""
        log = self._state.log
        require(snapshot_id.end_offset <= self._state.high_watermark, f"{snapshot_id} is not committed")
        log.snapshot = max(log.snapshot, snapshot_id)

    def on_trimmed(self, base: SnapshotId) -> None:
        """The log begins at the end of ``base`` now, a snapshot that is on disk."""
        self._state.log.trim_to(base)
        self._state.history.forget_before(base.end_offset)

    # --- changes of the voters ------------------------------------------------------------------------------

    def add_voter(self, node_id: NodeId, directory_id: bytes, now_ms: int) -> Offset:
        """See ``membership.add_voter``; done once the offset is committed."""
        self._state.now_ms = now_ms
        return Offset(membership.add_voter(self._state, node_id, directory_id))

    def remove_voter(self, node_id: NodeId, directory_id: bytes, now_ms: int) -> Offset:
        """See ``membership.remove_voter``; done once the offset is committed."""
        self._state.now_ms = now_ms
        return Offset(membership.remove_voter(self._state, node_id, directory_id))

    def transfer(self, to: NodeId, now_ms: int) -> None:
        """See ``membership.transfer``."""
        self._state.now_ms = now_ms
        membership.transfer(self._state, to)
        self._state.tell_leader_change()

    def has_committed(self, offset: Offset, *, epoch: int) -> bool:
        """Whether the entry that ``epoch``'s leader wrote at ``offset`` is committed, as far as is known.

        Another one may have come in its place, which is of a newer epoch.
        """
        state = self._state
        return offset < state.high_watermark and state.log.epoch_before(offset + 1) == epoch

    def voters_before(self, end_offset: int) -> VotersRecord | None:
        """The voters that entries below ``end_offset`` name, for a snapshot; None when only settings do."""
        voters = self._state.history.before(end_offset)
        return voters.record if voters.is_recorded else None

    # --- outputs --------------------------------------------------------------------------------------------

    def take_ready(self) -> Ready:
        """The duties that have come up since the last call."""
        role = self._state.quorum.role
        if isinstance(role, Leader):
            membership.record_voters(self._state, role)
            leading.answer_parked(self._state, role)
        return self._state.take_ready()

    def next_deadline_ms(self) -> int | None:
        """When ``tick`` is due; None when nothing but a message can change anything."""
        role = self._state.quorum.role
        match role:
            case Leader():
                return leading.deadline_ms(self._state, role)
            case Follower():
                return following.deadline_ms(role)
            case Prospective() | Candidate():
                return election.poll_deadline_ms(role)
            case Unattached() | Voted() | Resigned():
                return role.election_deadline_ms
            case _:
                assert_never(role)

    # --- views ----------------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        return self._state.quorum.role

    @property
    def hard_state(self) -> HardState:
        return self._state.quorum.hard_state

    @property
    def epoch(self) -> int:
        return self._state.quorum.epoch

    @property
    def leader_id(self) -> NodeId:
        return self._state.quorum.leader_id

    @property
    def high_watermark(self) -> Offset:
        return Offset(self._state.high_watermark)

    @property
    def log_end_offset(self) -> Offset:
        return Offset(self._state.log.end_offset)

    @property
    def voters(self) -> VoterSet:
        """Who votes as far as this node's log says."""
        return self._state.voter_set

    @property
    def node_id(self) -> NodeId:
        return self._state.node_id

    @property
    def directory_id(self) -> bytes:
        """Of the folder that the log lies in."""
        return self._state.directory_id

    @property
    def is_voter(self) -> bool:
        """Whether this node is one of them, with the disk that it has."""
        return self._state.is_voter

    @property
    def log(self) -> LogOutline:
        """To look at only."""
        return self._state.log

    def describe(self, now_ms: int) -> QuorumDescription:
        """The quorum as this node sees it; only the leader knows how far the others are."""
        self._state.now_ms = now_ms
        return describe(self._state)

    # --- dispatch -------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """The role to begin with. A former leader does not resume office: others may have moved on."""
        state, hard = self._state, self._state.quorum.hard_state
        timeout_ms = state.config.election_timeout_ms
        deadline_ms = state.draw_ms(at_least_ms=timeout_ms // 5, spread_ms=timeout_ms // 2)
        state.quorum.become(Unattached(election_deadline_ms=deadline_ms))
        if hard.leader_id in state.others and state.is_voter:
            following.start(state, hard.leader_id)

    def _on_request(self, message: RequestReceived) -> None:
        request = message.request
        match request:
            case FetchRequest():
                self._on_fetch(message.request_id, request)
            case FetchSnapshotRequest():
                self._on_fetch_snapshot(message.request_id, request)
            case VoteRequest():
                self._on_vote(message.request_id, request)
            case BeginQuorumEpochRequest():
                self._on_begin(message.request_id, request)
            case EndQuorumEpochRequest():
                self._on_end(message.request_id, request)
            case _:
                assert_never(request)

    def _on_fetch(self, request_id: int, request: FetchRequest) -> None:
        error = gate.refuse_fetch(self._state, request)
        role = self._state.quorum.role
        if error is ErrorCode.NONE and isinstance(role, Leader):
            leading.on_fetch(self._state, role, request_id, request)
        else:
            self._state.reply_fetch(request_id, error=error)

    def _on_fetch_snapshot(self, request_id: int, request: FetchSnapshotRequest) -> None:
        error = gate.refuse_fetch(self._state, request)
        role = self._state.quorum.role
        if error is ErrorCode.NONE and isinstance(role, Leader):
            leading.on_fetch_snapshot(self._state, role, request_id, request)
        else:
            self._state.reply_snapshot(request_id, error=error)

    def _on_vote(self, request_id: int, request: VoteRequest) -> None:
        error = gate.refuse_vote(self._state, request)
        if error is ErrorCode.NONE:
            election.on_vote_request(self._state, request_id, request)
        else:
            self._state.reply_vote(request_id, granted=False, error=error)

    def _on_begin(self, request_id: int, request: BeginQuorumEpochRequest) -> None:
        error = gate.refuse_begin(self._state, request)
        if error is ErrorCode.NONE:
            gate.follow(self._state, request.leader_id, address=request.leader_address)
        self._state.reply_epoch(request_id, error)

    def _on_end(self, request_id: int, request: EndQuorumEpochRequest) -> None:
        error = gate.refuse_end(self._state, request)
        if error is ErrorCode.NONE:
            following.on_end_quorum_epoch(self._state, request_id, request)
        else:
            self._state.reply_epoch(request_id, error)

    def _on_response(self, message: ResponseReceived) -> None:
        response = message.response
        if not gate.learn_from(self._state, message.sender, response):
            self._on_stale(message)
            return
        sender, correlation_id = message.sender, message.correlation_id
        match response:
            case FetchResponse():
                following.on_fetch_response(self._state, sender, correlation_id, response)
            case FetchSnapshotResponse():
                following.on_snapshot_response(self._state, sender, correlation_id, response)
            case VoteResponse():
                election.on_vote_response(self._state, sender, correlation_id, response)
            case EpochResponse():
                leading.on_announced(self._state, sender, correlation_id)
            case _:
                assert_never(response)

    def _on_stale(self, message: ResponseReceived) -> None:
        """Of another epoch than ours now: what it answered counts as failed, if that still matters."""
        failed = RequestFailed(sender=message.sender, correlation_id=message.correlation_id, refused=False)
        self._on_failed(failed)

    def _on_failed(self, message: RequestFailed) -> None:
        """Correlation ids are unique, so only the part that sent the request recognizes it."""
        following.on_fetch_failed(self._state, message.correlation_id, refused=message.refused)
        election.on_vote_failed(self._state, message.correlation_id)
        leading.on_announced(self._state, message.sender, message.correlation_id)
