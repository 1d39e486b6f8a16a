"""A follower's work: fetching log or snapshot, truncating what diverges, noticing the leader's death.

A leader is given up when no fetch succeeded for the fetch timeout, or earlier when its process refuses
connections for a while: then it is dead rather than slow.  Seeking election begins with a pre-vote, so a
wrong guess disturbs nobody.  This module refuses to know how votes are counted.
"""

from itertools import pairwise

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NodeId
from glasslog.controller.raft.messages import (
    BatchSpan,
    DivergingEpoch,
    EndQuorumEpochRequest,
    FetchedBatches,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    LogRange,
    ReceivedSnapshot,
    Response,
    SnapshotInstead,
    SnapshotPart,
    SoundSnapshot,
)
from glasslog.controller.raft.roles import (
    FetchInFlight,
    FetchingLog,
    FetchingSnapshot,
    FetchPending,
    Follower,
    Suspected,
    Trusted,
    Unattached,
)
from glasslog.controller.raft.voter_state import FIRST_BOOTSTRAP_ID, VoterState
from glasslog.metadata.snapshot import SnapshotId


def start(state: VoterState, leader_id: NodeId) -> None:
    """The epoch's leader became known: fetch from it."""
    role = Follower(
        leader_id=leader_id,
        fetch_deadline_ms=_draw_fetch_deadline_ms(state),
        fetch=FetchPending(at_ms=state.now_ms),
    )
    state.quorum.follow(role)
    _fetch(state, role)


def has_lost_patience(state: VoterState, role: Follower) -> bool:
    """Whether it is time to give the leader up."""
    return state.now_ms >= _patience_ms(role)


def tick(state: VoterState, role: Follower) -> None:
    """Fetch again, if it is time."""
    if isinstance(role.fetch, FetchPending) and state.now_ms >= role.fetch.at_ms:
        _fetch(state, role)


def deadline_ms(role: Follower) -> int:
    """When patience ends, or ``tick`` has something to do."""
    patience_ms = _patience_ms(role)
    return min(patience_ms, role.fetch.at_ms) if isinstance(role.fetch, FetchPending) else patience_ms


def on_fetch_response(
    state: VoterState, sender: NodeId, correlation_id: int, response: FetchResponse
) -> None:
    """Take what the leader of this epoch sent; anything but the answer to the running fetch is ignored."""
    role = _answered(state, sender, correlation_id)
    if role is None:
        return
    if response.error is ErrorCode.NONE:
        _take(state, role, response)
    else:
        _on_refusal(state, role, response)


def on_snapshot_response(
    state: VoterState, sender: NodeId, correlation_id: int, response: FetchSnapshotResponse
) -> None:
    """Take the next part of a snapshot; when the leader has it no more, ask for the log again."""
    role = _answered(state, sender, correlation_id)
    if role is None:
        return
    if response.error is ErrorCode.NONE:
        _take_part(state, role, response)
    else:
        role.wanted = FetchingLog()
        _on_refusal(state, role, response)


def on_snapshot_received(state: VoterState, received: ReceivedSnapshot) -> None:
    """The last part was written. A snapshot that is damaged was thrown away, and changes nothing here."""
    is_sound = isinstance(received, SoundSnapshot)
    if isinstance(received, SoundSnapshot):
        state.install_snapshot(received.snapshot_id, received.voters)
    role = state.quorum.role
    if isinstance(role, Follower) and isinstance(role.wanted, FetchingSnapshot):
        role.wanted = FetchingLog()
        if is_sound:
            _fetch(state, role)
        else:
            _fetch_later(state, role)


def _answered(state: VoterState, sender: NodeId, correlation_id: int) -> Follower | None:
    """The role, if this is the answer it waits for."""
    role = state.quorum.role
    if not isinstance(role, Follower) or sender != role.leader_id:
        return None
    if role.fetch != FetchInFlight(correlation_id=correlation_id):
        return None
    role.leader = Trusted()
    return role


def _on_refusal(state: VoterState, role: Follower, response: Response) -> None:
    if response.error is ErrorCode.NOT_LEADER_OR_FOLLOWER and response.epoch == state.quorum.epoch:
        # Within its own epoch a leader says so only after it resigned.
        _lose_leader(state, position=len(state.others))
    else:
        _fetch_later(state, role)


