"""The levels of features are changed, and what follows from that at once.

A level must be one that this controller and every registered broker can do; a fenced broker may come back.
Source: KIP-584, KIP-778 and KIP-1022, Kafka's ``FeatureControlManager``.
"""

from collections import Counter
from collections.abc import Sequence

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import Offset
from glasslog.controller.admin_requests import (
    FeatureUpdate,
    UpdatedFeature,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
    UpgradeType,
)
from glasslog.controller.decision import Context, Decision
from glasslog.controller.elections import adjusted
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.features import ELIGIBLE_LEADER_REPLICAS, FEATURES, why_unsupported
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.records import FeatureLevel, MetadataRecord


def update_features(context: Context, request: UpdateFeaturesRequest) -> Decision[UpdateFeaturesResponse]:
    """All levels or none: whoever asks for several may rest on their going together."""
    counts = Counter(update.name for update in request.updates)
    refused: dict[str, GlasslogError] = {}
    for update in request.updates:
        try:
            if counts[update.name] > 1:
                raise GlasslogError(ErrorCode.INVALID_REQUEST, f"feature {update.name!r} is named twice")
            _check(context.image, update)
        except GlasslogError as error:
            refused[update.name] = error
    results = tuple(_result(update.name, refused) for update in request.updates)
    records = () if refused or request.validate_only else _records(context, request.updates)
    return Decision(response=UpdateFeaturesResponse(features=results), records=records)


def _result(name: str, refused: dict[str, GlasslogError]) -> UpdatedFeature:
    if not refused:
        return UpdatedFeature(name=name)
    error = refused.get(name)
    if error is None:
        others = ", ".join(repr(other) for other in refused)
        error = GlasslogError(
            ErrorCode.FEATURE_UPDATE_FAILED, f"feature {name!r} is as it was, since {others} was refused"
        )
    return UpdatedFeature(name=name, error_code=error.code, error_message=str(error))


def _check(image: MetadataImage, update: FeatureUpdate) -> None:
    feature = FEATURES.get(update.name)
    if feature is None:
        raise _invalid(f"there is no feature {update.name!r}; known are {', '.join(FEATURES)}")
    if update.upgrade_type not in tuple(UpgradeType):
        raise _invalid(f"feature {update.name!r}: there is no upgrade type {update.upgrade_type}")
    if not feature.minimum <= update.level <= feature.maximum:
        raise _invalid(
            f"feature {update.name!r} has levels {feature.minimum} to {feature.maximum} here, "
            f"not {update.level}"
        )
    for broker in image.brokers.values():
        problem = why_unsupported(broker.features, update.name, update.level)
        if problem is not None:
            raise _invalid(
                f"feature {update.name!r} can not be at level {update.level}: broker {broker.broker_id} "
                f"{problem}; unregister it first if it does not come back"
            )
    level = image.feature_level(update.name)
    is_upgrade = update.upgrade_type == UpgradeType.UPGRADE
    if update.level < level and is_upgrade:
        raise _invalid(
            f"feature {update.name!r} is at {level}: going back to {update.level} must be asked for as a "
            "downgrade"
        )
    if update.level > level and not is_upgrade:
        raise _invalid(f"feature {update.name!r} is at {level}: {update.level} would be no downgrade")


def _invalid(problem: str) -> GlasslogError:
    return GlasslogError(ErrorCode.INVALID_UPDATE_VERSION, problem)


def _records(context: Context, updates: Sequence[FeatureUpdate]) -> tuple[MetadataRecord, ...]:
    levels = [
        FeatureLevel(name=update.name, level=update.level)
        for update in updates
        if update.level != context.image.feature_level(update.name)
    ]
    if all(level.name != ELIGIBLE_LEADER_REPLICAS for level in levels):
        return tuple(levels)
    delta = MetadataDelta(context.image)
    for index, level in enumerate(levels):
        delta.replay(Offset(context.next_offset + index), context.image.epoch, level)
    return (*levels, *adjusted(delta.apply(), context.settings, None))
