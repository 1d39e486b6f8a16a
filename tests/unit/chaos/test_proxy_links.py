"""Which streams of which proxies a fault between nodes is put on."""

import pytest
from glasslog.chaos.backends.links import Link, nodes_of, parse_link, placements, separates
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import OneNode

PAIRS = ("broker-1", "broker-2", "broker-3")
LINKS = [
    *(
        Link(proxy=f"{source}-to-{target}-kafka", source=source, target=target)
        for source in PAIRS
        for target in PAIRS
        if source != target
    ),
    Link(proxy="clients-to-broker-1-grpc", source="clients", target="broker-1"),
]


def hit(kind: FaultKind, *names: str, others: tuple[str, ...]) -> set[str]:
    """Every pair whose first can no longer send to the second as it could, with the kind of toxic."""
    fault = Fault(kind=kind, target=OneNode(role="broker", number=1), delay_ms=30, rate_kb_per_s=5)
    ends = {link.proxy: (link.source, link.target) for link in LINKS}
    found = set()
    for each in placements(fault, names, others, LINKS):
        source, target = ends[each.proxy]
        if each.body["stream"] == "downstream":
            source, target = target, source
        found.add(f"{source}>{target} {each.body['type']}")
    return found


def test_a_name_says_what_is_at_either_end() -> None:
    assert parse_link("broker-1-to-controller-12-controller") == Link(
        proxy="broker-1-to-controller-12-controller", source="broker-1", target="controller-12"
    )
    assert parse_link("clients-to-broker-3-grpc") == Link(
        proxy="clients-to-broker-3-grpc", source="clients", target="broker-3"
    )
    assert parse_link("broker-3-kafka") == Link(proxy="broker-3-kafka", source="", target="broker-3")
    assert parse_link("controller-1") == Link(proxy="controller-1", source="", target="controller-1")
    assert [parse_link(name) for name in ("redis", "broker-1-to-redis", "my-broker-1", "")] == [None] * 4


def test_a_partition_cuts_both_ways_of_whoever_dialled_and_leaves_clients_alone() -> None:
    assert hit(FaultKind.PARTITION, "broker-1", others=("broker-2", "broker-3")) == {
        "broker-1>broker-2 timeout",
        "broker-2>broker-1 timeout",
        "broker-1>broker-3 timeout",
        "broker-3>broker-1 timeout",
    }
    fault = Fault(kind=FaultKind.PARTITION, target=OneNode(role="broker", number=1))
    places = placements(fault, ["broker-1"], ["broker-2"], LINKS)
    assert sorted((each.proxy, each.body["stream"]) for each in places) == [
        ("broker-1-to-broker-2-kafka", "downstream"),
        ("broker-1-to-broker-2-kafka", "upstream"),
        ("broker-2-to-broker-1-kafka", "downstream"),
        ("broker-2-to-broker-1-kafka", "upstream"),
    ]


def test_one_way_swallows_what_it_sends_on_connections_of_either_side() -> None:
    assert hit(FaultKind.ONE_WAY, "broker-1", others=("broker-2",)) == {"broker-1>broker-2 timeout"}
    fault = Fault(kind=FaultKind.ONE_WAY, target=OneNode(role="broker", number=1))
    places = placements(fault, ["broker-1"], ["broker-2"], LINKS)
    assert sorted((each.proxy, each.body["stream"]) for each in places) == [
        ("broker-1-to-broker-2-kafka", "upstream"),
        ("broker-2-to-broker-1-kafka", "downstream"),
    ]


def test_disconnect_reset_and_bandwidth_are_of_clients_too() -> None:
    both = {"broker-1>broker-2", "broker-2>broker-1", "clients>broker-1", "broker-1>clients"}
    assert hit(FaultKind.DISCONNECT, "broker-1", others=("broker-2",)) == {f"{pair} timeout" for pair in both}
    assert hit(FaultKind.RESET, "broker-1", others=("broker-2",)) == {f"{pair} reset_peer" for pair in both}
    assert hit(FaultKind.BANDWIDTH, "broker-1", others=("broker-2",)) == {
        "broker-2>broker-1 bandwidth",
        "clients>broker-1 bandwidth",
    }


def test_latency_goes_both_ways_and_is_as_long_as_asked_for() -> None:
    assert hit(FaultKind.LATENCY, "broker-1", others=("broker-2",)) == {
        "broker-1>broker-2 latency",
        "broker-2>broker-1 latency",
    }
    fault = Fault(kind=FaultKind.LATENCY, target=OneNode(role="broker", number=1), delay_ms=30)
    assert {
        str(each.body["attributes"]) for each in placements(fault, ["broker-1"], ["broker-2"], LINKS)
    } == {"{'latency': 30}"}


def test_two_faults_on_one_way_are_two_toxics() -> None:
    """A second partition whose toxic had the name of the first was refused; undoing it undid both."""
    fault = Fault(kind=FaultKind.PARTITION, target=OneNode(role="broker", number=1))
    first = placements(fault, ["broker-1"], ["broker-2"], LINKS)
    second = placements(fault, ["broker-2"], ["broker-1"], LINKS)
    assert {each.proxy for each in first} == {each.proxy for each in second}
    assert not {(each.proxy, each.toxic) for each in first} & {(each.proxy, each.toxic) for each in second}


@pytest.mark.parametrize("kind", [FaultKind.LATENCY, FaultKind.RESET])
def test_a_proxy_for_everybody_is_hit_where_it_leads_to_the_target(kind: FaultKind) -> None:
    shared = [Link(proxy=f"{name}-kafka", source="", target=name) for name in PAIRS]
    fault = Fault(kind=kind, target=OneNode(role="broker", number=1))
    places = placements(fault, ["broker-1"], ["broker-2", "broker-3"], shared)
    assert [(each.proxy, each.body["stream"]) for each in places] == [
        ("broker-1-kafka", "upstream"),
        ("broker-1-kafka", "downstream"),
    ]
    assert separates(LINKS)
    assert not separates(shared)
    assert not separates([*LINKS, *shared])
    assert nodes_of(shared) == list(PAIRS)
