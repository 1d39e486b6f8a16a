"""What one seed draws: the cluster, the load, the network, and which faults come when.  Swarm testing.

Each seed leaves out whole kinds of faults and picks its own settings, since what is always everywhere hides
what only shows alone.  All is drawn before anything runs, so that dropping a fault shifts nothing else.
Refuses to know how faults are brought about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from glasslog.common.node_config import RACK_AWARE_SELECTOR
from glasslog.simulator.workload import Load

FAULT_WEIGHTS: Mapping[str, int] = {
    "kill": 6,
    "kill-leader": 4,
    "kill-two-leaders": 3,
    "stop": 3,
    "controller-loses-power": 2,
    "broker-loses-power": 4,
    "pause": 3,
    "isolate": 3,
    "halves": 2,
    "bridge": 2,
    "one-way": 3,
    "broker-without-controllers": 2,
    "leader-without-followers": 2,
    "client-without-broker": 2,
    "slow-links": 2,
    "jittery-links": 2,
    "lossy-calls": 2,
    "doubled-calls": 2,
    "partition-then-kill": 3,
    "pause-then-kill": 3,
    "clock-jump": 1,
    "everybody-dies": 1,
    "disk-fails": 2,
    "disk-full": 2,
    "bit-flip": 2,
    "voter-loses-disk": 2,
}
"""How often a kind of fault comes among those that a seed has drawn."""

_CALM_AT_FIRST_MS = 1_000
_LEAST_CALM_MS = 20
_FEWEST_KINDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One fault to come: ``index`` names it for ``--skip-faults``, ``at_ms`` counts from the load's start."""

    index: int
    at_ms: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``racks`` and ``clock_offsets_ms`` are by node; ``delay_ms`` are the least and the most of a link.

    After ``calm_ms`` without faults come ``faulty_ms`` with them.
    """

    seed: int
    controllers: int
    first_voters: int
    brokers: int
    racks: Mapping[str, str]
    clock_offsets_ms: Mapping[str, int]
    settings: Mapping[str, str]
    delay_ms: tuple[float, float]
    sync_ms: float
    load: Load
    at_once: int
    faulty_ms: int
    calm_ms: int
    episodes: tuple[Episode, ...]

    def describe(self) -> str:
        """What was drawn, in a line for people."""
        load = self.load
        operator = f"an operator each {load.operator_ms} ms" if load.operator_ms else "no operator"
        return (
            f"{_count(self.controllers, 'controller')}, of which {self.first_voters} vote, "
            f"{_count(self.brokers, 'broker')} on {_count(len(set(self.racks.values())), 'rack')}; "
            f"{_count(load.partitions, 'partition')} x {_count(load.replication_factor, 'replica')}, "
            f"min ISR {load.min_insync_replicas}; "
            f"{_count(load.validated_producers, 'producer')} with acks=all, one with acks="
            f"{load.careless_acks}; {_count(load.members, 'group member')}; {operator}; "
            f"{'they tell their racks; ' if load.reader_racks else ''}linger {load.linger_ms} ms, "
            f"batches of {load.batch_size} bytes, compression {load.compression}; "
            f"links of {self.delay_ms[0]} to {self.delay_ms[1]} ms, syncs of up to {self.sync_ms} ms"
        )


def draw_plan(seed: int, *, faulty_ms: int) -> Plan:
    """The plan of ``seed``. A longer one has the same faults first, and more."""
    random = Random(f"plan {seed}")
    controllers, first_voters = random.choice(((1, 1), (3, 3), (3, 3), (3, 3), (4, 3), (5, 5)))
    brokers = random.choice((1, 2, 3, 3, 3, 3, 4, 5))
    nodes = [f"controller-{number}" for number in range(1, controllers + 1)]
    names = [f"broker-{number}" for number in range(1, brokers + 1)]
    racks = random.choice((1, 2, 3, brokers))
    skew_ms = random.choice((0, 0, 500, 60_000))
    delay_ms = random.choice((0.2, 0.2, 0.2, 1.0, 5.0))
    return Plan(
        seed=seed,
        controllers=controllers,
        first_voters=first_voters,
        brokers=brokers,
        racks={name: f"r{index % racks + 1}" for index, name in enumerate(names)},
        clock_offsets_ms={name: round(random.uniform(-skew_ms, skew_ms)) for name in (*nodes, *names)},
        settings=_settings(random),
        delay_ms=(delay_ms, delay_ms + random.choice((0.3, 0.3, 5.0))),
        sync_ms=random.choice((0.0, 0.0, 8.0)),
        load=_load(random, brokers, Random(f"reading {seed}"), racks),
        at_once=random.choice((1, 1, 2, 3, 5)),
        faulty_ms=faulty_ms,
        calm_ms=_CALM_AT_FIRST_MS,
        episodes=_episodes(random, faulty_ms),
    )


def _load(random: Random, brokers: int, reading: Random, racks: int) -> Load:
    factor = random.choice([each for each in (1, 2, 3, 3, 3, 3, 5) if each <= brokers])
    return Load(
        partitions=random.choice((1, 2, 3, 6)),
        replication_factor=factor,
        min_insync_replicas=random.choice((1, min(2, factor), min(2, factor), factor)),
        validated_producers=random.choice((1, 2, 3)),
        careless_acks=random.choice((0, 1)),
        members=random.choice((1, 2, 3)),
        delivery_timeout_ms=random.choice((4_000, 10_000, 120_000)),
        pause_ms=random.choice((30, 100, 200, 400)),
        churn_ms=random.choice((200, 1_000, 3_000)),
        operator_ms=random.choice((0, 0, 500, 2_000)),
        linger_ms=random.choice((0, 5, 20, 100)),
        batch_size=random.choice((200, 16_384, 131_072)),
        segment_bytes=random.choice((2_048, 16_384)),
        compression=random.choice(("none", "none", "gzip", "snappy", "lz4", "zstd")),
        reader_racks=tuple(f"r{number + 1}" for number in range(racks)) if reading.randrange(2) else (),
        metadata_max_age_ms=reading.choice((1_000, 300_000)),
    )


def _settings(random: Random) -> dict[str, str]:
    """The nodes' settings: often the defaults, sometimes ones that bring rare paths about."""
    drawn: dict[str, tuple[int, ...]] = {
        "replica.lag.time.max.ms": (1_500, 5_000),
        "replica.high.watermark.checkpoint.interval.ms": (200, 5_000),
        "replica.fetch.max.bytes": (400, 1_048_576),
        "replica.fetch.wait.max.ms": (50, 500),
        "max.incremental.fetch.session.cache.slots": (0, 1, 1_000, 1_000),
        "broker.failure.grace.ms": (0, 150, 150, 1_000),
        "broker.session.timeout.ms": (3_000, 9_000),
        "broker.heartbeat.interval.ms": (500, 2_000),
        "log.flush.offset.checkpoint.interval.ms": (300, 60_000),
        "offsets.topic.num.partitions": (1, 3),
        "offsets.topic.segment.bytes": (1_024, 104_857_600),
        "log.cleaner.backoff.ms": (100, 1_000),
        "log.segment.delete.delay.ms": (0, 500, 60_000),
        "log.scrub.interval.ms": (0, 1_000),
        "metadata.log.max.record.bytes.between.snapshots": (1_000, 10_000, 20_971_520),
        "metadata.max.retention.bytes": (0, 104_857_600),
        "leader.imbalance.check.interval.seconds": (1, 5, 300),
        "leader.imbalance.per.broker.percentage": (0, 10),
    }
    settings = {key: str(random.choice(values)) for key, values in drawn.items()}
    # Settings of their own do nothing to consumers that do not tell their racks.
    settings["replica.selector.class"] = RACK_AWARE_SELECTOR
    return settings | {"controlled.shutdown.timeout.ms": "5000", "auto.create.topics.enable": "false"}


def _episodes(random: Random, faulty_ms: int) -> tuple[Episode, ...]:
    kinds = [kind for kind, weight in FAULT_WEIGHTS.items() if weight and random.randrange(2)]
    while len(kinds) < _FEWEST_KINDS:
        kinds.append(random.choice(list(FAULT_WEIGHTS)))
    weights = [FAULT_WEIGHTS[kind] for kind in kinds]
    longest_calm_ms = random.choice((400, 1_500, 1_500, 4_000))
    episodes: list[Episode] = []
    at_ms = _CALM_AT_FIRST_MS
    while True:
        at_ms += random.randrange(_LEAST_CALM_MS, longest_calm_ms)
        if at_ms >= _CALM_AT_FIRST_MS + faulty_ms:
            return tuple(episodes)
        (kind,) = random.choices(kinds, weights)
        episodes.append(Episode(index=len(episodes), at_ms=at_ms, kind=kind))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
