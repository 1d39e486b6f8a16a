"""Limits on what clients may use, as ``Admin`` reads and changes them.

Refuses to know how brokers measure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from glasslog.client.admin_base import AdminBase, no_error, raise_for
from glasslog.client.connections import error_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.v1.broker_pb2 import DescribeClientQuotasRequest, DescribeClientQuotasResponse
from glasslog.v1.controller_pb2 import AlterClientQuotasRequest, AlterClientQuotasResponse, QuotaEntityPart

_EXACT, _DEFAULT, _ANY = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Everybody:
    """In place of a name: all that have no limit of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anybody:
    """In place of a name that is looked for: whatever it is."""


EVERYBODY = Everybody()
ANYBODY = Anybody()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaEntity:
    """Whom a limit is for: a user, a client id, or a user with a client id; ``None``: whichever it is."""

    user: str | Everybody | None = None
    client_id: str | Everybody | None = None

    def __str__(self) -> str:
        return ", ".join(f"{kind} {name or 'by default'}" for kind, name in _parts(self).items())


def _parts(entity: QuotaEntity) -> dict[str, str | None]:
    named = {"client-id": entity.client_id, "user": entity.user}
    return {
        kind: None if isinstance(name, Everybody) else name
        for kind, name in named.items()
        if name is not None
    }


class QuotaAdmin(AdminBase):
    """What ``Admin`` does with limits."""

    async def alter_client_quotas(
        self, limits: Mapping[QuotaEntity, Mapping[str, float | None]], *, validate_only: bool = False
    ) -> None:
        """Set limits, or remove them with ``None``; each entity whole or not at all. They act at once.

        Keys are ``producer_byte_rate`` and ``consumer_byte_rate`` (bytes per second), and
        ``request_percentage`` (of one processor), of each broker. Raises the first
        refusal, INVALID_REQUEST; the others are changed.
        """
        entities = list(limits)
        request = AlterClientQuotasRequest(
            validate_only=validate_only, timeout_ms=self._options.request_timeout_ms
        )
        for entity in entities:
            request.entries.add(
                entity=[QuotaEntityPart(type=kind, name=name) for kind, name in _parts(entity).items()],
                changes=[
                    AlterClientQuotasRequest.Change(key=key, limit=limit)
                    for key, limit in limits[entity].items()
                ],
            )
        response = await self._ask_any("AlterClientQuotas", request, AlterClientQuotasResponse, no_error)
        for result in response.entries:
            code = error_of(result.error_code)
            if code is not ErrorCode.NONE:
                raise GlasslogError(code, result.error_message or code.name)

    async def describe_client_quotas(
        self,
        *,
        user: str | Everybody | Anybody | None = None,
        client_id: str | Everybody | Anybody | None = None,
        strict: bool = False,
    ) -> dict[QuotaEntity, dict[str, float]]:
        """The limits that are set for entities with these names; ``strict``: and with no other."""
        request = DescribeClientQuotasRequest(strict=strict)
        for kind, name in (("user", user), ("client-id", client_id)):
            match name:
                case str():
                    request.filters.add(type=kind, match=_EXACT, name=name)
                case Everybody():
                    request.filters.add(type=kind, match=_DEFAULT)
                case Anybody():
                    request.filters.add(type=kind, match=_ANY)
        response = await self._ask_any(
            "DescribeClientQuotas", request, DescribeClientQuotasResponse, lambda reply: reply.error_code
        )
        raise_for(response.error_code, "client quotas", response.error_message)
        return {_entity(each): dict(each.limits) for each in response.entries}


def _entity(entry: DescribeClientQuotasResponse.Entry) -> QuotaEntity:
    names = {part.type: part.name if part.HasField("name") else EVERYBODY for part in entry.entity}
    return QuotaEntity(user=names.get("user"), client_id=names.get("client-id"))
