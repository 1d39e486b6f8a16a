"""DescribeClientQuotas and AlterClientQuotas of the Kafka listener.

Translates to and from the values of quotas; refuses to know who decides.  Source: KIP-546.
"""

from collections.abc import Callable, Sequence

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import quotas as wire
from glasslog.broker.kafka.serving import Caller, at_once, in_a_task
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.quotas import Match, QuotaFilter, matching
from glasslog.v1 import controller_pb2 as pb


class QuotaApis:
    """See the module. ``image`` gives the newest metadata."""

    def __init__(self, changes: ClusterChanges, image: Callable[[], MetadataImage]) -> None:
        self._changes = changes
        self._image = image

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (
            at_once(wire.DESCRIBE_CLIENT_QUOTAS, self.describe),
            in_a_task(wire.ALTER_CLIENT_QUOTAS, self.alter),
        )

    def describe(
        self, request: wire.DescribeClientQuotasRequest, caller: Caller
    ) -> wire.DescribeClientQuotasResponse:
        try:
            filters = [_filter(each) for each in request.components]
            found = matching(self._image().quotas, filters, strict=request.strict)
        except GlasslogError as error:
            return wire.DescribeClientQuotasResponse(
                error_code=error.code, error_message=str(error), entries=None
            )
        return wire.DescribeClientQuotasResponse(
            error_message=None,
            entries=tuple(
                wire.DescribedEntryData(
                    entity=tuple(
                        wire.EntityData(entity_type=kind, entity_name=name) for kind, name in entity
                    ),
                    values=tuple(wire.ValueData(key=key, value=limit) for key, limit in limits.items()),
                )
                for entity, limits in found.items()
            ),
        )

    async def alter(
        self, request: wire.AlterClientQuotasRequest, caller: Caller
    ) -> wire.AlterClientQuotasResponse:
        asked = pb.AlterClientQuotasRequest(validate_only=request.validate_only)
        for entry in request.entries:
            entity = [
                pb.QuotaEntityPart(type=part.entity_type, name=part.entity_name) for part in entry.entity
            ]
            changes = [
                pb.AlterClientQuotasRequest.Change(key=op.key, limit=None if op.remove else op.value)
                for op in entry.ops
            ]
            asked.entries.add(entity=entity, changes=changes)
        try:
            answer = await self._changes.alter_client_quotas(asked)
            results = [(each.error_code, each.error_message) for each in answer.entries]
        except GlasslogError as error:
            results = [(int(error.code), str(error))] * len(request.entries)
        return wire.AlterClientQuotasResponse(
            entries=tuple(
                wire.AlterOutcomeData(error_code=code, error_message=text or None, entity=entry.entity)
                for entry, (code, text) in zip(request.entries, results, strict=True)
            )
        )


def _filter(each: wire.ComponentData) -> QuotaFilter:
    if each.match_type not in tuple(Match):
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"match type {each.match_type}; there are 0, 1 and 2")
    match = Match(each.match_type)
    if (each.match is not None) is not (match is Match.EXACT):
        raise GlasslogError(ErrorCode.INVALID_REQUEST, "a name goes with an exact match, and with no other")
    return QuotaFilter(kind=each.entity_type, match=match, name=each.match or "")
