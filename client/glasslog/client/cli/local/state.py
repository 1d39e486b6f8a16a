"""What is remembered of a local cluster between commands: its nodes, ports and processes, in one JSON file.

Refuses to know whether what it says is still true; ``processes`` does.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.local.processes import ProcessMark

STATE_FILE = "cluster.json"
_VERSION = 1
_HOST = "127.0.0.1"

Role = Literal["broker", "controller"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node. ``ports`` by listener: GRPC, KAFKA, CONTROLLER, HTTP.

    ``process`` is ``None`` before its first start and after an orderly stop; otherwise it may be dead.
    ``joins``: a controller that is none of the first voters; it follows the quorum, and may be added to it.
    ``behind``: where it really listens, of listeners whose ``ports`` are those of a proxy.
    """

    name: str
    role: Role
    node_id: int
    rack: str
    ports: Mapping[str, int]
    process: ProcessMark | None = None
    joins: bool = False
    behind: Mapping[str, int] = field(default_factory=dict)

    def address(self, listener: str) -> str:
        """``host:port`` by which others know a listener; ``KeyError`` if the node has none of that name."""
        return f"{_HOST}:{self.ports[listener]}"

    def own_address(self, listener: str) -> str:
        """``host:port`` where it listens itself."""
        return f"{_HOST}:{self.behind.get(listener, self.ports[listener])}"


CLIENTS = "clients"
"""In place of a node: everybody who is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The way from ``source`` to a listener of ``target``, through the proxy that listens on ``port``."""

    source: str
    target: str
    listener: str
    port: int = 0

    @property
    def name(self) -> str:
        """Of its proxy."""
        return f"{self.source}-to-{self.target}-{self.listener.lower()}"

    @property
    def address(self) -> str:
        return f"{_HOST}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The process that has a proxy for every link; ``api_port`` is that of Toxiproxy's API."""

    api_port: int
    links: tuple[Link, ...]
    process: ProcessMark | None = None

    @property
    def api(self) -> str:
        return f"{_HOST}:{self.api_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """A cluster. ``settings`` are those given to all nodes with ``--set``.

    ``proxies`` are between the nodes of one that was started with chaos.enabled.
    """

    cluster_id: str
    settings: Mapping[str, str]
    nodes: tuple[NodeState, ...]
    proxies: Proxies | None = None

    @property
    def brokers(self) -> tuple[NodeState, ...]:
        return tuple(node for node in self.nodes if node.role == "broker")

    @property
    def controllers(self) -> tuple[NodeState, ...]:
        return tuple(node for node in self.nodes if node.role == "controller")

    def node(self, name: str) -> NodeState:
        """By name. Raises ``CommandError`` that lists the names there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise CommandError(f"no node is called {name!r}; there are {known}")

    def with_node(self, changed: NodeState) -> "ClusterState":
        """The same cluster with one node replaced."""
        nodes = tuple(changed if node.name == changed.name else node for node in self.nodes)
        return replace(self, nodes=nodes)


def load(directory: Path) -> ClusterState | None:
    """``None`` when no cluster was ever started here. ``CommandError`` for a file that is none of ours."""
    path = directory / STATE_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return _from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"{path} is not the state of a local cluster: {error!r}") from error


def save(directory: Path, state: ClusterState) -> None:
    """Replace the file in one step, so that a reader or a crash never meets half of it."""
    path = directory / STATE_FILE
    temporary = path.with_suffix(".tmp")
    document = {"version": _VERSION, **asdict(state)}
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


class _Fields:
    """A JSON object whose fields are asked for by type."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, found {value!r}")
        self._fields = value

    def text(self, key: str) -> str:
        value = self._fields[key]
        if not isinstance(value, str):
            raise TypeError(f"{key} is not a text: {value!r}")
        return value

    def number(self, key: str) -> int:
        value = self._fields[key]
        if not isinstance(value, int):
            raise TypeError(f"{key} is not a number: {value!r}")
        return value

    def texts(self, key: str) -> dict[str, str]:
        return {name: str(value) for name, value in dict(self._fields[key]).items()}

    def numbers(self, key: str) -> dict[str, int]:
        """None where it is missing, as ``flag``."""
        inner = _Fields(self._fields.get(key, {}))
        return {name: inner.number(name) for name in inner._fields}

    def items(self, key: str) -> list["_Fields"]:
        return [_Fields(item) for item in self._fields[key]]

    def flag(self, key: str) -> bool:
        """False where it is missing: clusters of earlier versions lack it."""
        value = self._fields.get(key, False)
        if not isinstance(value, bool):
            raise TypeError(f"{key} is not true or false: {value!r}")
        return value

    def maybe(self, key: str) -> "_Fields | None":
        """``None`` where it is missing, as ``flag``."""
        value = self._fields.get(key)
        return None if value is None else _Fields(value)


def _from_json(document: object) -> ClusterState:
    fields = _Fields(document)
    if fields.number("version") != _VERSION:
        raise ValueError(f"version {fields.number('version')}, this glasslog writes {_VERSION}")
    proxies = fields.maybe("proxies")
    return ClusterState(
        cluster_id=fields.text("cluster_id"),
        settings=fields.texts("settings"),
        nodes=tuple(_node(item) for item in fields.items("nodes")),
        proxies=None if proxies is None else _proxies(proxies),
    )


def _node(fields: _Fields) -> NodeState:
    process = fields.maybe("process")
    return NodeState(
        name=fields.text("name"),
        role="broker" if fields.text("role") == "broker" else "controller",
        node_id=fields.number("node_id"),
        rack=fields.text("rack"),
        ports=fields.numbers("ports"),
        process=_mark(process) if process else None,
        joins=fields.flag("joins"),
        behind=fields.numbers("behind"),
    )


def _proxies(fields: _Fields) -> Proxies:
    process = fields.maybe("process")
    return Proxies(
        api_port=fields.number("api_port"),
        links=tuple(
            Link(
                source=item.text("source"),
                target=item.text("target"),
                listener=item.text("listener"),
                port=item.number("port"),
            )
            for item in fields.items("links")
        ),
        process=_mark(process) if process else None,
    )


def _mark(fields: _Fields) -> ProcessMark:
    return ProcessMark(pid=fields.number("pid"), birth=fields.text("birth"))
