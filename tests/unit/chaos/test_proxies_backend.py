"""A cluster of which only the proxies can be reached: whose they are, and what they can do."""

import asyncio
from collections.abc import Sequence

import pytest
from glasslog.chaos.backends.links import Link, parse_link
from glasslog.chaos.backends.proxies import ProxiesBackend, nodes_behind, refusal_of_links
from glasslog.chaos.backends.registry import revived
from glasslog.chaos.backends.toxiproxy import Toxiproxy
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import Node, OneNode
from glasslog.client.admin import Admin
from glasslog.client.admin_base import ClusterDescription
from glasslog.client.cli.errors import CommandError
from glasslog.client.cluster import BrokerView
from glasslog.client.quorum import QuorumReplica, QuorumStatus
from glasslog.common.ids import NodeId

from tests.unit.chaos.served_proxies import served

ONE = Fault(kind=FaultKind.LATENCY, target=OneNode(role="broker", number=1), delay_ms=20)


def links(*names: str) -> list[Link]:
    return [link for name in names if (link := parse_link(name)) is not None]


class Told(Admin):
    """Answers what it was made with."""

    def __init__(self, brokers: Sequence[int], voters: Sequence[int]) -> None:
        self._brokers = brokers
        self._voters = voters

    async def describe_cluster(self) -> ClusterDescription:
        views = [BrokerView(node_id=NodeId(each), host="host", port=1) for each in self._brokers]
        return ClusterDescription(cluster_id="c", controller_id=NodeId(-1), brokers=tuple(views))

    async def describe_quorum(self) -> QuorumStatus:
        voters = tuple(
            QuorumReplica(
                node_id=NodeId(each),
                directory_id="",
                address="",
                log_end_offset=0,
                lag=0,
                last_fetch_ms_ago=0,
                last_caught_up_ms_ago=0,
            )
            for each in self._voters
        )
        return QuorumStatus(
            leader_id=NodeId(-1), leader_epoch=0, high_watermark=0, voters=voters, observers=()
        )


def named(found: Sequence[Link], *, brokers: Sequence[int], voters: Sequence[int]) -> list[tuple[str, int]]:
    nodes = asyncio.run(nodes_behind(found, Told(brokers, voters)))
    return [(node.name, node.node_id) for node in nodes]


def test_nodes_have_the_names_that_proxies_give_them() -> None:
    found = links("broker-1-kafka", "broker-2-kafka", "controller-1", "controller-2")
    assert named(found, brokers=[1, 2], voters=[101, 102]) == [
        ("controller-1", 101),
        ("controller-2", 102),
        ("broker-1", 1),
        ("broker-2", 2),
    ]
    assert named(links("broker-7-kafka"), brokers=[7], voters=[101]) == [
        ("controller-1", 101),
        ("broker-7", 7),
    ]


def test_a_broker_without_a_proxy_is_missed() -> None:
    with pytest.raises(
        CommandError, match=r"the cluster has 2 brokers \(1, 2\), and there are proxies of broker-1"
    ):
        named(links("broker-1-kafka"), brokers=[1, 2], voters=[])
    with pytest.raises(CommandError, match="there are proxies of none"):
        named([], brokers=[1], voters=[])


@pytest.mark.parametrize("kind", FaultKind)
def test_what_proxies_can_not_do_is_refused_with_what_they_can(kind: FaultKind) -> None:
    pairs = ("broker-1-to-broker-2-kafka", "broker-2-to-broker-1-kafka")
    of_processes = {FaultKind.KILL, FaultKind.STOP, FaultKind.PAUSE, FaultKind.RESTART, FaultKind.SLOW}
    with served("broker-1-kafka") as server:
        reason = ProxiesBackend(server, ["b:1"], []).refusal(kind)
    if kind in of_processes:
        assert "happens to processes" in reason
        return
    cuts = {FaultKind.PARTITION, FaultKind.ONE_WAY, FaultKind.DISCONNECT}
    assert ("needs a proxy for each two nodes" in reason) is (kind in cuts)
    assert "is named like broker-1-kafka" in refusal_of_links(kind, [], "a:1")
    reason = refusal_of_links(kind, links(*pairs), "a:1")
    assert ("needs proxies for clients too" in reason) is (kind is FaultKind.DISCONNECT)
    assert refusal_of_links(kind, links(*pairs, "clients-to-broker-1-grpc"), "a:1") == ""


def test_a_fault_comes_and_goes_and_whatever_others_did_stays() -> None:
    with served("broker-1-kafka", "broker-2-kafka", "redis") as server:
        backend = ProxiesBackend(server, ["b:1"], [Node(name="broker-1", node_id=1, role="broker")])
        with server._connection() as ask:
            ask.json("POST", "/proxies/broker-1-kafka/toxics", {"name": "mine", "type": "slow_close"})
        asyncio.run(backend.disturb(ONE, ["broker-1"], ["broker-2"]))
        assert server.toxics() == {
            "broker-1-kafka": [
                "mine",
                "chaos-latency-broker-1-upstream",
                "chaos-latency-broker-1-downstream",
            ],
            "broker-2-kafka": [],
            "redis": [],
        }
        asyncio.run(backend.calm(ONE, ["broker-1"], ["broker-2"]))
        assert server.toxics()["broker-1-kafka"] == ["mine"]
        for _ in range(2):
            asyncio.run(backend.disturb(ONE, ["broker-1"], ["broker-2"]))
        asyncio.run(revived(dict(backend.keepsake)).heal())
        assert server.toxics()["broker-1-kafka"] == ["mine"]
        asyncio.run(backend.calm(ONE, ["broker-1"], ["broker-2"]))


def test_a_fault_that_hits_no_proxy_is_none() -> None:
    """It was told to have been done, and nothing was any different."""
    with served("broker-2-kafka") as server:
        backend = ProxiesBackend(server, ["b:1"], [])
        with pytest.raises(CommandError, match=r"no proxy at 127.* is between broker-1 and others"):
            asyncio.run(backend.disturb(ONE, ["broker-1"], ["broker-2"]))


def test_nobody_there_is_one_line() -> None:
    with pytest.raises(CommandError, match=r"the proxies at 127\.0\.0\.1:1 do not answer: .*refused"):
        Toxiproxy("127.0.0.1:1").links()
