"""The nodes of docker-compose.yml as containers of this very run, Toxiproxy between them, and their faults.

Nodes have the compose file's settings; only what this machine sees differs: ports, names, the network.
It refuses to know scenarios.
"""

import os
import subprocess
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Protocol, Self
from uuid import uuid4

from glasslog.client.cli.local.ports import free_ports
from glasslog.client.cli.local.probe import ask
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from tests.compose_file import CHAOS_ENVIRONMENT, Service, services, variables
from tests.source_tree import ROOT

HOST = "localhost"
DATA = "/var/lib/glasslog"
PROXY_IMAGE = os.environ.get("TOXIPROXY_IMAGE", "")
"""The real server's, if it is to be that; ours otherwise."""

_GRPC, _HTTP, _PROXY_API = 19192, 9644, 8474
_NO_CHECK = {"test": ["NONE"]}
"""The engine's own looking costs a Python each time; what is ready is asked from here."""

_START_S, _STOP_S, _LOOK_S = 120, 30, 0.1


class _Proxy(Protocol):
    """Of Toxiproxy's client library, which has no types."""

    def add_toxic(self, *, type: str, stream: str, name: str, attributes: Mapping[str, int]) -> object: ...


class _Toxiproxy(Protocol):
    """The client library."""

    def update_api_consumer(self, host: str, port: int) -> object: ...

    def proxies(self) -> Mapping[str, _Proxy]: ...

    def get_proxy(self, name: str) -> _Proxy: ...

    def reset(self) -> object: ...


