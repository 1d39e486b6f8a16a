"""Brokers register, are unfenced, fenced, replaced and shut down."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId, Offset
from glasslog.controller.admin_requests import (
    FeatureUpdate,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
    UpgradeType,
)
from glasslog.controller.requests import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
    FenceBrokersRequest,
    FenceBrokersResponse,
    RegisterBrokerRequest,
    RegisterBrokerResponse,
)
from glasslog.metadata.features import ELIGIBLE_LEADER_REPLICAS as ELR
from glasslog.metadata.features import METADATA_VERSION, SUPPORTED, FeatureRange
from glasslog.metadata.records import Endpoint

from tests.unit.controller.controller_bench import CLUSTER, ENDPOINTS, Bench, incarnation


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- registration ---


def test_a_new_broker_is_fenced_and_its_epoch_is_its_records_offset(bench: Bench) -> None:
    bench.start(1)
    answer = bench.register(2, rack="b")
    assert answer.broker_epoch == len(bench.log) - 1
    broker = bench.image.brokers[NodeId(2)]
    assert (broker.fenced, broker.rack, broker.broker_epoch) == (True, "b", answer.broker_epoch)


def test_the_same_incarnation_gets_the_same_epoch_again(bench: Bench) -> None:
    first = bench.register(1, number=7)
    bench.open_session(1)
    bench.heartbeat(1)
    length = len(bench.log)
    assert bench.register(1, number=7) == first
    assert len(bench.log) == length
    assert not bench.image.brokers[NodeId(1)].fenced


def test_another_process_with_the_id_of_a_live_broker_is_refused(bench: Bench) -> None:
    bench.start(1)
    refused = bench.register(1)
    assert refused.error_code is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    assert "broker 1" in refused.error_message
    assert bench.image.brokers[NodeId(1)].broker_epoch != refused.broker_epoch


def test_a_fenced_broker_that_holds_its_stream_is_alive_too(bench: Bench) -> None:
    bench.register(1)
    bench.open_session(1)
    assert bench.register(1).error_code is ErrorCode.DUPLICATE_BROKER_REGISTRATION


def test_a_broker_whose_stream_broke_is_replaced_at_once(bench: Bench) -> None:
    bench.start(1, 2)
    bench.create_on("t", (1, 2))
    old = bench.epoch(1)
    bench.lose_session(1)
    answer = bench.register(1)
    assert (answer.error_code, answer.broker_epoch > old) == (ErrorCode.NONE, True)
    assert bench.image.brokers[NodeId(1)].fenced
    assert (bench.partition("t").leader, bench.partition("t").isr) == (2, (2,))


def test_a_silent_broker_is_replaced_although_its_connection_seems_open(bench: Bench) -> None:
    bench.start(1)
    bench.now_ms += bench.settings.broker_session_timeout_ms
    assert bench.register(1).error_code is ErrorCode.NONE


def test_a_fenced_broker_without_a_stream_is_replaced_at_once(bench: Bench) -> None:
    bench.register(1)
    assert bench.register(1).error_code is ErrorCode.NONE


def test_a_new_incarnation_of_the_only_isr_member_leads_again_in_a_new_term(bench: Bench) -> None:
    bench.start(1)
    bench.create_on("t", (1,))
    bench.lose_session(1)
    bench.register(1)
    assert (bench.partition("t").leader, bench.partition("t").last_known_leader) == (NO_NODE, 1)
    bench.open_session(1)
    bench.heartbeat(1)
    assert (bench.partition("t").leader, bench.partition("t").leader_epoch) == (1, 2)


def test_a_broker_of_another_cluster_is_refused(bench: Bench) -> None:
    refused = bench.register(1, cluster_id="elsewhere")
    assert refused.error_code is ErrorCode.INCONSISTENT_CLUSTER_ID
    assert "elsewhere" in refused.error_message
    assert CLUSTER in refused.error_message


@pytest.mark.parametrize(
    ("incarnation_id", "endpoints", "problem"),
    [
        (b"short", ENDPOINTS, "16 bytes"),
        (incarnation(1), (), "listeners"),
        (incarnation(1), (*ENDPOINTS, Endpoint(name="GRPC", host="b", port=1)), "different names"),
    ],
)
def test_a_malformed_registration_is_refused(
    bench: Bench, incarnation_id: bytes, endpoints: tuple[Endpoint, ...], problem: str
) -> None:
    request = RegisterBrokerRequest(
        cluster_id=CLUSTER,
        broker_id=NodeId(1),
        incarnation_id=incarnation_id,
        endpoints=endpoints,
        features=SUPPORTED,
    )
    refused = bench.ask(request, RegisterBrokerResponse)
    assert refused.error_code is ErrorCode.INVALID_REGISTRATION
    assert problem in refused.error_message


def only(*features: FeatureRange) -> tuple[FeatureRange, ...]:
    """What a broker can do that differs from this version in ``features``."""
    names = {feature.name for feature in features}
    return (*(feature for feature in SUPPORTED if feature.name not in names), *features)


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (only(FeatureRange(name=METADATA_VERSION, minimum=26, maximum=27)), "can do levels 26 to 27: the "),
        (only(FeatureRange(name=ELR, minimum=0, maximum=0)), f"at level 1 of feature '{ELR}'"),
        (SUPPORTED[1:], f"does not know it: the cluster is at level 25 of feature '{METADATA_VERSION}'"),
    ],
)
def test_a_broker_that_can_not_do_what_the_cluster_does_is_refused(
    bench: Bench, features: tuple[FeatureRange, ...], problem: str
) -> None:
    refused = bench.register(1, features=features)
    assert refused.error_code is ErrorCode.UNSUPPORTED_VERSION
    assert problem in refused.error_message
    assert not bench.image.brokers


def test_a_broker_need_not_know_a_feature_that_is_off(bench: Bench) -> None:
    off = FeatureUpdate(name=ELR, level=0, upgrade_type=UpgradeType.SAFE_DOWNGRADE)
    bench.ask(UpdateFeaturesRequest(updates=(off,)), UpdateFeaturesResponse)
    known = tuple(feature for feature in SUPPORTED if feature.name != ELR)
    assert not bench.register(1, features=known).error_code
    assert bench.image.brokers[NodeId(1)].features == known


# --- heartbeats ---


def test_a_broker_is_unfenced_once_it_has_replayed_its_registration(bench: Bench) -> None:
    epoch = bench.register(1).broker_epoch
    bench.open_session(1)
    behind = bench.heartbeat(1, offset=epoch - 1)
    assert (behind.is_fenced, behind.is_caught_up) == (True, False)
    level = bench.heartbeat(1, offset=epoch)
    assert (level.is_fenced, level.is_caught_up) == (False, True)
    assert bench.image.brokers[NodeId(1)].active


def test_a_broker_that_wants_to_stay_fenced_stays_so(bench: Bench) -> None:
    bench.register(1)
    bench.open_session(1)
    assert bench.heartbeat(1, want_fence=True).is_fenced


def test_a_serving_broker_may_ask_to_be_fenced(bench: Bench) -> None:
    bench.start(1, 2)
    bench.create_on("t", (1, 2))
    assert bench.heartbeat(1, want_fence=True).is_fenced
    assert bench.partition("t").leader == 2


def test_a_heartbeat_of_another_incarnation_is_stale(bench: Bench) -> None:
    bench.start(1)
    assert bench.heartbeat(1, broker_epoch=99).error_code is ErrorCode.STALE_BROKER_EPOCH


def test_a_broker_is_not_unfenced_while_its_stream_is_known_to_be_broken(bench: Bench) -> None:
    """A broker that reaches the controller with calls but can not hold a stream would be fenced and
    unfenced in turn,
    and its partitions' ISR with it."""
    bench.start(1, 2)
    bench.lose_session(1)
    bench.now_ms += bench.settings.broker_failure_grace_ms
    assert bench.fence_expired() == (1,)
    assert bench.heartbeat(1).is_fenced
    bench.open_session(1)
    assert not bench.heartbeat(1).is_fenced


