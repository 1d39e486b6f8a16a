"""A local cluster's processes, with a stand-in for the node: what is started is known, and is stopped."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from glasslog.client.cli.errors import CommandError, Interrupted, UsageError
from glasslog.client.cli.local import layout, logs, processes, state, status
from glasslog.client.cli.local.cluster import LocalCluster, default_directory
from glasslog.client.cli.local.processes import Condition, ProcessMark
from glasslog.common.config_sources import parse_properties
from glasslog.common.errors import ConfigError

FAKE = (sys.executable, "-S", "-E", str(Path(__file__).parent / "fake_node.py"))


def fake_cluster(directory: Path) -> LocalCluster:
    return LocalCluster(directory, command=FAKE)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    made = fake_cluster(tmp_path / "local")
    yield made
    found = state.load(made.directory)
    for mark in marks(made) if found else ():
        processes.send(mark, signal.SIGCONT)
    processes.kill(marks(made) if found else ())


def marks(cluster: LocalCluster) -> list[ProcessMark]:
    return [node.process for node in cluster.nodes() if node.process is not None]


def processes_of(directory: Path) -> list[int]:
    """Every living process whose command line names a file of this cluster, whoever remembers it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if FAKE[-1].encode() in command and str(directory).encode() in command:
            found.append(int(entry.name))
    return found


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc"
)


def conditions(cluster: LocalCluster) -> dict[str, str]:
    return {node.name: status.node_condition(cluster, node) for node in cluster.nodes()}


# --- the whole cluster ------------------------------------------------------------------------------------


def test_up_starts_every_node_and_down_stops_them(cluster: LocalCluster) -> None:
    cluster.up(brokers=2, controllers=1)
    assert conditions(cluster) == {"controller-1": "running", "broker-1": "running", "broker-2": "running"}
    before = marks(cluster)
    assert cluster.down() == ()
    assert {processes.condition(mark) for mark in before} == {Condition.GONE}
    assert set(conditions(cluster).values()) == {"stopped"}
    output = layout.log_file(cluster.directory, cluster.nodes()[0])
    assert logs.tail(output, 1) == ["stopping in order"]


def test_nodes_differ_where_they_must(cluster: LocalCluster) -> None:
    cluster.up(brokers=4, controllers=3)
    nodes = cluster.nodes()
    assert [node.name for node in nodes[:3]] == ["controller-1", "controller-2", "controller-3"]
    assert len({node.node_id for node in nodes}) == 7
    assert [node.rack for node in cluster.state().brokers] == ["rack-a", "rack-b", "rack-c", "rack-a"]
    ports = [port for node in nodes for port in node.ports.values()]
    assert len(set(ports)) == len(ports) == 3 * 2 + 4 * 3
    path = layout.folder(cluster.directory, nodes[-1]) / layout.PROPERTIES_FILE
    written = parse_properties(path.read_text(encoding="utf-8"), where="file")
    assert written["default.replication.factor"] == "3"
    assert written["min.insync.replicas"] == "2"
    assert written["listeners"] == f"GRPC://{nodes[-1].address('GRPC')},KAFKA://{nodes[-1].address('KAFKA')}"
    assert written["controller.quorum.voters"].startswith(f"101@{nodes[0].address('CONTROLLER')},102@")


def test_a_second_up_is_refused_and_harms_nothing(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1)
    with pytest.raises(CommandError, match=r"already runs in .* \(controller-1, broker-1\); `glasslog"):
        fake_cluster(cluster.directory).up()
    assert set(conditions(cluster).values()) == {"running"}


@needs_proc
def test_of_two_at_once_one_wins(cluster: LocalCluster) -> None:
    def attempt(_: int) -> str:
        try:
            fake_cluster(cluster.directory).up(brokers=1, controllers=1)
        except CommandError as error:
            return str(error)
        return "up"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(attempt, range(2)))
    assert outcomes[1] == "up"
    assert "already runs" in outcomes[0]
    assert len(processes_of(cluster.directory)) == 2


def test_a_stopped_cluster_is_continued_as_it_was(cluster: LocalCluster) -> None:
    first = cluster.up(brokers=2, controllers=1, settings={"num.partitions": "4"})
    cluster.down()
    second = cluster.up()
    assert second.cluster_id == first.cluster_id
    assert second.settings == {"num.partitions": "4"}
    assert [node.ports for node in second.nodes] == [node.ports for node in first.nodes]


def test_killed_processes_do_not_count_as_a_running_cluster(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1)
    processes.kill(marks(cluster))
    assert set(conditions(cluster).values()) == {"dead"}
    cluster.up()
    assert set(conditions(cluster).values()) == {"running"}


def test_brokers_may_be_added_but_not_forgotten(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1)
    cluster.down()
    cluster.up(brokers=2)
    cluster.down()
    with pytest.raises(CommandError, match=r"data of 2 brokers, more than 1: .*--delete"):
        cluster.up(brokers=1)
    with pytest.raises(CommandError, match="cluster of 1 controllers, and `up` can not change that"):
        cluster.up(controllers=3)


