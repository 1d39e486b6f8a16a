"""The gate in front of the roles: who may talk to this voter, and whose epoch is older or newer.

Everything that passes is of this cluster, from a known voter and of the current epoch; the roles need not
look again.  This module refuses to know what the roles then do.  Source: Kafka's
``validateVoterOnlyRequest``, ``validateLeaderOnlyRequest`` and ``maybeTransition``.
"""

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.raft import following, leading
from glasslog.controller.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    FetchRequest,
    FetchSnapshotRequest,
    Response,
    VoteRequest,
)
from glasslog.controller.raft.roles import Follower, Leader, Unattached
from glasslog.controller.raft.voter_state import VoterState
from glasslog.controller.raft.voters import same_directory

_NO_EPOCH = -1


def refuse_vote(state: VoterState, request: VoteRequest) -> ErrorCode:
    """NONE when the request may be decided on; a newer epoch is entered on the way."""
    error = _refuse_peer(state, request.cluster_id, request.candidate_id)
    if error is ErrorCode.NONE and not _is_meant(state, request):
        error = ErrorCode.INVALID_VOTER_KEY
    return error if error is not ErrorCode.NONE else _pass_epoch(state, request.candidate_epoch)


def refuse_begin(state: VoterState, request: BeginQuorumEpochRequest) -> ErrorCode:
    """NONE when the sender leads this epoch."""
    error = _refuse_peer(state, request.cluster_id, request.leader_id)
    if error is ErrorCode.NONE and not _is_meant(state, request):
        error = ErrorCode.INVALID_VOTER_KEY
    return error if error is not ErrorCode.NONE else _pass_epoch(state, request.leader_epoch)


def refuse_end(state: VoterState, request: EndQuorumEpochRequest) -> ErrorCode:
    """NONE when the sender led this epoch."""
    error = _refuse_peer(state, request.cluster_id, request.leader_id)
    return error if error is not ErrorCode.NONE else _pass_epoch(state, request.leader_epoch)


def refuse_fetch(state: VoterState, request: FetchRequest | FetchSnapshotRequest) -> ErrorCode:
    """NONE when this node leads the fetcher's epoch. A fetcher's newer epoch is not entered, only refused."""
    epoch = state.quorum.epoch
    is_negative = request.fetch_offset < 0 if isinstance(request, FetchRequest) else request.position < 0
    if request.cluster_id != state.cluster_id:
        return ErrorCode.INCONSISTENT_CLUSTER_ID
    if not request.observer and request.replica_id == state.node_id:
        return ErrorCode.INCONSISTENT_VOTER_SET
    if is_negative:
        return ErrorCode.INVALID_REQUEST
    is_any_epoch = request.observer and request.current_leader_epoch == _NO_EPOCH
    if not is_any_epoch and request.current_leader_epoch < epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if not is_any_epoch and request.current_leader_epoch > epoch:
        return ErrorCode.UNKNOWN_LEADER_EPOCH
    if not isinstance(state.quorum.role, Leader):
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
    return ErrorCode.NONE


def learn_from(state: VoterState, sender: NodeId, response: Response) -> bool:
    """Take epoch and leader from a response; whether it is of this epoch, before and after."""
    quorum = state.quorum
    if response.epoch > quorum.epoch:
        enter_epoch(state, response.epoch)
        _follow_hearsay(state, response)
        return False
    if response.epoch < quorum.epoch:
        return False
    # Within an epoch only its first leader can be learned from hearsay: after that one was lost, only itself
    # can say that it still leads.
    is_first = quorum.hard_state.leader_id == NO_NODE
    if is_first or response.leader_id == sender or not state.is_voter:
        _follow_hearsay(state, response)
    return True


def _follow_hearsay(state: VoterState, response: Response) -> None:
    leader_id = response.leader_id
    is_known = state.quorum.hard_state.leader_id in (NO_NODE, leader_id)
    if state.may_follow(leader_id, response.leader_address) and is_known:
        follow(state, leader_id, address=response.leader_address)


def enter_epoch(state: VoterState, epoch: int) -> None:
    """A newer epoch exists: whatever this voter was, it is unattached now."""
    role = state.quorum.role
    state.quorum.enter_epoch(epoch, Unattached(election_deadline_ms=state.draw_election_deadline_ms()))
    if isinstance(role, Leader):
        leading.refuse_parked(state, role)


def follow(state: VoterState, leader_id: NodeId, *, address: str) -> None:
    """The leader of this epoch is known. Another leader than the one known already is a bug somewhere."""
    role = state.quorum.role
    state.note_leader_address(leader_id, address)
    if isinstance(role, Follower) and role.leader_id == leader_id:
        return
    following.start(state, leader_id)


def _refuse_peer(state: VoterState, cluster_id: str, sender: NodeId) -> ErrorCode:
    if cluster_id != state.cluster_id:
        return ErrorCode.INCONSISTENT_CLUSTER_ID
    if sender == state.node_id or (state.is_static and sender not in state.others):
        return ErrorCode.INCONSISTENT_VOTER_SET
    return ErrorCode.NONE


def _is_meant(state: VoterState, request: VoteRequest | BeginQuorumEpochRequest) -> bool:
    """Whether the sender means this node with this disk: votes that another disk knew of are forgotten here.

    Who is meant need not know of being a voter: the record that says so may not have reached it.
    """
    is_same_disk = same_directory(request.voter_directory_id, state.directory_id)
    return request.voter_id == state.node_id and is_same_disk


def _pass_epoch(state: VoterState, epoch: int) -> ErrorCode:
    if epoch < state.quorum.epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if epoch > state.quorum.epoch:
        enter_epoch(state, epoch)
    return ErrorCode.NONE
