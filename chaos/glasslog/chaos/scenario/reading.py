"""Scenario files: what fields they have, what they mean, and what is wrong with one.

Text in, a ``Scenario`` or a ``ScenarioError`` with file and line out.  ``docs/chaos.md`` is for people.
Refuses to know where files are.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from glasslog.chaos.scenario.model import (
    BETWEEN_NODES,
    DEFAULT_RECOVERY_MS,
    After,
    At,
    ClusterShape,
    Consumers,
    Every,
    Fault,
    FaultKind,
    Producers,
    Scenario,
    Step,
    Topic,
    When,
)
from glasslog.chaos.scenario.targets import OfPartition, Target, parse_target
from glasslog.chaos.scenario.timetable import latest
from glasslog.chaos.scenario.yaml_fields import Fields, ScenarioError, Value, parse_yaml

MAX_SCENARIO_CHARACTERS = 1 << 20
_MOST_FAULTS = 100_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_KINDS = tuple(str(kind) for kind in FaultKind)


def read_scenario(text: str, where: str) -> Scenario:
    """``where`` names the file in errors. Raises ``ScenarioError``."""
    if len(text) > MAX_SCENARIO_CHARACTERS:
        raise ScenarioError(f"{where}:1: longer than {MAX_SCENARIO_CHARACTERS} characters")
    fields = parse_yaml(text, where).fields("a scenario")
    name = fields.need("name")
    if not _NAME.fullmatch(name.text("name")):
        name.fail(f"name is {name.text('name')!r}, and must be lower-case letters, digits, `-`, `.` or `_`")
    topics = _topics(fields)
    names = [topic.name for topic in topics]
    scenario = Scenario(
        name=name.text("name"),
        description=fields.need("description").text("description"),
        seed=_number(fields, "seed", 1, minimum=0, maximum=2**53),
        duration_ms=_duration(fields, "duration"),
        cluster=_cluster(fields),
        topics=topics,
        producers=_producers(fields, names),
        consumers=_consumers(fields, names),
        recovery_ms=_duration(fields, "recovery", DEFAULT_RECOVERY_MS),
        steps=_steps(fields, names),
    )
    fields.end()
    _check_times(scenario, fields.value)
    _check_partitions(scenario, where)
    return scenario


def _check_partitions(scenario: Scenario, where: str) -> None:
    counts = {topic.name: topic.partitions for topic in scenario.topics}
    for step in scenario.steps:
        for target in step.targets:
            if isinstance(target, OfPartition) and target.partition >= counts[target.topic]:
                last = counts[target.topic] - 1
                has = f"{target.topic} has partitions 0 to {last}"
                raise ScenarioError(f"{where}:{step.line}: {has}, and no {target.partition}")


def _check_times(scenario: Scenario, root: Value) -> None:
    if scenario.duration_ms <= 0:
        root.fail("duration must be longer than nothing")
    for step in scenario.steps:
        if isinstance(step.when, Every) and scenario.duration_ms / step.when.ms > _MOST_FAULTS:
            raise ScenarioError(f"{root.where}:{step.line}: more than {_MOST_FAULTS} faults")
    at_ms, line = latest(scenario)
    if at_ms >= scenario.duration_ms:
        raise ScenarioError(
            f"{root.where}:{line}: this step begins {at_ms / 1000:g} s after the start, when the scenario is "
            f"over: its duration is {scenario.duration_ms / 1000:g} s"
        )


# --- the cluster and its load ---------------------------------------------------------------------------


def _cluster(fields: Fields) -> ClusterShape:
    value = fields.find("cluster")
    if value is None:
        return ClusterShape()
    inner = value.fields("cluster")
    shape = ClusterShape(
        brokers=_number(inner, "brokers", 3, minimum=1, maximum=99),
        controllers=_number(inner, "controllers", 3, minimum=1, maximum=99),
        racks=_number(inner, "racks", 1, minimum=1, maximum=99),
    )
    inner.end()
    return shape


def _topics(fields: Fields) -> tuple[Topic, ...]:
    value = fields.need("topics")
    made = [_topic(each.fields("a topic")) for each in value.items("topics")]
    names = [topic.name for topic in made]
    if not made or len(set(names)) < len(names):
        value.fail("topics must have at least one entry, each with a name of its own")
    return tuple(made)


def _topic(fields: Fields) -> Topic:
    configs = fields.find("configs")
    topic = Topic(
        name=fields.need("name").text("name"),
        partitions=_number(fields, "partitions", 3, minimum=1, maximum=1000),
        replicas=_number(fields, "replicas", 3, minimum=1, maximum=99),
        configs={}
        if configs is None
        else {key: value.text(key) for key, value in configs.fields("configs").rest()},
    )
    fields.end()
    return topic


def _producers(fields: Fields, topics: Sequence[str]) -> tuple[Producers, ...]:
    value = fields.find("producers")
    if value is None:
        return (Producers(topic=topics[0]),)
    return tuple(_producer(each.fields("producers"), topics) for each in value.items("producers"))


def _producer(fields: Fields, topics: Sequence[str]) -> Producers:
    acks = fields.find("acks")
    idempotent = fields.find("idempotent")
    chosen = "all" if acks is None else acks.choice("acks", ("all", "1", "0"))
    is_idempotent = chosen == "all" if idempotent is None else idempotent.flag("idempotent")
    if is_idempotent and chosen != "all":
        fields.fail(f"an idempotent producer needs acks: all, not {chosen}")
    made = Producers(
        count=_number(fields, "count", 1, minimum=1, maximum=1000),
        topic=_of_topics(fields, topics),
        acks="all" if chosen == "all" else "1" if chosen == "1" else "0",
        is_idempotent=is_idempotent,
        rate=_number(fields, "rate", 200, minimum=1, maximum=1_000_000),
        size_bytes=_number(fields, "size", 100, minimum=1, maximum=1 << 20),
    )
    fields.end()
    return made


def _consumers(fields: Fields, topics: Sequence[str]) -> tuple[Consumers, ...]:
    value = fields.find("consumers")
    if value is None:
        return (Consumers(group="chaos-readers", topic=topics[0]),)
    made = [_consumer(each.fields("consumers"), topics) for each in value.items("consumers")]
    groups = [each.group for each in made]
    if len(set(groups)) < len(groups):
        value.fail("two entries of consumers name the same group")
    return tuple(made)


def _consumer(fields: Fields, topics: Sequence[str]) -> Consumers:
    made = Consumers(
        group=fields.need("group").text("group"),
        topic=_of_topics(fields, topics),
        members=_number(fields, "members", 2, minimum=1, maximum=1000),
    )
    fields.end()
    return made


def _of_topics(fields: Fields, topics: Sequence[str]) -> str:
    value = fields.find("topic")
    return topics[0] if value is None else value.choice("topic", topics)


# --- steps ----------------------------------------------------------------------------------------------


def _steps(fields: Fields, topics: Sequence[str]) -> tuple[Step, ...]:
    return tuple(_step(each.fields("a step"), topics) for each in fields.need("steps").items("steps"))


def _step(fields: Fields, topics: Sequence[str]) -> Step:
    when = _when(fields)
    duration_ms = _duration(fields, "for", 0)
    several = fields.find("one of")
    if several is None:
        faults: tuple[Fault, ...] = (_fault(fields, topics),)
    else:
        entries = [each.fields("a fault") for each in several.items("one of")]
        faults = tuple(_fault(each, topics) for each in entries)
        for entry in entries:
            entry.end()
        if not faults:
            several.fail("one of must name a fault")
    fields.end()
    return Step(when=when, faults=faults, duration_ms=duration_ms, line=fields.value.line)


def _when(fields: Fields) -> When:
    given = [(name, value) for name in ("at", "after", "every") if (value := fields.find(name)) is not None]
    if len(given) != 1:
        fields.fail("a step needs one of `at:`, `after:` and `every:`")
    ((name, value),) = given
    ms = value.duration_ms(name)
    match name:
        case "at":
            return At(ms=ms)
        case "after":
            return After(ms=ms)
        case _:
            if ms < 10:
                value.fail("every must be at least 10ms")
            from_ms = _duration(fields, "from", ms)
            return Every(ms=ms, from_ms=from_ms, times=_number(fields, "times", 0, minimum=1, maximum=10_000))


def _fault(fields: Fields, topics: Sequence[str]) -> Fault:
    given = [(kind, value) for kind in FaultKind if (value := fields.find(str(kind))) is not None]
    if len(given) != 1:
        fields.fail(
            f"a step needs exactly one fault, as in `kill: leader of TOPIC`; there are {', '.join(_KINDS)}"
        )
    ((kind, value),) = given
    fault = Fault(kind=kind, target=_target(value, topics))
    if kind in BETWEEN_NODES and (others := fields.find("others")) is not None:
        fault = replace(fault, others=_target(others, topics))
    match kind:
        case FaultKind.LATENCY:
            return replace(fault, delay_ms=fields.need("by").duration_ms("by"))
        case FaultKind.BANDWIDTH:
            rate = fields.need("kb per s").number("kb per s", minimum=1, maximum=10_000_000)
            return replace(fault, rate_kb_per_s=rate)
        case FaultKind.SLOW:
            share = fields.find("share")
            return fault if share is None else replace(fault, share=share.share("share"))
        case _:
            return fault


def _target(value: Value, topics: Sequence[str]) -> Target:
    try:
        return parse_target(value.text("a target"), topics)
    except ValueError as error:
        value.fail(str(error))


# --- small things ---------------------------------------------------------------------------------------


def _number(fields: Fields, name: str, default: int, *, minimum: int, maximum: int) -> int:
    value = fields.find(name)
    return default if value is None else value.number(name, minimum=minimum, maximum=maximum)


def _duration(fields: Fields, name: str, default: int | None = None) -> int:
    value = fields.find(name) if default is not None else fields.need(name)
    return default or 0 if value is None else value.duration_ms(name)
