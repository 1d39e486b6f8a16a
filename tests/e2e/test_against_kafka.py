"""The same requests to a real Kafka and to us, every API in every version of both: the answers are the same.

Where they may differ stands in ``known_differences``, each with its reason.  Without Kafka's jars
(``GLASSLOG_KAFKA_LIBS`` in the environment names their folder) there is nothing to compare with.
``KAFKA_COMPARISONS`` says how many requests of each version are drawn, ``KAFKA_COMPARISON_SEED`` from which
seed.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from glasslog.client.cli.local.cluster import LocalCluster
from kio.index import load_request_schema

from tests.e2e.compared_answers import Difference, differences
from tests.e2e.drawn_requests import NOT_DRAWN, Draw
from tests.e2e.kafka_side import METADATA, PRODUCE, Side, message
from tests.e2e.known_differences import is_known
from tests.e2e.real_kafka import RealKafka
from tests.unit.kafka.kafka_messages import LAYOUTS

ROUNDS = int(os.environ.get("KAFKA_COMPARISONS", "2"))
SEED = os.environ.get("KAFKA_COMPARISON_SEED", "a")
SETTINGS = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "10",
    "auto.create.topics.enable": "false",
    # Each looks for old records in its own time.
    "log.retention.ms": "-1",
}
ONLY_KAFKAS = {
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "broker.rack": "rack-a",
}
KEYS = {"Produce": PRODUCE, "Fetch": 1, **{name: layout.key for name, layout in LAYOUTS.items()}}
CHANGING = frozenset(
    {
        *("Produce", "Fetch", "OffsetCommit", "JoinGroup", "Heartbeat", "LeaveGroup", "SyncGroup"),
        *("DeleteGroups", "OffsetDelete", "CreateTopics", "DeleteTopics", "CreatePartitions"),
        *("DeleteRecords", "InitProducerId", "AlterConfigs", "IncrementalAlterConfigs", "ElectLeaders"),
        "AlterClientQuotas",
    }
)
"""They may answer otherwise when asked twice; others are asked again until both have come to the same."""
FIRST_OF_KAFKA_4 = {"Produce": 3}
"""Older versions are advertised for librdkafka's sake only, here and there."""
_AGREE_S = 2.0


class Pair(NamedTuple):
    """Both clusters."""

    kafka: Side
    ours: Side

    def unexplained(self, api: str, version: int, make: Callable[[Side], Any]) -> list[Difference]:
        """What differs in the answers and is not in the list.

        APIs that change nothing are asked until nothing does, or some seconds are over.
        """
        deadline = time.monotonic() + (0 if api in CHANGING else _AGREE_S)
        while True:
            kafka, ours = (side.ask(KEYS[api], version, make(side)) for side in self)
            found = [each for each in differences(kafka, ours) if not is_known(api, each)]
            if not found or time.monotonic() >= deadline:
                return found
            time.sleep(0.02)


class Ask(NamedTuple):
    """One drawn request."""

    api: str
    version: int
    seed: str

    def make(self, side: Side) -> Any:
        schema = load_request_schema(KEYS[self.api], self.version)
        return Draw(self.seed, side.known).request(self.api, schema)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    kafka = RealKafka(tmp_path / "kafka", {**SETTINGS, **ONLY_KAFKAS})
    ours = LocalCluster(tmp_path / "ours")
    sides: tuple[Side, ...] = ()
    try:
        kafka.start()
        (broker,) = ours.up(brokers=1, controllers=1, settings=SETTINGS).brokers
        port = int(broker.address("KAFKA").rpartition(":")[2])
        sides = pair = Pair(Side("Kafka", kafka.port), Side("glasslog", port))
        for side in sides:
            side.prepare()
        yield pair
    finally:
        for side in sides:
            side.close()
        kafka.stop()
        if ours.is_running():
            ours.down()


def drawn(pair: Pair, seed: str, rounds: int) -> list[Ask]:
    """So many requests of each API and version of both, in any order."""
    kafka, ours = (side.versions() for side in pair)
    asks = []
    for name, key in sorted(KEYS.items()):
        if key not in kafka or key not in ours or name in NOT_DRAWN:
            continue
        first = max(kafka[key][0], ours[key][0], FIRST_OF_KAFKA_4.get(name, 0))
        last = min(kafka[key][1], ours[key][1])
        asks += [(name, version) for version in range(first, last + 1) for _ in range(rounds)]
    random.Random(seed).shuffle(asks)
    return [Ask(name, version, f"{seed} {number}") for number, (name, version) in enumerate(asks)]


def compared(pair: Pair, ask: Ask) -> list[str]:
    """A line for each difference that is not explained."""
    found = pair.unexplained(ask.api, ask.version, ask.make)
    if ask.api in CHANGING:
        # Both must have done it before the next request comes.
        pair.unexplained("Metadata", 12, lambda side: message(METADATA, 12, {}))
    return [
        f"{ask.api} {ask.version} {each.path}: Kafka says {each.kafka}, we say {each.ours}, to "
        f"{ask.make(pair.kafka)}"
        for each in found
    ]


def test_answers_are_those_of_a_real_kafka(pair: Pair) -> None:
    asks = drawn(pair, SEED, ROUNDS)
    assert len({(ask.api, ask.version) for ask in asks}) > 150
    found = [line for ask in asks for line in compared(pair, ask)]
    assert not found, f"{len(found)} differences of seed {SEED}:\n" + "\n".join(found[:20])
