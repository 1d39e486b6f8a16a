"""Limits on what clients may use: whom they are for, what they limit, and which one holds for a client.

This module knows entities, their precedence and what may be asked for; it refuses to know how use is
measured.
Source: KIP-13, KIP-55, KIP-124, KIP-546, Kafka's ``ClientQuotaManager`` and ``ClientQuotasImage``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from glasslog.common.errors import ErrorCode, GlasslogError

USER, CLIENT_ID = "user", "client-id"
ENTITY_TYPES = (CLIENT_ID, USER)

PRODUCER_BYTE_RATE = "producer_byte_rate"
CONSUMER_BYTE_RATE = "consumer_byte_rate"
REQUEST_PERCENTAGE = "request_percentage"
QUOTA_KEYS: Mapping[str, str] = {
    PRODUCER_BYTE_RATE: "bytes per second of Produce requests",
    CONSUMER_BYTE_RATE: "bytes per second of records in answers to Fetch",
    REQUEST_PERCENTAGE: "share of one processor that a broker spends on requests, in percent",
}
"""By broker, each of which counts for itself."""

QuotaEntity = tuple[tuple[str, str | None], ...]
"""Types with names, sorted by type, each type once; ``None``: every name that has no quota of its own."""

Quotas = Mapping[QuotaEntity, Mapping[str, float]]


class Quota(NamedTuple):
    """A limit and who share it: all clients of a user, all with a client id, or only those with both."""

    user: str
    client_id: str
    limit: float


def quota_for(quotas: Quotas, key: str, *, user: str, client_id: str) -> Quota | None:
    """The most specific one: of user and client id, of the user, of the client id; names before defaults."""
    for entity, shared_by in _candidates(user, client_id):
        limit = quotas.get(entity, {}).get(key)
        if limit is not None:
            return Quota(*shared_by, limit)
    return None


def _candidates(user: str, client_id: str) -> Iterator[tuple[QuotaEntity, tuple[str, str]]]:
    for user_name in (user, None):
        for client_name in (client_id, None):
            yield ((CLIENT_ID, client_name), (USER, user_name)), (user, client_id)
        yield ((USER, user_name),), (user, "")
    for client_name in (client_id, None):
        yield ((CLIENT_ID, client_name),), ("", client_id)


def entity_of(parts: Iterable[tuple[str, str | None]]) -> QuotaEntity:
    """The entity made of types with names; raises INVALID_REQUEST for none, and for unknown types."""
    named = tuple(sorted(parts, key=lambda part: part[0]))
    if not named:
        raise GlasslogError(ErrorCode.INVALID_REQUEST, "a client quota entity names nobody")
    for kind, name in named:
        check_type(kind)
        if name == "":
            raise GlasslogError(ErrorCode.INVALID_REQUEST, f"a client quota entity has an empty {kind}")
    if len({kind for kind, _ in named}) < len(named):
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{describe_entity(named)} names a type twice")
    return named


def check_type(kind: str) -> None:
    """Raises INVALID_REQUEST for what quotas can not be for."""
    if kind not in ENTITY_TYPES:
        allowed = ", ".join(ENTITY_TYPES)
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST,
            f"client quotas are not for a {kind!r}, only for: {allowed}",
        )


def check_limit(key: str, limit: float) -> None:
    """Raises INVALID_REQUEST for a key that nothing is measured for, or a limit that is none."""
    if key not in QUOTA_KEYS:
        allowed = ", ".join(sorted(QUOTA_KEYS))
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"unknown client quota {key!r}; there are {allowed}")
    if not 0 < limit < float("inf"):
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{key}={limit:g} must be greater than 0")
    if key != REQUEST_PERCENTAGE and not float(limit).is_integer():
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{key}={limit:g} must be a whole number of bytes")


def describe_entity(entity: QuotaEntity) -> str:
    """For people."""
    return ", ".join(f"{kind} {'by default' if name is None else repr(name)}" for kind, name in entity)


# --- looking them up ---


class Match(IntEnum):
    """How a filter compares names, with Kafka's numbers: this one, the default, any at all."""

    EXACT = 0
    DEFAULT = 1
    ANY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaFilter:
    """What of an entity's one type is asked for; ``name`` goes with ``Match.EXACT``."""

    kind: str
    match: Match
    name: str = ""

    def fits(self, entity: QuotaEntity) -> bool:
        """Whether the entity has this type, with a name that is asked for."""
        names = [name for kind, name in entity if kind == self.kind]
        if not names or self.match is Match.ANY:
            return bool(names)
        return names[0] == (self.name if self.match is Match.EXACT else None)


def matching(quotas: Quotas, filters: Iterable[QuotaFilter], *, strict: bool) -> Quotas:
    """Entities that fit every filter; ``strict``: and have no type that none is for. No filters: all.

    INVALID_REQUEST for a type that there is not, or two filters for one.
    """
    wanted = tuple(filters)
    for each in wanted:
        check_type(each.kind)
    if len({each.kind for each in wanted}) < len(wanted):
        raise GlasslogError(ErrorCode.INVALID_REQUEST, "two filters are for one type of entity")
    return {
        entity: dict(limits)
        for entity, limits in quotas.items()
        if all(each.fits(entity) for each in wanted) and (not strict or len(entity) == len(wanted))
    }
