"""Writes the Grafana dashboard from a table of panels: ``python deploy/monitoring/dashboard.py``.

Refuses to know which metrics there are: ``tests/unit/deploy`` holds every name to what nodes really say.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

DASHBOARD = Path(__file__).parent / "grafana" / "dashboards" / "glasslog.json"
_DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
_COLUMNS, _STAT_HEIGHT, _GRAPH_HEIGHT = 24, 4, 8
_NODE = "{{instance}}"

Json = None | bool | int | str | Sequence["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: ``expressions`` in PromQL, each with its legend. ``good_below``: red from there on."""

    title: str
    expressions: Sequence[tuple[str, str]]
    what: str
    unit: str = "short"
    is_stat: bool = False
    good_below: int | None = None


def _stat(title: str, expression: str, what: str, *, good_below: int | None = None) -> Panel:
    return Panel(title=title, expressions=((expression, ""),), what=what, is_stat=True, good_below=good_below)


def _rate(metric: str) -> str:
    return f"rate({metric}[1m])"


_MANAGER, _TOPICS = "kafka_server_replicamanager_", "kafka_server_brokertopicmetrics_"
_CONTROLLER, _RAFT = "kafka_controller_kafkacontroller_", "kafka_server_raftmetrics_"

ROWS: Sequence[tuple[str, Sequence[Panel]]] = (
    (
        "Is it well?",
        (
            _stat(
                "Active controllers",
                f"sum({_CONTROLLER}activecontrollercount)",
                "Exactly one leads the quorum.",
            ),
            _stat("Brokers", f"max({_CONTROLLER}activebrokercount)", "Registered and not fenced."),
            _stat("Fenced brokers", f"max({_CONTROLLER}fencedbrokercount)", "Dead or silent.", good_below=1),
            _stat(
                "Partitions without a leader",
                f"max({_CONTROLLER}offlinepartitionscount)",
                "Nobody can write to or read from these.",
                good_below=1,
            ),
            _stat(
                "Under-replicated",
                f"sum({_MANAGER}underreplicatedpartitions)",
                "Some replica is not in sync: one failure less is borne.",
                good_below=1,
            ),
            _stat(
                "Below min.insync.replicas",
                f"sum({_MANAGER}underminisrpartitioncount)",
                "acks=all is refused for these.",
                good_below=1,
            ),
            _stat(
                "Offline replicas",
                f"sum({_MANAGER}offlinereplicacount)",
                "On a disk that has failed.",
                good_below=1,
            ),
            _stat(
                "Damaged replicas",
                "count(glasslog_log_damagedreplicas) or vector(0)",
                "With a batch whose checksum is wrong, until another replica has mended it.",
                good_below=1,
            ),
        ),
    ),
    (
        "Traffic",
        (
            Panel(
                title="Bytes of clients",
                expressions=(
                    (_rate(f"{_TOPICS}bytesin_total"), f"{_NODE} in"),
                    (_rate(f"{_TOPICS}bytesout_total"), f"{_NODE} out"),
                ),
                what="Appended by producers and read by consumers, by broker.",
                unit="Bps",
            ),
            Panel(
                title="Bytes of replication",
                expressions=(
                    (_rate(f"{_TOPICS}replicationbytesin_total"), f"{_NODE} in"),
                    (_rate(f"{_TOPICS}replicationbytesout_total"), f"{_NODE} out"),
                ),
                what="What followers fetch from leaders; a burst is a replica that catches up.",
                unit="Bps",
            ),
            Panel(
                title="Requests",
                expressions=(
                    (_rate(f"{_TOPICS}totalproducerequests_total"), f"{_NODE} produce"),
                    (_rate(f"{_TOPICS}totalfetchrequests_total"), f"{_NODE} fetch"),
                ),
                what="Fetches are those of clients and of replicas.",
                unit="reqps",
            ),
            Panel(
                title="Refused",
                expressions=(
                    (_rate(f"{_TOPICS}failedproducerequests_total"), f"{_NODE} produce"),
                    (_rate(f"{_TOPICS}failedfetchrequests_total"), f"{_NODE} fetch"),
                ),
                what="Partitions of requests: no leader any more, too few in sync, wrong offsets.",
                unit="reqps",
            ),
        ),
    ),
    (
        "Replicas",
        (
            Panel(
                title="Leaders",
                expressions=((f"{_MANAGER}leadercount", _NODE),),
                what="Partitions that each broker leads: alike when all is well, none on a dead broker.",
            ),
            Panel(
                title="Replicas",
                expressions=((f"{_MANAGER}partitioncount", _NODE),),
                what="On each broker.",
            ),
            Panel(
                title="ISR changes",
                expressions=(
                    (_rate(f"{_MANAGER}isrshrinks_total"), f"{_NODE} shrinks"),
                    (_rate(f"{_MANAGER}isrexpands_total"), f"{_NODE} expands"),
                ),
                what="Followers that fell behind, and that caught up.",
                unit="ops",
            ),
        ),
    ),
    (
        "The quorum",
        (
            Panel(
                title="Epoch",
                expressions=((f"{_RAFT}current_epoch", _NODE),),
                what="Goes up with every election of an active controller.",
            ),
            Panel(
                title="Leader",
                expressions=((f"{_RAFT}current_leader", _NODE),),
                what="The node that each controller follows; -1: none is known.",
            ),
            Panel(
                title="Not committed",
                expressions=((f"{_RAFT}log_end_offset - {_RAFT}high_watermark", _NODE),),
                what="Records of the metadata log that no majority has yet.",
            ),
            Panel(
                title="Topics and partitions",
                expressions=(
                    (f"max({_CONTROLLER}globaltopiccount)", "topics"),
                    (f"max({_CONTROLLER}globalpartitioncount)", "partitions"),
                ),
                what="In the cluster.",
            ),
        ),
    ),
    (
        "Logs",
        (
            Panel(
                title="Size by topic",
                expressions=(("sum by (topic) (kafka_log_log_size)", "{{topic}}"),),
                what="All replicas together.",
                unit="bytes",
            ),
            Panel(
                title="Deleted by retention",
                expressions=((_rate("kafka_log_segmentbytesdeleted_total"), _NODE),),
                what="Closed segments that were too old, or too many.",
                unit="Bps",
            ),
            Panel(
                title="Compaction",
                expressions=(
                    (_rate("kafka_log_logcleaner_bytesread_total"), f"{_NODE} read"),
                    (_rate("kafka_log_logcleaner_byteswritten_total"), f"{_NODE} left"),
                ),
                what="Segments read by the cleaner, and what it left of them.",
                unit="Bps",
            ),
            Panel(
                title="Dirtiest log",
                expressions=(("kafka_log_logcleanermanager_max_dirty_percent", _NODE),),
                what="How much of it has not been compacted yet.",
                unit="percent",
            ),
        ),
    ),
)


