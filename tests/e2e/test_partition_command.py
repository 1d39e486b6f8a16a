"""``glasslog partition`` against a real cluster: a plan is shown, kept in a file, done, verified."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.client.cli.local.cluster import LocalCluster

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("cluster") / "local")
    made.up(brokers=4)
    yield made
    made.down()


def glasslog(cluster: LocalCluster, *arguments: str, text: str = "", status: int = 0) -> str:
    """Standard output, and standard error when the command is to fail."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GLASSLOG_")}
    done = subprocess.run(
        [sys.executable, "-m", "glasslog.client", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=kept | {"GLASSLOG_DIR": str(cluster.directory)},
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


def test_a_plan_is_shown_and_done_and_verified(cluster: LocalCluster, tmp_path: Path) -> None:
    glasslog(cluster, "topic", "create", "moved", "--partitions", "6", "--replication-factor", "2")
    lines = "".join(f"line {number}\n" for number in range(600))
    glasslog(cluster, "produce", "moved", text=lines)
    plan = ("partition", "reassign", "--plan", "--topics", "moved", "--brokers", "3,4")
    shown = glasslog(cluster, *plan)
    assert "COPIED TO" in shown
    assert "to copy." in shown

    file, back = tmp_path / "plan.json", tmp_path / "back.json"
    file.write_text(glasslog(cluster, *plan, "--format", "json"))
    partitions = json.loads(file.read_text())["partitions"]
    assert {tuple(sorted(each["replicas"])) for each in partitions} == {(3, 4)}
    assert "elsewhere" in glasslog(cluster, "partition", "verify", "--plan-file", str(file), status=1)
    done = ("partition", "reassign", "--plan-file", str(file), "--execute", "--watch")
    glasslog(cluster, *done, "--save-current", str(back))
    assert "there" in glasslog(cluster, "partition", "verify", "--plan-file", str(file))
    described = json.loads(glasslog(cluster, "topic", "describe", "moved", "--format", "json"))
    assert {tuple(sorted(each["replicas"])) for each in described[0]["partitions"]} == {(3, 4)}
    assert Counter(each["replicas"][0] for each in described[0]["partitions"]) == {3: 3, 4: 3}
    assert glasslog(cluster, *plan) == "Everything is where it should be.\n"

    glasslog(cluster, "partition", "reassign", "--plan-file", str(back), "--execute")
    verified = glasslog(cluster, "partition", "verify", "--plan-file", str(back), "--watch")
    assert {line.split()[-1] for line in verified.splitlines()[1:]} == {"there"}
    read = glasslog(cluster, "consume", "moved", "--from-beginning", "--max-records", "600", "--values-only")
    assert sorted(read.splitlines()) == sorted(lines.splitlines())


def test_a_move_that_waits_is_listed_and_cancelled(cluster: LocalCluster, tmp_path: Path) -> None:
    glasslog(cluster, "topic", "create", "waits", "--replication-factor", "1")
    described = json.loads(glasslog(cluster, "topic", "describe", "waits", "--format", "json"))
    (source,) = described[0]["partitions"][0]["replicas"]
    target = 1 + source % 4
    cluster.kill(f"broker-{target}")
    try:
        file = tmp_path / "plan.json"
        file.write_text(
            json.dumps(
                {
                    "version": 1,
                    "partitions": [{"topic": "waits", "partition": 0, "replicas": [target]}],
                }
            )
        )
        glasslog(cluster, "partition", "reassign", "--plan-file", str(file), "--execute")
        (moving,) = json.loads(glasslog(cluster, "partition", "list", "--format", "json"))
        assert (moving["adding_replicas"], moving["removing_replicas"]) == ([target], [source])
        verified = glasslog(cluster, "partition", "verify", "--plan-file", str(file), status=1)
        assert "moving" in verified
        assert glasslog(cluster, "partition", "cancel", "waits-0") == "waits-0 stays where it was.\n"
        assert "is not being moved" in glasslog(cluster, "partition", "cancel", "waits-0", status=1)
    finally:
        cluster.restart(f"broker-{target}")
    assert json.loads(glasslog(cluster, "partition", "list", "--format", "json")) == []


def test_copies_are_limited_until_all_is_where_it_should_be(cluster: LocalCluster, tmp_path: Path) -> None:
    glasslog(cluster, "topic", "create", "slow", "--replication-factor", "1")
    glasslog(cluster, "produce", "slow", text="".join(f"{number} {'x' * 1000}\n" for number in range(300)))
    described = json.loads(glasslog(cluster, "topic", "describe", "slow", "--format", "json"))
    (source,) = described[0]["partitions"][0]["replicas"]
    target = 1 + source % 3
    file = tmp_path / "plan.json"
    plan = {"version": 1, "partitions": [{"topic": "slow", "partition": 0, "replicas": [target]}]}
    file.write_text(json.dumps(plan))
    begin = ("partition", "reassign", "--plan-file", str(file), "--execute", "--throttle", "1000")
    glasslog(cluster, *begin)
    described = json.loads(glasslog(cluster, "topic", "describe", "slow", "--format", "json"))
    assert described[0]["configs"] == {
        "leader.replication.throttled.replicas": f"0:{source}",
        "follower.replication.throttled.replicas": f"0:{target}",
    }
    rates = glasslog(cluster, "config", "get", "brokers")
    assert "leader.replication.throttled.rate" in rates
    glasslog(cluster, "config", "delete", "topic", "slow", "leader.replication.throttled.replicas")
    glasslog(cluster, "config", "delete", "topic", "slow", "follower.replication.throttled.replicas")
    glasslog(cluster, "partition", "reassign", "--plan-file", str(file), "--execute", "--watch")
    file.write_text(json.dumps(plan).replace(f"[{target}]", f"[{source}]"))
    glasslog(cluster, *begin[:-1], "9999999", "--watch")
    described = json.loads(glasslog(cluster, "topic", "describe", "slow", "--format", "json"))
    assert described[0]["configs"] == {}
    assert "throttled" not in glasslog(cluster, "config", "get", "brokers")


def test_a_broker_is_taken_out_for_good(cluster: LocalCluster) -> None:
    glasslog(cluster, "topic", "create", "stays", "--partitions", "4", "--replication-factor", "3")
    shown = glasslog(cluster, "cluster", "decommission", "4")
    assert "COPIED TO" in shown
    assert "is alive" in glasslog(cluster, "cluster", "unregister", "4", status=1)
    done = glasslog(cluster, "cluster", "decommission", "4", "--execute", "--drain-only")
    assert done.endswith("Broker 4 holds nothing any more.\n")
    described = json.loads(glasslog(cluster, "topic", "describe", "stays", "--format", "json"))
    assert {tuple(sorted(each["replicas"])) for each in described[0]["partitions"]} == {(1, 2, 3)}
    cluster.stop("broker-4")
    done = glasslog(cluster, "cluster", "decommission", "4", "--execute")
    assert done.endswith("Broker 4 is unregistered.\n")
    assert "no broker is registered as 4" in glasslog(cluster, "cluster", "unregister", "4", status=1)
