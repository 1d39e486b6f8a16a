"""``glasslog why`` says what a person would want to know, from what a leader knows."""

from dataclasses import replace

from glasslog.client.admin import PartitionDescription
from glasslog.client.cli.explanation import Known, explained
from glasslog.client.cluster import BrokerView
from glasslog.client.replication import FollowerDescription, ReplicationDescription
from glasslog.common.ids import NO_NODE, NodeId

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
BROKERS = {
    node: BrokerView(node_id=node, host="h", port=1, rack=f"rack-{node}") for node in (ONE, TWO, THREE)
}


def follower(node: NodeId, **changes: object) -> FollowerDescription:
    usual = FollowerDescription(
        broker_id=node,
        in_isr=True,
        is_active=True,
        log_end_offset=100,
        fetched_ms_ago=20,
        caught_up_ms_ago=20,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]  # a test's shorthand


VIEW = ReplicationDescription(
    leader=ONE,
    leader_epoch=0,
    leading_for_ms=250_000,
    log_start_offset=0,
    high_watermark=100,
    log_end_offset=100,
    isr=(ONE, TWO, THREE),
    joining=(),
    leaving=(),
    min_insync_replicas=2,
    followers=(follower(TWO), follower(THREE)),
    waiting_produces=0,
    lowest_required_offset=0,
    highest_required_offset=0,
    first_expires_in_ms=0,
    waiting_follower_fetches=2,
    waiting_consumer_fetches=0,
)
PARTITION = PartitionDescription(
    partition=0,
    leader=ONE,
    leader_epoch=0,
    partition_epoch=0,
    replicas=(ONE, TWO, THREE),
    isr=(ONE, TWO, THREE),
    elr=(),
)
KNOWN = Known(name="orders-0", partition=PARTITION, brokers=BROKERS, view=VIEW)


def told(**changes: object) -> str:
    return " ".join(explained(replace(KNOWN, view=replace(VIEW, **changes))))  # type: ignore[arg-type]  # shorthand


def test_a_healthy_partition() -> None:
    assert explained(KNOWN) == [
        "Broker 1 on rack-1 leads orders-0 for 4 min, in leader epoch 0.",
        "It is the preferred leader, the first of the replicas {1,2,3}.",
        "It is the only leader the partition has had.",
        "All 3 replicas are in sync.",
        "It holds 100 records, offsets 0 to 99, all of them committed.",
        "2 fetches of followers wait for records beyond 100.",
    ]


def test_who_is_out_of_the_isr_and_why() -> None:
    text = told(
        isr=(ONE,),
        followers=(
            follower(TWO, in_isr=False, is_active=False, fetched_ms_ago=4_000),
            follower(THREE, in_isr=False, log_end_offset=40, caught_up_ms_ago=31_000),
        ),
    )
    assert "In sync: 1 of 3 replicas, ISR {1}." in text
    assert "Broker 2 is out of the ISR: it is down, and fetched last 4.0 s ago." in text
    assert "Broker 3 is out of the ISR: it is catching up, 60 records behind, and last had" in text
    assert "acks=all is refused (NOT_ENOUGH_REPLICAS)" in text
    assert "ISR {1} is smaller than min.insync.replicas 2" in text
    silent = follower(TWO, in_isr=False, is_active=False, fetched_ms_ago=None)
    assert "has not fetched since broker 1 leads" in told(followers=(silent,))
    fresh = follower(TWO, in_isr=False, log_end_offset=None)
    assert "it is alive, but has not fetched from broker 1 yet" in told(followers=(fresh,))
    assert "is about to be let in" in told(followers=(follower(TWO, in_isr=False),))
    assert "asked to let broker 2 into the ISR" in told(joining=(TWO,))
    assert "asked to take broker 2 out of the ISR" in told(leaving=(TWO,))


def test_what_a_waiting_produce_waits_for() -> None:
    text = told(
        high_watermark=90,
        followers=(follower(TWO), follower(THREE, log_end_offset=90)),
        waiting_produces=3,
        lowest_required_offset=92,
        highest_required_offset=100,
        first_expires_in_ms=12_000,
        waiting_consumer_fetches=1,
    )
    assert (
        "3 produce requests with acks=all wait for the high watermark to reach 92 to 100 (it is at 90): "
        "broker 3 is at 90. The first times out in 12 s."
    ) in text
    assert "1 fetch of consumers waits for records to be committed beyond 90." in text
    assert "consumers see those below 90 (the high watermark), 10 records are not on all" in text
    assert "Broker 3 is 10 records behind" in text


def test_why_the_preferred_leader_does_not_lead() -> None:
    moved = replace(KNOWN, view=replace(VIEW, leader=TWO, leader_epoch=3))
    assert "The preferred leader is broker 1: it is in sync again" in " ".join(explained(moved))
    down = replace(moved, brokers={TWO: BROKERS[TWO]})
    assert "broker 1: it is down, so broker 2 was elected from the ISR" in " ".join(explained(down))
    assert moved.view is not None
    behind = replace(moved, view=replace(moved.view, isr=(TWO, THREE)))
    assert "broker 1: it is alive again, but not in sync yet" in " ".join(explained(behind))


def test_a_partition_that_is_being_moved() -> None:
    moving = replace(
        PARTITION, replicas=(ONE, TWO, THREE), adding_replicas=(THREE,), removing_replicas=(ONE, TWO)
    )
    assert (
        "It is being moved: broker 3 is to be added, "
        "brokers 1, 2 are to be removed once the others are in sync."
        in explained(replace(KNOWN, partition=moving))
    )


def test_a_partition_that_nobody_leads() -> None:
    lost = replace(PARTITION, leader=NO_NODE, isr=(THREE,))
    text = explained(Known(name="orders-0", partition=lost, brokers={ONE: BROKERS[ONE]}, view=None))
    assert text == [
        "Nobody leads orders-0: nothing can be written or read.",
        "Only broker 3 was in sync when it lost its leader, and may lead without losing records that were "
        "acknowledged.",
        "Broker 1 is alive.",
        "Broker 2 is down.",
        "Broker 3 is down.",
        "By `glasslog partition elect --unclean orders-0` broker 1 could lead at once, and what only the "
        "others have would be lost.",
    ]


def test_an_empty_partition_of_one_replica() -> None:
    alone = replace(
        KNOWN,
        partition=replace(PARTITION, replicas=(ONE,), isr=(ONE,)),
        view=replace(
            VIEW,
            isr=(ONE,),
            followers=(),
            min_insync_replicas=1,
            high_watermark=0,
            log_end_offset=0,
            waiting_follower_fetches=0,
        ),
    )
    assert explained(alone)[-3:] == [
        "It has no other replica.",
        "It holds no records; the next one gets offset 0.",
        "No request waits for anything here.",
    ]
