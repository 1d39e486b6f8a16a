"""UpdateFeatures of the Kafka listener, and the features that ApiVersions tells.

Translates to and from what the controller is asked; refuses to know what a feature does.
Source: KIP-584, Kafka's ``ControllerApis.updateFeatures`` and ``ApiVersionsResponse``.
"""

from collections.abc import Sequence
from struct import Struct

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.feature_view import known_features
from glasslog.broker.kafka.codec import INT64, compact_string, unsigned_varint
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import features as wire
from glasslog.broker.kafka.serving import Caller, in_a_task
from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.v1 import controller_pb2 as pb

_UPGRADE, _SAFE_DOWNGRADE = 1, 2
_TYPES_FROM = 1
_ZERO_FROM = 4
"""Clients that ask in version 3 stumble over a feature whose lowest level is 0 (KAFKA-17492)."""

_LEVELS = Struct(">hh")
_SUPPORTED, _EPOCH, _FINALIZED = 0, 1, 2


class FeatureApis:
    """See the module."""

    def __init__(self, changes: ClusterChanges) -> None:
        self._changes = changes

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (in_a_task(wire.UPDATE_FEATURES, self.update),)

    async def update(
        self, request: wire.UpdateFeaturesRequest, caller: Caller
    ) -> wire.UpdateFeaturesResponse:
        asked = pb.UpdateFeaturesRequest(
            updates=[_update(each, caller.version) for each in request.feature_updates],
            timeout_ms=request.timeout_ms,
            validate_only=request.validate_only,
        )
        try:
            answer = await self._changes.update_features(asked)
        except GlasslogError as error:
            answer = pb.UpdateFeaturesResponse()
            for each in asked.updates:
                answer.features.add(name=each.name, error_code=error.code, error_message=str(error))
        return _response(answer.features)


def _update(each: wire.FeatureUpdateKey, version: int) -> pb.UpdateFeaturesRequest.Update:
    upgrade_type = each.upgrade_type
    if version < _TYPES_FROM:
        upgrade_type = _SAFE_DOWNGRADE if each.allow_downgrade else _UPGRADE
    return pb.UpdateFeaturesRequest.Update(
        name=each.feature, level=each.max_version_level, upgrade_type=upgrade_type
    )


def _response(outcomes: Sequence[pb.UpdateFeaturesResponse.Feature]) -> wire.UpdateFeaturesResponse:
    """The newest version has one error for all: the first that was not only another one's fault."""
    refused = [each for each in outcomes if each.error_code]
    own = [each for each in refused if each.error_code != ErrorCode.FEATURE_UPDATE_FAILED]
    first = next(iter((*own, *refused)), None)
    return wire.UpdateFeaturesResponse(
        error_code=ErrorCode.NONE if first is None else first.error_code,
        error_message=None if first is None else first.error_message,
        results=tuple(
            wire.UpdatableFeatureResult(
                feature=each.name, error_code=each.error_code, error_message=each.error_message or None
            )
            for each in outcomes
        ),
    )


def feature_tags(metadata: MetadataView, version: int) -> bytes:
    """The tagged fields of an ApiVersions response in a flexible ``version``."""
    image = metadata.image
    features = known_features(image)
    supported = [each for each in features if each.minimum or version >= _ZERO_FROM]
    fields = {
        _SUPPORTED: _array([_feature(each.name, each.minimum, each.maximum) for each in supported]),
        _EPOCH: INT64.pack(image.offset),
        # A level of 0 is that of a feature which is off: it is not there.
        _FINALIZED: _array([_feature(each.name, each.level, each.level) for each in features if each.level]),
    }
    section = bytearray(unsigned_varint(len(fields)))
    for tag, data in fields.items():
        section += unsigned_varint(tag) + unsigned_varint(len(data)) + data
    return bytes(section)


def _feature(name: str, first: int, second: int) -> bytes:
    return compact_string(name) + _LEVELS.pack(first, second) + b"\0"


def _array(items: Sequence[bytes]) -> bytes:
    return unsigned_varint(len(items) + 1) + b"".join(items)
