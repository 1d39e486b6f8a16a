"""Levels of the cluster's features: told from this broker's metadata, changed by the active controller.

A change returns when this broker's own metadata shows it.  Refuses to know which listener a request came
through, and what depends on a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.metadata_wait import Deadline, await_offset
from glasslog.broker.wire_errors import error_code_of
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import Offset
from glasslog.common.runtime.protocols import Clock
from glasslog.metadata.features import FEATURES
from glasslog.v1 import controller_pb2 as pb

_UPDATE = CONTROLLER_SERVICE + "UpdateFeatures"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureUpdate:
    """A level that a feature shall have; ``upgrade_type`` has Kafka's number."""

    name: str
    level: int
    upgrade_type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatedFeature:
    """What became of one feature."""

    name: str
    error: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFeature:
    """A feature: the levels that this version can do, and the one that holds."""

    name: str
    minimum: int
    maximum: int
    level: int
    documentation: str


class FeatureAdmin:
    """See the module. ``timeout_ms`` of 0 or less takes a default."""

    def __init__(self, controllers: ControllerCalls, metadata: MetadataView, clock: Clock) -> None:
        self._controllers = controllers
        self._metadata = metadata
        self._clock = clock

    def known(self) -> tuple[Offset, tuple[KnownFeature, ...]]:
        """Every feature, and the metadata's offset at which its level is this."""
        image = self._metadata.image
        features = tuple(
            KnownFeature(
                name=name,
                minimum=feature.minimum,
                maximum=feature.maximum,
                level=image.feature_level(name),
                documentation=feature.doc,
            )
            for name, feature in FEATURES.items()
        )
        return image.offset, features

    async def update(
        self, updates: Sequence[FeatureUpdate], *, timeout_ms: int, validate_only: bool = False
    ) -> tuple[UpdatedFeature, ...]:
        """One outcome for each, in their order. Raises ``GlasslogError`` when nobody could be asked."""
        deadline = Deadline(self._clock, timeout_ms)
        request = pb.UpdateFeaturesRequest(
            updates=[
                pb.UpdateFeaturesRequest.Update(
                    name=each.name, level=each.level, upgrade_type=each.upgrade_type
                )
                for each in updates
            ],
            validate_only=validate_only,
            timeout_ms=deadline.left_ms,
        )
        answer = await self._controllers.call(
            _UPDATE, request, pb.UpdateFeaturesResponse, timeout_ms=request.timeout_ms
        )
        if not validate_only:
            await await_offset(self._metadata, answer.metadata_offset, deadline)
        return tuple(
            UpdatedFeature(
                name=each.name, error=error_code_of(each.error_code), error_message=each.error_message
            )
            for each in answer.features
        )
