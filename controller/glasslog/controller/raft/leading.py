"""A leader's work: making itself known, serving fetches, moving the high watermark, noticing its isolation.

This module refuses to know how a leader is elected.  Source: KIP-595; Kafka's ``LeaderState``.
"""

from collections.abc import Sequence

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    FetchRequest,
    FetchSnapshotRequest,
    LeaderReady,
    LogRange,
    SnapshotInstead,
    SnapshotRange,
)
from glasslog.controller.raft.roles import NEVER_MS, FetcherKey, Leader, ParkedFetch, Progress, Resigned
from glasslog.controller.raft.voter_state import VoterState
from glasslog.controller.raft.voters import VoterSet

_MAX_WAIT_MS = 30_000
_FORGET_OBSERVER_AFTER_MS = 300_000


def start(state: VoterState, *, granting_voters: Sequence[NodeId]) -> None:
    """Take office: write the epoch's first entry and tell the voters."""
    role = Leader(
        epoch_start_offset=state.log.end_offset,
        elected_at_ms=state.now_ms,
        next_announcement_ms=state.now_ms,
        voters={voter: Progress() for voter in state.others},
    )
    state.quorum.lead(role)
    state.append_leader_change(granting_voters)
    _announce(state, role)


def append_voters(state: VoterState, role: Leader, voters: VoterSet) -> int:
    """From now on these are the voters; returns the record's offset. When that may be: ``membership``."""
    offset = state.append_voters(voters)
    _sort_fetchers(state, role)
    maybe_advance_high_watermark(state, role)
    return offset


def _sort_fetchers(state: VoterState, role: Leader) -> None:
    """An observer that became a voter brings its progress along, and so does who is no voter any more."""
    for voter in [each for each in role.voters if each not in state.others]:
        progress = role.voters.pop(voter)
        role.observers[_controller_key(voter, progress.directory_id)] = progress
    for voter in state.others:
        key = _controller_key(voter, state.directory_of(voter))
        if voter not in role.voters:
            role.voters[voter] = role.observers.pop(key) if key in role.observers else Progress()


def _controller_key(node_id: NodeId, directory_id: bytes) -> FetcherKey:
    return FetcherKey(replica_id=node_id, observer=False, directory_id=directory_id)


def propose(state: VoterState, values: tuple[bytes, ...]) -> int:
    """Append one batch; returns its base offset. Errors: see ``RaftNode.propose``."""
    role, config = state.quorum.role, state.config
    if not isinstance(role, Leader):
        raise GlasslogError(
            ErrorCode.NOT_CONTROLLER,
            f"node {state.node_id} does not lead the quorum; the leader is {state.quorum.leader_id}",
        )
    if not values:
        raise GlasslogError(ErrorCode.INVALID_REQUEST, "a proposal needs at least one record")
    size_bytes = sum(map(len, values))
    if size_bytes > config.max_batch_bytes:
        raise GlasslogError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"a proposal of {size_bytes} bytes; at most {config.max_batch_bytes} are allowed",
        )
    waiting = state.log.end_offset - max(state.high_watermark, role.epoch_start_offset)
    if waiting + len(values) > config.max_uncommitted_records:
        raise GlasslogError(
            ErrorCode.THROTTLING_QUOTA_EXCEEDED,
            f"{waiting} records wait for the majority; at most {config.max_uncommitted_records} may",
        )
    return state.append_data(values)


# --- fetches ----------------------------------------------------------------------------------------------


def on_fetch(state: VoterState, role: Leader, request_id: int, request: FetchRequest) -> None:
    """Answer, or park until something new is there. The gate has checked the epoch and who asks."""
    if _begins_anew(state, request):
        _note_contact(state, role, request)
        state.reply_fetch(request_id, SnapshotInstead(snapshot_id=state.log.snapshot))
        return
    divergence = state.log.divergence(
        fetch_offset=request.fetch_offset, last_fetched_epoch=request.last_fetched_epoch
    )
    if divergence is not None:
        state.reply_fetch(request_id, divergence)
        return
    _note_progress(state, role, request)
    _park(state, role, request_id, request)


def on_fetch_snapshot(
    state: VoterState, role: Leader, request_id: int, request: FetchSnapshotRequest
) -> None:
    """Answer with a part of a snapshot; whether there is such a snapshot, the shell knows."""
    _note_contact(state, role, request)
    part = SnapshotRange(
        snapshot_id=request.snapshot_id,
        position=request.position,
        max_bytes=max(1, min(request.max_bytes, state.config.max_fetch_bytes)),
    )
    state.reply_snapshot(request_id, part)


def _begins_anew(state: VoterState, request: FetchRequest) -> bool:
    return state.log.is_below_base(
        fetch_offset=request.fetch_offset, last_fetched_epoch=request.last_fetched_epoch
    )


