"""Limits on what clients may use are set and removed.

Checks what was asked and turns it into records; refuses to know what limits do.  Source: KIP-546, Kafka's
``ClientQuotaControlManager``.
"""

from collections import Counter

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.controller.admin_requests import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    QuotaEdits,
    QuotaOutcome,
)
from glasslog.controller.decision import Context, Decision
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.quotas import check_limit, describe_entity, entity_of
from glasslog.metadata.records import ClientQuotaChange


def alter_client_quotas(
    context: Context, request: AlterClientQuotasRequest
) -> Decision[AlterClientQuotasResponse]:
    """Each entity whole or not at all, independently of the others. With ``validate_only`` no records."""
    counts = Counter(frozenset(each.entity) for each in request.entries)
    outcomes: list[QuotaOutcome] = []
    changes: list[ClientQuotaChange] = []
    for edits in request.entries:
        try:
            if counts[frozenset(edits.entity)] > 1:
                whose = describe_entity(edits.entity)
                raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{whose} is named twice")
            changes += _changes(context.image, edits)
        except GlasslogError as error:
            outcomes.append(QuotaOutcome(error_code=error.code, error_message=str(error)))
        else:
            outcomes.append(QuotaOutcome())
    records = () if request.validate_only else tuple(changes)
    return Decision(response=AlterClientQuotasResponse(entries=tuple(outcomes)), records=records)


def _changes(image: MetadataImage, edits: QuotaEdits) -> list[ClientQuotaChange]:
    entity = entity_of(edits.entity)
    known = image.quotas.get(entity, {})
    wanted: dict[str, float | None] = {}
    for key, limit in edits.limits:
        if key in wanted:
            raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{key} is named twice")
        if limit is not None:
            check_limit(key, limit)
        wanted[key] = limit
    return [
        ClientQuotaChange(entity=entity, key=key, limit=limit)
        for key, limit in wanted.items()
        if known.get(key) != limit
    ]
