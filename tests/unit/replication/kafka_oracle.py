"""kafka-python's codecs as an independent second opinion on our bytes."""

import importlib
import warnings
from typing import Protocol


class Decoded(Protocol):
    """A message that kafka-python understood."""

    def to_dict(self) -> dict[str, object]: ...

    def encode(self) -> bytes: ...


class Codec(Protocol):
    """One kind of message."""

    def decode(self, data: bytes, *, version: int) -> Decoded: ...


def _load(module: str, name: str) -> Codec:
    # It reads its schemas through an interface of Python's that is deprecated.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        codec: Codec = getattr(importlib.import_module(f"kafka.protocol.{module}"), name)
    return codec


FETCH_REQUEST = _load("consumer.fetch", "FetchRequest")
FETCH_RESPONSE = _load("consumer.fetch", "FetchResponse")
API_VERSIONS_RESPONSE = _load("metadata", "ApiVersionsResponse")
