"""deploy/monitoring: Prometheus asks every node, and the dashboard shows nothing that nobody says."""

import json
import re
import runpy
from collections.abc import Iterator

import yaml
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.node.metrics import Metric
from glasslog.node.roles import BrokerRole, ControllerRole
from glasslog.simulator.cluster import MemoryCluster, broker_id

from tests.compose_file import services
from tests.source_tree import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "glasslog.json"
METRIC = re.compile(r"\b(?:kafka|glasslog)_\w+")


async def every_metric() -> list[Metric]:
    async with MemoryCluster(controllers=1, brokers=1) as cluster:
        await cluster.create_topic("orders", replication_factor=1)
        await cluster.until(lambda: cluster.leader_of("orders") == "broker-1")
        roles = (
            ControllerRole(cluster.controller("controller-1")),
            BrokerRole(cluster.broker("broker-1"), node_id=broker_id("broker-1")),
        )
        return [metric for role in roles for metric in role.metrics()]


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def test_every_metric_of_the_dashboard_is_exposed() -> None:
    shown = {name for expression in expressions() for name in METRIC.findall(expression)}
    exposed = {metric.name: metric for metric in run_virtual(every_metric)}
    assert len(shown) > 20
    assert not shown - set(exposed)


def test_what_is_grouped_by_is_a_label() -> None:
    exposed = {metric.name: metric for metric in run_virtual(every_metric)}
    for expression in expressions():
        for labels, metric in re.findall(r"by \(([\w, ]+)\) \((\w+)\)", expression):
            assert {label.strip() for label in labels.split(",")} <= set(exposed[metric].samples[0][0])


def test_the_dashboard_is_what_its_table_says() -> None:
    """Else: ``python deploy/monitoring/dashboard.py``."""
    made = runpy.run_path(str(MONITORING / "dashboard.py"))["dashboard"]()
    assert DASHBOARD.read_text(encoding="utf-8") == made


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_prometheus_asks_every_node_and_grafana_asks_prometheus() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    targets = [target for each in job["static_configs"] for target in each["targets"]]
    nodes = [each.name for each in services().values() if "GLASSLOG_NODE_ID" in each.environment]
    assert sorted(targets) == sorted(f"{name}:9644" for name in nodes)
    provisioning = MONITORING / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert {each["datasource"]["uid"] for each in panels if "datasource" in each} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "glasslog.yml").read_text())["providers"]
    mounted = dict(volume.split(":")[:2][::-1] for volume in services()["grafana"].volumes)
    assert (ROOT / mounted[provider["options"]["path"]]).resolve() == DASHBOARD.parent