def test_a_repeated_heartbeat_writes_nothing(bench: Bench) -> None:
    bench.start(1)
    length = len(bench.log)
    for _ in range(3):
        bench.heartbeat(1)
    assert len(bench.log) == length


# --- shutdown ---


def test_leaderships_move_before_a_broker_may_stop(bench: Bench) -> None:
    bench.start(1, 2)
    bench.create_on("t", (1, 2))
    first = bench.heartbeat(1, want_shut_down=True)
    assert (first.should_shut_down, first.is_fenced) == (False, False)
    assert (bench.partition("t").leader, bench.partition("t").isr) == (2, (2,))
    assert bench.image.brokers[NodeId(1)].in_controlled_shutdown
    second = bench.heartbeat(1, want_shut_down=True)
    assert (second.should_shut_down, second.is_fenced) == (True, True)
    assert bench.image.brokers[NodeId(1)].fenced


def test_a_broker_that_leads_nothing_may_stop_at_once(bench: Bench) -> None:
    bench.start(1, 2)
    bench.create_on("t", (2, 1))
    assert bench.heartbeat(1, want_shut_down=True).should_shut_down
    assert bench.partition("t").isr == (2,)
    assert bench.heartbeat(1, want_shut_down=True).should_shut_down


def test_a_stopping_broker_gets_no_new_leaderships_or_replicas(bench: Bench) -> None:
    bench.start(1, 2, 3)
    bench.create_on("t", (1, 2))
    bench.create_on("u", (3, 2))
    bench.heartbeat(1, want_shut_down=True)
    assert bench.create("v", partitions=3, replication_factor=3).error_code is (
        ErrorCode.INVALID_REPLICATION_FACTOR
    )
    bench.heartbeat(3, want_shut_down=True)
    assert bench.partition("u").leader == 2


