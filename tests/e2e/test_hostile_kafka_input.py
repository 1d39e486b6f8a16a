"""Bad input and abuse at a real broker's KAFKA port: a clear end, bounded memory, others unharmed.

One test for each kind.  After each, another client's connection that was there all the time is served as
before, and the broker's memory has not grown by more than a few connections' worth.
"""

import gzip
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.state import NodeState
from glasslog.log.batch import write_crc
from glasslog.log.compression import DEFAULT_MAX_BYTES
from glasslog.log.records import encode_batch

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")

PRODUCE, FETCH, METADATA, API_VERSIONS, CREATE_TOPICS = 0, 1, 3, 18, 19
NONE, UNKNOWN_TOPIC_OR_PARTITION, CORRUPT_MESSAGE, MESSAGE_TOO_LARGE = 0, 3, 2, 10
INVALID_TOPIC, INVALID_RECORD = 17, 87
PATIENCE_S = 60.0
IDLE_CONNECTIONS, SPARE_FILES = 2_000, 500
MAX_GROWTH_MB = 40.0
"""What a hostile client may cost; a frame of the largest size that is allowed would cost 100 MB."""


class Victim(NamedTuple):
    """The broker, and a client that wants nothing but to be served."""

    broker: NodeState
    port: int
    client: socket.socket

    def memory_mb(self) -> float:
        assert self.broker.process is not None
        text = Path(f"/proc/{self.broker.process.pid}/status").read_text()
        (line,) = [each for each in text.splitlines() if each.startswith("VmRSS")]
        return int(line.split()[1]) / 1024

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeState]:
    cluster = LocalCluster(tmp_path_factory.mktemp("cluster") / "local")
    (started,) = cluster.up(brokers=1, controllers=1).brokers
    yield started
    cluster.down()


@pytest.fixture
def victim(broker: NodeState) -> Iterator[Victim]:
    with unharmed(broker) as made:
        yield made


