"""Breaks the containers of a docker-compose project with the `docker` command, and the ways between them.

Refuses to know when.
"""

import asyncio
import json
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from glasslog.chaos.backends.backend import PROCESS_KINDS
from glasslog.chaos.backends.proxies import refusal_of_links
from glasslog.chaos.backends.toxiproxy import ProxyFaults, Toxiproxy
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import Node
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Json

_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_ROLES = "GLASSLOG_PROCESS_ROLES"
_DETOURS = "GLASSLOG_CHAOS_DETOURS"
_TOXIPROXY = "toxiproxy"
_API_PORT = 8474
_STOP_WITHIN_S = 30
_COMMAND_WITHIN_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What docker says of one container of ours. ``networks`` are those that it is in now."""

    container_id: str
    project: str
    name: str
    environment: Mapping[str, str]
    is_running: bool
    health: str
    networks: tuple[str, ...]

    @property
    def node(self) -> Node:
        return Node(
            name=self.name,
            node_id=int(self.environment.get("GLASSLOG_NODE_ID", "-1")),
            role="broker" if "broker" in self.environment[_ROLES] else "controller",
            rack=self.environment.get("GLASSLOG_BROKER_RACK", ""),
        )

    @property
    def host_address(self) -> str:
        """Where this machine finds its gRPC; empty for a node without."""
        for listener in self.environment.get("GLASSLOG_ADVERTISED_LISTENERS", "").split(","):
            name, _, address = listener.partition("://")
            if name.startswith("GRPC") and address.startswith("localhost:"):
                return address
        return ""


class ComposeBackend:
    """One project's containers. ``project`` may be empty if there is only one with nodes of ours.

    Raises ``CommandError`` when docker does not answer or there is no such project.
    """

    def __init__(self, project: str = "", *, networks: Mapping[str, Sequence[str]] | None = None) -> None:
        found = _of_project(_containers(), project)
        self._project = found[0].project
        self._is_proxied = all(each.environment.get(_DETOURS) for each in found)
        self._ids = {each.name: each.container_id for each in found}
        self._nodes = tuple(sorted((each.node for each in found), key=lambda node: node.name))
        self._bootstrap = tuple(sorted(each.host_address for each in found if each.host_address))
        self._networks = {
            each.name: tuple((networks or {}).get(each.name, ()) or each.networks) for each in found
        }

    @property
    def description(self) -> str:
        return f"containers of the compose project {self._project}"

    @property
    def bootstrap(self) -> tuple[str, ...]:
        return self._bootstrap

    @property
    def options(self) -> Mapping[str, str]:
        return {"--on": "compose", "--project": self._project}

    @property
    def keepsake(self) -> Mapping[str, Json]:
        networks: dict[str, Json] = {name: list(found) for name, found in self._networks.items()}
        return {"kind": "compose", "project": self._project, "networks": networks}

    def nodes(self) -> tuple[Node, ...]:
        return self._nodes

    def refusal(self, kind: FaultKind) -> str:
        if kind in PROCESS_KINDS or kind is FaultKind.DISCONNECT:
            return ""
        address = self._api() if self._is_proxied else ""
        if not address:
            return (
                f"{kind} needs proxies between the nodes, as after `make up PROFILES=chaos`; without, docker "
                f"can only take a container off its network altogether: disconnect, pause and kill do"
            )
        return refusal_of_links(kind, Toxiproxy(address).links(), address)

    def _api(self) -> str:
        """Where this machine finds the API of the project's Toxiproxy; empty when none runs."""
        labels = (f"label={_PROJECT}={self._project}", f"label={_SERVICE}={_TOXIPROXY}")
        filters = [word for label in labels for word in ("--filter", label)]
        found = _docker("ps", "--quiet", *filters).split()
        said = _docker("port", found[0], f"{_API_PORT}/tcp").split() if found else []
        return said[0].replace("0.0.0.0:", "127.0.0.1:") if said else ""

    async def unready(self) -> str:
        return await asyncio.to_thread(self._unready)

    def _unready(self) -> str:
        for each in self._look():
            if not each.is_running:
                return f"{each.name} does not run"
            # One that was healthy and is not may only have a slow health check; brokers tell the rest.
            if each.health == "starting":
                return f"{each.name} is starting"
        return ""

    def _look(self) -> list[Container]:
        return _inspected(list(self._ids.values()))

    # --- faults -----------------------------------------------------------------------------------------

    async def kill(self, name: str) -> None:
        await self._docker("kill", self._ids[name])

    async def stop(self, name: str) -> None:
        await self._docker("stop", "--time", str(_STOP_WITHIN_S), self._ids[name])

    async def start(self, name: str) -> None:
        await self._docker("start", self._ids[name])

    async def pause(self, name: str) -> None:
        # Not `docker pause`: the freezer is not there wherever docker is, a signal is.
        await self._docker("kill", "--signal", "STOP", self._ids[name])

    async def resume(self, name: str) -> None:
        await self._docker("kill", "--signal", "CONT", self._ids[name])

    async def disturb(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        if fault.kind is not FaultKind.DISCONNECT:
            await ProxyFaults(Toxiproxy(self._api())).disturb(fault, names, others)
            return
        for name in names:
            for network in self._networks[name]:
                await self._docker("network", "disconnect", network, self._ids[name])

    async def calm(self, fault: Fault, names: Collection[str], others: Collection[str]) -> None:
        if fault.kind is not FaultKind.DISCONNECT:
            await ProxyFaults(Toxiproxy(self._api())).calm(fault, names, others)
            return
        for name in names:
            for network in self._networks[name]:
                await self._connect(name, network)

    async def _connect(self, name: str, network: str) -> None:
        await self._docker("network", "connect", "--alias", name, network, self._ids[name])

    async def heal(self) -> None:
        if api := await asyncio.to_thread(self._api):
            await ProxyFaults(Toxiproxy(api)).end_all()
        for each in await asyncio.to_thread(self._look):
            for network in self._networks[each.name]:
                if network not in each.networks:
                    await self._connect(each.name, network)
            if each.is_running:
                await self.resume(each.name)
            else:
                await self.start(each.name)

    async def _docker(self, *arguments: str) -> None:
        await asyncio.to_thread(_docker, *arguments)


def _docker(*arguments: str) -> str:
    """What the command prints. Raises ``CommandError`` with its complaint."""
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=_COMMAND_WITHIN_S, check=False
        )
    except FileNotFoundError:
        raise CommandError("there is no `docker` command: install Docker, or break local processes") from None
    except subprocess.TimeoutExpired:
        raise CommandError(f"docker {arguments[0]} did not answer in {_COMMAND_WITHIN_S} s") from None
    if done.returncode:
        raise CommandError(f"docker {arguments[0]}: {' '.join(done.stderr.split())}")
    return done.stdout