def on_fetch_failed(state: VoterState, correlation_id: int, *, refused: bool) -> None:
    """Try again soon; refused connections make the leader suspect."""
    role = state.quorum.role
    if not isinstance(role, Follower) or role.fetch != FetchInFlight(correlation_id=correlation_id):
        return
    if refused and isinstance(role.leader, Trusted):
        suspicion_ms = state.config.suspicion_ms
        role.leader = Suspected(
            election_deadline_ms=state.draw_ms(at_least_ms=suspicion_ms, spread_ms=suspicion_ms)
        )
    elif not refused:
        role.leader = Trusted()
    _fetch_later(state, role)


def on_end_quorum_epoch(state: VoterState, request_id: int, request: EndQuorumEpochRequest) -> None:
    """The leader gave up: seek election, the sooner the better placed among the successors."""
    role = state.quorum.role
    is_follower = isinstance(role, Follower) and role.leader_id == request.leader_id
    # A refused fetch may have said so before, but not who should be next.
    was_follower = isinstance(role, Unattached) and state.quorum.hard_state.leader_id == request.leader_id
    if is_follower or was_follower:
        successors = request.preferred_successors
        position = successors.index(state.node_id) if state.node_id in successors else len(successors)
        _lose_leader(state, position=position)
    state.reply_epoch(request_id)


