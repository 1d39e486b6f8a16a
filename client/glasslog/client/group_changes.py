"""Changes a group from outside: where it goes on, and whether it is remembered at all.

Refuses to know members: their own commits are ``membership``'s.
"""

from collections.abc import Mapping

from glasslog.client.connections import error_of
from glasslog.client.coordinator import CoordinatorClient
from glasslog.client.session import Session
from glasslog.client.types import OffsetAndMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.v1.broker_pb2 import (
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
)

_ATTEMPT_MS = 5_000
_HAS_MEMBERS = frozenset(
    {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NON_EMPTY_GROUP, ErrorCode.ILLEGAL_GENERATION}
)


class GroupChanges:
    """One client's changes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def commit(self, group_id: str, offsets: Mapping[TopicPartition, int | OffsetAndMetadata]) -> None:
        """As somebody who is not a member."""
        positions = {
            partition: offset if isinstance(offset, OffsetAndMetadata) else OffsetAndMetadata(offset)
            for partition, offset in offsets.items()
        }
        request = OffsetCommitRequest(
            group_id=group_id,
            generation_id=-1,
            partitions=[
                OffsetCommitRequest.Partition(
                    topic=partition.topic,
                    partition=partition.partition,
                    offset=position.offset,
                    leader_epoch=position.leader_epoch,
                    metadata=position.metadata,
                )
                for partition, position in positions.items()
            ],
        )
        _, code = await CoordinatorClient(self._session, group_id).call(
            "OffsetCommit",
            request,
            OffsetCommitResponse,
            lambda reply: next((each.error_code for each in reply.partitions if each.error_code), 0),
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=self._session.options.default_api_timeout_ms,
        )
        self._check(group_id, code)

    async def delete(self, group_id: str) -> None:
        """With all it committed."""
        _, code = await CoordinatorClient(self._session, group_id).call(
            "DeleteGroups",
            DeleteGroupsRequest(groups=[group_id]),
            DeleteGroupsResponse,
            lambda reply: next((each.error_code for each in reply.groups if each.error_code), 0),
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=self._session.options.default_api_timeout_ms,
        )
        self._check(group_id, code)

    def _check(self, group_id: str, code: ErrorCode) -> None:
        if code in _HAS_MEMBERS:
            raise GlasslogError(code, f"group {group_id!r} has members: stop them first ({code.name})")
        if code is ErrorCode.GROUP_ID_NOT_FOUND:
            raise GlasslogError(code, f"there is no group {group_id!r}")
        if code is not ErrorCode.NONE:
            raise GlasslogError(error_of(code), f"group {group_id!r}: {code.name}")
