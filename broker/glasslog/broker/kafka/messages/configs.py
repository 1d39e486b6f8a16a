"""Settings: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterableConfig:
    """One of ``AlterConfigsResource.configs``."""

    name: str = wire(STRING)
    value: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterConfigsResource:
    """One of ``AlterConfigsRequest.resources``."""

    resource_type: int = wire(INT8_FIELD)
    resource_name: str = wire(STRING)
    configs: tuple[AlterableConfig, ...] = wire(array(AlterableConfig))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterConfigsRequest:
    """AlterConfigs request, versions 0 to 2."""

    resources: tuple[AlterConfigsResource, ...] = wire(array(AlterConfigsResource))
    validate_only: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterConfigsResourceResponse:
    """One of ``AlterConfigsResponse.responses``, and of ``IncrementalAlterConfigsResponse.responses``."""

    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)
    resource_type: int = wire(INT8_FIELD)
    resource_name: str = wire(STRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterConfigsResponse:
    """AlterConfigs response, versions 0 to 2."""

    throttle_time_ms: int = wire(INT32_FIELD)
    responses: tuple[AlterConfigsResourceResponse, ...] = wire(array(AlterConfigsResourceResponse))


ALTER_CONFIGS = ApiLayout(
    key=33,
    name="AlterConfigs",
    min_version=0,
    max_version=2,
    flexible_from=2,
    request=AlterConfigsRequest,
    response=AlterConfigsResponse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalAlterableConfig:
    """One of ``IncrementalAlterConfigsResource.configs``."""

    name: str = wire(STRING)
    config_operation: int = wire(INT8_FIELD)
    value: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalAlterConfigsResource:
    """One of ``IncrementalAlterConfigsRequest.resources``."""

    resource_type: int = wire(INT8_FIELD)
    resource_name: str = wire(STRING)
    configs: tuple[IncrementalAlterableConfig, ...] = wire(array(IncrementalAlterableConfig))


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalAlterConfigsRequest:
    """IncrementalAlterConfigs request, versions 0 and 1."""

    resources: tuple[IncrementalAlterConfigsResource, ...] = wire(array(IncrementalAlterConfigsResource))
    validate_only: bool = wire(BOOLEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalAlterConfigsResponse:
    """IncrementalAlterConfigs response, versions 0 and 1."""

    throttle_time_ms: int = wire(INT32_FIELD)
    responses: tuple[AlterConfigsResourceResponse, ...] = wire(array(AlterConfigsResourceResponse))


INCREMENTAL_ALTER_CONFIGS = ApiLayout(
    key=44,
    name="IncrementalAlterConfigs",
    min_version=0,
    max_version=1,
    flexible_from=1,
    request=IncrementalAlterConfigsRequest,
    response=IncrementalAlterConfigsResponse,
)
