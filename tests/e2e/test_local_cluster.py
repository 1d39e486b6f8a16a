"""A real local cluster, used through the command as a person would: processes, ports, disks, signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from glasslog.client.cli.local import state
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.common.config_sources import to_properties
from prometheus_client.parser import text_string_to_metric_families

DEADLINE_S = 60.0
needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks into /proc")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("cluster") / "local")
    made.up()
    yield made
    made.down()


@pytest.fixture(autouse=True)
def whole(cluster: LocalCluster) -> None:
    """Each test finds all nodes of the shared cluster ready, whatever the one before it broke."""
    for node in cluster.nodes():
        if not cluster.is_ready(node.name):
            cluster.restart(node.name)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "glasslog.client", *arguments]


def environment(directory: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GLASSLOG_")}
    return kept | {"GLASSLOG_DIR": str(directory)}


def glasslog(directory: Path, *arguments: str, text: str = "", status: int = 0) -> str:
    """Run a command to its end; returns its standard output, or its standard error when it is to fail."""
    done = subprocess.run(
        command(*arguments),
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment(directory),
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


def processes_of(directory: Path) -> list[str]:
    """Command lines of living processes that name this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ") if entry.name.isdigit() else b""
        except OSError:
            continue
        if str(directory).encode() in line:
            found.append(line.decode("utf-8", "replace"))
    return found


def describe(cluster: LocalCluster, topic: str) -> list[dict[str, object]]:
    (shown,) = json.loads(glasslog(cluster.directory, "topic", "describe", topic, "--format", "json"))
    partitions: list[dict[str, object]] = shown["partitions"]
    return partitions


# --- using it ---------------------------------------------------------------------------------------------


def test_what_is_produced_is_consumed(cluster: LocalCluster) -> None:
    at = cluster.directory
    glasslog(at, "topic", "create", "lines", "--partitions", "3")
    sent = [f"{number}:value {number}" for number in range(5_000)]
    glasslog(at, "produce", "lines", "--key-separator", ":", "--compression", "lz4", text="\n".join(sent))
    shown = glasslog(
        at,
        *("consume", "lines", "--from-beginning", "--group", "readers", "--format", "json"),
        *("--max-records", "5000", "--timeout", "20"),
    )
    records = [json.loads(line) for line in shown.splitlines()]
    assert Counter(f"{each['key']}:{each['value']}" for each in records) == Counter(sent)
    assert {each["partition"] for each in records} == {0, 1, 2}
    group = json.loads(glasslog(at, "group", "describe", "readers", "--format", "json"))
    assert sum(each["committed"] for each in group["partitions"]) == 5_000
    assert {each["lag"] for each in group["partitions"]} == {0}
    assert "readers" in glasslog(at, "group", "list")


def test_a_group_is_shown_reset_and_deleted(cluster: LocalCluster) -> None:
    at = cluster.directory
    glasslog(at, "topic", "create", "bills", "--partitions", "2")
    glasslog(at, "produce", "bills", text="\n".join(map(str, range(100))))
    reading = ("consume", "bills", "--group", "billing", "--from-beginning", "--max-records", "100")
    glasslog(at, *reading, "--timeout", "20")
    described = glasslog(at, "group", "describe", "billing")
    assert "billing  Empty" in described
    assert "lag 0" in described

    shown = glasslog(at, "group", "reset-offsets", "billing", "--to-earliest", "--format", "json")
    assert [each["after"] for each in json.loads(shown)] == [0, 0]
    assert "lag 0" in glasslog(at, "group", "describe", "billing"), "nothing is done without --execute"
    glasslog(at, "group", "reset-offsets", "billing", "--to-earliest", "--execute")
    assert "lag 100" in glasslog(at, "group", "describe", "billing")
    assert len(glasslog(at, *reading, "--timeout", "20").splitlines()) == 100
    moved = glasslog(
        at, *("group", "reset-offsets", "billing", "--topic", "bills:0", "--shift-by", "-1000", "--execute")
    )
    assert moved.splitlines()[1].split()[-1] == "0", "kept within what there is"
    glasslog(at, *("group", "reset-offsets", "billing", "--to-datetime", "2001-01-01T00:00:00", "--execute"))
    assert "lag 100" in glasslog(at, "group", "describe", "billing")
    glasslog(at, *("group", "reset-offsets", "billing", "--to-latest", "--execute"))
    assert "lag 0" in glasslog(at, "group", "describe", "billing")

    wrong = glasslog(at, "group", "reset-offsets", "billing", status=2)
    assert "say where to, and once" in wrong
    assert "is not a time" in glasslog(
        at, "group", "reset-offsets", "billing", "--to-datetime", "yesterday", status=2
    )
    assert "bills has no partition 9" in glasslog(
        at, "group", "reset-offsets", "billing", "--topic", "bills:9", "--to-latest", status=1
    )
    assert "Deleted group billing." in glasslog(at, "group", "delete", "billing")
    assert "there is no group 'billing'" in glasslog(at, "group", "delete", "billing", status=1)
    assert "there is no group 'billing'" in glasslog(at, "group", "describe", "billing", status=1)


