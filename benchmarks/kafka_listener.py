"""One broker's Kafka listener: small requests, a large Metadata answer, idle connections.

One broker and one controller, asked over a plain socket by this process. What counts is the broker's own
processor time: how many requests a core could serve, whatever else the machine does. Knows nothing of brokers
but where they listen.
"""

import resource
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack

from glasslog.client.admin import NewTopic
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.state import NodeState
from glasslog.client.sync import Admin
from glasslog.log.records import encode_batch

from benchmarks.measuring import HAS_PROC, NO_PROC, processor_ms, resident_mb, stopped_cluster
from benchmarks.report import Figure, Line, Skipped

_REQUESTS, _QUICK_REQUESTS = 30_000, 3_000
_IN_FLIGHT = 32
_TOPICS, _PARTITIONS = 10, 1_000
_METADATA_REQUESTS = 300
_CONNECTIONS = 2_000
_VALUE = b"x" * 950
_START_S = 60.0
_ANSWER_S = 120.0
_SPARE_FILES = 200
_NULL = -1
_PRODUCE, _METADATA = 0, 3


def run(*, quick: bool) -> Sequence[Line]:
    """Produce with acks=1, then idle connections, then metadata of many partitions."""
    if not HAS_PROC:
        return [Skipped(what="Kafka listener", reason=NO_PROC)]
    with stopped_cluster() as cluster:
        cluster.up(brokers=1, controllers=1, timeout_s=_START_S)
        lines = _produce(cluster, _QUICK_REQUESTS if quick else _REQUESTS)
        lines += _idle(cluster.state().brokers[0])
        lines += _metadata(cluster, 1 if quick else _TOPICS)
        return lines


def _connect(broker: NodeState) -> socket.socket:
    host, _, port = broker.address("KAFKA").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=_ANSWER_S)


def _frame(api: int, version: int, body: bytes) -> bytes:
    header = struct.pack(">hhih", api, version, 7, _NULL)
    return struct.pack(">i", len(header) + len(body)) + header + body


def _answer(connection: socket.socket) -> int:
    """Reads one; its size in bytes."""
    (length,) = struct.unpack(">i", _exactly(connection, 4))
    return len(_exactly(connection, length))


def _exactly(connection: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        assert count, "the broker has closed the connection"
        view = view[count:]
    return data


def _create(cluster: LocalCluster, count: int, partitions: int, prefix: str) -> None:
    with Admin(cluster.bootstrap) as admin:
        for number in range(count):
            name = f"{prefix}-{number}"
            admin.create_topics([NewTopic(name=name, partitions=partitions, replication_factor=1)])


def _produce(cluster: LocalCluster, count: int) -> list[Line]:
    _create(cluster, 1, 1, "small")
    topic = b"small-0"
    batch = bytes(encode_batch([(1_700_000_000_000, None, _VALUE, ())]))
    asked = struct.pack(">hhii", _NULL, 1, 30_000, 1) + struct.pack(">h", len(topic)) + topic
    frame = _frame(_PRODUCE, 3, asked + struct.pack(">iii", 1, 0, len(batch)) + batch)
    (broker,) = cluster.state().brokers
    with _connect(broker) as connection:
        before_ms, started_s = processor_ms([broker]), time.perf_counter()
        for done in range(0, count, _IN_FLIGHT):
            connection.sendall(frame * min(_IN_FLIGHT, count - done))
            for _ in range(min(_IN_FLIGHT, count - done)):
                _answer(connection)
        elapsed_s, used_ms = time.perf_counter() - started_s, processor_ms([broker]) - before_ms
    note = f"{count:,} batches of 1 KB, acks=1, {_IN_FLIGHT} in flight"
    return [
        Figure(what="produce requests", value=count / elapsed_s, unit="1/s", aim=">= 25,000", note=note),
        Figure(what="that a core would serve", value=count / used_ms * 1000, unit="1/s", note="broker's CPU"),
    ]


def _idle(broker: NodeState) -> list[Line]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return [Skipped(what="idle connections", reason=f"needs {wanted} open files, {hard} are allowed")]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    before_mb = resident_mb(broker)
    with ExitStack() as opened:
        for _ in range(_CONNECTIONS):
            connection = opened.enter_context(_connect(broker))
            # One request each, as a client does: ApiVersions.
            connection.sendall(_frame(18, 0, b""))
            _answer(connection)
        more_mb = resident_mb(broker) - before_mb
    return [Figure(what=f"{_CONNECTIONS:,} idle connections", value=more_mb, unit="MB", aim="< 60")]


def _metadata(cluster: LocalCluster, topics: int) -> list[Line]:
    _create(cluster, topics, _PARTITIONS, "many")
    (broker,) = cluster.state().brokers
    frame = _frame(_METADATA, 1, struct.pack(">i", _NULL))
    with _connect(broker) as connection:
        connection.sendall(frame)
        size_bytes = _answer(connection)
        before_ms = processor_ms([broker])
        for _ in range(_METADATA_REQUESTS):
            connection.sendall(frame)
            _answer(connection)
        used_ms = (processor_ms([broker]) - before_ms) / _METADATA_REQUESTS
    what = f"metadata of {topics * _PARTITIONS:,} partitions"
    note = f"broker's CPU, {size_bytes // 1000} KB, from the second request on"
    return [Figure(what=what, value=used_ms, unit="ms", aim="< 5", note=note)]