def dashboard() -> str:
    """The text of the file."""
    document: Json = {
        "uid": "glasslog",
        "title": "glasslog",
        "tags": ["glasslog"],
        "schemaVersion": 39,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "panels": list(_panels()),
    }
    return json.dumps(document, indent=1) + "\n"


def _panels() -> Iterator[Json]:
    top = number = 0
    for title, panels in ROWS:
        number += 1
        yield {"id": number, "type": "row", "title": title, "gridPos": _place(0, top, _COLUMNS, 1)}
        top += 1
        width = _COLUMNS // len(panels)
        height = max(_STAT_HEIGHT if panel.is_stat else _GRAPH_HEIGHT for panel in panels)
        lefts = accumulate((width for _ in panels[:-1]), initial=0)
        for panel, left in zip(panels, lefts, strict=True):
            number += 1
            yield {"id": number, "gridPos": _place(left, top, width, height), **_shown(panel)}
        top += height


def _place(x: int, y: int, w: int, h: int) -> Json:
    return {"x": x, "y": y, "w": w, "h": h}


def _shown(panel: Panel) -> dict[str, Json]:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.good_below is not None:
        steps.append({"color": "red", "value": panel.good_below})
    return {
        "type": "stat" if panel.is_stat else "timeseries",
        "title": panel.title,
        "description": panel.what,
        "datasource": dict(_DATASOURCE),
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + place), "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(panel.expressions)
        ],
    }


if __name__ == "__main__":
    DASHBOARD.write_text(dashboard(), encoding="utf-8")
