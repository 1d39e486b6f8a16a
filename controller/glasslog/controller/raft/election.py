"""Elections: giving votes, asking for them, first as a pre-vote and then in earnest.

A pre-vote (KIP-996) asks in the current epoch and binds nobody; only who wins it enters a new epoch, so that
a voter that was cut off does not depose a leader that the majority hears well.  This module refuses to know
what a leader does with its office.
"""

from typing import assert_never

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.raft import following, leading
from glasslog.controller.raft.messages import VoteRequest, VoteResponse
from glasslog.controller.raft.roles import (
    Candidate,
    Follower,
    Leader,
    NamedLeader,
    Poll,
    Prospective,
    Resigned,
    Suspected,
    Unattached,
    Voted,
)
from glasslog.controller.raft.voter_state import VoterState

# --- giving a vote ----------------------------------------------------------------------------------------


def on_vote_request(state: VoterState, request_id: int, request: VoteRequest) -> None:
    """Decide on a request of this epoch (the gate has dealt with older and newer ones)."""
    is_complete = state.log.is_at_least(last_epoch=request.last_epoch, end_offset=request.log_end_offset)
    if request.pre_vote:
        granted = is_complete and _would_support(state)
    else:
        granted = is_complete and _give_vote(state, request.candidate_id)
    state.reply_vote(request_id, granted=granted)


def _would_support(state: VoterState) -> bool:
    """Whether this voter sees no working leader. A follower does until its fetches fail."""
    role = state.quorum.role
    match role:
        case Leader():
            return False
        case Follower():
            return not role.has_fetched or isinstance(role.leader, Suspected)
        case Unattached() | Voted() | Prospective() | Candidate() | Resigned():
            return True
        case _:
            assert_never(role)


def _give_vote(state: VoterState, candidate_id: NodeId) -> bool:
    """Vote if this epoch's vote is free; a vote once given is confirmed as often as asked."""
    quorum = state.quorum
    if quorum.hard_state.voted_for == candidate_id:
        return True
    if not quorum.may_vote or not isinstance(quorum.role, Unattached | Prospective):
        return False
    quorum.vote(Voted(candidate_id=candidate_id, election_deadline_ms=state.draw_election_deadline_ms()))
    return True


# --- asking for votes -------------------------------------------------------------------------------------


def seek_election(state: VoterState) -> None:
    """Nobody seems to lead: ask around, or, as the only voter, be elected at once."""
    if not state.may_be_elected:
        following.look_for_leader(state)
        return
    if not state.others:
        campaign(state)
        return
    poll = _own_poll(state)
    state.quorum.become(Prospective(poll=poll, election_deadline_ms=state.draw_election_deadline_ms()))
    _ask_all(state, poll, pre_vote=True)


def campaign(state: VoterState) -> None:
    """Enter a new epoch as its candidate."""
    poll = _own_poll(state)
    state.quorum.campaign(Candidate(poll=poll, election_deadline_ms=state.draw_election_deadline_ms()))
    _ask_all(state, poll, pre_vote=False)
    _evaluate(state)


def _own_poll(state: VoterState) -> Poll:
    """A candidate votes for itself, if it has a vote."""
    return Poll(granted={state.node_id} if state.is_voter else set())


def on_vote_response(state: VoterState, sender: NodeId, correlation_id: int, response: VoteResponse) -> None:
    """Count an answer of this epoch; answers to anything but the running poll are ignored."""
    role = state.quorum.role
    if not isinstance(role, Prospective | Candidate) or role.poll.in_flight.get(correlation_id) != sender:
        return
    del role.poll.in_flight[correlation_id]
    if response.error is ErrorCode.NONE:
        (role.poll.granted if response.granted else role.poll.rejected).add(sender)
        if response.leader_id != NO_NODE:
            role.poll.named = NamedLeader(node_id=response.leader_id, address=response.leader_address)
        _evaluate(state)
    else:
        role.poll.retry_at_ms[sender] = state.now_ms + state.config.retry_backoff_ms


def on_vote_failed(state: VoterState, correlation_id: int) -> None:
    """The voter was not reached: ask it again soon."""
    role = state.quorum.role
    if not isinstance(role, Prospective | Candidate):
        return
    voter = role.poll.in_flight.pop(correlation_id, None)
    if voter is not None:
        role.poll.retry_at_ms[voter] = state.now_ms + state.config.retry_backoff_ms


def tick_poll(state: VoterState, role: Prospective | Candidate) -> None:
    """Ask again where asking failed; start over when time is up."""
    if state.now_ms >= role.election_deadline_ms:
        seek_election(state)
        return
    for voter, at_ms in sorted(role.poll.retry_at_ms.items()):
        if state.now_ms >= at_ms:
            del role.poll.retry_at_ms[voter]
            _ask(state, role.poll, voter, pre_vote=isinstance(role, Prospective))


def poll_deadline_ms(role: Prospective | Candidate) -> int:
    """When ``tick_poll`` has something to do."""
    return min([role.election_deadline_ms, *role.poll.retry_at_ms.values()])


def _ask_all(state: VoterState, poll: Poll, *, pre_vote: bool) -> None:
    for voter in state.others:
        _ask(state, poll, voter, pre_vote=pre_vote)


def _ask(state: VoterState, poll: Poll, voter: NodeId, *, pre_vote: bool) -> None:
    request = VoteRequest(
        cluster_id=state.cluster_id,
        candidate_epoch=state.quorum.epoch,
        candidate_id=state.node_id,
        voter_id=voter,
        last_epoch=state.log.last_epoch,
        log_end_offset=state.log.end_offset,
        pre_vote=pre_vote,
        voter_directory_id=state.directory_of(voter),
    )
    correlation_id = state.send(voter, request, timeout_ms=state.config.election_timeout_ms)
    poll.in_flight[correlation_id] = voter


def _evaluate(state: VoterState) -> None:
    """Go on when the majority agrees; give up early when it can not any more."""
    role = state.quorum.role
    if not isinstance(role, Prospective | Candidate):
        return
    if len(role.poll.granted) >= state.majority:
        if isinstance(role, Candidate):
            leading.start(state, granting_voters=sorted(role.poll.granted))
        else:
            campaign(state)
    elif len(role.poll.rejected) > len(state.voters) - state.majority:
        _back_off(state, role)


def _back_off(state: VoterState, role: Prospective | Candidate) -> None:
    """Lost: try again after a random pause, the shorter part of the time that was meant to be waited.

    Where most refuse and somebody names a leader, that one is tried: a voter that was removed while it was
    away is told of it by nobody else.
    """
    named = role.poll.named
    is_usable = named is not None and state.may_follow(named.node_id, named.address)
    if named is not None and is_usable and state.quorum.hard_state.leader_id in (NO_NODE, named.node_id):
        state.note_leader_address(named.node_id, named.address)
        following.start(state, named.node_id)
        return
    timeout_ms = state.config.election_timeout_ms
    role.election_deadline_ms = min(
        role.election_deadline_ms, state.draw_ms(at_least_ms=timeout_ms // 10, spread_ms=timeout_ms // 2)
    )
