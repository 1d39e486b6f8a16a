"""Levels of features: what is refused, with which code and words, and what a change does at once."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.controller.admin_requests import (
    FeatureUpdate,
    UpdatedFeature,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
    UpgradeType,
)
from glasslog.controller.requests import UnregisterBrokerRequest, UnregisterBrokerResponse
from glasslog.metadata.features import ELIGIBLE_LEADER_REPLICAS as ELR
from glasslog.metadata.features import FEATURES, METADATA_VERSION, SUPPORTED
from glasslog.metadata.image_records import image_of, image_records

from tests.unit.controller.controller_bench import Bench

UP, DOWN = UpgradeType.UPGRADE, UpgradeType.SAFE_DOWNGRADE


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1, 2, 3)
    result.create_on("t", (1, 2, 3), configs={"min.insync.replicas": "2"})
    return result


def update(
    bench: Bench, *changes: tuple[str, int, int], validate_only: bool = False
) -> tuple[UpdatedFeature, ...]:
    request = UpdateFeaturesRequest(
        updates=tuple(
            FeatureUpdate(name=name, level=level, upgrade_type=kind) for name, level, kind in changes
        ),
        validate_only=validate_only,
    )
    response = bench.ask(request, UpdateFeaturesResponse)
    return response.features


def test_a_new_cluster_has_the_defaults(bench: Bench) -> None:
    assert {name: bench.image.feature_level(name) for name in FEATURES} == {
        name: feature.default for name, feature in FEATURES.items()
    }
    assert bench.image.features == {}


def test_a_level_is_kept_and_survives_a_snapshot(bench: Bench) -> None:
    assert update(bench, (ELR, 0, DOWN)) == (UpdatedFeature(name=ELR),)
    assert bench.image.feature_level(ELR) == 0
    again = image_of(image_records(bench.image), offset=bench.image.offset, epoch=bench.image.epoch)
    assert again.feature_level(ELR) == 0


def test_the_level_that_is_there_already_changes_nothing(bench: Bench) -> None:
    before = bench.image
    for kind in (UP, DOWN):
        assert not update(bench, (ELR, 1, kind))[0].error_code
    assert bench.image is before


def test_a_level_that_a_registered_broker_can_not_do_is_refused_until_that_is_unregistered(
    bench: Bench,
) -> None:
    """Also while that broker is fenced: it would come back to a cluster that it can not follow."""
    assert not update(bench, (ELR, 0, DOWN))[0].error_code
    bench.register(4, features=tuple(each for each in SUPPORTED if each.name != ELR))
    (refused,) = update(bench, (ELR, 1, UP))
    assert refused.error_code is ErrorCode.INVALID_UPDATE_VERSION
    assert "can not be at level 1: broker 4 does not know it" in refused.error_message
    assert bench.image.feature_level(ELR) == 0
    bench.ask(UnregisterBrokerRequest(broker_id=NodeId(4)), UnregisterBrokerResponse)
    assert update(bench, (ELR, 1, UP)) == (UpdatedFeature(name=ELR),)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (("no.such", 1, UP), ErrorCode.INVALID_UPDATE_VERSION, "no feature 'no.such'; known are metadata"),
        ((ELR, 2, UP), ErrorCode.INVALID_UPDATE_VERSION, "levels 0 to 1 here, not 2"),
        ((ELR, -1, DOWN), ErrorCode.INVALID_UPDATE_VERSION, "not -1"),
        ((METADATA_VERSION, 24, DOWN), ErrorCode.INVALID_UPDATE_VERSION, "levels 25 to 25"),
        ((ELR, 0, UP), ErrorCode.INVALID_UPDATE_VERSION, "is at 1: going back to 0 must be asked for"),
        ((ELR, 1, 0), ErrorCode.INVALID_UPDATE_VERSION, "no upgrade type 0"),
    ],
)
def test_what_is_wrong_is_named(
    bench: Bench, change: tuple[str, int, int], error: ErrorCode, words: str
) -> None:
    before = bench.image
    (refused,) = update(bench, change)
    assert refused.error_code is error
    assert words in refused.error_message
    assert bench.image is before


def test_an_upgrade_is_no_downgrade(bench: Bench) -> None:
    update(bench, (ELR, 0, DOWN))
    (refused,) = update(bench, (ELR, 1, DOWN))
    assert "1 would be no downgrade" in refused.error_message


def test_all_levels_change_or_none(bench: Bench) -> None:
    before = bench.image
    innocent, guilty = update(bench, (ELR, 0, DOWN), (METADATA_VERSION, 99, UP))
    assert guilty.error_code is ErrorCode.INVALID_UPDATE_VERSION
    assert innocent.error_code is ErrorCode.FEATURE_UPDATE_FAILED
    assert "since 'metadata.version' was refused" in innocent.error_message
    assert bench.image is before
    twice = update(bench, (ELR, 0, DOWN), (ELR, 1, UP))
    assert {each.error_code for each in twice} == {ErrorCode.INVALID_REQUEST}


def test_validating_changes_nothing(bench: Bench) -> None:
    before = bench.image
    assert not update(bench, (ELR, 0, DOWN), validate_only=True)[0].error_code
    assert bench.image is before


def test_without_eligible_replicas_the_last_isr_stays_and_back(bench: Bench) -> None:
    bench.alter("t", (1,))
    assert bench.partition("t").elr == (2, 3)
    update(bench, (ELR, 0, DOWN))
    assert bench.partition("t").elr == ()
    bench.fence(1)
    orphan = bench.partition("t")
    assert (orphan.leader, orphan.isr) == (NO_NODE, (1,))
    update(bench, (ELR, 1, UP))
    orphan = bench.partition("t")
    assert (orphan.leader, orphan.isr, orphan.elr, orphan.last_known_leader) == (NO_NODE, (), (1,), 1)
    bench.open_session(1)
    bench.heartbeat(1)
    assert bench.partition("t").leader == 1
