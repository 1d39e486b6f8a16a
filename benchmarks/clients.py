"""Producers and consumers side by side: ours by gRPC, aiokafka and kafka-python by Kafka's protocol.

All against one cluster: records of 100 bytes, six partitions on three brokers, one replica, acks=all.  What
counts is the client's own processor time: brokers and clients share this machine.  Knows only addresses.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from glasslog.client.admin import NewTopic
from glasslog.client.sync import Admin

from benchmarks.client_worker import Cost
from benchmarks.measuring import running_cluster
from benchmarks.report import Figure, Line, Skipped

_TOPIC = "clients"
_PARTITIONS = 6
_ROUNDS, _QUICK_ROUNDS = 3, 1
_RECORDS, _QUICK_RECORDS = 500_000, 20_000
_PEERS_SHARE = 5
"""They get so many times fewer records, since they take that much longer."""

_TIMEOUT_S = 300
_PEERS = {"aiokafka": "aiokafka", "kafka-python": "kafka"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One line: what the worker does, in which way, and what we would like to see."""

    what: str
    aim: str = ""
    is_pure: bool = False
    peer: str = ""

    @property
    def name(self) -> str:
        return f"{self.what}, pure Python" if self.is_pure else self.what


_KINDS = (
    _Kind(what="send", aim=">= 300,000"),
    _Kind(what="send", aim=">= 120,000", is_pure=True),
    _Kind(what="send from a script"),
    _Kind(what="send_many"),
    _Kind(what="aiokafka send", peer="aiokafka"),
    _Kind(what="kafka-python send", peer="kafka-python"),
    _Kind(what="iterate", aim=">= 500,000"),
    _Kind(what="iterate", aim=">= 150,000", is_pure=True),
    _Kind(what="poll"),
    _Kind(what="aiokafka iterate", peer="aiokafka"),
    _Kind(what="kafka-python iterate", peer="kafka-python"),
)


def run(*, quick: bool) -> Sequence[Line]:
    """One process a measurement, all kinds in turn; the best of the rounds."""
    rounds, records = (_QUICK_ROUNDS, _QUICK_RECORDS) if quick else (_ROUNDS, _RECORDS)
    missing = {peer for peer, module in _PEERS.items() if importlib.util.find_spec(module) is None}
    kinds = [kind for kind in _KINDS if kind.peer not in missing]
    costs: dict[_Kind, list[Cost]] = {kind: [] for kind in kinds}
    with running_cluster() as cluster:
        theirs = [broker.address("KAFKA") for broker in cluster.state().brokers]
        with Admin(cluster.bootstrap) as admin:
            admin.create_topics([NewTopic(name=_TOPIC, partitions=_PARTITIONS, replication_factor=1)])
        # Readers find enough, whoever comes first.
        _measure(_Kind(what="send_many"), cluster.bootstrap, 2 * records)
        for _ in range(rounds):
            for kind in kinds:
                servers = theirs if kind.peer else cluster.bootstrap
                costs[kind].append(_measure(kind, servers, records // (_PEERS_SHARE if kind.peer else 1)))
    return [
        *(_figure(kind, min(costs[kind], key=lambda cost: cost.processor_s)) for kind in kinds),
        *(Skipped(what=peer, reason=f"needs {peer}, a development tool") for peer in sorted(missing)),
    ]


def _measure(kind: _Kind, servers: Sequence[str], records: int) -> Cost:
    command = [sys.executable, "-m", "benchmarks.client_worker", kind.what, ",".join(servers), _TOPIC]
    environment = {**os.environ, **({"GLASSLOG_PURE_PYTHON": "1"} if kind.is_pure else {})}
    done = subprocess.run(
        [*command, str(records)], env=environment, stdout=subprocess.PIPE, timeout=_TIMEOUT_S, check=True
    )
    return Cost(**json.loads(done.stdout))


def _figure(kind: _Kind, cost: Cost) -> Figure:
    elapsed = f"{cost.records / cost.elapsed_s:,.0f} records/s went by the clock, brokers beside it"
    return Figure(
        what=kind.name,
        value=cost.records / cost.processor_s,
        unit="records/s of a core",
        aim=kind.aim,
        note=elapsed,
    )
