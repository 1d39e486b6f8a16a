"""A leader's changes of the voters: one voter at a time, each a record of the log.

A change is refused while the one before it is not committed, and before the leader has committed anything in
its epoch (without that, two leaders could change the same set and commit apart).  A new voter has caught up
first, so that it does not hold up the majority; and a change after which no majority would be heard is
refused.  This module refuses to know how requests for changes arrive.  Source: KIP-853, Kafka's
``AddVoterHandler`` and ``RemoveVoterHandler``.
"""

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.controller.raft import leading
from glasslog.controller.raft.roles import NEVER_MS, FetcherKey, Leader, Progress
from glasslog.controller.raft.voter_state import VoterState
from glasslog.controller.raft.voters import VoterSet, same_directory
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY, VoterEntry


def add_voter(state: VoterState, node_id: NodeId, directory_id: bytes) -> int:
    """Let an observer vote; returns the offset of the record.

    Raises ``GlasslogError``: NOT_LEADER_OR_FOLLOWER; REQUEST_TIMED_OUT when it may work a little later;
    DUPLICATE_VOTER; VOTER_NOT_FOUND for a node that does not fetch from this leader.
    """
    role = _changing_leader(state)
    known = state.voter_set.find(node_id)
    if known is not None:
        raise GlasslogError(ErrorCode.DUPLICATE_VOTER, f"node {node_id} is a voter already")
    key, progress = _observer(state, role, node_id, directory_id)
    _check_caught_up(state, node_id, progress)
    voter = VoterEntry(node_id=node_id, directory_id=key.directory_id, address=progress.address)
    return leading.append_voters(state, role, state.voter_set.with_voter(voter))


def remove_voter(state: VoterState, node_id: NodeId, directory_id: bytes) -> int:
    """Let a voter vote no more; returns the record's offset. Errors as ``add_voter``; INVALID_REQUEST."""
    role = _changing_leader(state)
    if not state.voter_set.has(node_id, directory_id):
        raise GlasslogError(
            ErrorCode.VOTER_NOT_FOUND, f"node {node_id} with that directory is not among {_named(state)}"
        )
    if len(state.voters) == 1:
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"node {node_id} is the only voter")
    left = state.voter_set.without(node_id)
    _check_heard(state, role, left)
    return leading.append_voters(state, role, left)


def transfer(state: VoterState, to: NodeId) -> None:
    """Give leadership to another voter, which is asked to seek election at once. Errors as ``add_voter``."""
    role = _leader(state)
    if to == state.node_id:
        return
    progress = role.voters.get(to)
    if progress is None:
        raise GlasslogError(ErrorCode.VOTER_NOT_FOUND, f"node {to} is not among the voters {_named(state)}")
    if progress.end_offset < state.log.end_offset or not _is_heard(state, progress):
        raise GlasslogError(
            ErrorCode.REQUEST_TIMED_OUT,
            f"node {to} has {max(progress.end_offset, 0)} of {state.log.end_offset} entries",
        )
    leading.resign(state, role, first=to)


def record_voters(state: VoterState, role: Leader) -> None:
    """Write down whom only settings name, a directory that was not known, an address that changed.

    As soon as it is possible, one voter at a time.  From then on a node that lost its disk is known to be
    another voter than it was; and one that moved is found.  (Kafka's voters ask for it: ``UpdateRaftVoter``.)
    """
    if state.directory_id == UNKNOWN_DIRECTORY or not role.is_ready or _is_changing(state):
        return
    learned = [_as_learned(state, role, voter) for voter in state.voter_set.voters]
    all_known = all(voter.directory_id != UNKNOWN_DIRECTORY for voter in learned)
    news = [new for new, old in zip(learned, state.voter_set.voters, strict=True) if new != old]
    if not state.voter_set.is_recorded and all_known:
        leading.append_voters(state, role, VoterSet.of(learned, is_recorded=True))
    elif state.voter_set.is_recorded and news:
        leading.append_voters(state, role, state.voter_set.with_voter(news[0]))


def _as_learned(state: VoterState, role: Leader, voter: VoterEntry) -> VoterEntry:
    """As its fetches say; a voter with another directory than is known of it is not this voter."""
    if voter.node_id == state.node_id:
        directory_id, address = state.directory_id, state.address
    else:
        progress = role.voters[voter.node_id]
        directory_id, address = progress.directory_id, progress.address
    if not same_directory(voter.directory_id, directory_id):
        return voter
    is_known = voter.directory_id != UNKNOWN_DIRECTORY
    return VoterEntry(
        node_id=voter.node_id,
        directory_id=voter.directory_id if is_known else directory_id,
        address=address or voter.address,
    )


# --- checks -----------------------------------------------------------------------------------------------


def _leader(state: VoterState) -> Leader:
    role = state.quorum.role
    if isinstance(role, Leader):
        return role
    raise GlasslogError(
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        f"node {state.node_id} does not lead the quorum; the leader is {state.quorum.leader_id}",
    )


def _changing_leader(state: VoterState) -> Leader:
    role = _leader(state)
    if not role.is_ready:
        raise GlasslogError(
            ErrorCode.REQUEST_TIMED_OUT, f"leader {state.node_id} has committed nothing in its epoch yet"
        )
    if _is_changing(state):
        raise GlasslogError(
            ErrorCode.REQUEST_TIMED_OUT,
            f"another change of the voters, at offset {state.history.latest_offset}, is not committed yet",
        )
    return role


def _is_changing(state: VoterState) -> bool:
    return state.history.latest_offset >= state.high_watermark


def _observer(
    state: VoterState, role: Leader, node_id: NodeId, directory_id: bytes
) -> tuple[FetcherKey, Progress]:
    for key, progress in role.observers.items():
        is_asked = key.replica_id == node_id and same_directory(key.directory_id, directory_id)
        if is_asked and not key.observer:
            return key, progress
    is_new = state.now_ms - role.elected_at_ms < 2 * state.config.fetch_timeout_ms
    raise GlasslogError(
        # A new leader is yet to be found by those that follow without a vote.
        ErrorCode.REQUEST_TIMED_OUT if is_new else ErrorCode.VOTER_NOT_FOUND,
        f"no controller {node_id} fetches from the leader: start it with controller.quorum.bootstrap.servers",
    )


def _check_caught_up(state: VoterState, node_id: NodeId, progress: Progress) -> None:
    """It has lately had everything that the leader had when it asked before."""
    bound_ms = state.now_ms - state.config.fetch_timeout_ms
    if progress.last_caught_up_ms == NEVER_MS or progress.last_caught_up_ms < bound_ms:
        raise GlasslogError(
            ErrorCode.REQUEST_TIMED_OUT,
            f"node {node_id} has not caught up: it has {max(progress.end_offset, 0)} of "
            f"{state.log.end_offset} entries",
        )


def _check_heard(state: VoterState, role: Leader, voters: VoterSet) -> None:
    heard = [
        voter
        for voter in voters.ids
        if voter == state.node_id or (voter in role.voters and _is_heard(state, role.voters[voter]))
    ]
    if len(heard) < voters.majority:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST,
            f"of the voters left, {list(voters.ids)}, only {heard} are alive, which is no majority",
        )


def _is_heard(state: VoterState, progress: Progress) -> bool:
    since_ms = state.now_ms - state.config.check_quorum_timeout_ms
    return progress.last_fetch_ms != NEVER_MS and progress.last_fetch_ms >= since_ms


def _named(state: VoterState) -> str:
    return ", ".join(map(str, state.voters))
