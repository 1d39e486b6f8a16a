"""What a local cluster looks like at this moment, for people and for scripts. Changes nothing."""

from collections.abc import Sequence

from glasslog.client.cli.local import layout, proxies
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.processes import Condition
from glasslog.client.cli.local.state import NodeState, Proxies
from glasslog.client.cli.output import Json

COLUMNS = ("node", "id", "state", "pid", "rack", "grpc", "kafka", "controller", "http")


def node_condition(cluster: LocalCluster, node: NodeState) -> str:
    """``running`` (and ready), ``unready``, ``paused``, ``stopped`` (asked to), ``dead`` (killed or died)."""
    if node.process is None:
        return "stopped"
    match cluster.condition(node.name):
        case Condition.GONE:
            return "dead"
        case Condition.PAUSED:
            return "paused"
        case Condition.RUNNING:
            return "running" if cluster.is_ready(node.name) else "unready"


def as_json(cluster: LocalCluster) -> dict[str, Json]:
    """The shape that scripts rely on; keys are only ever added."""
    found = cluster.state()
    return {
        "dir": str(cluster.directory),
        "cluster_id": found.cluster_id,
        "controllers": [_controller(cluster, node) for node in found.controllers],
        "brokers": [_broker(cluster, node) for node in found.brokers],
        "toxiproxy": None if found.proxies is None else _proxies(found.proxies),
    }


def as_rows(cluster: LocalCluster) -> list[Sequence[object]]:
    """One row a node, and one for the proxies between them if there are any; see ``COLUMNS``."""
    found = cluster.proxies
    rows = [] if found is None else [_row_of_proxies(found)]
    return rows + [
        (
            node.name,
            node.node_id,
            condition := node_condition(cluster, node),
            _pid(node, condition),
            node.rack or None,
            *(node.address(name) if name in node.ports else None for name in _LISTENERS),
        )
        for node in cluster.nodes()
    ]


def _row_of_proxies(found: Proxies) -> Sequence[object]:
    said = _proxies(found)
    nothing = (None,) * (len(COLUMNS) - 5)
    return (proxies.NAME, None, said["state"], said["pid"], *nothing, said["api"])


def _proxies(found: Proxies) -> dict[str, Json]:
    """``api`` is the address of Toxiproxy's API."""
    match proxies.condition(found):
        case Condition.GONE:
            condition = "stopped" if found.process is None else "dead"
        case Condition.PAUSED:
            condition = "paused"
        case Condition.RUNNING:
            condition = "running" if proxies.readiness(found).ready else "unready"
    pid = None if found.process is None or condition == "dead" else found.process.pid
    return {"api": found.api, "pid": pid, "state": condition}


_LISTENERS = ("GRPC", "KAFKA", "CONTROLLER", "HTTP")


def _controller(cluster: LocalCluster, node: NodeState) -> dict[str, Json]:
    condition = node_condition(cluster, node)
    return {
        "id": node.node_id,
        "name": node.name,
        "endpoint": node.address("CONTROLLER"),
        "http": node.address("HTTP"),
        "pid": _pid(node, condition),
        "state": condition,
    }


def _broker(cluster: LocalCluster, node: NodeState) -> dict[str, Json]:
    condition = node_condition(cluster, node)
    return {
        "id": node.node_id,
        "name": node.name,
        "rack": node.rack,
        "grpc": node.address("GRPC"),
        "kafka": node.address("KAFKA"),
        "http": node.address("HTTP"),
        "pid": _pid(node, condition),
        "state": condition,
        "log_dirs": [str(layout.data_folder(cluster.directory, node))],
    }


def _pid(node: NodeState, condition: str) -> int | None:
    return None if node.process is None or condition == "dead" else node.process.pid
