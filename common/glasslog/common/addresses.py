"""Where nodes listen and who votes, as settings write it: ``NAME://host:port`` and ``id@host:port``.

Refuses to know what is spoken on a listener, and whether anybody is there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from glasslog.common.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """One entry of ``listeners``. ``name`` is its protocol, or begins with it and a ``_``: ``KAFKA_HOST``."""

    name: str
    host: str
    port: int

    @property
    def protocol(self) -> str:
        return self.name.partition("_")[0]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


UNKNOWN_ID = -2
"""In place of the id of the first of ``controller.quorum.bootstrap.servers``; the next one has one less."""

_LISTENER_NAME = re.compile(r"CONTROLLER|(GRPC|KAFKA)(_[A-Z0-9_]+)?")


def parse_listeners(texts: tuple[str, ...]) -> tuple[ListenAddress, ...]:
    """``NAME://host:port`` entries; raises ``ConfigError`` for a malformed or repeated one."""
    result: list[ListenAddress] = []
    for text in texts:
        name, separator, rest = text.partition("://")
        host, colon, port = rest.rpartition(":")
        if not separator or not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"listeners: {text!r} is not PROTOCOL://host:port")
        if _LISTENER_NAME.fullmatch(name) is None:
            raise ConfigError(
                f"listeners: {text!r} is named {name!r}; allowed: GRPC, KAFKA, CONTROLLER, and further ones "
                "of GRPC and KAFKA as in KAFKA_HOST"
            )
        if any(known.name == name for known in result):
            raise ConfigError(f"listeners: {name} is named twice")
        result.append(ListenAddress(name=name, host=host, port=int(port)))
    return tuple(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voter:
    """One entry of ``controller.quorum.voters``."""

    node_id: int
    address: str


def parse_voters(texts: tuple[str, ...]) -> tuple[Voter, ...]:
    """``id@host:port`` entries; raises ``ConfigError`` for a malformed or repeated one."""
    voters: list[Voter] = []
    for text in texts:
        node_id, separator, address = text.partition("@")
        host, colon, port = address.rpartition(":")
        if not separator or not node_id.isdecimal() or not colon or not host or not port.isdecimal():
            raise ConfigError(f"controller.quorum.voters: {text!r} is not id@host:port")
        if any(voter.node_id == int(node_id) for voter in voters):
            raise ConfigError(f"controller.quorum.voters: {node_id} is named twice")
        voters.append(Voter(node_id=int(node_id), address=address))
    return tuple(voters)


def parse_bootstrap_servers(texts: tuple[str, ...]) -> tuple[str, ...]:
    """``host:port`` entries of ``controller.quorum.bootstrap.servers``; raises ``ConfigError``."""
    for text in texts:
        if not _is_address(text):
            raise ConfigError(f"controller.quorum.bootstrap.servers: {text!r} is not host:port")
    return texts


def known_controllers(*, voters: tuple[str, ...], bootstrap_servers: tuple[str, ...]) -> tuple[Voter, ...]:
    """Whom a broker asks first: voters by their ids, bootstrap servers by ids from ``UNKNOWN_ID`` downwards.

    Raises ``ConfigError`` for what is neither.
    """
    servers = parse_bootstrap_servers(bootstrap_servers)
    unnamed = [Voter(node_id=UNKNOWN_ID - index, address=each) for index, each in enumerate(servers)]
    return (*parse_voters(voters), *unnamed)


def parse_detours(texts: tuple[str, ...]) -> Mapping[str, str]:
    """``host:port=host:port`` entries of ``chaos.detours``: where to dial by where one is told to.

    Raises ``ConfigError`` for a malformed or repeated one.
    """
    detours: dict[str, str] = {}
    for text in texts:
        told, _, instead = text.partition("=")
        if not _is_address(told) or not _is_address(instead):
            raise ConfigError(f"chaos.detours: {text!r} is not host:port=host:port")
        if told in detours:
            raise ConfigError(f"chaos.detours: {told} is named twice")
        detours[told] = instead
    return detours


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and int(port) <= 65535
