"""The backend for docker-compose, with a `docker` that only notes what it is asked, and without one."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from glasslog.chaos.backends.compose import ComposeBackend
from glasslog.chaos.backends.registry import revived
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import Some
from glasslog.client.cli.errors import CommandError

from tests.unit.chaos.served_proxies import served

ANY_BROKER = Some(how="any", role="broker")


def container(name: str, *, project: str = "shop", more: Sequence[str] = (), **changed: object) -> str:
    role, _, number = name.partition("-")
    environment = [
        f"GLASSLOG_PROCESS_ROLES={role}",
        f"GLASSLOG_NODE_ID={number}",
        "GLASSLOG_BROKER_RACK=rack-a",
        f"GLASSLOG_ADVERTISED_LISTENERS=GRPC://{name}:9192,GRPC_HOST://localhost:1919{number}",
        *more,
    ]
    said: dict[str, object] = {
        "id": f"id-of-{name}",
        "labels": {"com.docker.compose.project": project, "com.docker.compose.service": name},
        "environment": environment,
        "state": {"Running": True, "Health": {"Status": "healthy"}},
        "networks": {f"{project}_default": {}},
    }
    return json.dumps({**said, **changed})


class FakeDocker:
    """What a script named `docker` answers, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        script = folder / "docker"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> "{folder}/asked"\n'
            f'case "$*" in *=toxiproxy*) cat "{folder}/proxies";; port*) cat "{folder}/port";; esac\n'
            f'case "$*" in *=toxiproxy*) ;; ps*) cat "{folder}/ids";; inspect*) cat "{folder}/lines";; '
            f"pause*) exit 1;; esac\n"
        )
        script.chmod(0o755)

    def runs(self, *lines: str) -> None:
        (self._folder / "ids").write_text("".join(f"{json.loads(line)['id']}\n" for line in lines))
        (self._folder / "lines").write_text("".join(f"{line}\n" for line in lines))
        (self._folder / "asked").write_text("")
        (self._folder / "proxies").write_text("")

    def has_proxies_at(self, address: str) -> None:
        (self._folder / "proxies").write_text("id-of-toxiproxy\n")
        (self._folder / "port").write_text(f"{address}\n")

    def asked(self) -> list[str]:
        lines = (self._folder / "asked").read_text().splitlines()
        return [line for line in lines if not line.startswith(("ps ", "inspect ", "port "))]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path)
    fake.runs(container("broker-1"), container("broker-2"), container("controller-3"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return fake


def test_nodes_racks_and_addresses_are_read_from_the_containers(docker: FakeDocker) -> None:
    backend = ComposeBackend()
    assert [(node.name, node.node_id, node.role, node.rack) for node in backend.nodes()] == [
        ("broker-1", 1, "broker", "rack-a"),
        ("broker-2", 2, "broker", "rack-a"),
        ("controller-3", 3, "controller", "rack-a"),
    ]
    assert set(backend.bootstrap) >= {"localhost:19191", "localhost:19192"}
    assert backend.options == {"--on": "compose", "--project": "shop"}


def test_containers_without_a_health_check_are_no_trouble(docker: FakeDocker) -> None:
    """Toxiproxy's and Prometheus' have none: docker's template failed on them: nothing was broken."""
    docker.runs(container("broker-1"), container("broker-2", state={"Running": True}))
    backend = ComposeBackend()
    assert [node.name for node in backend.nodes()] == ["broker-1", "broker-2"]
    assert asyncio.run(backend.unready()) == ""


def test_each_fault_is_a_docker_command_and_so_is_its_end(docker: FakeDocker) -> None:
    backend = ComposeBackend("shop")
    fault = Fault(kind=FaultKind.DISCONNECT, target=ANY_BROKER)

    async def everything() -> None:
        await backend.kill("broker-1")
        await backend.start("broker-1")
        await backend.stop("broker-2")
        await backend.pause("controller-3")
        await backend.resume("controller-3")
        await backend.disturb(fault, ["broker-1"], ["broker-2"])
        await backend.calm(fault, ["broker-1"], ["broker-2"])

    asyncio.run(everything())
    assert docker.asked() == [
        "kill id-of-broker-1",
        "start id-of-broker-1",
        "stop --time 30 id-of-broker-2",
        "kill --signal STOP id-of-controller-3",
        "kill --signal CONT id-of-controller-3",
        "network disconnect shop_default id-of-broker-1",
        "network connect --alias broker-1 shop_default id-of-broker-1",
    ]


def test_what_is_dead_paused_or_cut_off_is_healed_also_by_another_process(docker: FakeDocker) -> None:
    keepsake: Mapping[str, object] = json.loads(json.dumps(ComposeBackend().keepsake))
    docker.runs(
        container("broker-1", state={"Running": False, "Health": {"Status": "unhealthy"}}),
        container("broker-2", networks={}),
        container("controller-3"),
    )
    watchdog = revived({key: value for key, value in keepsake.items() if isinstance(value, str | dict)})
    assert asyncio.run(watchdog.unready()) == "broker-1 does not run"
    asyncio.run(watchdog.heal())
    assert docker.asked() == [
        "start id-of-broker-1",
        "network connect --alias broker-2 shop_default id-of-broker-2",
        "kill --signal CONT id-of-broker-2",
        "kill --signal CONT id-of-controller-3",
    ]


def test_one_that_starts_is_waited_for(docker: FakeDocker) -> None:
    docker.runs(
        container("broker-1"),
        container("broker-2", state={"Running": True, "Health": {"Status": "starting"}}),
    )
    assert asyncio.run(ComposeBackend().unready()) == "broker-2 is starting"


@pytest.mark.parametrize("kind", [FaultKind.LATENCY, FaultKind.ONE_WAY, FaultKind.PARTITION, FaultKind.RESET])
def test_what_docker_can_not_do_is_refused(docker: FakeDocker, kind: FaultKind) -> None:
    assert ComposeBackend().refusal(kind).startswith(f"{kind} needs proxies between the nodes")


def test_proxies_that_nodes_go_through_do_what_docker_can_not(docker: FakeDocker) -> None:
    """Proxies were there, and the nodes went past them: the run would have broken nothing, and passed."""
    kinds = (FaultKind.LATENCY, FaultKind.ONE_WAY, FaultKind.PARTITION, FaultKind.RESET)
    ways = ("broker-1-to-broker-2-kafka", "broker-2-to-broker-1-kafka")
    with served(*ways) as server:
        docker.has_proxies_at(server.address)
        assert all("needs proxies between the nodes" in ComposeBackend().refusal(kind) for kind in kinds)
        detours = ["GLASSLOG_CHAOS_DETOURS=broker-2:9092=toxiproxy:1"]
        docker.runs(container("broker-1", more=detours), container("broker-2", more=detours))
        docker.has_proxies_at(server.address)
        backend = ComposeBackend()
        assert [backend.refusal(kind) for kind in kinds] == [""] * 4
        fault = Fault(kind=FaultKind.PARTITION, target=ANY_BROKER)
        asyncio.run(backend.disturb(fault, ["broker-1"], ["broker-2"]))
        assert {name: len(toxics) for name, toxics in server.toxics().items()} == dict.fromkeys(ways, 2)
        asyncio.run(backend.calm(fault, ["broker-1"], ["broker-2"]))
        assert not any(server.toxics().values())
        asyncio.run(backend.disturb(fault, ["broker-1"], ["broker-2"]))
        asyncio.run(backend.heal())
        assert not any(server.toxics().values())


def test_which_project_is_meant_must_be_clear(docker: FakeDocker) -> None:
    docker.runs(container("broker-1"), container("broker-2", project="other"))
    with pytest.raises(CommandError, match="several compose projects run nodes: other, shop"):
        ComposeBackend()
    assert ComposeBackend("other").description == "containers of the compose project other"
    with pytest.raises(CommandError, match="no container of the compose project third"):
        ComposeBackend("third")


def test_without_docker_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="there is no `docker` command"):
        ComposeBackend()
