"""Features in ApiVersions: kio writes them byte for byte as we do, kafka-python reads them."""

from dataclasses import replace
from typing import Any

import pytest
from glasslog.broker.kafka.codec import INT16, INT32
from glasslog.broker.kafka.feature_api import feature_tags
from glasslog.common.ids import Offset
from glasslog.metadata.image import EMPTY_IMAGE, MetadataImage

from tests.unit.kafka.kafka_messages import by_kio
from tests.unit.replication.kafka_oracle import API_VERSIONS_RESPONSE

ELR = "eligible.leader.replicas.version"


class Fixed:
    """Metadata that does not change."""

    def __init__(self, image: MetadataImage) -> None:
        self._image = image

    @property
    def image(self) -> MetadataImage:
        return self._image

    async def wait_for_offset(self, offset: Offset) -> None:
        """It is there."""


def told(version: int, **levels: int) -> tuple[dict[str, tuple[int, int]], int, dict[str, int]]:
    """Supported features, the epoch and the levels, as kafka-python reads them."""
    image = replace(EMPTY_IMAGE, offset=Offset(7), features={ELR: levels.get("elr", 1)})
    body = INT16.pack(0) + b"\1" + INT32.pack(0) + feature_tags(Fixed(image), version)
    _, again = by_kio(18, "response", version)(body)
    assert again == body
    answer: dict[str, Any] = API_VERSIONS_RESPONSE.decode(body, version=version).to_dict()
    return (
        {each["name"]: (each["min_version"], each["max_version"]) for each in answer["supported_features"]},
        answer["finalized_features_epoch"],
        {each["name"]: each["max_version_level"] for each in answer["finalized_features"]},
    )


@pytest.mark.parametrize("version", [3, 4])
def test_features_are_told_with_the_offset_at_which_they_hold(version: int) -> None:
    supported, epoch, levels = told(version)
    assert supported["metadata.version"] == (25, 25)
    assert epoch == 7
    assert levels == {"metadata.version": 25, "kraft.version": 1, ELR: 1}


def test_a_lowest_level_of_0_is_told_only_to_clients_that_can_take_it() -> None:
    assert ELR not in told(3)[0]
    assert told(4)[0][ELR] == (0, 1)


def test_a_feature_that_is_off_has_no_level() -> None:
    assert ELR not in told(4, elr=0)[2]
