"""How a local cluster is laid out: names, ids, racks, folders and each node's settings.

Pure functions of the cluster's shape; refuses to know which processes run.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from glasslog.client.cli.errors import UsageError
from glasslog.client.cli.local.state import CLIENTS, ClusterState, Link, NodeState, Role
from glasslog.common.config import parse
from glasslog.common.config_sources import ENVIRONMENT_PREFIX, to_properties
from glasslog.common.node_config import NodeConfig

MAX_NODES_PER_ROLE = 99
PROPERTIES_FILE = "node.properties"
LOG_FILE = "node.log"
DATA_FOLDER = "data"
_FIRST_CONTROLLER_ID = 101
_RACKS = ("rack-a", "rack-b", "rack-c")
_OFFSETS_PARTITIONS = 8
"""Of __consumer_offsets: Kafka's 50 only cost time to create on one machine."""

LISTENERS: Mapping[Role, tuple[str, ...]] = {
    "broker": ("GRPC", "KAFKA", "HTTP"),
    "controller": ("CONTROLLER", "HTTP"),
}
BEHIND_PROXIES: Mapping[Role, tuple[str, ...]] = {"broker": ("GRPC", "KAFKA"), "controller": ()}
"""Listeners that have clients: where there are proxies, the address that they know is a proxy's."""
MANAGED = frozenset(
    {
        *("node.id", "process.roles", "cluster.id", "broker.rack"),
        *("listeners", "advertised.listeners", "http.listener"),
        *("log.dirs", "metadata.log.dir", "controller.quorum.voters"),
        *("controller.quorum.bootstrap.servers", "chaos.detours"),
    }
)
"""Settings that differ from node to node, or that the cluster's own working rests on."""


def broker(number: int, ports: Mapping[str, int]) -> NodeState:
    """The ``number``-th broker, from 1; racks go round."""
    rack = _RACKS[(number - 1) % len(_RACKS)]
    return NodeState(name=f"broker-{number}", role="broker", node_id=number, rack=rack, ports=ports)


def controller(number: int, ports: Mapping[str, int]) -> NodeState:
    """The ``number``-th controller, from 1. Ids are unique across the roles, as in Kafka."""
    node_id = _FIRST_CONTROLLER_ID + number - 1
    return NodeState(name=f"controller-{number}", role="controller", node_id=node_id, rack="", ports=ports)


def check_settings(settings: Mapping[str, str]) -> None:
    """Raise for a key that the cluster manages itself (``UsageError``), or a bad one (``ConfigError``)."""
    for key in settings:
        if key in MANAGED:
            raise UsageError(f"--set {key}: a local cluster gives each node its own")
    _parsed(settings)


def is_for_chaos(settings: Mapping[str, str]) -> bool:
    """Whether these settings of all nodes mark the cluster as one to be broken on purpose."""
    return _parsed(settings).chaos_enabled


def _parsed(settings: Mapping[str, str]) -> NodeConfig:
    return parse(NodeConfig, {"node.id": "1", "process.roles": "broker", **settings}, where="--set")


def links(nodes: Sequence[NodeState]) -> Iterator[Link]:
    """Every way on which a node or a client connects to another node; ports come later.

    Controllers connect to each other, brokers to controllers and, as followers, to each other; clients to
    brokers.
    """
    for target in nodes:
        if target.role == "controller":
            for source in nodes:
                if source.name != target.name:
                    yield Link(source=source.name, target=target.name, listener="CONTROLLER")
            continue
        for source in nodes:
            if source.role == "broker" and source.name != target.name:
                yield Link(source=source.name, target=target.name, listener="KAFKA")
        for listener in BEHIND_PROXIES[target.role]:
            yield Link(source=CLIENTS, target=target.name, listener=listener)


def folder(directory: Path, node: NodeState) -> Path:
    """All that the node has."""
    return directory / node.name


def log_file(directory: Path, node: NodeState) -> Path:
    """What the node says."""
    return folder(directory, node) / LOG_FILE


def data_folder(directory: Path, node: NodeState) -> Path:
    """What the node keeps: the one entry of its ``log.dirs``."""
    return folder(directory, node) / DATA_FOLDER


def settings_of(directory: Path, state: ClusterState, node: NodeState) -> dict[str, str]:
    """All settings of one node: what a local cluster wants, then ``--set``, then what makes it this node."""
    return {**_defaults(state), **state.settings, **_identity(directory, state, node)}


def write_properties(directory: Path, state: ClusterState, node: NodeState) -> Path:
    """Write the node's settings where ``--config`` finds them; returns the file."""
    folder(directory, node).mkdir(parents=True, exist_ok=True)
    path = folder(directory, node) / PROPERTIES_FILE
    path.write_text(to_properties(settings_of(directory, state, node)), encoding="utf-8")
    return path


def environment_for_nodes(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would make every node the same one."""
    names = {ENVIRONMENT_PREFIX + key.upper().replace(".", "_") for key in MANAGED}
    return {name: value for name, value in environment.items() if name not in names}


def _defaults(state: ClusterState) -> dict[str, str]:
    brokers = len(state.brokers)
    replicas = str(min(3, brokers))
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": "2" if brokers >= 3 else "1",
        "offsets.topic.num.partitions": str(_OFFSETS_PARTITIONS),
        "offsets.topic.replication.factor": replicas,
    }


def _identity(directory: Path, state: ClusterState, node: NodeState) -> dict[str, str]:
    listeners = [name for name in LISTENERS[node.role] if name != "HTTP"]
    return {
        "node.id": str(node.node_id),
        "process.roles": node.role,
        "cluster.id": state.cluster_id,
        "broker.rack": node.rack,
        "listeners": ",".join(f"{name}://{node.own_address(name)}" for name in listeners),
        "advertised.listeners": ",".join(f"{name}://{node.address(name)}" for name in node.behind),
        "http.listener": node.address("HTTP"),
        "log.dirs": str(data_folder(directory, node)),
        "chaos.detours": ",".join(_detours(state, node)),
        **_quorum(state, node),
    }


def _detours(state: ClusterState, node: NodeState) -> Iterator[str]:
    """The proxies on this node's own way to each of the others."""
    for link in () if state.proxies is None else state.proxies.links:
        if link.source == node.name:
            yield f"{state.node(link.target).address(link.listener)}={link.address}"


def _quorum(state: ClusterState, node: NodeState) -> dict[str, str]:
    """The first voters know each other; who joins later asks those that there are, and gets no vote by it.

    A first voter that was alone asks as well, once there are others: on an empty disk it would begin anew.
    """
    first = [each for each in state.controllers if not each.joins]
    was_alone = len(first) == 1 and len(state.controllers) > 1 and node.role == "controller"
    only_asks = node.joins or was_alone
    asked = [each for each in state.controllers if each.name != node.name and (each.joins or only_asks)]
    voters = [f"{each.node_id}@{each.address('CONTROLLER')}" for each in first]
    return {
        "controller.quorum.voters": "" if only_asks else ",".join(voters),
        "controller.quorum.bootstrap.servers": ",".join(each.address("CONTROLLER") for each in asked),
    }
