"""What a toxic is: its kind, its attributes, where it applies, and how JSON says so.

Knows names, ranges and defaults; refuses to know what a toxic does to bytes (``pipe``) and who holds it
(``collection``).  Source of the names and defaults: Toxiproxy 2's API.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from glasslog.chaos.toxiproxy.errors import BadRequestBody, InvalidStream, InvalidToxicType

_MOST = (1 << 53) - 1
"""The largest integer that every JSON reader keeps exactly."""


class Direction(StrEnum):
    """Upstream is from the client to the server behind the proxy."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Every chunk is late by ``latency`` milliseconds, give or take ``jitter``."""

    latency: int = 0
    jitter: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """At most ``rate`` kilobytes a second pass; none with 0."""

    rate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowClose:
    """The end of the stream is passed on ``delay`` milliseconds late."""

    delay: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    """Nothing passes; the connection closes after ``timeout`` silent milliseconds, never with 0."""

    timeout: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPeer:
    """The first chunk brings a TCP reset, ``timeout`` milliseconds later."""

    timeout: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicer:
    """Chunks are cut into pieces of about ``average_size`` bytes, ``delay`` microseconds apart."""

    average_size: int = 0
    size_variation: int = 0
    delay: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitData:
    """The connection closes after ``bytes`` bytes."""

    bytes: int = 0


Attributes = Latency | Bandwidth | SlowClose | Timeout | ResetPeer | Slicer | LimitData

KINDS: Mapping[str, type[Attributes]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slow_close": SlowClose,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "limit_data": LimitData,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """One toxic of a proxy. ``toxicity`` is the share of connections that it applies to."""

    name: str
    direction: Direction
    toxicity: float
    attributes: Attributes

    @property
    def kind(self) -> str:
        return _NAMES[type(self.attributes)]

    def to_json(self) -> dict[str, object]:
        return {
            "attributes": asdict(self.attributes),
            "name": self.name,
            "type": self.kind,
            "stream": self.direction.value,
            "toxicity": self.toxicity,
        }


def parse_toxic(body: object) -> Toxic:
    """A new toxic from a request's JSON.

    Raises ``BadRequestBody``, ``InvalidStream`` or ``InvalidToxicType``, each naming the value.
    """
    given = as_object(body)
    direction = _direction(given.get("stream") or Direction.DOWNSTREAM.value)
    kind_name = given.get("type", "")
    kind = KINDS.get(kind_name) if isinstance(kind_name, str) else None
    if kind is None:
        raise InvalidToxicType(f"{kind_name!r} is none of {', '.join(KINDS)}")
    name = text_of(given, "name") or f"{kind_name}_{direction}"
    return Toxic(
        name=name,
        direction=direction,
        toxicity=_toxicity(given, 1.0),
        attributes=_attributes(given, kind()),
    )


def update_toxic(toxic: Toxic, body: object) -> Toxic:
    """``toxic`` with the attributes and toxicity that the JSON names; the others stay."""
    given = as_object(body)
    return Toxic(
        name=toxic.name,
        direction=toxic.direction,
        toxicity=_toxicity(given, toxic.toxicity),
        attributes=_attributes(given, toxic.attributes),
    )


def as_object(body: object) -> Mapping[str, object]:
    """``body`` if it is a JSON object, else ``BadRequestBody``."""
    if not isinstance(body, dict):
        raise BadRequestBody("a JSON object is wanted")
    return body


def text_of(given: Mapping[str, object], key: str) -> str:
    """The text under ``key``, empty when it is missing; ``BadRequestBody`` for another type."""
    value = given.get(key, "")
    if not isinstance(value, str):
        raise BadRequestBody(f"{key} must be text, not {value!r}")
    return value


def _direction(value: object) -> Direction:
    for direction in Direction:
        if isinstance(value, str) and value.lower() == direction:
            return direction
    raise InvalidStream(repr(value))


def _toxicity(given: Mapping[str, object], default: float) -> float:
    value = given.get("toxicity", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadRequestBody(f"toxicity must be a number from 0 to 1, not {value!r}")
    return value


def _attributes(given: Mapping[str, object], before: Attributes) -> Attributes:
    changes = as_object(given.get("attributes") or {})
    values: dict[str, int] = asdict(before)
    for each in fields(before):
        if each.name in changes:
            values[each.name] = _whole(each.name, changes[each.name])
    attributes = type(before)(**values)
    if isinstance(attributes, Slicer) and not 0 <= attributes.size_variation <= max(
        0, attributes.average_size - 1
    ):
        raise BadRequestBody("size_variation must be below average_size")
    return attributes


def _whole(name: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise BadRequestBody(f"{name} must be a whole number from 0 to {_MOST}, not {value!r}")
    return value
