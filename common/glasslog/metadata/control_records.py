"""What the quorum itself writes into its log and snapshots, byte for byte as Kafka does.

Leader changes, the begin and end of a snapshot, the quorum's version and its voters; Kafka's tools read them.
This module knows the bytes; it refuses to know when they are written and what follows from them.  Source:
Kafka's ``ControlRecordType``, ``LeaderChangeMessage``, ``SnapshotHeaderRecord``, ``KRaftVersionRecord``,
``VotersRecord`` (KIP-595, KIP-630, KIP-853).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import Final

from glasslog.common.ids import NodeId

UNKNOWN_DIRECTORY: Final = bytes(16)
"""In place of a directory id: the voter was named without one, whatever directory it has counts."""

LEADER_CHANGE: Final = 2
SNAPSHOT_HEADER: Final = 3
SNAPSHOT_FOOTER: Final = 4
KRAFT_VERSION: Final = 5
KRAFT_VOTERS: Final = 6

CONTROLLER_LISTENER: Final = "CONTROLLER"
_KEY_VERSION = 0
_KEY = Struct(">hh")
_VERSION = Struct(">h")
_LEADER_CHANGE_HEAD = Struct(">hi")
_NODE_ID = Struct(">i")
_HEADER = Struct(">hq")
_VERSIONS = Struct(">hh")
_PORT = Struct(">H")
_NO_TAGGED_FIELDS = b"\0"
_UUID_BYTES = 16
_MAX_VOTERS = 1_000
_MAX_STRING_BYTES = 1_000


class CorruptControlRecord(ValueError):  # noqa: N818 - says what the bytes are
    """Bytes that are no control record of the named kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoterEntry:
    """One voter: its id, its log's directory, where it listens as ``host:port`` (empty: unknown)."""

    node_id: NodeId
    directory_id: bytes = UNKNOWN_DIRECTORY
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VotersRecord:
    """All voters from this record's offset on, sorted by id."""

    voters: tuple[VoterEntry, ...]


def control_key(kind: int) -> bytes:
    """A control record's key."""
    return _KEY.pack(_KEY_VERSION, kind)


def kind_of(key: bytes | None) -> int:
    """Which kind of control record has this key; -1 when it is none."""
    return _KEY.unpack(key)[1] if key is not None and len(key) == _KEY.size else -1


# --- writing ----------------------------------------------------------------------------------------------


def encode_leader_change(leader_id: NodeId, voters: Sequence[NodeId], granting: Sequence[NodeId]) -> bytes:
    """``LeaderChangeMessage``, version 0."""
    head = _LEADER_CHANGE_HEAD.pack(0, leader_id)
    return b"".join((head, _encode_ids(voters), _encode_ids(granting), _NO_TAGGED_FIELDS))


def encode_snapshot_header(last_contained_log_timestamp: int) -> bytes:
    """``SnapshotHeaderRecord``; milliseconds since 1970."""
    return _HEADER.pack(0, last_contained_log_timestamp) + _NO_TAGGED_FIELDS


def encode_snapshot_footer() -> bytes:
    """``SnapshotFooterRecord``: whoever reads it has read a whole snapshot."""
    return _VERSION.pack(0) + _NO_TAGGED_FIELDS


def encode_kraft_version(level: int) -> bytes:
    """``KRaftVersionRecord``: 1 when voters are named by records."""
    return _VERSIONS.pack(0, level) + _NO_TAGGED_FIELDS


def encode_voters(record: VotersRecord) -> bytes:
    """``VotersRecord``, version 0."""
    voters = b"".join(map(_encode_voter, record.voters))
    return _VERSION.pack(0) + _encode_unsigned(len(record.voters) + 1) + voters + _NO_TAGGED_FIELDS


def _encode_voter(voter: VoterEntry) -> bytes:
    return b"".join(
        (
            _NODE_ID.pack(voter.node_id),
            voter.directory_id,
            _encode_endpoints(voter.address),
            _VERSIONS.pack(0, 1),
            _NO_TAGGED_FIELDS,
            _NO_TAGGED_FIELDS,
        )
    )