class ContainerNodes:
    """Use as a context: the nodes are ready. Faults are by node's name; ``make_whole`` ends them all.

    ``tmpfs_bytes``: the sizes of disks in memory, by node; the others have volumes.
    """

    def __init__(self, image: str, *, tmpfs_bytes: Mapping[str, int] | None = None) -> None:
        self.image = image
        self._tmpfs_bytes = dict(tmpfs_bytes or {})
        self._run = f"glasslog-test-{uuid4().hex[:8]}"
        found = services(variables(CHAOS_ENVIRONMENT))
        self._services = {name: each for name, each in found.items() if _is_node(each)}
        ports = iter(free_ports(2 * len(self._services) + 1))
        self._grpc = {name: next(ports) for name in self._services}
        self._http = {name: next(ports) for name in self._services}
        self._proxy_port = next(ports)
        self._network = Network()
        self._containers: dict[str, DockerContainer] = {}
        self._cut: set[str] = set()
        self._deaf: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self._network.create()
            self._containers["toxiproxy"] = self._proxy_container().start()
            for name in self._services:
                self._containers[name] = self._node_container(name, self.image).start()
            self._wait_ready()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while trouble := self.unready():
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready after {_START_S} s: {trouble}")
            time.sleep(_LOOK_S)

    def _remove(self) -> None:
        # Also what was made and never started.
        made = docker("ps", "--all", "--quiet", "--filter", f"name={self._run}").split()
        if made:
            docker("rm", "--force", "--volumes", *made)
        self._network.remove()
        volumes = [self._volume(name) for name in self._services]
        docker("volume", "rm", "--force", *volumes)

    def _volume(self, name: str) -> str:
        return f"{self._run}-{name}"

    def _node_container(self, name: str, image: str) -> DockerContainer:
        settings = dict(self._services[name].environment)
        settings["GLASSLOG_ADVERTISED_LISTENERS"] = ",".join(
            f"{listener}://{HOST}:{self._grpc[name]}"
            if listener == "GRPC_HOST"
            else f"{listener}://{address}"
            for each in settings["GLASSLOG_ADVERTISED_LISTENERS"].split(",")
            for listener, _, address in (each.partition("://"),)
        )
        container = DockerContainer(image).with_name(f"{self._run}-{name}").with_envs(**settings)
        container.with_network(self._network).with_network_aliases(name).with_kwargs(
            hostname=name, healthcheck=_NO_CHECK
        )
        container.with_bind_ports(_GRPC, self._grpc[name]).with_bind_ports(_HTTP, self._http[name])
        if size_bytes := self._tmpfs_bytes.get(name):
            return container.with_tmpfs_mount(DATA, f"size={size_bytes},uid=9092,gid=9092,mode=0755")
        return container.with_volume_mapping(self._volume(name), DATA, "rw")

    def _proxy_container(self) -> DockerContainer:
        entrypoint = ["/toxiproxy"] if PROXY_IMAGE else ["glasslog", "toxiproxy"]
        container = DockerContainer(PROXY_IMAGE or self.image, entrypoint=entrypoint, healthcheck=_NO_CHECK)
        container.with_command(["--host=0.0.0.0", "--config=/config/toxiproxy.json"])
        container.with_name(f"{self._run}-toxiproxy")
        container.with_network(self._network).with_network_aliases("toxiproxy")
        container.with_volume_mapping(ROOT / "deploy" / "toxiproxy.json", "/config/toxiproxy.json", "ro")
        return container.with_bind_ports(_PROXY_API, self._proxy_port)

    # --- what there is ----------------------------------------------------------------------------------

    @property
    def brokers(self) -> Sequence[str]:
        return [name for name in self._services if name.startswith("broker")]

    @property
    def controllers(self) -> Sequence[str]:
        return [name for name in self._services if name.startswith("controller")]

    @property
    def bootstrap(self) -> Sequence[str]:
        return [f"{HOST}:{self._grpc[name]}" for name in self.brokers]

    def name_of(self, node_id: int) -> str:
        return next(
            (
                name
                for name, each in self._services.items()
                if each.environment["GLASSLOG_NODE_ID"] == str(node_id)
            ),
            "",
        )

    def unready(self) -> str:
        for name in self._services:
            if not (answer := ask(f"{HOST}:{self._http[name]}")).ready:
                return f"{name}: {answer.reason}"
        return ""

    def container_of(self, name: str) -> str:
        """How the engine calls it."""
        return f"{self._run}-{name}"

    def log_of(self, name: str) -> str:
        """What the node has said."""
        command = ["docker", "logs", "--tail", "40", self.container_of(name)]
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
        ).stdout

    # --- processes --------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        docker("kill", self.container_of(name))

    def stop(self, name: str) -> None:
        docker("stop", "--time", str(_STOP_S), self.container_of(name))

    def start(self, name: str) -> None:
        docker("start", self.container_of(name))

    def pause(self, name: str) -> None:
        docker("pause", self.container_of(name))

    def resume(self, name: str) -> None:
        docker("unpause", self.container_of(name))

    def upgrade(self, name: str, image: str) -> None:
        """Stop the node and start another container, from another image, on its volume."""
        self.stop(name)
        docker("rm", self.container_of(name))
        self._containers[name] = self._node_container(name, image).start()

    def fill_disk(self, name: str) -> None:
        """Leave no byte of a disk in memory."""
        with suppress(subprocess.CalledProcessError):
            docker("exec", self.container_of(name), "dd", "if=/dev/zero", f"of={DATA}/ballast", "bs=64k")

    def is_running(self, name: str) -> bool:
        return docker("inspect", "--format", "{{.State.Status}}", self.container_of(name)) == "running"

    # --- the network ------------------------------------------------------------------------------------

    def disconnect(self, name: str) -> None:
        """Nothing reaches the node or leaves it, clients included."""
        docker("network", "disconnect", self._network.name, self.container_of(name))
        self._cut.add(name)

    def connect(self, name: str) -> None:
        docker("network", "connect", "--alias", name, self._network.name, self.container_of(name))
        self._cut.discard(name)

    def deafen(self, name: str) -> None:
        """The node sends, and hears nobody: packets to it are dropped where it lives. Needs root."""
        self._iptables(name, "-I", "INPUT", "!", "-i", "lo", "-j", "DROP")
        self._deaf.add(name)

    def undeafen(self, name: str) -> None:
        self._iptables(name, "-F", "INPUT")
        self._deaf.discard(name)

    def _iptables(self, name: str, *arguments: str) -> None:
        pid = docker("inspect", "--format", "{{.State.Pid}}", self.container_of(name))
        subprocess.run(["nsenter", "-t", pid, "-n", "iptables", *arguments], check=True, timeout=30)

    def toxic(self, name: str, kind: str, **attributes: int) -> None:
        """On everything that others send to the node and get from it, by Toxiproxy's own client."""
        for proxy in self._proxies():
            if proxy.partition("-to-")[2].startswith(f"{name}-"):
                for stream in ("upstream", "downstream"):
                    self._toxiproxy().get_proxy(proxy).add_toxic(
                        type=kind, stream=stream, name=f"{kind}_{stream}", attributes=attributes
                    )

    def heal_proxies(self) -> None:
        """No toxics, every proxy open."""
        self._toxiproxy().reset()

    def _proxies(self) -> Sequence[str]:
        return sorted(self._toxiproxy().proxies())

    def _toxiproxy(self) -> "_Toxiproxy":
        with warnings.catch_warnings():
            # It rests on a compatibility package that is older than the warnings.
            warnings.simplefilter("ignore")
            client: _Toxiproxy = import_module("toxiproxy").Toxiproxy()
        client.update_api_consumer(HOST, self._proxy_port)
        return client

    # --- the end ----------------------------------------------------------------------------------------

    def make_whole(self) -> None:
        self.heal_proxies()
        for name in self._services:
            status = docker("inspect", "--format", "{{.State.Status}}", self.container_of(name))
            if name in self._cut:
                self.connect(name)
            if status == "paused":
                self.resume(name)
            elif status != "running":
                self.start(name)
            elif name in self._deaf:
                self.undeafen(name)
        # Whose namespace went with its process has no rules any more.
        self._deaf.clear()


def _is_node(service: Service) -> bool:
    return "GLASSLOG_NODE_ID" in service.environment


def docker(*arguments: str, given: str = "") -> str:
    """What the engine says, ``given`` being its input. Raises ``CalledProcessError``."""
    done = subprocess.run(
        ["docker", *arguments], input=given, check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip()
