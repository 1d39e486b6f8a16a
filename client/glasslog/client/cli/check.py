"""``glasslog check``: judges a recorded history, shows the verdict. Refuses to know what counts as wrong."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click
from glasslog.checker.anomalies import Anomaly
from glasslog.checker.operations import History
from glasslog.checker.reading import MAX_LINE_BYTES, HistoryError, read_history
from glasslog.checker.verdict import Verdict
from glasslog.checker.verdict import check as judge
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.options import format_option
from glasslog.client.cli.output import Format, Json, print_json

_SHOWN_OF_EACH = 10


@click.command("check")
@click.argument("path", metavar="HISTORY", type=click.Path(path_type=Path, allow_dash=True))
@format_option
def check(path: Path, output_format: Format) -> int:
    """Look for lost, doubled, reordered and invented records in HISTORY, a file of JSON lines.

    `-` reads standard input. Exit status 0 only if the history is complete and clean.

    \b
    glasslog check history.jsonl
    glasslog simulate --seed 7 --history history.jsonl && glasslog check history.jsonl
    """
    history = _read(path)
    verdict = judge(history)
    if output_format == "json":
        print_json(_as_json(path, history, verdict))
    else:
        for line in _lines(path, history, verdict):
            print(line)
    return int(not verdict.is_good)


def _read(path: Path) -> History:
    try:
        if str(path) == "-":
            return read_history(_lines_of(sys.stdin.buffer))
        with path.open("rb") as file:
            return read_history(_lines_of(file))
    except HistoryError as error:
        raise CommandError(f"{path} is no history: {error}") from None


def _lines_of(file: BinaryIO) -> Iterator[bytes]:
    """No line is held that is longer than allowed and a byte."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line


def _summary(verdict: Verdict) -> str:
    if verdict.anomalies:
        return "bad"
    return "good" if verdict.is_complete else "incomplete"


def _lines(path: Path, history: History, verdict: Verdict) -> Iterator[str]:
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in verdict.outcomes.items())
    name = f" ({history.name})" if history.name else ""
    moved = f"{verdict.sent} sent, {verdict.read} read"
    yield f"{path}{name}: {verdict.operations} operations ({outcomes}), {moved}"
    for reason in verdict.missing:
        yield f"incomplete: {reason}"
    shown: Counter[str] = Counter()
    for anomaly in verdict.anomalies:
        shown[anomaly.kind] += 1
        if shown[anomaly.kind] <= _SHOWN_OF_EACH:
            yield from _anomaly_lines(anomaly)
    for kind, count in verdict.counts().items():
        if count > _SHOWN_OF_EACH:
            yield f"{kind}: {count - _SHOWN_OF_EACH} more"
    for (kind, reason), count in sorted(
        Counter((each.kind, each.allowed) for each in verdict.allowed).items()
    ):
        yield f"allowed: {count} {kind}, since {reason}"
    yield f"verdict: {_summary(verdict)}"


def _anomaly_lines(anomaly: Anomaly) -> Iterator[str]:
    yield str(anomaly)
    if anomaly.replicas:
        yield f"    replicas: {', '.join(anomaly.replicas)}"
    if anomaly.faults:
        yield f"    faults: {', '.join(anomaly.faults)}"
    if anomaly.operations:
        yield f"    operations: {', '.join(map(str, anomaly.operations))}"


def _as_json(path: Path, history: History, verdict: Verdict) -> Json:
    return {
        "history": str(path),
        "name": history.name,
        "verdict": _summary(verdict),
        "complete": verdict.is_complete,
        "missing": list(verdict.missing),
        "operations": verdict.operations,
        "outcomes": dict(verdict.outcomes),
        "sent": verdict.sent,
        "read": verdict.read,
        "counts": dict(verdict.counts()),
        "anomalies": [_anomaly_json(anomaly) for anomaly in verdict.anomalies],
        "allowed": [_anomaly_json(anomaly) for anomaly in verdict.allowed],
    }


def _anomaly_json(anomaly: Anomaly) -> Json:
    fields: dict[str, Json] = {
        "anomaly": str(anomaly.kind),
        "key": anomaly.key,
        "detail": anomaly.detail,
        "values": list(anomaly.values),
        "offsets": list(anomaly.offsets),
        "operations": list(anomaly.operations),
        "replicas": list(anomaly.replicas),
        "faults": list(anomaly.faults),
    }
    return {**fields, "allowed": anomaly.allowed} if anomaly.allowed else fields
