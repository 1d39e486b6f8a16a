"""Limits on what clients may use: DescribeClientQuotas, AlterClientQuotas.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    FLOAT64_FIELD,
    INT8_FIELD,
    INT16_FIELD,
    INT32_FIELD,
    STRING,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentData:
    """One of ``DescribeClientQuotasRequest.components``."""

    entity_type: str = wire(STRING)
    match_type: int = wire(INT8_FIELD)
    match: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeClientQuotasRequest:
    """DescribeClientQuotas request, versions 0 and 1."""

    components: tuple[ComponentData, ...] = wire(array(ComponentData))
    strict: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityData:
    """One of ``EntryData.entity``, in both directions and both APIs."""

    entity_type: str = wire(STRING)
    entity_name: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueData:
    """One of ``DescribedEntryData.values``."""

    key: str = wire(STRING)
    value: float = wire(FLOAT64_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedEntryData:
    """One of ``DescribeClientQuotasResponse.entries``."""

    entity: tuple[EntityData, ...] = wire(array(EntityData))
    values: tuple[ValueData, ...] = wire(array(ValueData))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeClientQuotasResponse:
    """DescribeClientQuotas response, versions 0 and 1."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)
    entries: tuple[DescribedEntryData, ...] | None = wire(array(DescribedEntryData), null_since=0)


DESCRIBE_CLIENT_QUOTAS = ApiLayout(
    key=48,
    name="DescribeClientQuotas",
    min_version=0,
    max_version=1,
    flexible_from=1,
    request=DescribeClientQuotasRequest,
    response=DescribeClientQuotasResponse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpData:
    """One of ``AlteredEntryData.ops``."""

    key: str = wire(STRING)
    value: float = wire(FLOAT64_FIELD)
    remove: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlteredEntryData:
    """One of ``AlterClientQuotasRequest.entries``."""

    entity: tuple[EntityData, ...] = wire(array(EntityData))
    ops: tuple[OpData, ...] = wire(array(OpData))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterClientQuotasRequest:
    """AlterClientQuotas request, versions 0 and 1."""

    entries: tuple[AlteredEntryData, ...] = wire(array(AlteredEntryData))
    validate_only: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterOutcomeData:
    """One of ``AlterClientQuotasResponse.entries``."""

    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)
    entity: tuple[EntityData, ...] = wire(array(EntityData))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterClientQuotasResponse:
    """AlterClientQuotas response, versions 0 and 1."""

    throttle_time_ms: int = wire(INT32_FIELD)
    entries: tuple[AlterOutcomeData, ...] = wire(array(AlterOutcomeData))


ALTER_CLIENT_QUOTAS = ApiLayout(
    key=49,
    name="AlterClientQuotas",
    min_version=0,
    max_version=1,
    flexible_from=1,
    request=AlterClientQuotasRequest,
    response=AlterClientQuotasResponse,
)
