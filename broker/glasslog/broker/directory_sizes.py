"""What lies in a broker's data directories, as administrators are told. Refuses to know how it came there."""

from dataclasses import dataclass

from glasslog.common.ids import TopicPartition

UNKNOWN_BYTES = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSize:
    """A replica in a directory, or on its way there (``is_future``), with ``offset_lag`` left to copy."""

    name: TopicPartition
    size_bytes: int
    offset_lag: int = 0
    is_future: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySizes:
    """A data directory, its volume (KIP-827), what each replica takes. A failed one tells nothing more."""

    path: str
    is_online: bool
    replicas: tuple[ReplicaSize, ...] = ()
    total_bytes: int = UNKNOWN_BYTES
    usable_bytes: int = UNKNOWN_BYTES