def _encode_endpoints(address: str) -> bytes:
    if not address:
        return _encode_unsigned(1)
    host, _, port = address.rpartition(":")
    name = _encode_string(CONTROLLER_LISTENER)
    return (
        _encode_unsigned(2)
        + name
        + _encode_string(host.strip("[]"))
        + _PORT.pack(int(port))
        + _NO_TAGGED_FIELDS
    )


def _encode_ids(voters: Sequence[NodeId]) -> bytes:
    """Kafka's compact array of voters; its length plus one is an unsigned varint."""
    return _encode_unsigned(len(voters) + 1) + b"".join(
        _NODE_ID.pack(voter) + _NO_TAGGED_FIELDS for voter in voters
    )


def _encode_string(text: str) -> bytes:
    data = text.encode()
    return _encode_unsigned(len(data) + 1) + data


def _encode_unsigned(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


# --- reading ----------------------------------------------------------------------------------------------


def decode_snapshot_header(value: bytes | None) -> int:
    """The last contained log timestamp; raises ``CorruptControlRecord``."""
    if value is None or len(value) < _HEADER.size:
        raise CorruptControlRecord("a snapshot header is too short")
    timestamp: int = _HEADER.unpack_from(value)[1]
    return timestamp


def decode_voters(value: bytes | None) -> VotersRecord:
    """The voters; raises ``CorruptControlRecord``."""
    reader = _Reader(value or b"")
    try:
        reader.take(_VERSION)
        count = reader.length()
        if not 1 <= count <= _MAX_VOTERS:
            raise CorruptControlRecord(f"a voters record of {count} voters")
        return VotersRecord(voters=tuple(_decode_voter(reader) for _ in range(count)))
    except (struct_error, UnicodeDecodeError, IndexError) as error:
        raise CorruptControlRecord(f"a voters record: {error}") from error


def _decode_voter(reader: "_Reader") -> VoterEntry:
    (node_id,) = reader.take(_NODE_ID)
    directory_id = reader.bytes(_UUID_BYTES)
    addresses = [_decode_endpoint(reader) for _ in range(reader.length())]
    reader.take(_VERSIONS)
    reader.skip_tags()
    reader.skip_tags()
    address = dict(addresses).get(CONTROLLER_LISTENER, addresses[0][1] if addresses else "")
    return VoterEntry(node_id=NodeId(node_id), directory_id=directory_id, address=address)


def _decode_endpoint(reader: "_Reader") -> tuple[str, str]:
    name, host = reader.string(), reader.string()
    (port,) = reader.take(_PORT)
    reader.skip_tags()
    return name, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Reader:
    """Kafka's flexible layouts, one field after the other; ends in ``struct.error`` or ``IndexError``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, layout: Struct) -> tuple[int, ...]:
        fields = layout.unpack_from(self._data, self._position)
        self._position += layout.size
        return fields

    def bytes(self, count: int) -> bytes:
        if self._position + count > len(self._data):
            raise CorruptControlRecord("a control record ends early")
        self._position += count
        return self._data[self._position - count : self._position]

    def unsigned(self) -> int:
        number = shift = 0
        while True:
            byte = self._data[self._position]
            self._position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
            if shift > 28:
                raise CorruptControlRecord("a varint without end")

    def length(self) -> int:
        """Of a compact array."""
        return max(0, min(self.unsigned() - 1, _MAX_VOTERS + 1))

    def string(self) -> str:
        size_bytes = self.unsigned() - 1
        if not 0 <= size_bytes <= _MAX_STRING_BYTES:
            raise CorruptControlRecord(f"a string of {size_bytes} bytes")
        return self.bytes(size_bytes).decode()

    def skip_tags(self) -> None:
        for _ in range(self.unsigned()):
            self.unsigned()
            self.bytes(self.unsigned())
