"""deploy/kubernetes: what Kubernetes accepts, parts that find each other, nodes that get settings they know.

There is no Kubernetes here: its own schemas judge the files, a shell and Python run what they say.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from glasslog.common.config import describe, parse
from glasslog.common.config_sources import from_environment
from glasslog.common.node_config import NodeConfig

from tests.source_tree import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.37")
Json = dict[str, object]

# It has no types.
validator = import_module("kubernetes_validate")


class At:
    """A place in a document, and what is below it."""

    def __init__(self, value: object, path: str = "") -> None:
        self.value = value
        self.path = path

    def __truediv__(self, key: str | int) -> "At":
        where = f"{self.path}/{key}"
        if isinstance(self.value, list) and isinstance(key, int):
            return At(self.value[key], where)
        assert isinstance(self.value, dict), where
        assert key in self.value, where
        return At(self.value[key], where)

    def __iter__(self) -> Iterator["At"]:
        assert isinstance(self.value, list), self.path
        return iter(At(each, f"{self.path}/{number}") for number, each in enumerate(self.value))

    @property
    def text(self) -> str:
        return str(self.value)


def documents() -> list[Json]:
    return [
        document
        for path in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


def find(kind: str, name: str) -> At:
    (found,) = (
        document
        for document in documents()
        if document["kind"] == kind and (At(document) / "metadata" / "name").text == name
    )
    return At(found)


def container(role: str) -> At:
    return find("StatefulSet", f"glasslog-{role}") / "spec" / "template" / "spec" / "containers" / 0


def environment(role: str, ordinal: int) -> dict[str, str]:
    """As Kubernetes makes it for a pod: fields and variables put in."""
    pod = f"glasslog-{role}-{ordinal}"
    made: dict[str, str] = {}
    for each in container(role) / "env":
        assert isinstance(each.value, dict)
        if "valueFrom" in each.value:
            assert (each / "valueFrom" / "fieldRef" / "fieldPath").text == "metadata.name"
            made[(each / "name").text] = pod
        else:
            text = (each / "value").text
            for name, value in made.items():
                text = text.replace(f"$({name})", value)
            made[(each / "name").text] = text
    return made


def started(role: str, ordinal: int, folder: Path, zone: str) -> NodeConfig:
    """The settings of the node that the container's own command starts."""
    program = folder / "glasslog"
    program.write_text('#!/bin/sh\n[ "$*" = server ] && exec env\n')
    program.chmod(0o755)
    (folder / "zone").write_text(zone)
    variables = environment(role, ordinal)
    path = os.pathsep.join((str(folder), os.environ["PATH"]))
    arguments = [argument.text for argument in container(role) / "command"]
    done = subprocess.run(
        arguments,
        env={**variables, "PATH": path, "ZONE_FILE": str(folder / "zone")},
        capture_output=True,
        text=True,
        check=True,
    )
    told = dict(line.split("=", 1) for line in done.stdout.splitlines())
    known = from_environment(told, [row.setting.key for row in describe(NodeConfig)])
    assert len(known) == sum(name.startswith("GLASSLOG_") for name in told), told
    return parse(NodeConfig, known)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_object_and_every_field(version: str) -> None:
    found = documents()
    assert len(found) == 12
    for document in found:
        validator.validate(document, version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    document = find("StatefulSet", "glasslog-broker")
    spec = document / "spec"
    assert isinstance(spec.value, dict)
    spec.value["minReadySecond"] = 5
    with pytest.raises(validator.ValidationError, match="minReadySecond"):
        validator.validate(document.value, VERSIONS[0], strict=True)


def test_nodes_start_with_settings_that_they_know(tmp_path: Path) -> None:
    controllers = [started("controller", ordinal, tmp_path, "") for ordinal in range(3)]
    brokers = [started("broker", ordinal, tmp_path, f"zone-{ordinal}") for ordinal in range(3)]
    assert [config.node_id for config in (*controllers, *brokers)] == [101, 102, 103, 1, 2, 3]
    assert [config.broker_rack for config in brokers] == ["zone-0", "zone-1", "zone-2"]
    assert len({config.cluster_id for config in (*controllers, *brokers)}) == 1
    (voters,) = {config.controller_quorum_voters for config in (*controllers, *brokers)}
    addresses = [config.advertised_listeners[0].removeprefix("CONTROLLER://") for config in controllers]
    assert list(voters) == [f"{101 + number}@{address}" for number, address in enumerate(addresses)]


@pytest.mark.parametrize("role", ["controller", "broker"])
def test_names_selectors_and_ports_fit(role: str) -> None:
    nodes = find("StatefulSet", f"glasslog-{role}")
    labels = (nodes / "spec" / "template" / "metadata" / "labels").value
    service = find("Service", (nodes / "spec" / "serviceName").text)
    budget = find("PodDisruptionBudget", f"glasslog-{role}s")
    for selector in (
        nodes / "spec" / "selector" / "matchLabels",
        budget / "spec" / "selector" / "matchLabels",
        service / "spec" / "selector",
    ):
        assert selector.value == labels, selector.path
    assert (service / "spec" / "clusterIP").text == "None"
    assert (service / "spec" / "publishNotReadyAddresses").value is True
    assert (budget / "spec" / "maxUnavailable").value == 1
    open_ports = {(port / "name").text: (port / "containerPort").value for port in container(role) / "ports"}
    assert open_ports == {(port / "name").text: (port / "port").value for port in service / "spec" / "ports"}
    namespace, name = (nodes / "metadata" / "namespace").text, (nodes / "metadata" / "name").text
    for listener in environment(role, 0)["GLASSLOG_ADVERTISED_LISTENERS"].split(","):
        host, _, port = listener.partition("://")[2].rpartition(":")
        assert host == f"{name}-0.{(service / 'metadata' / 'name').text}.{namespace}.svc"
        assert int(port) in open_ports.values()


@pytest.mark.parametrize("role", ["controller", "broker"])
def test_nodes_are_renewed_one_by_one_and_only_in_sync(role: str) -> None:
    """A node of either kind alone never gets ready: all must start at once, and still be renewed in order."""
    spec = find("StatefulSet", f"glasslog-{role}") / "spec"
    assert (spec / "podManagementPolicy").text == "Parallel"
    assert (spec / "updateStrategy" / "type").text == "RollingUpdate"
    probes = {name: container(role) / f"{name}Probe" for name in ("startup", "readiness", "liveness")}
    assert {name: (probe / "httpGet" / "path").text for name, probe in probes.items()} == {
        "startup": "/insyncz",
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    assert {(probe / "httpGet" / "port").text for probe in probes.values()} == {"http"}
    patience_s = int((probes["startup"] / "periodSeconds").text) * int(
        (probes["startup"] / "failureThreshold").text
    )
    assert patience_s >= 86_400, "who catches up for long must not be killed for it"


# --- racks from zones ---------------------------------------------------------------------------------------


class Api(BaseHTTPRequestHandler):
    """Of Kubernetes, as far as a broker asks it."""

    labels: Mapping[str, str] = {}

    def do_GET(self) -> None:
        known = (self.path, self.headers["Authorization"]) == ("/api/v1/nodes/machine-1", "Bearer secret")
        body = json.dumps({"metadata": {"labels": dict(self.labels)} if self.labels else {}}).encode()
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("labels", "zone"), [({"topology.kubernetes.io/zone": "eu-1a"}, "eu-1a"), ({"other": "x"}, ""), ({}, "")]
)
def test_the_rack_is_the_machines_zone(tmp_path: Path, labels: Mapping[str, str], zone: str) -> None:
    script = find("ConfigMap", "glasslog-zone") / "data" / "zone.py"
    (tmp_path / "zone.py").write_text(script.text)
    (tmp_path / "token").write_text("secret\n")
    server = HTTPServer(("127.0.0.1", 0), type("Labelled", (Api,), {"labels": labels}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        subprocess.run(
            [sys.executable, str(tmp_path / "zone.py")],
            env={
                "NODE_NAME": "machine-1",
                "ACCOUNT": str(tmp_path),
                "API": f"http://127.0.0.1:{server.server_port}",
                "ZONE_FILE": str(tmp_path / "zone"),
            },
            check=True,
            timeout=60,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (tmp_path / "zone").read_text() == zone


def test_brokers_may_ask_and_find_the_answer_where_they_look() -> None:
    spec = find("StatefulSet", "glasslog-broker") / "spec" / "template" / "spec"
    binding = find("ClusterRoleBinding", "glasslog-zones")
    (subject,) = binding / "subjects"
    assert (subject / "name").text == (spec / "serviceAccountName").text
    (rule,) = find("ClusterRole", (binding / "roleRef" / "name").text) / "rules"
    assert rule.value == {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    (asking,) = spec / "initContainers"
    mounts = {(mount / "name").text: (mount / "mountPath").text for mount in asking / "volumeMounts"}
    assert (asking / "command" / 1).text == f"{mounts['scripts']}/zone.py"
    assert mounts["zone"] in [(mount / "mountPath").text for mount in container("broker") / "volumeMounts"]
    (variable,) = asking / "env"
    assert (variable / "valueFrom" / "fieldRef" / "fieldPath").text == "spec.nodeName"