def test_why_a_partition_is_as_it_is(cluster: LocalCluster) -> None:
    at = cluster.directory
    glasslog(at, "topic", "create", "asked", "--partitions", "1")
    glasslog(at, "produce", "asked", text="one\ntwo\n")
    (before,) = describe(cluster, "asked")
    leader = before["leader"]
    assert f"Broker {leader} on rack-" in glasslog(at, "why", "asked-0")
    assert "It holds 2 records, offsets 0 to 1" in glasslog(at, "why", "asked-0")
    cluster.kill(f"broker-{leader}")
    until(lambda: "out of the ISR: it is down" in glasslog(at, "why", "asked-0"), "it is out of the ISR")
    told = json.loads(glasslog(at, "why", "asked-0", "--format", "json"))
    assert told["leader_view"]["leader"] != leader
    assert any("The preferred leader is broker" in each for each in told["sentences"])
    assert "asked" in glasslog(at, "topic", "describe", "--under-replicated")
    assert f"broker {leader} has replicas and is down" in unhealthy(at)
    cluster.restart(f"broker-{leader}")
    glasslog(at, "cluster", "health", "--exit-when-healthy", "--timeout", "50")
    assert glasslog(at, "topic", "describe", "--under-replicated") == ""
    assert "has no partition 7; it has 1" in glasslog(at, "why", "asked-7", status=1)
    assert "is not TOPIC-PARTITION" in glasslog(at, "why", "asked", status=2)


