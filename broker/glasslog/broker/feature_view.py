"""The features that a broker knows, with the levels of its own image. Refuses to know what they do."""

from collections.abc import Sequence
from dataclasses import dataclass

from glasslog.metadata.features import FEATURES
from glasslog.metadata.image import MetadataImage


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFeature:
    """A feature: the levels that this version can do, and the one that holds."""

    name: str
    minimum: int
    maximum: int
    level: int
    documentation: str


def known_features(image: MetadataImage) -> Sequence[KnownFeature]:
    """Every one that this version knows."""
    return [
        KnownFeature(
            name=name,
            minimum=feature.minimum,
            maximum=feature.maximum,
            level=image.feature_level(name),
            documentation=feature.doc,
        )
        for name, feature in FEATURES.items()
    ]
