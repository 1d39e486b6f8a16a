"""A broker that is gone for good is forgotten, and no other."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NodeId
from glasslog.controller.requests import UnregisterBrokerRequest, UnregisterBrokerResponse

from tests.unit.controller.controller_bench import Bench


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1, 2, 3)
    result.create_on("t", (1, 2), (2, 1), (1, 2), (2, 1))
    return result


def unregister(on: Bench, broker_id: int, *, force: bool = False) -> UnregisterBrokerResponse:
    request = UnregisterBrokerRequest(broker_id=NodeId(broker_id), force=force)
    return on.ask(request, UnregisterBrokerResponse)


def test_one_that_is_dead_and_holds_nothing_is_forgotten(bench: Bench) -> None:
    bench.lose_session(3)
    bench.fence(3)
    assert unregister(bench, 3) == UnregisterBrokerResponse()
    assert NodeId(3) not in bench.image.brokers
    assert unregister(bench, 3).error_code is ErrorCode.BROKER_ID_NOT_REGISTERED


def test_one_that_is_alive_is_not(bench: Bench) -> None:
    refused = unregister(bench, 3)
    assert (refused.error_code, refused.error_message) == (
        ErrorCode.INVALID_REQUEST,
        "broker 3 is alive; stop it first",
    )
    bench.fence(3)
    assert unregister(bench, 3).error_code is ErrorCode.INVALID_REQUEST, "fenced, and its process is there"
    assert NodeId(3) in bench.image.brokers


def test_one_that_holds_replicas_is_not(bench: Bench) -> None:
    bench.lose_session(1)
    bench.fence(1)
    refused = unregister(bench, 1)
    assert (refused.error_code, refused.error_message) == (
        ErrorCode.INVALID_REQUEST,
        "broker 1 still holds t-0, t-1, t-2 and others; move them to other brokers first",
    )


def test_by_force_any_is_and_others_lead_what_it_led(bench: Bench) -> None:
    assert unregister(bench, 1, force=True).error_code is ErrorCode.NONE
    assert NodeId(1) not in bench.image.brokers
    topic = bench.image.topic("t")
    assert topic is not None
    assert [(partition.leader, partition.isr) for partition in topic.partitions] == [(2, (2,))] * 4


def test_one_that_comes_back_is_a_new_broker(bench: Bench) -> None:
    unregister(bench, 3, force=True)
    bench.start(3)
    assert bench.image.brokers[NodeId(3)].active
