"""``glasslog chaos run`` as a person runs it, on local processes: verdicts, refusals, everything undone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from glasslog.chaos.scenario.shipped import shipped_names
from glasslog.checker.reading import read_history
from glasslog.checker.verdict import check
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.local.processes import Condition, kill

GLASSLOG = [sys.executable, "-m", "glasslog.client"]
DEADLINE_S = 110
PAUSED_FOR_LONG = """\
name: long-pause
description: A broker and a controller are away for longer than anybody waits.
duration: 300s
topics: [{name: orders}]
steps:
  - {at: 1s, pause: broker 2}
  - {at: 1s, kill: broker 3}
  - {at: 1s, pause: controller 1}
  - {at: 1s, partition: broker 1}
"""

CUT_OFF = """\
name: cut-off
description: A leader and the active controller are cut off from the others, for longer than a session lasts.
duration: 22s
topics: [{name: orders, partitions: 2, configs: {min.insync.replicas: 2}}]
steps:
  - {at: 1s, partition: active controller, for: 5s}
  - {at: 7s, partition: leader of orders-0, for: 14s}
"""
SLOW_AND_NARROW = """\
name: ways
description: Everything else that can happen to what goes between nodes.
duration: 17s
topics: [{name: orders, configs: {min.insync.replicas: 2}}]
steps:
  - {at: 1s, latency: leader of orders-0, by: 300ms, for: 2s}
  - {at: 4s, one-way: follower of orders-0, for: 2s}
  - {at: 7s, bandwidth: leader of orders-0, kb per s: 30, for: 2s}
  - {at: 10s, reset: leader of orders-0, for: 2s}
  - {at: 13s, disconnect: leader of orders-0, for: 3s}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path_factory.mktemp("chaos"))
    cluster.up(settings={"chaos.enabled": "true"})
    yield cluster
    cluster.down(delete=True)


