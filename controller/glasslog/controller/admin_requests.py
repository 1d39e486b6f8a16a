"""What administrators ask of the active controller, and its answers, as values of our own.

Beside ``requests``, which has what brokers ask for themselves.  Refuses to know how they travel
(``admin_wire``) and how they are decided.
"""

from dataclasses import dataclass
from enum import IntEnum

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NodeId
from glasslog.metadata.quotas import QuotaEntity


class ConfigOperation(IntEnum):
    """What to do with a setting, with Kafka's numbers (``AlterConfigOp.OpType``, KIP-339)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEdit:
    """One edit of one setting; ``value`` goes with every operation but ``DELETE``. Numbers as they came."""

    key: str
    operation: int
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEdits:
    """Edits of a topic's or a broker's settings; broker ``""`` stands for every broker.

    ``replace_all``: what is not named returns to its default (the older AlterConfigs).
    """

    resource_type: int
    name: str
    edits: tuple[ConfigEdit, ...]
    replace_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterConfigsRequest:
    """Change settings of resources; with ``validate_only`` only say what would come of it."""

    resources: tuple[ResourceEdits, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaEdits:
    """Limits of one entity, by key; ``None`` removes one. The entity is as it came."""

    entity: QuotaEntity
    limits: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterClientQuotasRequest:
    """Set and remove limits; with ``validate_only`` only say what would come of it."""

    entries: tuple[QuotaEdits, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaOutcome:
    """What came of one entity."""

    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterClientQuotasResponse:
    """In the order of the request."""

    entries: tuple[QuotaOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlteredResource:
    """What came of one resource."""

    resource_type: int
    name: str
    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterConfigsResponse:
    """One result per resource, in order."""

    resources: tuple[AlteredResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MorePartitions:
    """A topic that shall have ``count`` partitions in all.

    ``assignments`` are the replicas of the new ones, in order; without any they are chosen, by
    ``placement_seed``, which the shell drew.
    """

    name: str
    count: int
    assignments: tuple[tuple[NodeId, ...], ...] = ()
    placement_seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitionsRequest:
    """Topics get more partitions; with ``validate_only`` only say what would come of it."""

    topics: tuple[MorePartitions, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnlargedTopic:
    """What came of one topic."""

    name: str
    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartitionsResponse:
    """One result per topic, in order."""

    topics: tuple[EnlargedTopic, ...]


class ElectionType(IntEnum):
    """Which election is asked for, with Kafka's numbers (KIP-460)."""

    PREFERRED = 0
    UNCLEAN = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectLeadersRequest:
    """Elect in ``partitions`` or, with ``None``, wherever it is needed. The type's number as it came."""

    election_type: int
    partitions: tuple[tuple[str, int], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionResult:
    """What came of one partition."""

    topic: str
    partition: int
    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectLeadersResponse:
    """``error_code`` refuses the whole call."""

    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""
    partitions: tuple[ElectionResult, ...] = ()


class UpgradeType(IntEnum):
    """In which direction a feature's level may go, with Kafka's numbers (KIP-584, KIP-778)."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureUpdate:
    """A feature and the level that it shall have. The type's number as it came."""

    name: str
    level: int
    upgrade_type: int = UpgradeType.UPGRADE


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFeaturesRequest:
    """Change all of these levels or none; with ``validate_only`` only say what would come of it."""

    updates: tuple[FeatureUpdate, ...]
    validate_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatedFeature:
    """What came of one feature; FEATURE_UPDATE_FAILED: another one was refused."""

    name: str
    error_code: ErrorCode = ErrorCode.NONE
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFeaturesResponse:
    """One result per feature, in order."""

    features: tuple[UpdatedFeature, ...]
