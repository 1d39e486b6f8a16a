"""What a whole cluster can switch between without a new version of it: features and their levels.

This module knows which levels this version can do, and which one a new cluster has; it refuses to know what
depends on a level.  Source: KIP-584, Kafka's ``Feature`` and ``MetadataVersion``, whose names and numbers
are used where the meaning is the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

METADATA_VERSION = "metadata.version"
KRAFT_VERSION = "kraft.version"
ELIGIBLE_LEADER_REPLICAS = "eligible.leader.replicas.version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """The levels of one feature, both inclusive. ``default`` holds until a level is set."""

    doc: str
    minimum: int
    maximum: int
    default: int


FEATURES: Mapping[str, Feature] = {
    METADATA_VERSION: Feature(
        doc="which metadata records there are: those of Kafka 4.0", minimum=25, maximum=25, default=25
    ),
    KRAFT_VERSION: Feature(
        doc="1: the quorum's voters are in its log and may change (KIP-853)", minimum=1, maximum=1, default=1
    ),
    ELIGIBLE_LEADER_REPLICAS: Feature(
        doc="1: replicas that left the ISR while it was too small may still be elected (KIP-966); "
        "0: only the last members of the ISR may",
        minimum=0,
        maximum=1,
        default=1,
    ),
}
"""By name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRange:
    """The levels of a feature that one node can do, both inclusive."""

    name: str
    minimum: int
    maximum: int

    def __str__(self) -> str:
        return f"{self.name}: {self.minimum}-{self.maximum}"


SUPPORTED = tuple(
    FeatureRange(name=name, minimum=feature.minimum, maximum=feature.maximum)
    for name, feature in FEATURES.items()
)
"""What a node of this version can do."""


def why_unsupported(ranges: Iterable[FeatureRange], name: str, level: int) -> str | None:
    """What keeps a node with ``ranges`` from a level of a feature; ``None`` if nothing does.

    At level 0 a feature is not there: who does not know it can do that (KIP-1022).
    """
    known = next((each for each in ranges if each.name == name), None)
    if known is None:
        return None if level == 0 else "does not know it"
    if known.minimum <= level <= known.maximum:
        return None
    return f"can do levels {known.minimum} to {known.maximum}"