def unhealthy(directory: Path) -> str:
    done = subprocess.run(
        command("cluster", "health"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment(directory),
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, and so does all that is started from there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_interrupts")
def test_a_listing_can_be_watched(cluster: LocalCluster) -> None:
    process = subprocess.Popen(
        command("topic", "list", "--watch", "0.1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(cluster.directory),
    )
    assert process.stdout is not None
    headings = 0
    for line in process.stdout:
        headings += line.startswith("TOPIC")
        if headings == 3:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors.strip()) == (130, "")


def test_topics_come_and_go(cluster: LocalCluster) -> None:
    at = cluster.directory
    glasslog(at, "topic", "create", "short-lived", "--partitions", "2", "--config", "retention.ms=1000")
    listed = json.loads(glasslog(at, "topic", "list", "--format", "json"))
    (shown,) = [each for each in listed if each["name"] == "short-lived"]
    assert (shown["partitions"], shown["replication_factor"]) == (2, 3)
    for partition in describe(cluster, "short-lived"):
        assert sorted(partition["isr"]) == [1, 2, 3]  # type: ignore[call-overload]  # JSON
    assert "exists already" in glasslog(at, "topic", "create", "short-lived", status=1)
    glasslog(at, "produce", "short-lived", "--key-separator", ":", text="a:1\na:2\na:3\n")
    (filled,) = [each for each in describe(cluster, "short-lived") if each["end_offset"]]
    place = f"{filled['partition']}:2"
    deleted = glasslog(at, "topic", "delete-records", "short-lived", "--partition", place, "--format", "json")
    assert json.loads(deleted) == [{"partition": filled["partition"], "start_offset": 2}]
    assert glasslog(at, "consume", "short-lived", "--from-beginning", "--max-records", "1").endswith("3\n")
    too_far = glasslog(at, "topic", "delete-records", "short-lived", "--offset", "9", status=1)
    assert "is not between 0 and the high watermark" in too_far
    wrong = glasslog(at, "topic", "delete-records", "short-lived", "--partition", "x", status=2)
    assert "'x' is not N or N:OFFSET" in wrong
    glasslog(at, "topic", "delete", "short-lived")
    until(lambda: "short-lived" not in glasslog(at, "topic", "list"), "the topic is gone")
    assert "does not exist" in glasslog(at, "topic", "describe", "short-lived", status=1)


def test_a_killed_leader_loses_nothing_and_comes_back(cluster: LocalCluster) -> None:
    at = cluster.directory
    glasslog(at, "topic", "create", "survivor", "--partitions", "1")
    glasslog(at, "produce", "survivor", text="before\n")
    leader = describe(cluster, "survivor")[0]["leader"]
    glasslog(at, "local", "kill", f"broker-{leader}")
    glasslog(at, "produce", "survivor", text="after\n")
    assert describe(cluster, "survivor")[0]["leader"] != leader
    glasslog(at, "local", "restart", f"broker-{leader}")
    arguments = ("--from-beginning", "--max-records", "2", "--timeout", "20", "--values-only")
    assert glasslog(at, "consume", "survivor", *arguments) == "before\nafter\n"
    until(lambda: len(describe(cluster, "survivor")[0]["isr"]) == 3, "all replicas are in sync")  # type: ignore[arg-type]  # JSON


def test_the_active_controller_can_be_lost(cluster: LocalCluster) -> None:
    at = cluster.directory
    active = json.loads(glasslog(at, "cluster", "describe", "--format", "json"))["controller_id"]
    glasslog(at, "local", "kill", f"controller-{active - 100}")
    glasslog(at, "topic", "create", "without-it", "--partitions", "1")
    until(
        lambda: (
            json.loads(glasslog(at, "cluster", "describe", "--format", "json"))["controller_id"] != active
        ),
        "another controller is active",
    )


def test_a_paused_node_is_shown_so_and_goes_on(cluster: LocalCluster) -> None:
    at = cluster.directory
    glasslog(at, "local", "pause", "broker-2")
    brokers = json.loads(glasslog(at, "local", "status", "--format", "json"))["brokers"]
    assert [each["state"] for each in brokers] == ["running", "paused", "running"]
    glasslog(at, "local", "resume", "broker-2")
    until(lambda: cluster.is_ready("broker-2"), "it is ready again")


def test_metrics_can_be_scraped(cluster: LocalCluster) -> None:
    values: Counter[str] = Counter()
    for node in cluster.nodes():
        with urllib.request.urlopen(f"http://{node.address('HTTP')}/metrics", timeout=DEADLINE_S) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                values.update({sample.name: int(sample.value) for sample in family.samples})
    assert values["kafka_controller_kafkacontroller_activecontrollercount"] == 1
    assert values["kafka_controller_kafkacontroller_offlinepartitionscount"] == 0
    assert values["kafka_server_replicamanager_partitioncount"] >= 3


def test_no_node_logs_a_traceback(cluster: LocalCluster) -> None:
    for path in cluster.directory.glob("*/node.log"):
        assert "Traceback" not in path.read_text(encoding="utf-8"), path


# --- using it wrongly -------------------------------------------------------------------------------------


def test_a_second_up_is_refused(cluster: LocalCluster) -> None:
    said = glasslog(cluster.directory, "local", "up", status=1)
    assert said.startswith(f"glasslog: a cluster already runs in {cluster.directory} (")
    assert said.endswith("`glasslog local down` stops it\n")
    assert all(cluster.is_ready(node.name) for node in cluster.nodes())


def test_a_kafka_port_in_place_of_a_grpc_one_is_recognised(cluster: LocalCluster) -> None:
    address = cluster.state().brokers[0].address("KAFKA")
    said = glasslog(cluster.directory, "topic", "list", "--bootstrap", address, status=1)
    assert f"{address} speaks the Kafka protocol, this client speaks gRPC" in said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(folder: Path, changes: Mapping[str, str] | None = None) -> list[str]:
    """Arguments of ``glasslog server`` for a node that is broker and controller at once."""
    port = free_port()
    values = {
        "node.id": "1",
        "process.roles": "broker,controller",
        "cluster.id": "A" * 22,
        "listeners": f"GRPC://127.0.0.1:0,KAFKA://127.0.0.1:0,CONTROLLER://127.0.0.1:{port}",
        "http.listener": f"127.0.0.1:{free_port()}",
        "controller.quorum.voters": f"1@127.0.0.1:{port}",
        "log.dirs": str(folder / "data"),
    }
    path = folder / "node.properties"
    path.write_text(to_properties(values | dict(changes or {})), encoding="utf-8")
    return ["server", "--config", str(path)]


def last_line(said: str) -> str:
    return said.splitlines()[-1]


def test_a_node_stops_in_order_and_its_data_stays_its_own(cluster: LocalCluster, tmp_path: Path) -> None:
    arguments = settings(tmp_path)
    lines = []
    with subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as node:
        assert node.stderr is not None
        for line in node.stderr:
            lines.append(line)
            if "broker 1 is ready" in line:
                assert "is in use by another process" in glasslog(tmp_path, *settings(tmp_path), status=1)
                node.send_signal(signal.SIGTERM)
    assert node.returncode == 0, lines
    other_cluster = settings(tmp_path, {"cluster.id": "B" * 22})
    said = last_line(glasslog(tmp_path, *other_cluster, status=1))
    assert said.endswith(f"belongs to cluster {'A' * 22}, this is cluster {'B' * 22}")
    port = free_port()
    other_node = {
        "node.id": "2",
        "listeners": f"GRPC://127.0.0.1:0,KAFKA://127.0.0.1:0,CONTROLLER://127.0.0.1:{port}",
        "controller.quorum.voters": f"2@127.0.0.1:{port}",
    }
    said = last_line(glasslog(tmp_path, *settings(tmp_path, other_node), status=1))
    assert said.endswith("belongs to node 1, this is node 2")


@pytest.mark.parametrize("listener", ["GRPC", "KAFKA", "CONTROLLER", "HTTP"])
def test_a_taken_port_is_named(cluster: LocalCluster, tmp_path: Path, listener: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        addresses = {"GRPC": "127.0.0.1:0", "KAFKA": "127.0.0.1:0", "CONTROLLER": "127.0.0.1:0"}
        changes = {"http.listener": address}
        if listener != "HTTP":
            listeners = ",".join(f"{name}://{at}" for name, at in (addresses | {listener: address}).items())
            changes = {"listeners": listeners}
        said = last_line(glasslog(tmp_path, *settings(tmp_path, changes), status=1))
    named = "http.listener" if listener == "HTTP" else f"listener {listener}"
    assert said == f"glasslog server: {named}: can not listen on {address}: Address already in use"


def test_a_data_directory_that_can_not_be_is_named(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    arguments = settings(tmp_path, {"log.dirs": str(tmp_path / "file" / "data")})
    said = last_line(glasslog(tmp_path, *arguments, status=1))
    assert said.startswith(f"glasslog server: {tmp_path / 'file'}")
    assert said.endswith("Not a directory")


@needs_proc
def test_a_foreign_data_directory_stops_the_whole_start(cluster: LocalCluster, tmp_path: Path) -> None:
    foreign = tmp_path / "local" / "broker-1" / "data"
    foreign.mkdir(parents=True)
    (foreign / "meta.properties").write_text(
        "version=1\ncluster.id=somebody-elses\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAA\n",
        encoding="utf-8",
    )
    said = glasslog(tmp_path / "local", "local", "up", "--brokers", "1", "--controllers", "1", status=1)
    assert said.startswith("glasslog: broker-1 did not start: data directory ")
    assert "belongs to cluster somebody-elses, this is cluster" in said
    assert processes_of(tmp_path) == []


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing_running(
    cluster: LocalCluster, tmp_path: Path, number: signal.Signals
) -> None:
    at = tmp_path / "local"
    starting = subprocess.Popen(
        command("local", "up"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(at)
    )

    def has_begun() -> bool:
        found = state.load(at)
        return found is not None and any(node.process is not None for node in found.nodes)

    until(has_begun, "the first node is started")
    starting.send_signal(number)
    _, said = starting.communicate(timeout=DEADLINE_S)
    assert (starting.returncode, said) == (130, b"")
    assert processes_of(at) == []


def test_a_stopped_cluster_goes_on_with_its_data(cluster: LocalCluster) -> None:
    at = cluster.directory
    glasslog(at, "topic", "create", "kept", "--partitions", "2")
    glasslog(at, "produce", "kept", text="1\n2\n3\n")
    before = cluster.state()
    assert glasslog(at, "local", "down").endswith("is stopped.\n")
    assert not cluster.is_running()
    glasslog(at, "local", "up")
    assert [node.ports for node in cluster.nodes()] == [node.ports for node in before.nodes]
    arguments = ("--from-beginning", "--max-records", "3", "--timeout", "20", "--values-only")
    assert sorted(glasslog(at, "consume", "kept", *arguments).split()) == ["1", "2", "3"]
