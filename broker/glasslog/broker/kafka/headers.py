"""Headers of Kafka's requests and responses, in the versions 1 and 2, 0 and 1.

This module knows which fields a header has; it refuses to know which API uses which version.
Source: Kafka's ``RequestHeader.json`` and ``ResponseHeader.json``.
"""

from struct import Struct
from typing import NamedTuple

from glasslog.broker.kafka.codec import INT32, Reader, nullable_string

_FIXED = Struct(">hhi")


class RequestHeader(NamedTuple):
    """What every request begins with. ``client_id`` is for logs and quotas."""

    api_key: int
    api_version: int
    correlation_id: int


def decode_fixed_part(reader: Reader) -> RequestHeader:
    """The fields that all header versions have; raises ``MalformedFrame``."""
    return RequestHeader(*reader.unpack(_FIXED))


def decode_rest(reader: Reader, *, is_flexible: bool) -> str:
    """The client id, after the fixed part; flexible versions have tagged fields behind it."""
    client_id = reader.nullable_string() or ""
    if is_flexible:
        reader.skip_tagged_fields()
    return client_id


def encode_request_header(api_key: int, api_version: int, *, correlation_id: int, client_id: str) -> bytes:
    """A header of version 2, for flexible API versions."""
    return _FIXED.pack(api_key, api_version, correlation_id) + nullable_string(client_id) + b"\0"


def encode_response_header(correlation_id: int, *, is_flexible: bool) -> bytes:
    """A header of version 1, or of version 0 for what is not flexible (and for ApiVersions always)."""
    number = INT32.pack(correlation_id)
    return number + b"\0" if is_flexible else number
