"""Levels of the cluster's features as ``Admin`` reads and changes them. Refuses to know what they do."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from glasslog.client.connections import error_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.v1.broker_pb2 import DescribeFeaturesResponse
from glasslog.v1.controller_pb2 import UpdateFeaturesRequest, UpdateFeaturesResponse


class UpgradeType(IntEnum):
    """In which direction a level may go, with Kafka's numbers."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDescription:
    """A feature: the levels that brokers can do, and the one by which the cluster behaves."""

    name: str
    minimum: int
    maximum: int
    level: int
    documentation: str


def update_request(
    levels: Mapping[str, int], upgrade_type: UpgradeType, *, validate_only: bool, timeout_ms: int
) -> UpdateFeaturesRequest:
    """What is asked of the controller."""
    return UpdateFeaturesRequest(
        updates=[
            UpdateFeaturesRequest.Update(name=name, level=level, upgrade_type=upgrade_type)
            for name, level in levels.items()
        ],
        validate_only=validate_only,
        timeout_ms=timeout_ms,
    )


def raise_first(reply: UpdateFeaturesResponse) -> None:
    """Raise the first refusal that is not only another one's fault."""
    refused = [each for each in reply.features if each.error_code]
    refused.sort(key=lambda each: each.error_code == ErrorCode.FEATURE_UPDATE_FAILED)
    for each in refused:
        code = error_of(each.error_code)
        raise GlasslogError(code, each.error_message or f"feature {each.name!r}: {code.name}")


def described(reply: DescribeFeaturesResponse) -> list[FeatureDescription]:
    """What a broker told."""
    return [
        FeatureDescription(
            name=each.name,
            minimum=each.minimum,
            maximum=each.maximum,
            level=each.level,
            documentation=each.documentation,
        )
        for each in reply.features
    ]