def _note_contact(state: VoterState, role: Leader, request: FetchRequest | FetchSnapshotRequest) -> None:
    """A voter that fetches a snapshot holds nothing new yet, but it hears this leader."""
    if _is_voters(state, request):
        role.voters[request.replica_id].last_fetch_ms = state.now_ms


def _is_voters(state: VoterState, request: FetchRequest | FetchSnapshotRequest) -> bool:
    """Whether a voter asks: the node with the directory that is one, as a controller."""
    is_voter = state.voter_set.has(request.replica_id, request.directory_id)
    return is_voter and not request.observer and request.replica_id != state.node_id


def answer_parked(state: VoterState, role: Leader) -> None:
    """Answer every parked fetch that has something new to learn, or has waited long enough.

    Called once all inputs at hand were taken, so that an answer covers as much as possible.
    """
    for key, parked in list(role.parked.items()):
        if _has_news(state, parked.request) or state.now_ms >= parked.deadline_ms:
            del role.parked[key]
            _answer(state, parked)


def _park(state: VoterState, role: Leader, request_id: int, request: FetchRequest) -> None:
    """A fetcher waits for one answer at a time: an older fetch of it is answered with nothing."""
    key = _key_of(request)
    older = role.parked.pop(key, None)
    if older is not None:
        state.reply_fetch(older.request_id)
    wait_ms = min(max(request.max_wait_ms, 0), _MAX_WAIT_MS)
    role.parked[key] = ParkedFetch(request_id=request_id, request=request, deadline_ms=state.now_ms + wait_ms)


def _key_of(request: FetchRequest) -> FetcherKey:
    return FetcherKey(
        replica_id=request.replica_id, observer=request.observer, directory_id=request.directory_id
    )


def _has_news(state: VoterState, request: FetchRequest) -> bool:
    if 0 <= request.known_high_watermark < state.high_watermark:
        return True
    return request.fetch_offset < _end_for(state, request)


def _end_for(state: VoterState, request: FetchRequest) -> int:
    """Brokers apply what they get, so they get what is committed; controllers get everything."""
    return state.high_watermark if request.observer else state.log.end_offset


def _answer(state: VoterState, parked: ParkedFetch) -> None:
    request = parked.request
    if _begins_anew(state, request):
        # The log was trimmed while the fetch waited.
        state.reply_fetch(parked.request_id, SnapshotInstead(snapshot_id=state.log.snapshot))
        return
    end_offset = _end_for(state, request)
    if request.fetch_offset >= end_offset:
        state.reply_fetch(parked.request_id)
        return
    max_bytes = max(1, min(request.max_bytes, state.config.max_fetch_bytes))
    records = LogRange(start_offset=request.fetch_offset, end_offset=end_offset, max_bytes=max_bytes)
    state.reply_fetch(parked.request_id, records)


def _note_progress(state: VoterState, role: Leader, request: FetchRequest) -> None:
    progress = _progress_of(state, role, request)
    end_offset = _end_for(state, request)
    if request.fetch_offset >= end_offset:
        progress.last_caught_up_ms = state.now_ms
    elif 0 <= progress.leader_end_at_last_fetch <= request.fetch_offset:
        progress.last_caught_up_ms = max(progress.last_caught_up_ms, progress.last_fetch_ms)
    progress.leader_end_at_last_fetch = end_offset
    progress.end_offset = request.fetch_offset
    progress.last_fetch_ms = state.now_ms
    progress.directory_id, progress.address = request.directory_id, request.address
    if _is_voters(state, request):
        maybe_advance_high_watermark(state, role)


def _progress_of(state: VoterState, role: Leader, request: FetchRequest) -> Progress:
    if _is_voters(state, request):
        return role.voters[request.replica_id]
    key = _key_of(request)
    known = role.observers.get(key)
    if known is None:
        _forget_observers(state, role)
        known = role.observers[key] = Progress()
    return known


def _forget_observers(state: VoterState, role: Leader) -> None:
    """Drop the silent ones, and the longest silent one when there is no room for another."""
    for key, progress in list(role.observers.items()):
        if state.now_ms - progress.last_fetch_ms >= _FORGET_OBSERVER_AFTER_MS:
            _forget_observer(state, role, key)
    if len(role.observers) >= state.config.max_observers:
        oldest = min(role.observers, key=lambda each: (role.observers[each].last_fetch_ms, each.replica_id))
        _forget_observer(state, role, oldest)


def _forget_observer(state: VoterState, role: Leader, key: FetcherKey) -> None:
    del role.observers[key]
    parked = role.parked.pop(key, None)
    if parked is not None:
        state.reply_fetch(parked.request_id)


# --- the high watermark -----------------------------------------------------------------------------------


