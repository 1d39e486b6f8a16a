"""The controllers' quorum as clients see it, and the changes that can be asked for.

Knows how a change is asked for until it is done; refuses to know when a change is safe: the quorum does.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from glasslog.client.admin_base import AdminBase, no_error
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, format_uuid, parse_uuid
from glasslog.v1 import quorum_pb2 as pb

_UNKNOWN_DIRECTORY = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumReplica:
    """One node that holds the metadata log, or follows it. Times in milliseconds ago, -1: never.

    ``directory_id`` and ``address`` (of its CONTROLLER listener) are empty where they are not known.
    """

    node_id: NodeId
    directory_id: str
    address: str
    log_end_offset: int
    lag: int
    last_fetch_ms_ago: int
    last_caught_up_ms_ago: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumStatus:
    """The quorum as its leader sees it. ``lag`` is in entries of the metadata log."""

    leader_id: NodeId
    leader_epoch: int
    high_watermark: int
    voters: tuple[QuorumReplica, ...]
    observers: tuple[QuorumReplica, ...]

    @property
    def max_lag(self) -> int:
        """Of the voters."""
        return max((voter.lag for voter in self.voters), default=0)


class QuorumAdmin(AdminBase):
    """What ``Admin`` does with the quorum."""

    async def describe_quorum(self) -> QuorumStatus:
        """Who votes on the metadata, who leads, and how far each is."""
        request = pb.DescribeQuorumRequest()
        response = await self._ask_any(
            "DescribeQuorum", request, pb.DescribeQuorumResponse, lambda reply: reply.error_code
        )
        return status_of(response)

    async def add_voter(self, node_id: int, *, directory_id: str = "") -> None:
        """Let a running controller vote that follows the log already; returns once that is committed.

        Raises DUPLICATE_VOTER, VOTER_NOT_FOUND when no such controller follows, REQUEST_TIMED_OUT when it
        does not catch up, or another change does not end, within ``default_api_timeout_ms``.
        """
        request = pb.AddVoterRequest(voter_id=node_id, directory_id=directory_bytes(directory_id))
        await self._change_voters("AddVoter", request, done=ErrorCode.DUPLICATE_VOTER)

    async def remove_voter(self, node_id: int, *, directory_id: str = "") -> None:
        """Let a voter vote no more; returns once that is committed.

        Raises VOTER_NOT_FOUND, INVALID_REQUEST for the only voter or when too few live ones would be left,
        REQUEST_TIMED_OUT as ``add_voter``.
        """
        request = pb.RemoveVoterRequest(voter_id=node_id, directory_id=directory_bytes(directory_id))
        await self._change_voters("RemoveVoter", request, done=ErrorCode.VOTER_NOT_FOUND)

    async def transfer_leadership(self, node_id: int) -> NodeId:
        """Hand leadership of the quorum over; returns who leads then, which may be another, -1: not known.

        Raises VOTER_NOT_FOUND, REQUEST_TIMED_OUT when that voter does not catch up.
        """
        request = pb.TransferLeadershipRequest(voter_id=node_id)
        return await self._change_voters("TransferLeadership", request, done=ErrorCode.NONE)

    async def _change_voters(
        self,
        method: str,
        request: pb.AddVoterRequest | pb.RemoveVoterRequest | pb.TransferLeadershipRequest,
        *,
        done: ErrorCode,
    ) -> NodeId:
        clock, timeout_ms = self._session.runtime.clock, self._options.default_api_timeout_ms
        deadline_ms = clock.now_ms() + timeout_ms
        request.timeout_ms = timeout_ms
        return await until_done(
            lambda: self._ask_any(method, request, pb.ChangeVotersResponse, no_error),
            done=done,
            deadline_passed=lambda: clock.now_ms() >= deadline_ms,
        )


def status_of(response: pb.DescribeQuorumResponse) -> QuorumStatus:
    """A controller's answer as a value."""
    ends = [replica.log_end_offset for replica in response.voters if replica.id == response.leader_id]
    end_offset = max([response.high_watermark, *ends])
    return QuorumStatus(
        leader_id=NodeId(response.leader_id),
        leader_epoch=response.leader_epoch,
        high_watermark=response.high_watermark,
        voters=tuple(_replica(replica, end_offset) for replica in response.voters),
        observers=tuple(_replica(replica, end_offset) for replica in response.observers),
    )


def _replica(replica: pb.DescribeQuorumResponse.Replica, end_offset: int) -> QuorumReplica:
    known = replica.directory_id not in (b"", _UNKNOWN_DIRECTORY)
    held = max(0, replica.log_end_offset)
    return QuorumReplica(
        node_id=NodeId(replica.id),
        directory_id=format_uuid(replica.directory_id) if known else "",
        address=replica.address,
        log_end_offset=held,
        lag=max(0, end_offset - held),
        last_fetch_ms_ago=replica.last_fetch_ms_ago,
        last_caught_up_ms_ago=replica.last_caught_up_ms_ago,
    )


def directory_bytes(directory_id: str) -> bytes:
    """A directory id as it is printed; empty for any. Raises INVALID_REQUEST."""
    if not directory_id:
        return b""
    try:
        return parse_uuid(directory_id)
    except ValueError as error:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, f"{directory_id!r} is no directory id: {error}"
        ) from error


async def until_done(
    ask: Callable[[], Awaitable[pb.ChangeVotersResponse]],
    *,
    done: ErrorCode,
    deadline_passed: Callable[[], bool],
) -> NodeId:
    """Ask for a change until it is made or refused for good; returns who leads afterwards, -1: not known.

    An answer may get lost, or a call end before the change does: then the change may have been made all the
    same, which the next refusal shows, with the code ``done``.
    """
    is_repeated = False
    while True:
        response = await ask()
        code = ErrorCode(response.error_code)
        if code is ErrorCode.NONE or (is_repeated and code is done):
            return NodeId(response.leader_id)
        if code is not ErrorCode.REQUEST_TIMED_OUT or deadline_passed():
            raise GlasslogError(code, response.error_message)
        is_repeated = True
