"""A scenario of which only the kinds of fault and the time are given. Refuses to know files."""

from collections.abc import Sequence

from glasslog.chaos.scenario.model import (
    Consumers,
    Every,
    Fault,
    FaultKind,
    Producers,
    Scenario,
    Step,
    Topic,
)
from glasslog.chaos.scenario.targets import OfController, OfPartition, Some, Target

_TOPIC = "chaos"
_DELAY_MS = 200
_RATE_KB_PER_S = 64


def mix(
    *, kinds: Sequence[FaultKind], duration_ms: int, every_ms: int, seed: int, rate: int, brokers: int
) -> Scenario:
    """Every ``every_ms`` one of ``kinds``, drawn, for 0.4 of that time; ``rate`` is records a second."""
    faults = tuple(
        Fault(kind=kind, target=target, delay_ms=_DELAY_MS, rate_kb_per_s=_RATE_KB_PER_S)
        for kind in kinds
        for target in _TARGETS
    )
    step = Step(when=Every(ms=every_ms, from_ms=every_ms // 2), faults=faults, duration_ms=every_ms * 2 // 5)
    return Scenario(
        name="mix",
        description=f"every {every_ms / 1000:g} s one of {', '.join(kinds)}",
        seed=seed,
        duration_ms=duration_ms,
        topics=(
            Topic(
                name=_TOPIC,
                partitions=3,
                replicas=min(3, brokers),
                configs={"min.insync.replicas": "2"} if brokers >= 3 else {},
            ),
        ),
        producers=(Producers(topic=_TOPIC, rate=rate),),
        consumers=(Consumers(group="chaos-readers", topic=_TOPIC),),
        steps=(step,),
    )


_TARGETS: tuple[Target, ...] = (
    OfPartition(who="leader", topic=_TOPIC),
    OfPartition(who="follower", topic=_TOPIC),
    OfController(who="active"),
    Some(how="any", role="node"),
)