@needs_proc
def settings_of(cluster: LocalCluster, name: str) -> dict[str, str]:
    path = layout.folder(cluster.directory, cluster.state().node(name)) / layout.PROPERTIES_FILE
    return dict(parse_properties(path.read_text(encoding="utf-8"), where="file"))


def test_a_controller_is_added_while_the_cluster_runs(cluster: LocalCluster) -> None:
    """It must not vote by its settings: two halves of a quorum that count differently could both be right."""
    cluster.up(brokers=1, controllers=1)
    added = cluster.add_controller()
    assert (added.name, added.node_id) == ("controller-2", 102)
    first = cluster.state().node("controller-1").address("CONTROLLER")
    own = settings_of(cluster, "controller-2")
    assert own["controller.quorum.voters"] == ""
    assert own["controller.quorum.bootstrap.servers"] == first
    assert set(conditions(cluster).values()) == {"running"}
    cluster.down()
    cluster.up()
    assert set(conditions(cluster)) == {"controller-1", "controller-2", "broker-1"}
    known = settings_of(cluster, "broker-1")
    assert known["controller.quorum.voters"] == f"101@{first}"
    assert known["controller.quorum.bootstrap.servers"] == added.address("CONTROLLER")
    assert settings_of(cluster, "controller-2")["controller.quorum.bootstrap.servers"] == first
    # Alone by its settings, it would begin a quorum of its own when its disk is replaced.
    assert settings_of(cluster, "controller-1")["controller.quorum.voters"] == ""
    assert settings_of(cluster, "controller-1")["controller.quorum.bootstrap.servers"] == added.address(
        "CONTROLLER"
    )


def test_a_controller_that_can_not_join_is_forgotten(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError, match="there is no cluster"):
        cluster.add_controller()
    cluster.up(brokers=1, controllers=1)
    monkeypatch.setenv("FAKE_NODES", "controller-2:dies")
    with pytest.raises(CommandError, match="controller-2 did not start"):
        cluster.add_controller()
    assert set(conditions(cluster)) == {"controller-1", "broker-1"}
    assert not (cluster.directory / "controller-2").exists()
    cluster.down()
    with pytest.raises(CommandError, match="no controller runs"):
        cluster.add_controller()


