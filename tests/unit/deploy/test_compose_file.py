"""docker-compose.yml: read by Compose v2 and 1.29, with profiles that fit and settings that nodes accept."""

import json
import shutil
import socket
import subprocess
from collections.abc import Mapping

import pytest
import yaml
from glasslog.chaos.backends.links import parse_link
from glasslog.common.addresses import parse_detours
from glasslog.common.config import describe, parse
from glasslog.common.config_sources import from_environment
from glasslog.common.node_config import NodeConfig

from tests.compose_file import CHAOS_ENVIRONMENT, Service, document, services, variables
from tests.source_tree import ROOT

PROXIES = ROOT / "deploy" / "toxiproxy.json"
NODES = tuple(f"{role}-{number}" for role in ("controller", "broker") for number in (1, 2, 3))
BROKERS = NODES[3:]
KNOWN_KEYS = frozenset(
    {
        *("image", "build", "profiles", "hostname", "restart", "stop_grace_period", "healthcheck"),
        *("depends_on", "environment", "entrypoint", "command", "ports", "volumes"),
    }
)
"""Of services, in both versions of Compose."""


def settings(service: Service) -> NodeConfig:
    """As the node makes them; a variable that is no setting would be passed over, so none may be."""
    found = from_environment(service.environment, [row.setting.key for row in describe(NodeConfig)])
    assert len(found) == len(service.environment)
    return parse(NodeConfig, found)


def port_on_host(port: str) -> int:
    return int(port.split(":")[-2])


@pytest.mark.parametrize("values", [{}, variables(CHAOS_ENVIRONMENT)], ids=["plain", "chaos"])
def test_nodes_accept_their_settings_and_know_each_other(values: Mapping[str, str]) -> None:
    found = services(values)
    configs = [settings(found[name]) for name in NODES]
    assert {config.node_id for config in configs} == {101, 102, 103, 1, 2, 3}
    assert {config.cluster_id for config in configs} == {"glasslogComposeCluster"}
    assert {config.broker_rack for config in configs[3:]} == {"rack-a", "rack-b", "rack-c"}
    (voters,) = {config.controller_quorum_voters for config in configs}
    advertised = [config.advertised_listeners[0].removeprefix("CONTROLLER://") for config in configs[:3]]
    assert list(voters) == [f"{100 + number}@{where}" for number, where in enumerate(advertised, 1)]


def test_every_way_between_nodes_has_a_proxy_and_every_proxy_a_node() -> None:
    proxies = {each["name"]: each for each in json.loads(PROXIES.read_text(encoding="utf-8"))}
    left = {
        (each["upstream"], int(each["listen"].rpartition(":")[2])): name for name, each in proxies.items()
    }
    assert len(left) == len(proxies) == 3 * 2 + 3 * 3 + 3 * 2
    found = services(variables(CHAOS_ENVIRONMENT))
    peers = {name: [other for other in NODES if other != name] for name in NODES}
    for name in NODES:
        config = settings(found[name])
        for told, instead in parse_detours(config.chaos_detours).items():
            host, _, port = instead.rpartition(":")
            link = parse_link(left.pop((told, int(port))))
            assert host == "toxiproxy"
            assert link is not None
            assert (link.source, link.target) == (name, told.partition(":")[0])
            peers[name].remove(link.target)
    assert not left, "proxies that nobody is sent to"
    # Controllers connect to no broker.
    assert {name: others for name, others in peers.items() if others} == {
        name: list(BROKERS) for name in NODES if name not in BROKERS
    }
    assert all(not settings(each).chaos_detours for name, each in services().items() if name in NODES)


def test_profiles_are_asked_for_and_rest_on_what_is_there() -> None:
    found = services()
    assert {name: each.profiles for name, each in found.items() if each.profiles} == {
        "toxiproxy": ("chaos",),
        "prometheus": ("monitoring",),
        "grafana": ("monitoring",),
    }
    for each in found.values():
        for other in each.depends_on:
            assert not set(found[other].profiles) - set(each.profiles), f"{each.name} needs {other}"


def test_nothing_meets_and_nothing_dangles() -> None:
    found, named = services().values(), document()["volumes"]
    assert isinstance(named, dict)
    ports = [port_on_host(port) for each in found for port in each.ports]
    assert len(set(ports)) == len(ports)
    used = {volume.partition(":")[0] for each in found for volume in each.volumes}
    assert {volume for volume in used if not volume.startswith("./")} == set(named)
    for path in used:
        assert not path.startswith("./") or (ROOT / path).exists(), path


def test_only_keys_that_both_versions_of_compose_know() -> None:
    for each in services().values():
        assert not each.keys - KNOWN_KEYS, each.name
    assert {key for key in document() if not key.startswith("x-")} == {"services", "volumes"}


def compose() -> list[str]:
    """The command there is; none is no failure."""
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


def test_compose_itself_reads_it_as_we_do() -> None:
    if not (command := compose()):
        pytest.skip("no docker compose here")
    profiles = ("--profile", "chaos", "--profile", "monitoring", "--env-file", str(CHAOS_ENVIRONMENT))
    done = subprocess.run(
        [*command, *profiles, "config"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)["services"]
    expected = services(variables(CHAOS_ENVIRONMENT))
    assert set(read) == set(expected)
    for name, each in expected.items():
        assert read[name].get("environment", {}) == each.environment


@pytest.mark.parametrize(("status", "is_healthy"), [("200 OK", True), ("503 Service Unavailable", False)])
def test_the_health_check_asks_whether_the_node_is_ready(status: str, is_healthy: bool) -> None:
    """A shell alone asks: a Python every other second in each container took a fifth of a core."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [word.replace("9644", str(listener.getsockname()[1])) for word in health_check()]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as checking:
            connection, _ = listener.accept()
            # A shell sends a line at a time.
            with connection, connection.makefile("rb") as request:
                asked = [*iter(request.readline, b"\r\n")]
                assert asked[:2] == [b"GET /readyz HTTP/1.1\r\n", b"Host: localhost\r\n"]
                connection.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
                assert (checking.wait(30) == 0) is is_healthy
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=30).returncode != 0


def test_an_image_alone_is_checked_in_the_same_way() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    _, _, command = text.partition("HEALTHCHECK ")[2].partition("CMD ")
    assert json.loads(command.partition("\nENTRYPOINT")[0]) == health_check()


def health_check() -> list[str]:
    """What is run in a container."""
    found = document()["x-controller"]
    assert isinstance(found, dict)
    kind, *command = found["healthcheck"]["test"]
    assert kind == "CMD"
    return [str(word).replace("$$", "$") for word in command]
