"""A controller that writes a snapshot of 10,000 partitions: for how long nothing else goes on in it.

In this process: one real controller that is its own quorum, on a disk. It refuses to know brokers.
"""

import asyncio
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from glasslog.common.config import parse
from glasslog.common.ids import NodeId, Offset, TopicId
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.production.start import run as run_in_process
from glasslog.common.runtime.protocols import Runtime
from glasslog.controller.driver import Controller
from glasslog.controller.requests import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    NewTopic,
    RegisterBrokerRequest,
    RegisterBrokerResponse,
)
from glasslog.controller.server import ControllerServer
from glasslog.metadata.features import SUPPORTED
from glasslog.metadata.records import Endpoint

from benchmarks.measuring import scratch_folder
from benchmarks.report import Figure, Line

_TOPICS, _QUICK_TOPICS = 10, 2
_PARTITIONS, _REPLICAS = 1_000, 3
_CLUSTER = "benchmark"
_TIMEOUT_S = 120
_INTERVAL_MS = 3_000
_TICK_S = 0.001


def run(*, quick: bool) -> Sequence[Line]:
    """The longest pause of the active controller's event loop, and its slowest decision, meanwhile."""
    topics = _QUICK_TOPICS if quick else _TOPICS
    with scratch_folder() as folder:
        return run_in_process(lambda runtime: _measure(runtime, folder, topics))


async def _measure(runtime: Runtime, folder: Path, topics: int) -> Sequence[Line]:
    server = ControllerServer(runtime=runtime, config=_config(folder))
    async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as group:
        ready = asyncio.Event()
        group.create_task(server.run(ready.set))
        await ready.wait()
        controller = server.controller
        while not controller.is_active:  # noqa: ASYNC110 - for want of an event
            await asyncio.sleep(_TICK_S)
        await _fill(controller, topics)
        pause_ms, slowest_ms = await _watch(controller, folder)
        server.stop()
    count = f"{topics * _PARTITIONS:,} partitions"
    return [
        Figure(what=f"longest pause, snapshot of {count}", value=pause_ms, unit="ms", aim="< 50"),
        Figure(what="slowest decision meanwhile", value=slowest_ms, unit="ms"),
    ]


def _config(folder: Path) -> NodeConfig:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = {
        "node.id": "1",
        "process.roles": "controller",
        "cluster.id": _CLUSTER,
        "listeners": f"CONTROLLER://{address}",
        "controller.quorum.voters": f"1@{address}",
        "log.dirs": str(folder),
        "metadata.log.max.snapshot.interval.ms": str(_INTERVAL_MS),
    }
    return parse(NodeConfig, settings, where="benchmark")


async def _fill(controller: Controller, topics: int) -> None:
    for broker_id in range(1, _REPLICAS + 1):
        await _let_in(controller, NodeId(broker_id))
    for number in range(topics):
        topic = NewTopic(
            name=f"scale-{number}",
            topic_id=TopicId(b"bench-topic-%04d" % number),
            partitions=_PARTITIONS,
            replication_factor=_REPLICAS,
            placement_seed=number,
        )
        await controller.submit(CreateTopicsRequest(topics=(topic,)), CreateTopicsResponse)


async def _let_in(controller: Controller, broker_id: NodeId) -> None:
    identity = bytes([broker_id]) * 16
    registration = RegisterBrokerRequest(
        cluster_id=_CLUSTER,
        broker_id=broker_id,
        incarnation_id=identity,
        features=SUPPORTED,
        endpoints=(Endpoint(name="GRPC", host="127.0.0.1", port=1),),
        rack=f"rack-{broker_id}",
        log_dir_ids=(identity,),
    )
    registered = await controller.submit(registration, RegisterBrokerResponse)
    heartbeat = BrokerHeartbeatRequest(
        broker_id=broker_id,
        broker_epoch=registered.broker_epoch,
        current_metadata_offset=Offset(registered.broker_epoch),
    )
    await controller.submit(heartbeat, BrokerHeartbeatResponse)


async def _watch(controller: Controller, folder: Path) -> tuple[float, float]:
    """Until a snapshot of all is there: the longest pause of the loop, and the slowest decision, in ms."""
    broker = controller.committed.brokers[NodeId(1)]
    request = AllocateProducerIdsRequest(broker_id=broker.broker_id, broker_epoch=broker.broker_epoch)
    wanted = controller.committed.offset
    pause_s = slowest_s = 0.0
    ended = asyncio.Event()

    async def tick() -> None:
        nonlocal pause_s
        while not ended.is_set():
            began_s = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            pause_s = max(pause_s, time.perf_counter() - began_s - _TICK_S)

    ticking = asyncio.create_task(tick())
    while not _has_snapshot(folder, of=wanted):
        began_s = time.perf_counter()
        await controller.submit(request, AllocateProducerIdsResponse)
        slowest_s = max(slowest_s, time.perf_counter() - began_s)
        await asyncio.sleep(_TICK_S)
    ended.set()
    await ticking
    return pause_s * 1000, slowest_s * 1000


def _has_snapshot(folder: Path, *, of: int) -> bool:
    """Whether one of all up to ``of`` has its name, which it gets when it is complete."""
    return any(int(each.name.split("-")[0]) > of for each in folder.rglob("*.checkpoint"))