def test_a_node_that_dies_takes_the_start_down_and_is_quoted(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NODES", "broker-2:dies")
    with pytest.raises(CommandError, match=r"^broker-2 did not start: data directory is foreign$"):
        cluster.up(brokers=2, controllers=1)
    assert processes_of(cluster.directory) == []
    assert not cluster.is_running()


@needs_proc
def test_a_node_that_is_never_ready_is_not_waited_for_for_ever(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NODES", "broker-1:never-ready")
    with pytest.raises(CommandError, match=r"not ready after 0\.5 s: broker-1: broker: fenced$"):
        cluster.up(brokers=1, controllers=1, timeout_s=0.5)
    assert processes_of(cluster.directory) == []


@needs_proc
def test_a_cancelled_start_leaves_nothing(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODES", "broker-1:never-ready")
    with pytest.raises(Interrupted):
        cluster.up(brokers=1, controllers=1, cancelled=lambda: cluster.is_ready("controller-1"))
    assert processes_of(cluster.directory) == []


@needs_proc
def test_down_kills_what_does_not_stop(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODES", "broker-1:stubborn")
    cluster.up(brokers=1, controllers=1)
    assert cluster.down(timeout_s=0.2) == ("broker-1",)
    assert processes_of(cluster.directory) == []


def test_down_with_delete_removes_what_up_made_and_nothing_else(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1)
    (cluster.directory / "broker-notes.txt").write_text("mine", encoding="utf-8")
    cluster.down(delete=True)
    assert [path.name for path in cluster.directory.iterdir()] == ["broker-notes.txt"]
    with pytest.raises(CommandError, match="there is no cluster"):
        cluster.down()


def test_down_with_delete_leaves_no_empty_folder(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1)
    cluster.down(delete=True)
    assert not cluster.directory.exists()


def test_a_port_that_was_taken_meanwhile_is_replaced(cluster: LocalCluster) -> None:

    before = cluster.up(brokers=1, controllers=1).brokers[0]
    cluster.down()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", before.ports["HTTP"]))
        thief.listen()
        after = cluster.up().brokers[0]
    assert after.ports["HTTP"] != before.ports["HTTP"]
    assert after.ports["GRPC"] == before.ports["GRPC"]


def test_a_folder_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(CommandError, match=r"can not use the folder .*file/local: Not a directory"):
        fake_cluster(tmp_path / "file" / "local").up()
    with pytest.raises(CommandError, match="comma"):
        fake_cluster(tmp_path / "a,b")


def test_settings_are_checked_before_anything_starts(cluster: LocalCluster) -> None:
    with pytest.raises(UsageError, match=r"node\.id"):
        cluster.up(settings={"node.id": "7"})
    with pytest.raises(ConfigError, match=r"did you mean 'num\.partitions'"):
        cluster.up(settings={"num.partition": "7"})
    assert not cluster.directory.exists()


# --- one node ---------------------------------------------------------------------------------------------


def test_kill_restart_pause_resume_stop(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1)
    cluster.kill("broker-1")
    assert conditions(cluster)["broker-1"] == "dead"
    cluster.restart("broker-1")
    assert conditions(cluster)["broker-1"] == "running"
    cluster.pause("broker-1")
    assert conditions(cluster)["broker-1"] == "paused"
    cluster.resume("broker-1")
    assert conditions(cluster)["broker-1"] == "running"
    cluster.pause("broker-1")
    assert cluster.stop("broker-1")
    assert conditions(cluster)["broker-1"] == "stopped"
    assert conditions(cluster)["controller-1"] == "running"


def test_a_running_node_is_restarted_as_another_process(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1)
    before = marks(cluster)[0]
    cluster.restart("controller-1")
    assert marks(cluster)[0] != before
    with pytest.raises(CommandError, match="controller-1 already runs"):
        cluster.start("controller-1")


def test_what_can_not_be_done_to_a_node_says_why(cluster: LocalCluster) -> None:
    cluster.up(brokers=1, controllers=1)
    with pytest.raises(CommandError, match="no node is called 'broker-7'; there are controller-1, broker-1"):
        cluster.kill("broker-7")
    cluster.kill("broker-1")
    for action in (cluster.kill, cluster.stop, cluster.pause, cluster.resume):
        with pytest.raises(CommandError, match="broker-1 does not run; `glasslog local restart broker-1`"):
            action("broker-1")


def test_two_nodes_restarted_at_once_are_both_remembered(cluster: LocalCluster) -> None:
    cluster.up(brokers=2, controllers=1)
    names = ["broker-1", "broker-2"]
    for name in names:
        cluster.kill(name)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(cluster.restart, names))
    assert set(conditions(cluster).values()) == {"running"}


# --- processes --------------------------------------------------------------------------------------------


def test_a_reused_process_id_is_not_taken_for_the_process() -> None:
    """The system gives a process id to another process sooner or later: signals must not reach it."""
    myself = ProcessMark(pid=os.getpid(), birth="long ago")
    assert processes.condition(myself) is Condition.GONE
    assert not processes.send(myself, signal.SIGKILL)


def test_a_zombie_counts_as_gone(tmp_path: Path) -> None:
    mark = processes.spawn(
        [sys.executable, "-S", "-c", "pass"], output=tmp_path / "log", folder=tmp_path, environment=os.environ
    )
    assert processes.wait_gone([mark], timeout_s=10) == ()


# --- state, layout, logs ----------------------------------------------------------------------------------


def test_the_default_directory_follows_the_environment() -> None:
    assert default_directory({"GLASSLOG_DIR": "/somewhere"}) == Path("/somewhere")
    assert default_directory({"XDG_STATE_HOME": "/state"}) == Path("/state/glasslog/local")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9}', '{"version": 1, "cluster_id": 4}'])
def test_a_foreign_state_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / state.STATE_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=r"cluster\.json is not the state of a local cluster"):
        state.load(tmp_path)


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    mark = ProcessMark(pid=7, birth="then")
    node = layout.broker(1, {"GRPC": 1, "KAFKA": 2, "HTTP": 3})
    dead = state.NodeState(name="x", role="controller", node_id=4, rack="", ports={}, process=mark)
    saved = state.ClusterState(cluster_id="c", settings={"a": "b"}, nodes=(node, dead))
    state.save(tmp_path, saved)
    assert state.load(tmp_path) == saved


def test_the_environment_can_not_make_all_nodes_one() -> None:
    kept = layout.environment_for_nodes(
        {"GLASSLOG_NODE_ID": "4", "GLASSLOG_LOG_LEVEL": "DEBUG", "PATH": "x", "GLASSLOG_LOG_DIRS": "y"}
    )
    assert kept == {"GLASSLOG_LOG_LEVEL": "DEBUG", "PATH": "x"}


def test_last_words_are_those_since_the_last_start(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    assert logs.last_words(path) == f"it said nothing ({path})"
    logs.begin(path)
    with path.open("a", encoding="utf-8") as file:
        file.write("one\nglasslog server: port taken\ncleanup\n")
    assert logs.last_words(path) == "port taken"
    logs.begin(path)
    assert logs.last_words(path) == f"it said nothing ({path})"


def test_tail_and_follow(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    lines = [f"line {number} {'x' * 50}" for number in range(5_000)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert logs.tail(path, 0) == []
    assert logs.tail(path, 3) == lines[-3:]
    assert logs.tail(path, 10_000) == lines
    seen: list[str] = []
    done = threading.Event()
    for line in logs.follow(path, 1, cancelled=done.is_set):
        seen.append(line)
        if len(seen) == 1:
            with path.open("a", encoding="utf-8") as file:
                file.write("fresh\n")
        else:
            done.set()
    assert seen == [lines[-1], "fresh"]
