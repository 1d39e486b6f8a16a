"""docker-compose.yml: read by Compose v2 and 1.29, with profiles that fit and settings that nodes accept."""

import json
import shutil
import subprocess
from collections.abc import Mapping

import pytest
import yaml
from glasslog.common.config import describe, parse
from glasslog.common.config_sources import from_environment
from glasslog.common.node_config import NodeConfig

from tests.compose_file import CHAOS_ENVIRONMENT, Service, document, services, variables
from tests.source_tree import ROOT

NODES = tuple(f"{role}-{number}" for role in ("controller", "broker") for number in (1, 2, 3))
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
    proxies = json.loads((ROOT / "deploy" / "toxiproxy.json").read_text(encoding="utf-8"))
    listening = {"toxiproxy:" + each["listen"].rpartition(":")[2]: each["upstream"] for each in proxies}
    assert len(listening) == len(proxies) == 9
    plain, proxied = services(), services(variables(CHAOS_ENVIRONMENT))
    for name in NODES:
        direct = plain[name].environment["GLASSLOG_ADVERTISED_LISTENERS"].split(",")
        by_proxy = proxied[name].environment["GLASSLOG_ADVERTISED_LISTENERS"].split(",")
        for straight, around in zip(direct, by_proxy, strict=True):
            listener, _, address = around.partition("://")
            expected = address if listener.endswith("_HOST") else listening.pop(address)
            assert straight == f"{listener}://{expected}"
    assert not listening, "proxies that nobody is sent to"


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