def _lose_leader(state: VoterState, *, position: int) -> None:
    """The epoch has no leader any more; voters seek election one after the other."""
    step_ms = max(1, state.config.election_timeout_ms // 5)
    deadline_ms = state.draw_ms(at_least_ms=position * step_ms, spread_ms=step_ms if position else 0)
    state.quorum.become(Unattached(election_deadline_ms=deadline_ms))


def _patience_ms(role: Follower) -> int:
    """When the leader is given up."""
    if isinstance(role.leader, Suspected):
        return min(role.fetch_deadline_ms, role.leader.election_deadline_ms)
    return role.fetch_deadline_ms


def _draw_fetch_deadline_ms(state: VoterState) -> int:
    """A little jitter, so that two followers do not miss a dead leader in the same instant."""
    timeout_ms = state.config.fetch_timeout_ms
    return state.draw_ms(at_least_ms=timeout_ms, spread_ms=timeout_ms // 4)


def _fetch_later(state: VoterState, role: Follower) -> None:
    role.fetch = FetchPending(at_ms=state.now_ms + state.config.retry_backoff_ms)


def _fetch(state: VoterState, role: Follower) -> None:
    if isinstance(role.wanted, FetchingSnapshot):
        _fetch_snapshot(state, role, role.wanted)
    else:
        _fetch_log(state, role)


def _fetch_snapshot(state: VoterState, role: Follower, wanted: FetchingSnapshot) -> None:
    request = FetchSnapshotRequest(
        cluster_id=state.cluster_id,
        replica_id=state.node_id,
        current_leader_epoch=state.quorum.epoch,
        snapshot_id=wanted.snapshot_id,
        position=wanted.position,
        max_bytes=state.config.max_fetch_bytes,
        observer=False,
        directory_id=state.directory_id,
    )
    timeout_ms = state.config.fetch_attempt_timeout_ms
    correlation_id = state.send(role.leader_id, request, timeout_ms=timeout_ms)
    role.fetch = FetchInFlight(correlation_id=correlation_id)


def _fetch_log(state: VoterState, role: Follower) -> None:
    """Ask for what follows the own log; the request claims the log, so it waits until that is synced."""
    correlation_id = state.send(
        role.leader_id,
        _fetch_request(state),
        timeout_ms=state.config.fetch_attempt_timeout_ms,
        after_sync=state.log.synced_offset < state.log.end_offset,
    )
    role.fetch = FetchInFlight(correlation_id=correlation_id)


def _fetch_request(state: VoterState) -> FetchRequest:
    return FetchRequest(
        cluster_id=state.cluster_id,
        replica_id=state.node_id,
        current_leader_epoch=state.quorum.epoch,
        fetch_offset=state.log.end_offset,
        last_fetched_epoch=state.log.last_epoch,
        max_wait_ms=state.config.fetch_wait_ms,
        max_bytes=state.config.max_fetch_bytes,
        observer=False,
        known_high_watermark=state.high_watermark,
        directory_id=state.directory_id,
        address=state.address,
    )


def look_for_leader(state: VoterState) -> None:
    """Without a vote it can not be elected: it asks one node after the other, and answers tell who leads."""
    bootstrap = [NodeId(FIRST_BOOTSTRAP_ID - index) for index in range(len(state.bootstrap_servers))]
    candidates = [*state.others, *bootstrap]
    deadline_ms = state.now_ms + state.config.fetch_wait_ms
    state.quorum.become(Unattached(election_deadline_ms=deadline_ms))
    if candidates:
        asked = candidates[state.next_candidate % len(candidates)]
        state.next_candidate += 1
        after_sync = state.log.synced_offset < state.log.end_offset
        timeout_ms = state.config.fetch_attempt_timeout_ms
        state.send(asked, _fetch_request(state), timeout_ms=timeout_ms, after_sync=after_sync)


def _take(state: VoterState, role: Follower, response: FetchResponse) -> None:
    _note_success(state, role)
    body = response.body
    if isinstance(body, SnapshotInstead):
        _begin_snapshot(state, role, body.snapshot_id)
        return
    if isinstance(body, DivergingEpoch):
        state.truncate(state.log.truncation_for(body))
    elif isinstance(body, LogRange) or not _fits(state, body.spans):
        # A peer that sends what does not continue this log is not obeyed; asking again may help.
        _fetch_later(state, role)
        return
    else:
        _append(state, body)
    # What lies beyond a truncation or the batches' end may differ from the leader's log.
    if not isinstance(body, DivergingEpoch):
        state.advance_high_watermark(min(response.high_watermark, state.log.end_offset))
    _fetch(state, role)


def _note_success(state: VoterState, role: Follower) -> None:
    role.has_fetched = True
    role.fetch_deadline_ms = _draw_fetch_deadline_ms(state)


def _begin_snapshot(state: VoterState, role: Follower, snapshot_id: SnapshotId) -> None:
    """The own log is too old, or parted from the leader's before its begin. What is committed never goes."""
    if snapshot_id.end_offset <= state.high_watermark or snapshot_id.epoch > state.quorum.epoch:
        _fetch_later(state, role)
        return
    role.wanted = FetchingSnapshot(snapshot_id=snapshot_id, position=0)
    _fetch(state, role)


def _take_part(state: VoterState, role: Follower, response: FetchSnapshotResponse) -> None:
    part, wanted = response.body, role.wanted
    is_wanted = (
        isinstance(wanted, FetchingSnapshot)
        and isinstance(part, SnapshotPart)
        and (part.snapshot_id, part.position) == (wanted.snapshot_id, wanted.position)
        and bool(part.data)
        and part.size_bytes <= state.config.snapshots.max_snapshot_bytes
    )
    if not is_wanted or not isinstance(part, SnapshotPart):
        role.wanted = FetchingLog()
        _fetch_later(state, role)
        return
    _note_success(state, role)
    state.write_snapshot_part(part)
    role.wanted = FetchingSnapshot(snapshot_id=part.snapshot_id, position=part.position + len(part.data))
    if part.is_last:
        # The shell tells what became of it; should that take too long, the fetch is not waited for for ever.
        role.fetch = FetchPending(at_ms=_patience_ms(role))
    else:
        _fetch(state, role)


def _append(state: VoterState, batches: FetchedBatches) -> None:
    if not batches.spans:
        return
    state.append_fetched(batches)


def _fits(state: VoterState, spans: tuple[BatchSpan, ...]) -> bool:
    """Whether the batches continue the own log without a gap, with epochs up to the current one."""
    before = BatchSpan(0, state.log.end_offset, state.log.last_epoch)
    return all(
        span.base_offset == previous.end_offset < span.end_offset
        and previous.epoch <= span.epoch <= state.quorum.epoch
        for previous, span in pairwise((before, *spans))
    )
