"""Changes settings of topics and brokers on behalf of clients, through the active controller.

A call returns when this broker's own metadata shows the result.  Refuses to know which listener a request
came through, and which settings there are: the controller checks all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.metadata_wait import Deadline, await_offset
from glasslog.broker.wire_errors import error_code_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Clock
from glasslog.v1 import controller_pb2 as pb

_ALTER = CONTROLLER_SERVICE + "AlterConfigs"
MAX_RESOURCES_PER_REQUEST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEdit:
    """One edit of one setting; ``operation`` has Kafka's number. ``value``: not with 1, which deletes."""

    key: str
    operation: int
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEdits:
    """Edits of one resource; ``replace_all``: what is not named returns to its default."""

    resource_type: int
    name: str
    edits: tuple[ConfigEdit, ...]
    replace_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceOutcome:
    """What became of one resource."""

    resource_type: int
    name: str
    error: ErrorCode = ErrorCode.NONE
    error_message: str = ""


class ConfigAdmin:
    """See the module. ``timeout_ms`` of 0 or less takes a default."""

    def __init__(self, controllers: ControllerCalls, metadata: MetadataView, clock: Clock) -> None:
        self._controllers = controllers
        self._metadata = metadata
        self._clock = clock

    async def alter(
        self, resources: Sequence[ResourceEdits], *, timeout_ms: int = 0, validate_only: bool = False
    ) -> tuple[ResourceOutcome, ...]:
        """One outcome for each, in their order. Raises ``GlasslogError`` when nobody could be asked."""
        if len(resources) > MAX_RESOURCES_PER_REQUEST:
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"more than {MAX_RESOURCES_PER_REQUEST} resources in one request"
            )
        deadline = Deadline(self._clock, timeout_ms)
        request = pb.AlterConfigsRequest(
            resources=[_to_wire(each) for each in resources],
            validate_only=validate_only,
            timeout_ms=deadline.left_ms,
        )
        answer = await self._controllers.call(
            _ALTER, request, pb.AlterConfigsResponse, timeout_ms=request.timeout_ms
        )
        if not validate_only:
            await await_offset(self._metadata, answer.metadata_offset, deadline)
        return tuple(_outcome(each) for each in answer.resources)


def _to_wire(resource: ResourceEdits) -> pb.AlterConfigsRequest.Resource:
    return pb.AlterConfigsRequest.Resource(
        type=resource.resource_type,
        name=resource.name,
        changes=[
            pb.AlterConfigsRequest.Change(
                key=each.key,
                operation=pb.AlterConfigsRequest.Operation.ValueType(each.operation),
                value=each.value,
            )
            for each in resource.edits
        ],
        replace_all=resource.replace_all,
    )


def _outcome(resource: pb.AlterConfigsResponse.Resource) -> ResourceOutcome:
    return ResourceOutcome(
        resource_type=resource.type,
        name=resource.name,
        error=error_code_of(resource.error_code),
        error_message=resource.error_message,
    )
