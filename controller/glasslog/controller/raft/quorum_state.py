"""What one voter is: its hard state, its role, and the only ways in which either may change.

Every change is checked against the table in ``roles``; this module refuses to know why one happens.
"""

from typing import assert_never

from glasslog.common.errors import require
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.raft.roles import (
    NEXT_ROLES,
    Candidate,
    Follower,
    Leader,
    Prospective,
    Resigned,
    Role,
    Unattached,
    Voted,
)
from glasslog.controller.raft.types import HardState


class QuorumState:
    """Epoch, vote and role. ``take_hard_state`` tells whether the hard state waits to be made durable."""

    def __init__(self, node_id: NodeId, hard_state: HardState, role: Role) -> None:
        self._node_id = node_id
        self._hard = hard_state
        self._role = role
        self._is_dirty = False

    @property
    def role(self) -> Role:
        return self._role

    @property
    def hard_state(self) -> HardState:
        return self._hard

    @property
    def epoch(self) -> int:
        return self._hard.epoch

    @property
    def leader_id(self) -> NodeId:
        """Whom to fetch from; ``NO_NODE`` while unknown and after the leader of the epoch resigned."""
        match self._role:
            case Leader():
                return self._node_id
            case Follower(leader_id=leader_id):
                return leader_id
            case Unattached() | Voted() | Prospective() | Candidate() | Resigned():
                return NO_NODE
            case _:
                assert_never(self._role)

    @property
    def may_vote(self) -> bool:
        """Whether this epoch's vote is still to give: nobody got it and nobody was elected."""
        return self._hard.voted_for == NO_NODE and self._hard.leader_id == NO_NODE

    def take_hard_state(self) -> HardState | None:
        """The hard state if it changed since the last call."""
        if not self._is_dirty:
            return None
        self._is_dirty = False
        return self._hard

    def become(self, role: Role) -> None:
        """Change the role within the epoch: to one that neither votes nor leads nor follows."""
        require(isinstance(role, Unattached | Prospective | Resigned), f"use the method for {role}")
        self._set_role(role)

    def enter_epoch(self, epoch: int, role: Unattached) -> None:
        """A newer epoch is known: forget the vote and the leader."""
        require(epoch > self.epoch, f"epoch {epoch} after {self.epoch}")
        self._set_role(role)
        self._set_hard(HardState(epoch=epoch))

    def vote(self, role: Voted) -> None:
        """Give this epoch's vote to another voter."""
        require(self.may_vote and role.candidate_id != self._node_id, f"vote {role} with {self._hard}")
        self._set_role(role)
        self._set_hard(HardState(epoch=self.epoch, voted_for=role.candidate_id))

    def campaign(self, role: Candidate) -> None:
        """Enter the next epoch with a vote for oneself."""
        self._set_role(role)
        self._set_hard(HardState(epoch=self.epoch + 1, voted_for=self._node_id))

    def lead(self, role: Leader) -> None:
        """The campaign was won."""
        self._set_role(role)
        self._set_leader(self._node_id)

    def follow(self, role: Follower) -> None:
        """The epoch's leader is known."""
        known = self._hard.leader_id
        require(
            role.leader_id != self._node_id and known in (NO_NODE, role.leader_id),
            f"node {self._node_id}: {role.leader_id} leads epoch {self.epoch}, and so does {known}",
        )
        self._set_role(role)
        self._set_leader(role.leader_id)

    def _set_leader(self, leader_id: NodeId) -> None:
        hard = self._hard
        self._set_hard(HardState(epoch=hard.epoch, voted_for=hard.voted_for, leader_id=leader_id))

    def _set_hard(self, hard: HardState) -> None:
        if hard != self._hard:
            self._hard = hard
            self._is_dirty = True

    def _set_role(self, role: Role) -> None:
        before, after = type(self._role), type(role)
        require(
            after in NEXT_ROLES[before],
            f"node {self._node_id}: {after.__name__} may not follow {before.__name__} in epoch {self.epoch}",
        )
        self._role = role