@contextmanager
def unharmed(broker: NodeState, *, max_growth_mb: float = MAX_GROWTH_MB) -> Iterator[Victim]:
    """Checks afterwards that nobody else has noticed."""
    port = int(broker.address("KAFKA").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        made = Victim(broker, port, client)
        created(client, "good")
        assert produced(client, "good", batch()) == NONE
        before_mb = made.memory_mb()
        yield made
        assert produced(client, "good", batch()) == NONE
        assert made.memory_mb() - before_mb < max_growth_mb


# --- the protocol, as far as it is needed ---


def frame(key: int, version: int, body: bytes) -> bytes:
    header = struct.pack(">hhih", key, version, 7, -1)
    return struct.pack(">i", len(header) + len(body)) + header + body


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def answer(connection: socket.socket) -> bytes:
    (length,) = struct.unpack(">i", exactly(connection, 4))
    return exactly(connection, length)[4:]


def asked(connection: socket.socket, key: int, version: int, body: bytes) -> bytes:
    connection.sendall(frame(key, version, body))
    return answer(connection)


def is_closed(connection: socket.socket) -> bool:
    """Whether the broker hangs up, perhaps after an answer."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    return True


def created(connection: socket.socket, name: str, **configs: str) -> int:
    settings = b"".join(text(key.replace("_", ".")) + text(value) for key, value in configs.items())
    topic = text(name) + struct.pack(">ihi", 1, 1, 0) + struct.pack(">i", len(configs)) + settings
    body = struct.pack(">i", 1) + topic + struct.pack(">ib", 10_000, 0)
    found = asked(connection, CREATE_TOPICS, 2, body)
    (code,) = struct.unpack_from(">h", found, 8 + 2 + len(name.encode()))
    assert isinstance(code, int)
    return code


def batch(value: bytes = b"v", count: int = 1) -> bytearray:
    return bytearray(encode_batch([(1_700_000_000_000, None, value, ())] * count))


def produce_body(topic: str, records: bytes | bytearray) -> bytes:
    about = struct.pack(">hhi", -1, 1, 10_000) + struct.pack(">i", 1) + text(topic)
    return about + struct.pack(">iii", 1, 0, len(records)) + records


def produced(connection: socket.socket, topic: str, records: bytes | bytearray) -> int:
    """The error code of the one partition."""
    found = asked(connection, PRODUCE, 3, produce_body(topic, records))
    (code,) = struct.unpack_from(">h", found, 4 + 2 + len(topic) + 4 + 4)
    assert isinstance(code, int)
    return code


# --- frames ---


def test_a_declared_length_of_two_gibibytes(victim: Victim) -> None:
    with victim.connect() as hostile:
        hostile.sendall(struct.pack(">i", 0x7FFF_FFFF) + b"x" * 1000)
        assert is_closed(hostile)


def test_the_longest_frame_that_is_allowed_takes_memory_only_as_it_arrives(victim: Victim) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            hostile = stack.enter_context(victim.connect())
            hostile.sendall(struct.pack(">i", 100 << 20) + b"x" * 1000)
        assert produced(victim.client, "good", batch()) == NONE


@pytest.mark.parametrize("length", [-1, -(1 << 31)])
def test_a_negative_length(victim: Victim, length: int) -> None:
    with victim.connect() as hostile:
        hostile.sendall(struct.pack(">i", length))
        assert is_closed(hostile)


def test_a_truncated_frame(victim: Victim) -> None:
    whole = frame(PRODUCE, 3, produce_body("good", batch()))
    for end in range(1, len(whole), 7):
        with victim.connect() as hostile:
            hostile.sendall(whole[:end])


def test_a_corrupted_frame(victim: Victim) -> None:
    """Every byte in turn is another one: an answer, or the end of the connection."""
    whole = frame(PRODUCE, 3, produce_body("good", batch()))
    for position in range(4, len(whole), 3):
        with victim.connect() as hostile:
            hostile.sendall(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
            hostile.shutdown(socket.SHUT_WR)
            assert is_closed(hostile)


@pytest.mark.parametrize(
    "greeting", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP"]
)
def test_another_protocol(victim: Victim, greeting: bytes) -> None:
    with victim.connect() as hostile:
        hostile.sendall(greeting + b"x" * 600)
        assert is_closed(hostile)


@pytest.mark.parametrize(
    ("key", "version"), [(9_999, 0), (-1, 0), (METADATA, 99), (METADATA, -1), (PRODUCE, 77)]
)
def test_an_unknown_api_or_version(victim: Victim, key: int, version: int) -> None:
    with victim.connect() as hostile:
        hostile.sendall(frame(key, version, b""))
        assert is_closed(hostile)


def test_an_array_of_billions(victim: Victim) -> None:
    many = struct.pack(">i", 0x7FFF_FFFF)
    for key, version, body in (
        (METADATA, 1, many),
        (PRODUCE, 3, struct.pack(">hhi", -1, 1, 10_000) + many),
        (FETCH, 4, struct.pack(">iiiib", -1, 0, 0, 1 << 20, 0) + many),
        (CREATE_TOPICS, 2, many),
        (METADATA, 9, b"\0" + b"\xff\xff\xff\xff\x0f"),
    ):
        with victim.connect() as hostile:
            hostile.sendall(frame(key, version, body))
            assert is_closed(hostile)


# --- records ---


def test_a_decompression_bomb(broker: NodeState) -> None:
    """A broker stores a compressed batch unopened; where it has to be looked into, it is refused.

    What is looked into is bounded, and nothing of it is kept.
    """
    zeros = gzip.compress(bytes(1 << 30), compresslevel=1)
    made = batch()
    records = bytearray(made[:61]) + zeros[: 900 << 10]
    struct.pack_into(">i", records, 8, len(records) - 12)
    struct.pack_into(">h", records, 21, 1)
    write_crc(records, 0, len(records))
    with unharmed(broker, max_growth_mb=DEFAULT_MAX_BYTES / 2**20 + MAX_GROWTH_MB) as victim:
        created(victim.client, "bombed", cleanup_policy="compact")
        for _ in range(4):
            assert produced(victim.client, "bombed", records) == CORRUPT_MESSAGE


@pytest.mark.parametrize(
    ("field", "position", "value"),
    [
        ("count", 57, 1_000_000),
        ("count", 57, -1),
        ("last offset", 23, 5),
        ("last offset", 23, -7),
        ("length", 8, 1 << 30),
        ("length", 8, 3),
    ],
)
def test_a_batch_that_lies(victim: Victim, field: str, position: int, value: int) -> None:
    records = batch()
    struct.pack_into(">i", records, position, value)
    if field != "length":
        write_crc(records, 0, len(records))
    assert produced(victim.client, "good", records) in (CORRUPT_MESSAGE, INVALID_RECORD)


def test_an_oversize_batch(victim: Victim) -> None:
    assert produced(victim.client, "good", batch(b"x" * (2 << 20))) == MESSAGE_TOO_LARGE


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", ".", "a/b", "a\0b", "", "x" * 250, "a b", "C:\\a"]
)
def test_a_topic_name_with_tricks(victim: Victim, name: str) -> None:
    assert created(victim.client, name) == INVALID_TOPIC
    assert produced(victim.client, name, batch()) in (UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC)


# --- time and number ---


def test_a_client_that_writes_one_byte_at_a_time(victim: Victim) -> None:
    with victim.connect() as slow:
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(PRODUCE, 3, produce_body("good", batch())):
            slow.sendall(bytes([byte]))
        assert answer(slow)


def test_a_client_that_reads_nothing(victim: Victim) -> None:
    """It is not read from any more: what it did not take in is bounded, however much it asks for."""
    created(victim.client, "large")
    for _ in range(8):
        assert produced(victim.client, "large", batch(b"x" * (900 << 10))) == NONE
    part = struct.pack(">i", 1) + struct.pack(">iqi", 0, 0, 8 << 20)
    body = struct.pack(">iiiib", -1, 0, 1, 8 << 20, 0) + struct.pack(">i", 1) + text("large") + part
    with victim.connect() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.settimeout(2.0)
        request = frame(FETCH, 4, body)
        with pytest.raises(TimeoutError):
            greedy.sendall(request * 500_000)
        assert produced(victim.client, "good", batch()) == NONE


def test_thousands_of_idle_connections(broker: NodeState) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE_CONNECTIONS + SPARE_FILES:
        pytest.skip(f"only {hard} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE_CONNECTIONS + SPARE_FILES), hard))
    with unharmed(broker, max_growth_mb=60) as victim, ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            idle = stack.enter_context(victim.connect())
            idle.sendall(frame(API_VERSIONS, 0, b""))
            assert answer(idle)
        assert produced(victim.client, "good", batch()) == NONE
