"""The quorum as one of its nodes sees it: who votes, who follows, how far each is.

This module refuses to change anything.
"""

from glasslog.common.ids import NodeId, Offset
from glasslog.controller.raft.roles import NEVER_MS, Leader, Progress
from glasslog.controller.raft.types import QuorumDescription, ReplicaDescription
from glasslog.controller.raft.voter_state import VoterState
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY, VoterEntry


def describe(state: VoterState) -> QuorumDescription:
    """Only the leader knows how far the others are: elsewhere there are no replicas in it."""
    role = state.quorum.role
    return QuorumDescription(
        leader_id=state.quorum.leader_id,
        epoch=state.quorum.epoch,
        high_watermark=Offset(state.high_watermark),
        voters=_voters(state, role) if isinstance(role, Leader) else (),
        observers=_observers(state, role) if isinstance(role, Leader) else (),
    )


def _voters(state: VoterState, role: Leader) -> tuple[ReplicaDescription, ...]:
    return tuple(
        _describe_self(state)
        if voter.node_id == state.node_id
        else _describe(state, voter, role.voters[voter.node_id])
        for voter in state.voter_set.voters
    )


def _observers(state: VoterState, role: Leader) -> tuple[ReplicaDescription, ...]:
    found = [
        _describe(state, VoterEntry(node_id=key.replica_id), progress)
        for key, progress in role.observers.items()
    ]
    return tuple(sorted(found, key=lambda observer: observer.node_id))


def _describe_self(state: VoterState) -> ReplicaDescription:
    return ReplicaDescription(
        node_id=state.node_id,
        log_end_offset=Offset(state.log.end_offset),
        last_fetch_ms_ago=0,
        last_caught_up_ms_ago=0,
        directory_id=state.directory_id,
        address=state.address,
    )


def _describe(state: VoterState, named: VoterEntry, progress: Progress) -> ReplicaDescription:
    """``named``: as the log has it, which also names voters that never fetched from this leader."""
    is_named = named.directory_id != UNKNOWN_DIRECTORY
    return ReplicaDescription(
        node_id=NodeId(named.node_id),
        log_end_offset=Offset(progress.end_offset),
        last_fetch_ms_ago=_ago_ms(state, progress.last_fetch_ms),
        last_caught_up_ms_ago=_ago_ms(state, progress.last_caught_up_ms),
        directory_id=named.directory_id if is_named else progress.directory_id,
        address=named.address or progress.address,
    )


def _ago_ms(state: VoterState, at_ms: int) -> int:
    return -1 if at_ms == NEVER_MS else max(0, state.now_ms - at_ms)
