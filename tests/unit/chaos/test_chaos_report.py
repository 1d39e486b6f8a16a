"""The report: all in one file, nothing from elsewhere, and whatever is wrong is named and explained."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from glasslog.chaos.report.explanations import EXPLANATIONS
from glasslog.chaos.report.page import MAX_EVENTS, page
from glasslog.chaos.run.chronicle import Chronicle
from glasslog.chaos.run.recorder import Recorder
from glasslog.chaos.run.result import Result, Run, as_json, as_text
from glasslog.chaos.scenario.shipped import find_scenario
from glasslog.chaos.scenario.targets import ClusterView, Node, Placed
from glasslog.checker.anomalies import Kind
from glasslog.checker.operations import Acks, Fault
from glasslog.checker.verdict import check
from glasslog.common.ids import TopicPartition

MAX_REPORT_BYTES = 2_000_000
VOID = frozenset({"meta", "rect", "line", "polyline", "polygon"})


class Tags(HTMLParser):
    """Complains of tags that are not closed in order, and collects what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def view(leader: int, isr: tuple[int, ...], *, epoch: int) -> ClusterView:
    nodes = tuple(Node(name=f"broker-{n}", node_id=n, role="broker") for n in (1, 2, 3))
    placed = Placed(leader=leader, replicas=(1, 2, 3), isr=isr, leader_epoch=epoch, partition_epoch=epoch)
    partitions = {TopicPartition("orders", number): placed for number in range(3)}
    return ClusterView(nodes=nodes, partitions=partitions, controller=101 + epoch % 2)


def result(*, minutes: int = 1, lose: bool = False, faults: int = 2) -> Result:
    """A run of so many minutes, without a cluster."""
    recorder, chronicle = Recorder(), Chronicle()
    length_ms = minutes * 60_000
    for number in range(0, length_ms, 100):
        batch = recorder.sending(
            "p<1>", "orders-0", (f"p/{number}",), acks=Acks.ALL, is_idempotent=True, now_ms=number
        )
        recorder.acknowledged(batch, number // 100, number + 7 + number % 13)
    records = [(number // 100, f"p/{number}") for number in range(0, length_ms, 100)]
    if lose:
        del records[50]
    recorder.polled("r", {"orders-0": records}, start_ms=length_ms, now_ms=length_ms, is_drain=True)
    recorder.drained = ("orders-0",)
    chronicle.observe(view(1, (1, 2, 3), epoch=0), 0)
    for number in range(faults):
        at_ms = length_ms * number // faults
        fault = chronicle.begun("kill broker-1 (leader of <orders>)", ["broker-1"], at_ms)
        chronicle.observe(view(2, (2, 3), epoch=2 * number + 1), at_ms + 10)
        chronicle.ended(fault, "broker-1: kill is over", at_ms + 20)
        chronicle.observe(view(2, (1, 2, 3), epoch=2 * number + 2), at_ms + 30)
    for span in chronicle.spans:
        recorder.fault(Fault(name=span.label, start_ms=span.start_ms, end_ms=span.end_ms or length_ms))
    scenario = replace(find_scenario("leader-kill"), duration_ms=length_ms)
    run = Run(
        scenario=scenario,
        seed=1,
        cluster="nothing at all",
        history=recorder.recorded("a run"),
        figures=recorder.figures,
        chronicle=chronicle,
        troubles=(),
        recovery_ms=1200,
        length_ms=length_ms,
    )
    return Result(run=run, verdict=check(run.history), command="glasslog chaos run leader-kill --seed 1")


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


def test_a_report_is_sound_and_refers_to_nothing_outside() -> None:
    text = page(result())
    assert parsed(text).references == []
    assert not re.search(r"https?:|@import|url\(", text)
    assert "PASSED: nothing lost" in text
    assert "glasslog chaos run leader-kill --seed 1" in text
    assert "orders-0: leader broker-1 -&gt; broker-2 (epoch 1); 0.01 s into: kill broker-1" in text
    assert "&lt;orders&gt;" in text
    assert "<orders>" not in text


def test_a_lost_record_is_named_explained_and_put_beside_the_faults() -> None:
    made = result(lose=True)
    text = page(made)
    parsed(text)
    assert not made.passed
    assert "FAILED: " in text
    assert "p/5000, acknowledged at offset 50, was never read, but offset" in text
    assert EXPLANATIONS[Kind.LOST_WRITE] in text
    assert "meanwhile, or last before: kill broker-1" in text


@pytest.mark.parametrize("kind", Kind)
def test_every_anomaly_has_its_explanation(kind: Kind) -> None:
    assert len(EXPLANATIONS[kind].split()) >= 7


def test_a_long_run_with_many_faults_stays_small() -> None:
    made = result(minutes=60, faults=2_000)
    text = page(made)
    parsed(text)
    assert len(made.run.chronicle.events) > MAX_EVENTS
    assert f"And {len(made.run.chronicle.events) - MAX_EVENTS:,} more." in text
    assert len(text.encode()) < MAX_REPORT_BYTES


def test_a_run_in_which_everything_happens_all_the_time_stays_small() -> None:
    """Shades and controllers were drawn one by one, replicas only counted by partition: a day made 40 MB."""
    made = result()
    chronicle, length_ms = Chronicle(), made.run.length_ms
    nodes = tuple(Node(name=f"broker-{n}", node_id=n, role="broker") for n in range(1, 10))
    said = "the backend said <much> " * 40
    for number in range(1_000):
        at_ms = length_ms * number / 1_000
        fault = chronicle.begun(f"kill broker-1 ({said})", ["broker-1"], at_ms)
        isr = tuple(n for n in range(1, 10) if number % n == 0)
        placed = Placed(
            leader=1 + number % 9,
            replicas=tuple(range(1, 10)),
            isr=isr,
            leader_epoch=number,
            partition_epoch=number,
        )
        partitions = {TopicPartition("orders", each): placed for each in range(14)}
        chronicle.observe(ClusterView(nodes=nodes, partitions=partitions, controller=101 + number % 3), at_ms)
        chronicle.ended(fault, said, at_ms + 1)
    run = replace(made.run, chronicle=chronicle, troubles=(said,) * 5_000)
    text = page(replace(made, run=run))
    parsed(text)
    assert len(text.encode()) < MAX_REPORT_BYTES
    assert "And 4,950 more." in text


def test_a_run_without_anything_in_it_can_be_told() -> None:
    made = result(faults=0)
    empty = replace(made.run, figures=Recorder().figures, chronicle=Chronicle(), length_ms=0)
    made = replace(made, run=empty)
    parsed(page(made))
    assert "0 sent" in as_text(made)


def test_figures_are_those_of_the_run() -> None:
    told = as_json(result())
    assert (told["sent"], told["acknowledged"], told["given_up"]) == (600, 600, 0)
    assert told["ack_max_ms"] == 19
    assert told["longest_gap_ms"] == 0
    assert told["passed"] is True
    assert as_json(result(lose=True))["anomalies"] == {"int-poll-skip": 1, "lost-write": 1, "unseen": 1}