def test_the_only_replica_takes_its_partition_offline_when_it_stops(bench: Bench) -> None:
    bench.start(1)
    bench.create_on("t", (1,))
    bench.heartbeat(1, want_shut_down=True)
    assert (bench.partition("t").leader, bench.partition("t").elr) == (NO_NODE, (1,))
    assert bench.heartbeat(1, want_shut_down=True).should_shut_down


def test_a_broker_that_stopped_in_order_returns_active(bench: Bench) -> None:
    bench.start(1, 2)
    bench.create_on("t", (1, 2))
    for _ in range(2):
        bench.heartbeat(1, want_shut_down=True)
    bench.lose_session(1)
    bench.start(1)
    assert bench.image.brokers[NodeId(1)].active


# --- fencing ---


def test_fencing_an_old_incarnation_does_nothing_to_the_new_one(bench: Bench) -> None:
    bench.start(1, 2)
    expired = bench.state.active.heartbeats
    bench.lose_session(1)
    bench.now_ms += 200
    stale = expired.expired(bench.now_ms)
    bench.register(1)
    bench.open_session(1)
    bench.heartbeat(1)
    assert bench.ask(FenceBrokersRequest(brokers=stale), FenceBrokersResponse).fenced == ()
    assert bench.image.brokers[NodeId(1)].active


# --- producer ids ---


def test_blocks_of_producer_ids_never_overlap(bench: Bench) -> None:
    bench.start(1, 2)
    blocks = []
    for broker_id in (1, 2, 1):
        request = AllocateProducerIdsRequest(broker_id=NodeId(broker_id), broker_epoch=bench.epoch(broker_id))
        answer = bench.ask(request, AllocateProducerIdsResponse)
        blocks.append((answer.first_producer_id, answer.count))
    assert blocks == [(0, 1000), (1000, 1000), (2000, 1000)]


def test_a_stale_broker_gets_no_producer_ids(bench: Bench) -> None:
    bench.start(1)
    epoch = bench.epoch(1)
    bench.lose_session(1)
    bench.register(1)
    request = AllocateProducerIdsRequest(broker_id=NodeId(1), broker_epoch=epoch)
    answer = bench.ask(request, AllocateProducerIdsResponse)
    assert (answer.error_code, answer.count) == (ErrorCode.STALE_BROKER_EPOCH, 0)
    assert bench.image.offset == Offset(len(bench.log) - 1)
