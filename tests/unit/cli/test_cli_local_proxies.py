"""The proxies between the nodes of a local cluster that may be broken on purpose; nodes are stand-ins."""

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.chaos.backends.links import parse_link
from glasslog.chaos.backends.local import LocalBackend
from glasslog.chaos.backends.toxiproxy import Toxiproxy
from glasslog.chaos.scenario.model import FaultKind
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.local import layout, processes, proxies, state, status
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.processes import Condition
from glasslog.client.cli.local.state import ClusterState, Proxies
from glasslog.common.config_sources import parse_properties

FAKE = (sys.executable, "-S", "-E", str(Path(__file__).parent / "fake_node.py"))
MARKED = {"chaos.enabled": "true"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path / "local", command=FAKE)
    yield made
    if state.load(made.directory) is not None:
        made.down(delete=True)


def proxies_of(found: ClusterState) -> Proxies:
    assert found.proxies is not None
    return found.proxies


def written(cluster: LocalCluster, name: str) -> dict[str, str]:
    path = layout.folder(cluster.directory, cluster.state().node(name)) / layout.PROPERTIES_FILE
    return dict(parse_properties(path.read_text(encoding="utf-8"), where="file"))


def test_every_way_has_a_proxy_of_its_own(cluster: LocalCluster) -> None:
    found = cluster.up(brokers=2, controllers=2, settings=MARKED)
    links = {link.name: link for link in proxies_of(found).links}
    assert sorted(links) == sorted(
        [
            "controller-1-to-controller-2-controller",
            "controller-2-to-controller-1-controller",
            *(f"broker-{one}-to-controller-{two}-controller" for one in (1, 2) for two in (1, 2)),
            "broker-1-to-broker-2-kafka",
            "broker-2-to-broker-1-kafka",
            *(f"clients-to-broker-{one}-{name}" for one in (1, 2) for name in ("grpc", "kafka")),
        ]
    )
    assert all(parse_link(name) is not None for name in links)
    said = written(cluster, "broker-1")
    peer = found.node("broker-2")
    assert f"{peer.address('KAFKA')}={links['broker-1-to-broker-2-kafka'].address}" in said["chaos.detours"]
    assert said["listeners"].startswith(f"GRPC://{found.node('broker-1').own_address('GRPC')},")
    assert said["advertised.listeners"].startswith(f"GRPC://{found.node('broker-1').address('GRPC')},")
    assert links["clients-to-broker-1-grpc"].address == found.node("broker-1").address("GRPC")
    assert {link.proxy for link in Toxiproxy(proxies_of(found).api).links()} == set(links)
    ports = [port for node in found.nodes for port in (*node.ports.values(), *node.behind.values())]
    ports += [proxies_of(found).api_port]
    ports += [link.port for link in links.values() if link.source != "clients"]
    assert len(set(ports)) == len(ports)


def test_a_cluster_that_is_not_marked_has_none(cluster: LocalCluster) -> None:
    found = cluster.up(brokers=1, controllers=1)
    assert found.proxies is None
    assert status.as_json(cluster)["toxiproxy"] is None
    assert len(status.as_rows(cluster)) == 2
    assert written(cluster, "broker-1")["advertised.listeners"] == ""
    reason = LocalBackend(cluster.directory).refusal(FaultKind.LATENCY)
    assert reason.startswith("latency needs proxies between the nodes, and this cluster was started without")


def test_a_mark_may_come_and_go_and_addresses_stay(cluster: LocalCluster) -> None:
    first = cluster.up(brokers=1, controllers=1, settings=MARKED)
    cluster.down()
    assert proxies_of(cluster.state()).process is None
    second = cluster.up()
    assert [(node.ports, node.behind) for node in second.nodes] == [
        (node.ports, node.behind) for node in first.nodes
    ]
    assert proxies_of(second).links == proxies_of(first).links
    cluster.down()
    third = cluster.up(settings={})
    assert third.proxies is None
    assert [node.ports for node in third.nodes] == [node.ports for node in first.nodes]


def test_down_leaves_no_process_and_no_file(cluster: LocalCluster) -> None:
    found = cluster.up(brokers=1, controllers=1, settings=MARKED)
    mark = proxies_of(found).process
    assert mark is not None
    cluster.down(delete=True)
    assert processes.condition(mark) is Condition.GONE
    assert not cluster.directory.exists()


def test_proxies_that_died_are_missed_and_come_back(cluster: LocalCluster) -> None:
    found = cluster.up(brokers=1, controllers=1, settings=MARKED)
    mark, backend = proxies_of(found).process, LocalBackend(cluster.directory)
    assert mark is not None
    assert backend.refusal(FaultKind.PARTITION) == ""
    said = {"api": proxies_of(found).api, "pid": mark.pid, "state": "running"}
    assert status.as_json(cluster)["toxiproxy"] == said
    row = ("toxiproxy", None, "running", mark.pid, None, None, None, None, proxies_of(found).api)
    assert status.as_rows(cluster)[0] == row
    processes.kill([mark])
    assert status.as_json(cluster)["toxiproxy"] == {**said, "pid": None, "state": "dead"}
    assert "does not run" in backend.refusal(FaultKind.PARTITION)
    assert "does not run" in cluster.trouble_of_proxies()
    cluster.restore_proxies()
    cluster.wait_proxies()
    assert cluster.trouble_of_proxies() == ""
    assert len(Toxiproxy(proxies_of(found).api).links()) == len(proxies_of(found).links)


def test_proxies_that_are_frozen_are_missed_and_go_on(cluster: LocalCluster) -> None:
    mark = proxies_of(cluster.up(brokers=1, controllers=1, settings=MARKED)).process
    assert mark is not None
    processes.send(mark, signal.SIGSTOP)
    processes.wait_until(mark, Condition.PAUSED)
    assert "does not run" in cluster.trouble_of_proxies()
    cluster.restore_proxies()
    cluster.wait_proxies()
    assert cluster.trouble_of_proxies() == ""


def test_who_came_later_has_no_proxies(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1, settings=MARKED)
    cluster.add_controller()
    reason = LocalBackend(cluster.directory).refusal(FaultKind.PARTITION)
    assert "controller-2 came later" in reason
    cluster.down()
    cluster.up()
    assert LocalBackend(cluster.directory).refusal(FaultKind.PARTITION) == ""


def test_a_start_without_its_proxies_fails_at_once_and_leaves_nothing(cluster: LocalCluster) -> None:
    """Nodes wait for each other for half a minute when nobody is between them; then nobody knew why."""
    found = cluster.up(brokers=1, controllers=1, settings=MARKED)
    cluster.down()
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        # Not found out by looking for free ports: somebody takes it just then.
        original = proxies.start

        def stolen(directory: Path, known: ClusterState, wanted: Proxies) -> Proxies:
            taken.bind(("127.0.0.1", wanted.api_port))
            taken.listen()
            return original(directory, known, wanted)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(proxies, "start", stolen)
            with pytest.raises(CommandError, match=r"toxiproxy did not start: .*can not listen: 127"):
                cluster.up()
    finally:
        taken.close()
    assert {cluster.condition(node.name) for node in found.nodes} == {Condition.GONE}


def test_the_state_with_proxies_survives_its_file(cluster: LocalCluster) -> None:
    found = cluster.up(brokers=1, controllers=1, settings=MARKED)
    assert state.load(cluster.directory) == found