def _containers() -> list[Container]:
    """Those of every compose project that run nodes of ours, stopped ones too."""
    found = _docker("ps", "--all", "--quiet", "--filter", f"label={_PROJECT}").split()
    return [each for each in _inspected(found) if _ROLES in each.environment]


def _of_project(found: Sequence[Container], project: str) -> list[Container]:
    projects = sorted({each.project for each in found})
    if not project and len(projects) > 1:
        raise CommandError(
            f"several compose projects run nodes: {', '.join(projects)}; name one with --project"
        )
    mine = [each for each in found if not project or each.project == project]
    if not mine:
        named = f"the compose project {project}" if project else "any compose project"
        raise CommandError(f"no container of {named} runs a node; `make up` starts a cluster")
    return mine


class _Said(TypedDict):
    """One line of what ``_TEMPLATE`` makes docker print."""

    id: str
    labels: dict[str, str] | None
    environment: list[str] | None
    state: "_State"
    networks: dict[str, object]


class _Health(TypedDict):
    Status: str


class _State(TypedDict):
    Running: bool
    # Missing where a container has no health check.
    Health: NotRequired[_Health | None]


_TEMPLATE = (
    '{"id":{{json .Id}},"labels":{{json .Config.Labels}},"environment":{{json .Config.Env}},'
    '"state":{{json .State}},"networks":{{json .NetworkSettings.Networks}}}'
)


def _inspected(container_ids: Sequence[str]) -> list[Container]:
    if not container_ids:
        return []
    lines = _docker("inspect", "--format", _TEMPLATE, *container_ids).splitlines()
    return [parse_container(line) for line in lines]


def parse_container(line: str) -> Container:
    """From a line of what docker was told to print."""
    said: _Said = json.loads(line)
    labels = said["labels"] or {}
    pairs = (each.partition("=") for each in said["environment"] or ())
    return Container(
        container_id=said["id"],
        project=labels.get(_PROJECT, ""),
        name=labels.get(_SERVICE, ""),
        environment={key: value for key, _, value in pairs},
        is_running=said["state"]["Running"],
        health=health["Status"] if (health := said["state"].get("Health")) else "",
        networks=tuple(sorted(said["networks"])),
    )
