"""Passes questions about the quorum, and changes of it, on to the active controller.

Clients talk to brokers only. Refuses to know what a voter is, and when a change is safe: the quorum does. A
change that takes longer than one call may is refused with REQUEST_TIMED_OUT, and the client asks again.
"""

from glasslog.broker.controller_channel import ControllerCalls
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import quorum_pb2 as pb

_QUORUM = "/glasslog.v1.Quorum/"


class QuorumHandlers:
    """See the module. ``timeout_ms`` bounds one call to a controller."""

    def __init__(self, controllers: ControllerCalls, *, timeout_ms: int) -> None:
        self._controllers = controllers
        self._timeout_ms = timeout_ms

    async def describe(self, message: pb.DescribeQuorumRequest, peer: Peer) -> pb.DescribeQuorumResponse:
        return await self._controllers.call(
            _QUORUM + "Describe", message, pb.DescribeQuorumResponse, timeout_ms=2 * self._timeout_ms
        )

    async def add_voter(self, message: pb.AddVoterRequest, peer: Peer) -> pb.ChangeVotersResponse:
        message.timeout_ms = self._bounded(message.timeout_ms)
        return await self._change("AddVoter", message)

    async def remove_voter(self, message: pb.RemoveVoterRequest, peer: Peer) -> pb.ChangeVotersResponse:
        message.timeout_ms = self._bounded(message.timeout_ms)
        return await self._change("RemoveVoter", message)

    async def transfer(self, message: pb.TransferLeadershipRequest, peer: Peer) -> pb.ChangeVotersResponse:
        message.timeout_ms = self._bounded(message.timeout_ms)
        return await self._change("TransferLeadership", message)

    async def _change(
        self,
        method: str,
        message: pb.AddVoterRequest | pb.RemoveVoterRequest | pb.TransferLeadershipRequest,
    ) -> pb.ChangeVotersResponse:
        return await self._controllers.call(
            _QUORUM + method, message, pb.ChangeVotersResponse, timeout_ms=2 * self._timeout_ms
        )

    def _bounded(self, timeout_ms: int) -> int:
        """Shorter than one call may take, so that the answer is heard."""
        return max(0, min(timeout_ms, self._timeout_ms * 3 // 4))
