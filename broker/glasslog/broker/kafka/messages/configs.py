"""Settings: DescribeConfigs.

Names and versions are those of Kafka's definitions of these messages. Refuses to know what they do.
"""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import (
    BOOLEAN,
    INT8_FIELD,
    INT16_FIELD,
    INT32_FIELD,
    STRING,
    ApiLayout,
    array,
    wire,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeConfigsResource:
    """One of ``DescribeConfigsRequest.resources``."""

    resource_type: int = wire(INT8_FIELD)
    resource_name: str = wire(STRING)
    configuration_keys: tuple[str, ...] | None = wire(array(STRING), null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeConfigsRequest:
    """DescribeConfigs request, versions 1 to 4."""

    resources: tuple[DescribeConfigsResource, ...] = wire(array(DescribeConfigsResource))
    include_synonyms: bool = wire(BOOLEAN)
    include_documentation: bool = wire(BOOLEAN, since=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeConfigsSynonym:
    """One of ``DescribeConfigsResourceResult.synonyms``."""

    name: str = wire(STRING)
    value: str | None = wire(STRING, null_since=0)
    source: int = wire(INT8_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeConfigsResourceResult:
    """One of ``DescribeConfigsResult.configs``."""

    name: str = wire(STRING)
    value: str | None = wire(STRING, null_since=0)
    read_only: bool = wire(BOOLEAN)
    config_source: int = wire(INT8_FIELD, default=-1)
    is_sensitive: bool = wire(BOOLEAN)
    synonyms: tuple[DescribeConfigsSynonym, ...] = wire(array(DescribeConfigsSynonym))
    config_type: int = wire(INT8_FIELD, since=3)
    documentation: str | None = wire(STRING, since=3, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeConfigsResult:
    """One of ``DescribeConfigsResponse.results``."""

    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)
    resource_type: int = wire(INT8_FIELD)
    resource_name: str = wire(STRING)
    configs: tuple[DescribeConfigsResourceResult, ...] = wire(array(DescribeConfigsResourceResult))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeConfigsResponse:
    """DescribeConfigs response, versions 1 to 4."""

    throttle_time_ms: int = wire(INT32_FIELD)
    results: tuple[DescribeConfigsResult, ...] = wire(array(DescribeConfigsResult))


DESCRIBE_CONFIGS = ApiLayout(
    key=32,
    name="DescribeConfigs",
    min_version=1,
    max_version=4,
    flexible_from=4,
    request=DescribeConfigsRequest,
    response=DescribeConfigsResponse,
)
