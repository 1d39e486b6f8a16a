"""Levels of features: UpdateFeatures, and what ApiVersions says of them.

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
class FeatureUpdateKey:
    """One of ``UpdateFeaturesRequest.feature_updates``."""

    feature: str = wire(STRING)
    max_version_level: int = wire(INT16_FIELD)
    allow_downgrade: bool = wire(BOOLEAN, until=0)
    upgrade_type: int = wire(INT8_FIELD, since=1, default=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFeaturesRequest:
    """UpdateFeatures request, versions 0 to 2."""

    timeout_ms: int = wire(INT32_FIELD, default=60000)
    feature_updates: tuple[FeatureUpdateKey, ...] = wire(array(FeatureUpdateKey))
    validate_only: bool = wire(BOOLEAN, since=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatableFeatureResult:
    """One of ``UpdateFeaturesResponse.results``."""

    feature: str = wire(STRING)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFeaturesResponse:
    """UpdateFeatures response, versions 0 to 2."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0)
    results: tuple[UpdatableFeatureResult, ...] = wire(array(UpdatableFeatureResult), until=1)


UPDATE_FEATURES = ApiLayout(
    key=57,
    name="UpdateFeatures",
    min_version=0,
    max_version=2,
    flexible_from=0,
    request=UpdateFeaturesRequest,
    response=UpdateFeaturesResponse,
)
