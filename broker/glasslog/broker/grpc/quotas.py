"""DescribeClientQuotas of ``glasslog.v1.Broker``. Refuses to know who decides about quotas."""

from collections.abc import Callable

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Peer
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.quotas import Match, QuotaFilter, matching
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2


class QuotaHandlers:
    """See the module. ``image`` gives the newest metadata."""

    def __init__(self, image: Callable[[], MetadataImage]) -> None:
        self._image = image

    async def describe(
        self, message: pb.DescribeClientQuotasRequest, peer: Peer
    ) -> pb.DescribeClientQuotasResponse:
        answer = pb.DescribeClientQuotasResponse()
        try:
            filters = [_filter(each) for each in message.filters]
            found = matching(self._image().quotas, filters, strict=message.strict)
        except GlasslogError as error:
            return pb.DescribeClientQuotasResponse(error_code=error.code, error_message=str(error))
        for entity, limits in found.items():
            parts = [controller_pb2.QuotaEntityPart(type=kind, name=name) for kind, name in entity]
            answer.entries.add(entity=parts, limits=limits)
        return answer


def _filter(each: pb.DescribeClientQuotasRequest.Filter) -> QuotaFilter:
    if each.match not in tuple(Match):
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"match {each.match}; there are 0, 1 and 2")
    return QuotaFilter(kind=each.type, match=Match(each.match), name=each.name)
