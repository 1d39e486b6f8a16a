"""What clients want changed in the cluster's metadata: passed on to the active controller.

A call returns when this broker's own metadata shows the change, so that who asks here next sees it; new
leaders may need a moment until they serve. Requests and answers are the controller's own messages. Refuses
to know which listener a request came through, and what may be changed: the controller checks all of it, but
for how much one request may ask.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeVar

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.wire_errors import error_code_of, raise_for
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import Offset
from glasslog.common.runtime.protocols import Clock
from glasslog.common.topic_names import is_internal
from glasslog.v1 import controller_pb2 as pb

Topic = pb.CreateTopicsRequest.Topic
Refusals = Mapping[str, tuple[ErrorCode, str]]
"""Why each topic could not be created: a code and a sentence."""

BY_DEFAULT = -1
"""A number of partitions or replicas that the controller's settings say."""

MAX_ITEMS_PER_REQUEST = 10_000
"""Topics, partitions, settings' resources: more of them in one request are refused."""

_DEFAULT_TIMEOUT_MS = 30_000
_AUTO_CREATE_TIMEOUT_MS = 5_000

_Request = (
    pb.CreateTopicsRequest
    | pb.DeleteTopicsRequest
    | pb.CreatePartitionsRequest
    | pb.AlterConfigsRequest
    | pb.AlterClientQuotasRequest
    | pb.ElectLeadersRequest
    | pb.AlterPartitionReassignmentsRequest
    | pb.UpdateFeaturesRequest
    | pb.UnregisterBrokerRequest
)
_Answer = TypeVar(
    "_Answer",
    pb.CreateTopicsResponse,
    pb.DeleteTopicsResponse,
    pb.CreatePartitionsResponse,
    pb.AlterConfigsResponse,
    pb.AlterClientQuotasResponse,
    pb.ElectLeadersResponse,
    pb.AlterPartitionReassignmentsResponse,
    pb.UpdateFeaturesResponse,
    pb.UnregisterBrokerResponse,
)


def check_count(asked: int, what: str) -> None:
    """Raises INVALID_REQUEST for more than one request may name."""
    if asked > MAX_ITEMS_PER_REQUEST:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, f"more than {MAX_ITEMS_PER_REQUEST} {what} in one request"
        )


class ClusterChanges:
    """See the module. A request's ``timeout_ms`` of 0 or less takes a default.

    Every call raises ``GlasslogError`` when nobody could be asked, INVALID_REQUEST for too much at once; what
    came of each item is in the answer.
    """

    def __init__(self, controllers: ControllerCalls, metadata: MetadataView, clock: Clock) -> None:
        self._controllers = controllers
        self._metadata = metadata
        self._clock = clock

    async def create_topics(self, request: pb.CreateTopicsRequest) -> pb.CreateTopicsResponse:
        """Whoever passes a client's request on sees to it that it is not ``internal``."""
        check_count(len(request.topics), "topics")
        return await self._change("CreateTopics", request, pb.CreateTopicsResponse)

    async def delete_topics(self, request: pb.DeleteTopicsRequest) -> pb.DeleteTopicsResponse:
        check_count(len(request.names), "topics")
        return await self._change("DeleteTopics", request, pb.DeleteTopicsResponse)

    async def create_partitions(self, request: pb.CreatePartitionsRequest) -> pb.CreatePartitionsResponse:
        check_count(len(request.topics), "topics")
        return await self._change("CreatePartitions", request, pb.CreatePartitionsResponse)

    async def alter_configs(self, request: pb.AlterConfigsRequest) -> pb.AlterConfigsResponse:
        check_count(len(request.resources), "resources")
        return await self._change("AlterConfigs", request, pb.AlterConfigsResponse)

    async def alter_client_quotas(self, request: pb.AlterClientQuotasRequest) -> pb.AlterClientQuotasResponse:
        check_count(len(request.entries), "entities")
        return await self._change("AlterClientQuotas", request, pb.AlterClientQuotasResponse)

    async def elect_leaders(self, request: pb.ElectLeadersRequest) -> pb.ElectLeadersResponse:
        """Raises INVALID_REQUEST for an unknown type, too."""
        check_count(len(request.partitions), "partitions")
        answer = await self._change("ElectLeaders", request, pb.ElectLeadersResponse)
        raise_for(answer.error_code, answer.error_message)
        return answer

    async def alter_reassignments(
        self, request: pb.AlterPartitionReassignmentsRequest
    ) -> pb.AlterPartitionReassignmentsResponse:
        check_count(len(request.partitions), "partitions")
        return await self._change(
            "AlterPartitionReassignments", request, pb.AlterPartitionReassignmentsResponse
        )

    async def update_features(self, request: pb.UpdateFeaturesRequest) -> pb.UpdateFeaturesResponse:
        check_count(len(request.updates), "features")
        return await self._change("UpdateFeatures", request, pb.UpdateFeaturesResponse)

    async def unregister_broker(self, request: pb.UnregisterBrokerRequest) -> pb.UnregisterBrokerResponse:
        return await self._change("UnregisterBroker", request, pb.UnregisterBrokerResponse)

    async def create_automatically(self, topics: Sequence[Topic]) -> Refusals:
        """Create topics that someone needs now; that others were quicker is no refusal. Never raises."""
        request = pb.CreateTopicsRequest(
            topics=topics,
            timeout_ms=_AUTO_CREATE_TIMEOUT_MS,
            internal=all(is_internal(topic.name) for topic in topics),
        )
        try:
            answer = await self.create_topics(request)
        except GlasslogError as error:
            return {topic.name: (error.code, str(error)) for topic in topics}
        return {
            each.name: (error_code_of(each.error_code), each.error_message)
            for each in answer.topics
            if each.error_code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS)
        }

    async def _change(self, method: str, request: _Request, answer_type: type[_Answer]) -> _Answer:
        asked_ms = self._clock.now_ms()
        request.timeout_ms = request.timeout_ms if request.timeout_ms > 0 else _DEFAULT_TIMEOUT_MS
        answer = await self._controllers.call(
            CONTROLLER_SERVICE + method, request, answer_type, timeout_ms=request.timeout_ms
        )
        left_ms = max(1, asked_ms + request.timeout_ms - self._clock.now_ms())
        await self._until_seen(answer.metadata_offset, left_ms)
        return answer

    async def _until_seen(self, offset: int, timeout_ms: int) -> None:
        """What was decided is decided: that this broker is slow to see it is no failure of the request."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._metadata.wait_for_offset(Offset(offset))
        except TimeoutError:
            return
