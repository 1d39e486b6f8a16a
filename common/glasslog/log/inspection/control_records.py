"""The records of control batches: ends of transactions, and the quorum's own notes.

This module knows their layouts; it refuses to know what brokers and controllers do on reading them.
Source: Kafka's ``ControlRecordType``, ``EndTransactionMarker``, ``LeaderChangeMessage``, ``VotersRecord``.
"""

from struct import Struct
from struct import error as struct_error

from glasslog.log.inspection.items import Fields
from glasslog.log.inspection.schema import Field, Message, read_message

_KEY = Struct(">hh")
_VERSION = Struct(">h")

_VOTER = (Field("voterId", "int32"), Field("voterDirectoryId", "uuid", first=1))
_ENDPOINT = (Field("name", "string"), Field("host", "string"), Field("port", "uint16"))
_VERSIONS = (Field("minSupportedVersion", "int16"), Field("maxSupportedVersion", "int16"))
_QUORUM_VOTER = (
    Field("voterId", "int32"),
    Field("voterDirectoryId", "uuid"),
    Field("endpoints", _ENDPOINT, is_array=True),
    Field("kRaftVersionFeature", _VERSIONS),
)
_MARKER = Message(fields=(Field("coordinatorEpoch", "int32"),))
_TYPES: dict[int, tuple[str, Message]] = {
    0: ("ABORT", _MARKER),
    1: ("COMMIT", _MARKER),
    2: (
        "LEADER_CHANGE",
        Message(
            fields=(
                Field("leaderId", "int32"),
                Field("voters", _VOTER, is_array=True),
                Field("grantingVoters", _VOTER, is_array=True),
            ),
            flexible=0,
            newest=1,
        ),
    ),
    3: ("SNAPSHOT_HEADER", Message(fields=(Field("lastContainedLogTimestamp", "int64"),), flexible=0)),
    4: ("SNAPSHOT_FOOTER", Message(fields=(), flexible=0)),
    5: ("KRAFT_VERSION", Message(fields=(Field("kRaftVersion", "int16"),), flexible=0)),
    6: ("KRAFT_VOTERS", Message(fields=(Field("voters", _QUORUM_VOTER, is_array=True),), flexible=0)),
}


def decode_control_record(key: bytes | None, value: bytes | None) -> Fields:
    """What a control record says. Raises ``ValueError`` for bytes that say nothing."""
    try:
        _, number = _KEY.unpack_from(key or b"")
        if number not in _TYPES:
            return {"control": f"type {number}"}
        name, message = _TYPES[number]
        (version,) = _VERSION.unpack_from(value or b"")
    except struct_error as error:
        raise ValueError(f"a control record: {error}") from None
    body = (value or b"")[_VERSION.size :]
    # Later versions of the markers add fields; the ones known here stay in front.
    fields = read_message(
        message, body[: 4 if message is _MARKER else None], version=min(version, message.newest)
    )
    return {"control": name, **fields}
