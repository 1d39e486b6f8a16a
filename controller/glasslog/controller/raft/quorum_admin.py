"""The requests of people to the quorum: who votes, and who leads. Serves them for one node.

An answer leaves when a change is committed; refusals are in the answer, with a sentence.  This module refuses
to know what makes a change safe (``membership``).
"""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Protocol

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.common.runtime.protocols import Peer, UnaryHandler
from glasslog.controller.raft import wire

_MAX_TIMEOUT_MS = 120_000


class ChangingQuorum(Protocol):
    """What is asked of the node."""

    @property
    def leader_id(self) -> NodeId: ...

    async def add_voter(self, node_id: NodeId, directory_id: bytes, *, timeout_ms: int) -> None: ...

    async def remove_voter(self, node_id: NodeId, directory_id: bytes, *, timeout_ms: int) -> None: ...

    async def transfer(self, to: NodeId, *, timeout_ms: int) -> NodeId: ...


class QuorumAdmin:
    """Handlers for one node; only a leader's do anything."""

    def __init__(self, node: ChangingQuorum, *, cluster_id: str) -> None:
        self._node = node
        self._cluster_id = cluster_id

    def handlers(self) -> Mapping[str, UnaryHandler]:
        """By method."""
        return {
            wire.ADD_VOTER: self._add,
            wire.REMOVE_VOTER: self._remove,
            wire.TRANSFER_LEADERSHIP: self._transfer,
        }

    async def _add(self, data: bytes, peer: Peer) -> bytes:
        asked = self._decode(wire.ADD_VOTER, data)
        change = self._node.add_voter(asked.node_id, asked.directory_id, timeout_ms=asked.timeout_ms)
        return await self._answer(change)

    async def _remove(self, data: bytes, peer: Peer) -> bytes:
        asked = self._decode(wire.REMOVE_VOTER, data)
        change = self._node.remove_voter(asked.node_id, asked.directory_id, timeout_ms=asked.timeout_ms)
        return await self._answer(change)

    async def _transfer(self, data: bytes, peer: Peer) -> bytes:
        asked = self._decode(wire.TRANSFER_LEADERSHIP, data)
        return await self._answer(self._node.transfer(asked.node_id, timeout_ms=asked.timeout_ms))

    async def _answer(self, change: Awaitable[object]) -> bytes:
        """Who does not lead raises, so that whoever asks looks for the leader; other refusals are answers."""
        code, reason = ErrorCode.NONE, ""
        try:
            await change
        except GlasslogError as error:
            if error.code is ErrorCode.NOT_LEADER_OR_FOLLOWER:
                raise
            code, reason = error.code, str(error)
        return wire.encode_changed(error=code, reason=reason, leader_id=self._node.leader_id)

    def _decode(self, method: str, data: bytes) -> wire.VoterChange:
        asked = wire.decode_change(method, data)
        if asked.cluster_id not in ("", self._cluster_id):
            raise GlasslogError(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                f"this is cluster {self._cluster_id}, not {asked.cluster_id}",
            )
        return replace(asked, timeout_ms=max(0, min(asked.timeout_ms, _MAX_TIMEOUT_MS)))