def maybe_advance_high_watermark(state: VoterState, role: Leader) -> None:
    """Commit what the majority holds, once that includes an entry of the leader's own epoch.

    The leader counts itself only for what it has synced. Before an own entry is on the majority, even entries
    that the majority holds could still be replaced by another leader's (Raft, section 5.4.2).
    """
    ends = [progress.end_offset for progress in role.voters.values()]
    if state.is_voter:
        ends.append(state.log.synced_offset)
    ends.sort(reverse=True)
    held_by_majority = ends[state.majority - 1]
    if held_by_majority <= role.epoch_start_offset:
        return
    state.advance_high_watermark(min(held_by_majority, state.log.end_offset))
    if not role.is_ready:
        role.is_ready = True
        state.notice(LeaderReady(epoch=state.quorum.epoch))


# --- time -------------------------------------------------------------------------------------------------


def deadline_ms(state: VoterState, role: Leader) -> int | None:
    """When ``tick`` has something to do; None for an only voter without fetchers."""
    if _has_left(state):
        return state.now_ms
    deadlines = [parked.deadline_ms for parked in role.parked.values()]
    if state.others:
        deadlines += [_quorum_deadline_ms(state, role), role.next_announcement_ms]
    return min(deadlines, default=None)


def tick(state: VoterState, role: Leader) -> None:
    """Resign when no majority is heard of, or by vote; tell voters that do not fetch who leads."""
    if _has_left(state) or (state.others and state.now_ms >= _quorum_deadline_ms(state, role)):
        resign(state, role)
    elif state.now_ms >= role.next_announcement_ms:
        _announce(state, role)


def _has_left(state: VoterState) -> bool:
    """The leader was removed, and that is committed: until then it leads (Raft's dissertation, 4.2.2)."""
    return not state.is_voter and state.history.latest_offset < state.high_watermark


def _quorum_deadline_ms(state: VoterState, role: Leader) -> int:
    """When the newest fetches of a majority (with the leader itself) will be too old (check quorum)."""
    heard = sorted((_heard_ms(role, progress) for progress in role.voters.values()), reverse=True)
    # The leader hears itself; unless it is about to leave, and votes no more.
    return heard[state.majority - (2 if state.is_voter else 1)] + state.config.check_quorum_timeout_ms


def _heard_ms(role: Leader, progress: Progress) -> int:
    return role.elected_at_ms if progress.last_fetch_ms == NEVER_MS else progress.last_fetch_ms


def _announce(state: VoterState, role: Leader) -> None:
    """BeginQuorumEpoch to every voter that has not fetched lately and is not being told already."""
    interval_ms = max(1, state.config.fetch_timeout_ms // 4)
    role.next_announcement_ms = state.now_ms + interval_ms
    for voter, progress in sorted(role.voters.items()):
        is_silent = progress.last_fetch_ms == NEVER_MS or (
            state.now_ms - progress.last_fetch_ms >= 2 * interval_ms
        )
        if is_silent and voter not in role.announcing:
            request = BeginQuorumEpochRequest(
                cluster_id=state.cluster_id,
                leader_id=state.node_id,
                leader_epoch=state.quorum.epoch,
                voter_id=voter,
                voter_directory_id=state.directory_of(voter),
                leader_address=state.address,
            )
            timeout_ms = state.config.fetch_timeout_ms
            role.announcing[voter] = state.send(voter, request, timeout_ms=timeout_ms)


def on_announced(state: VoterState, voter: NodeId, correlation_id: int) -> None:
    """A BeginQuorumEpoch was answered or failed; if the voter still does not fetch, it is told again."""
    role = state.quorum.role
    if isinstance(role, Leader) and role.announcing.get(voter) == correlation_id:
        del role.announcing[voter]


# --- the end ----------------------------------------------------------------------------------------------


def resign(state: VoterState, role: Leader, *, first: NodeId = NO_NODE) -> None:
    """Give up; ``first``, or else the voter with the longest log, is asked to seek election at once."""

    def place(voter: NodeId) -> tuple[bool, int, int]:
        return voter != first, -role.voters[voter].end_offset, voter

    successors = sorted(state.others, key=place)
    state.quorum.become(Resigned(election_deadline_ms=_resigned_until_ms(state)))
    refuse_parked(state, role)
    request = EndQuorumEpochRequest(
        cluster_id=state.cluster_id,
        leader_id=state.node_id,
        leader_epoch=state.quorum.epoch,
        preferred_successors=tuple(successors),
    )
    for voter in state.others:
        state.send(voter, request, timeout_ms=state.config.election_timeout_ms)


def _resigned_until_ms(state: VoterState) -> int:
    """Long enough that a successor is elected first; who votes no more looks for it sooner."""
    if not state.is_voter:
        return state.now_ms + state.config.fetch_wait_ms
    return state.draw_election_deadline_ms() + state.config.fetch_timeout_ms


def refuse_parked(state: VoterState, role: Leader) -> None:
    """The leader is none any more: its fetchers must look for another."""
    for parked in role.parked.values():
        state.reply_fetch(parked.request_id, error=ErrorCode.NOT_LEADER_OR_FOLLOWER)
    role.parked.clear()