def chaos(cluster: LocalCluster, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return glasslog_chaos_run("--dir", str(cluster.directory), *arguments)


def glasslog_chaos_run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*GLASSLOG, "chaos", "run", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def until_ready(cluster: LocalCluster) -> None:
    """All nodes are, and nobody is at work any more who would start them."""
    deadline = time.monotonic() + 60
    while not all(cluster.is_ready(node.name) for node in cluster.nodes()) or watchdogs(cluster):
        assert time.monotonic() < deadline, [cluster.readiness(node.name) for node in cluster.nodes()]
        time.sleep(0.1)


def watchdogs(cluster: LocalCluster) -> list[str]:
    lines = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    return [
        line for line in lines.splitlines() if "chaos.watchdog" in line and str(cluster.directory) in line
    ]


def toxics(cluster: LocalCluster) -> int:
    """How many there are now on the ways between nodes."""
    proxies = cluster.proxies
    assert proxies is not None
    with urlopen(f"http://{proxies.api}/proxies", timeout=10) as answer:
        return sum(len(proxy["toxics"]) for proxy in json.load(answer).values())


def topics(cluster: LocalCluster) -> str:
    bootstrap = ",".join(cluster.bootstrap)
    command = [*GLASSLOG, "topic", "list", "--bootstrap", bootstrap]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_run_ends_with_a_verdict_and_leaves_nothing_behind(cluster: LocalCluster, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    arguments = ("--duration", "4", "--every", "4", "--faults", "kill", "--seed", "5", "--format", "json")
    done = chaos(cluster, *arguments, "--history", str(history))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["passed"] is True
    assert len(told["faults"]) == 1
    assert told["faults"][0].startswith("kill ")
    assert told["acknowledged"] > 100
    words = "--duration 4 --faults kill --every 4 --rate 200 --seed 5"
    assert told["replay"] == f"glasslog chaos run {words} --dir {cluster.directory}"
    with history.open("rb") as file:
        assert check(read_history(iter(file))).is_good
    assert "chaos" not in topics(cluster)
    until_ready(cluster)


def test_a_partition_between_processes_is_one(cluster: LocalCluster, tmp_path: Path) -> None:
    """The active controller and a leader are cut off, on open connections, for longer than others wait."""
    path = tmp_path / "cut.yaml"
    path.write_text(CUT_OFF)
    done = chaos(cluster, str(path), "--format", "json", "--report", str(tmp_path / "report.html"))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [each.partition(" (")[2] for each in told["faults"]] == [
        "active controller)",
        "leader of orders-0)",
    ]
    assert told["given_up"] == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "into: partition controller-" in text, "the active controller was not replaced"
    assert "into: partition broker-" in text, "the leader was not replaced"
    until_ready(cluster)


def test_ways_between_processes_are_slow_narrow_one_way_and_broken(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    path = tmp_path / "ways.yaml"
    path.write_text(SLOW_AND_NARROW)
    done = chaos(cluster, str(path), "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert len(told["faults"]) == 5
    assert told["ack_max_ms"] > 300, "nothing was slowed down"
    until_ready(cluster)


def test_proxies_are_all_that_is_needed(cluster: LocalCluster, tmp_path: Path) -> None:
    """The same file, on a cluster of which only the proxies and the brokers' addresses are known."""
    path = tmp_path / "ways.yaml"
    path.write_text(SLOW_AND_NARROW)
    proxies = cluster.proxies
    assert proxies is not None
    where = ("--on", "proxies", "--toxiproxy", proxies.api, "--bootstrap", ",".join(cluster.bootstrap))
    done = glasslog_chaos_run(str(path), *where, "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert len(told["faults"]) == 5
    assert told["ack_max_ms"] > 300, "nothing was slowed down"
    assert told["replay"].endswith(" ".join(where))
    assert toxics(cluster) == 0
    for arguments, why in (
        (("leader-kill", *where), "kill happens to processes"),
        ((str(path), "--on", "proxies", "--toxiproxy", "127.0.0.1:1"), "at 127.0.0.1:1 do not answer"),
        ((str(path), "--toxiproxy", proxies.api), "--toxiproxy is not of --on local"),
        ((str(path), "--on", "proxies", "--toxiproxy", "here"), "--toxiproxy here is not HOST:PORT"),
    ):
        refused = glasslog_chaos_run(*arguments)
        assert (refused.returncode > 0, refused.stdout) == (True, "")
        (line,) = refused.stderr.splitlines()
        assert why in line


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_scenario_passes_and_is_reported(
    cluster: LocalCluster, tmp_path: Path, name: str
) -> None:
    report = tmp_path / "report.html"
    done = chaos(cluster, name, "--report", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" not in done.stdout
    assert "verdict       PASSED" in done.stdout
    text = report.read_text(encoding="utf-8")
    assert f"<h1>{name}</h1>" in text
    assert text.count("<polyline") >= 4
    assert len(text) < 2_000_000


def begun(cluster: LocalCluster, tmp_path: Path) -> "subprocess.Popen[str]":
    """A run whose four faults have been done."""
    scenario, history = tmp_path / "long-pause.yaml", tmp_path / "history.jsonl"
    scenario.write_text(PAUSED_FOR_LONG)
    process = subprocess.Popen(
        [
            *GLASSLOG,
            "chaos",
            "run",
            str(scenario),
            "--dir",
            str(cluster.directory),
            "--history",
            str(history),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Where tests run in the background of a shell, interrupts are ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    deadline = time.monotonic() + 60
    wanted = {"broker-2": Condition.PAUSED, "broker-3": Condition.GONE, "controller-1": Condition.PAUSED}
    while any(cluster.condition(name) is not condition for name, condition in wanted.items()) or not toxics(
        cluster
    ):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_faults_are_undone_however_the_run_ends(
    cluster: LocalCluster, tmp_path: Path, number: signal.Signals
) -> None:
    """A tool that is killed can undo nothing: its watchdog does."""
    process = begun(cluster, tmp_path)
    try:
        os.kill(process.pid, number)
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == (-number if number is signal.SIGKILL else 130)
    until_ready(cluster)
    assert toxics(cluster) == 0
    with (tmp_path / "history.jsonl").open("rb") as file:
        assert len(read_history(iter(file)).operations) > 0
    if number is not signal.SIGKILL:
        assert "orders" not in topics(cluster)


def test_a_cluster_that_is_unwell_is_left_alone(cluster: LocalCluster) -> None:
    cluster.kill("broker-1")
    try:
        done = chaos(cluster, "leader-kill")
        assert cluster.condition("broker-1") is Condition.GONE
    finally:
        cluster.restart("broker-1")
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert "unwell before anything was done to it" in line
    assert "broker-1" in line


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("--faults", "burn"), 2, "no such kind; there are kill, stop"),
        (("--duration", "3", "--every", "10"), 2, "no fault would come"),
        (("leader-kill", "--duration", "3"), 2, "a scenario says it itself"),
        (("no-such.yaml",), 1, "is no file and no scenario of ours"),
        (("leader-kill", "--history", "/no/such/folder/h"), 1, "/no/such/folder/h"),
        (("leader-kill", "--report", "/no/such/folder/r"), 1, "/no/such/folder/r"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(
    cluster: LocalCluster, arguments: tuple[str, ...], status: int, why: str
) -> None:
    done = chaos(cluster, *arguments)
    assert done.returncode == status
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert why in line


def test_a_scenario_that_asks_for_more_than_there_is_is_refused(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    path = tmp_path / "big.yaml"
    path.write_text(PAUSED_FOR_LONG.replace("duration", "cluster: {brokers: 5}\nduration"))
    done = chaos(cluster, str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs 5 brokers, and the cluster has 3" in done.stderr


@pytest.mark.parametrize("target", ["broker 9", "rack z", "controller 7"])
def test_a_target_that_nobody_can_ever_be_is_refused(
    cluster: LocalCluster, tmp_path: Path, target: str
) -> None:
    """The run left the fault out with a remark, broke nothing at all, and passed."""
    path = tmp_path / "nobody.yaml"
    path.write_text(PAUSED_FOR_LONG.replace("pause: broker 2", f"pause: {target}"))
    done = chaos(cluster, str(path))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"glasslog: scenario long-pause, line 6: there is no {target}; there are ")


def test_a_cluster_whose_proxies_are_gone_is_left_alone(cluster: LocalCluster) -> None:
    proxies = cluster.proxies
    assert proxies is not None
    assert proxies.process is not None
    kill([proxies.process])
    try:
        for arguments, begins in (
            (("--faults", "latency"), "glasslog: scenario mix: the process of the proxies"),
            (("leader-kill",), "glasslog: the cluster is unwell before anything was done to it: the process"),
        ):
            done = chaos(cluster, *arguments)
            assert (done.returncode, len(done.stdout.splitlines())) in ((1, 0), (1, 1))
            (line,) = done.stderr.splitlines()
            assert line.startswith(begins)
            assert "(toxiproxy) does not run" in line
    finally:
        cluster.restore_proxies()
        cluster.wait_proxies()
    until_ready(cluster)


def test_a_cluster_that_is_not_marked_is_left_alone(cluster: LocalCluster) -> None:
    cluster.down()
    cluster.up(settings={})
    try:
        done = chaos(cluster, "leader-kill")
        unproxied = chaos(cluster, "--faults", "latency")
    finally:
        cluster.down()
        cluster.up(settings={"chaos.enabled": "true"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "latency needs proxies between the nodes" in unproxied.stderr
    assert "this cluster is not marked for chaos: broker-1, broker-2, broker-3" in line
