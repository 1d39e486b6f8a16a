"""Changed settings: what is refused, with which code and words, what is written, what is elected at once."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE
from glasslog.controller.admin_requests import (
    AlterConfigsRequest,
    AlterConfigsResponse,
    AlteredResource,
    ConfigEdit,
    ConfigOperation,
    ResourceEdits,
)
from glasslog.metadata.image_records import image_of, image_records
from glasslog.metadata.records import ResourceType

from tests.unit.controller.controller_bench import Bench

SET, DELETE, APPEND, SUBTRACT = ConfigOperation
TOPIC, BROKER = ResourceType.TOPIC, ResourceType.BROKER


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1, 2, 3)
    result.create_on("t", (1, 2, 3))
    return result


def edits(
    kind: int, name: str, *changes: tuple[str, int, str | None], replace_all: bool = False
) -> ResourceEdits:
    return ResourceEdits(
        resource_type=kind,
        name=name,
        edits=tuple(ConfigEdit(key=key, operation=how, value=value) for key, how, value in changes),
        replace_all=replace_all,
    )


def alter(bench: Bench, *resources: ResourceEdits, validate_only: bool = False) -> AlterConfigsResponse:
    request = AlterConfigsRequest(resources=resources, validate_only=validate_only)
    return bench.ask(request, AlterConfigsResponse)


def alter_one(bench: Bench, resource: ResourceEdits) -> AlteredResource:
    (result,) = alter(bench, resource).resources
    return result


def test_settings_are_set_and_return_to_their_defaults(bench: Bench) -> None:
    assert not alter_one(bench, edits(TOPIC, "t", ("retention.ms", SET, " 1000 "))).error_code
    assert bench.image.topic_config("t") == {"retention.ms": "1000"}
    assert not alter_one(bench, edits(TOPIC, "t", ("retention.ms", DELETE, None))).error_code
    assert bench.image.topic_config("t") == {}
    assert not alter_one(bench, edits(TOPIC, "t", ("retention.ms", DELETE, None))).error_code


def test_lists_grow_and_shrink_and_asking_twice_changes_nothing_more(bench: Bench) -> None:
    """A broker asks again when the answer was lost: what it asked for must not be added twice."""
    # What is added to a list that was not set is added to its default, as in Kafka.
    for _ in range(2):
        alter(bench, edits(TOPIC, "t", ("cleanup.policy", APPEND, "compact")))
        assert bench.image.topic_config("t") == {"cleanup.policy": "delete,compact"}
    for _ in range(2):
        alter(bench, edits(TOPIC, "t", ("cleanup.policy", SUBTRACT, "delete")))
        assert bench.image.topic_config("t") == {"cleanup.policy": "compact"}


def test_validating_changes_nothing(bench: Bench) -> None:
    before = bench.image
    accepted, refused = alter(
        bench,
        edits(TOPIC, "t", ("retention.ms", SET, "5")),
        edits(BROKER, "", ("node.id", SET, "5")),
        validate_only=True,
    ).resources
    assert (accepted.error_code, refused.error_code) == (ErrorCode.NONE, ErrorCode.INVALID_REQUEST)
    assert bench.image is before


def test_the_older_way_replaces_everything(bench: Bench) -> None:
    alter(bench, edits(TOPIC, "t", ("retention.ms", SET, "5"), ("flush.ms", SET, "5")))
    alter(bench, edits(TOPIC, "t", ("flush.ms", SET, "6"), replace_all=True))
    assert bench.image.topic_config("t") == {"flush.ms": "6"}


def test_one_bad_setting_leaves_its_resource_alone_and_others_not(bench: Bench) -> None:
    bench.create_on("other", (1, 2, 3))
    bad, good = alter(
        bench,
        edits(TOPIC, "t", ("retention.ms", SET, "5"), ("flush.ms", SET, "soon")),
        edits(TOPIC, "other", ("retention.ms", SET, "5")),
    ).resources
    assert (bad.error_code, good.error_code) == (ErrorCode.INVALID_CONFIG, ErrorCode.NONE)
    assert (bench.image.topic_config("t"), bench.image.topic_config("other")) == ({}, {"retention.ms": "5"})


@pytest.mark.parametrize(
    ("resource", "error", "words"),
    [
        (edits(TOPIC, "t", ("retention.mss", SET, "1")), ErrorCode.INVALID_CONFIG, "did you mean"),
        (edits(TOPIC, "t", ("retention.ms", SET, "soon")), ErrorCode.INVALID_CONFIG, "not an integer"),
        (edits(TOPIC, "t", ("retention.ms", SET, "-2")), ErrorCode.INVALID_CONFIG, "at least -1"),
        (edits(TOPIC, "t", ("cleanup.policy", SET, "burn")), ErrorCode.INVALID_CONFIG, "delete, compact"),
        (edits(TOPIC, "t", ("cleanup.policy", SET, "")), ErrorCode.INVALID_CONFIG, "delete, compact"),
        (edits(TOPIC, "t", ("retention.ms", APPEND, "1")), ErrorCode.INVALID_CONFIG, "no list"),
        (
            edits(TOPIC, "t", ("min.compaction.lag.ms", SET, "2"), ("max.compaction.lag.ms", SET, "1")),
            ErrorCode.INVALID_CONFIG,
            "above max.compaction.lag.ms",
        ),
        (edits(TOPIC, "t", ("retention.ms", 9, "1")), ErrorCode.INVALID_REQUEST, "no operation 9"),
        (edits(TOPIC, "t", ("retention.ms", SET, None)), ErrorCode.INVALID_REQUEST, "needs a value"),
        (
            edits(TOPIC, "t", ("retention.ms", SET, "1"), ("retention.ms", DELETE, None)),
            ErrorCode.INVALID_REQUEST,
            "named twice",
        ),
        (edits(TOPIC, "u", ("retention.ms", SET, "1")), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no topic 'u'"),
        (edits(3, "t", ("retention.ms", SET, "1")), ErrorCode.INVALID_REQUEST, "resource type 3"),
        (edits(BROKER, "9", ("log.roll.ms", SET, "1")), ErrorCode.BROKER_ID_NOT_REGISTERED, "broker 9"),
        (edits(BROKER, "one", ("log.roll.ms", SET, "1")), ErrorCode.INVALID_REQUEST, "no broker's id"),
        (edits(BROKER, "1", ("no.such", SET, "1")), ErrorCode.INVALID_REQUEST, "unknown setting"),
        (edits(BROKER, "1", ("log.dirs", SET, "/x")), ErrorCode.INVALID_REQUEST, "read-only"),
        (edits(BROKER, "1", ("log.roll.ms", SET, "x")), ErrorCode.INVALID_REQUEST, "not an integer"),
        (edits(BROKER, "1", ("min.insync.replicas", SET, "2")), ErrorCode.INVALID_REQUEST, "every broker"),
    ],
)
def test_what_is_wrong_is_named(bench: Bench, resource: ResourceEdits, error: ErrorCode, words: str) -> None:
    before = bench.image
    refused = alter_one(bench, resource)
    assert refused.error_code is error
    assert words in refused.error_message
    assert bench.image is before


def test_a_resource_named_twice_is_refused_twice(bench: Bench) -> None:
    one = edits(TOPIC, "t", ("retention.ms", SET, "1"))
    assert {each.error_code for each in alter(bench, one, one).resources} == {ErrorCode.INVALID_REQUEST}


def test_settings_of_brokers_are_kept_and_survive_a_snapshot(bench: Bench) -> None:
    alter(
        bench,
        edits(BROKER, "", ("log.retention.ms", SET, "7"), ("min.insync.replicas", SET, "2")),
        edits(BROKER, "1", ("log.retention.ms", SET, "8")),
    )
    assert bench.image.broker_config(None) == {"log.retention.ms": "7", "min.insync.replicas": "2"}
    node = bench.image.brokers[bench.partition("t").replicas[0]].broker_id
    assert bench.image.broker_config(node) == {"log.retention.ms": "8"}
    again = image_of(image_records(bench.image), offset=bench.image.offset, epoch=bench.image.epoch)
    assert again.configs == bench.image.configs


@pytest.mark.parametrize("resource", [(TOPIC, "t"), (BROKER, "")])
def test_letting_records_be_lost_elects_at_once(bench: Bench, resource: tuple[ResourceType, str]) -> None:
    bench.create_on("other", (2,))
    bench.alter("t", (1,))
    bench.fence(1, 2)
    assert bench.partition("t").leader == bench.partition("other").leader == NO_NODE
    alter(bench, edits(*resource, ("unclean.leader.election.enable", SET, "true")))
    led = bench.partition("t")
    assert (led.leader, led.isr) == (3, (3,))
    # Nobody is there who could lead it.
    assert bench.partition("other").leader == NO_NODE


def test_what_a_topic_says_itself_wins_over_every_brokers_setting(bench: Bench) -> None:
    alter(bench, edits(TOPIC, "t", ("unclean.leader.election.enable", SET, "false")))
    bench.alter("t", (1,))
    bench.fence(1)
    alter(bench, edits(BROKER, "", ("unclean.leader.election.enable", SET, "true")))
    assert bench.partition("t").leader == NO_NODE
    alter(bench, edits(TOPIC, "t", ("unclean.leader.election.enable", DELETE, None)))
    assert bench.partition("t").leader == 2
