"""Replicas moved between the data directories of a real broker, with our command and with Kafka's tools."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.golden.kafka_tools import class_path

DEADLINE_S = 60.0


class Node(NamedTuple):
    """A whole cluster in one process, with two data directories."""

    folder: Path
    grpc: str
    kafka: str

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def glasslog(self, *arguments: str, text: str = "", status: int = 0) -> str:
        """Standard output, and standard error when the command is to fail."""
        done = subprocess.run(
            [sys.executable, "-m", "glasslog.client", *arguments, "--bootstrap", self.grpc],
            input=text,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stdout + done.stderr

    def holding(self, topic: str) -> str:
        """The directory that a topic's partition lies in."""
        (found,) = [name for name in ("d1", "d2") if (self.folder / name / f"{topic}-0").exists()]
        return found

    def plan(self, topic: str, directory: str) -> Path:
        file = self.folder / f"{topic}.json"
        one = {"topic": topic, "partition": 0, "replicas": [1], "log_dirs": [self.path(directory)]}
        file.write_text(json.dumps({"version": 1, "partitions": [one]}))
        return file


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert isinstance(port, int)
        return port


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("directories")
    grpc, kafka, controller = (f"127.0.0.1:{free_port()}" for _ in range(3))
    config = folder / "node.properties"
    config.write_text(
        "\n".join(
            (
                "node.id=1",
                "process.roles=broker,controller",
                "cluster.id=AAAAAAAAAAAAAAAAAAAAAA",
                f"listeners=GRPC://{grpc},KAFKA://{kafka},CONTROLLER://{controller}",
                f"controller.quorum.voters=1@{controller}",
                f"log.dirs={folder}/d1,{folder}/d2",
                f"http.listener=127.0.0.1:{free_port()}",
                "offsets.topic.replication.factor=1",
            )
        )
    )
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "glasslog.client", "server", "--config", str(config)], stdout=log, stderr=log
    )
    made = Node(folder, grpc, kafka)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while "online" not in _directories(made):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            assert process.poll() is None, (folder / "log").read_text()
        yield made
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        log.close()


def _directories(node: Node) -> str:
    try:
        return node.glasslog("partition", "directories")
    except AssertionError:
        return ""


LINES = "".join(f"line {number}\n" for number in range(300))


def written(node: Node, topic: str) -> None:
    node.glasslog("topic", "create", topic)
    node.glasslog("produce", topic, text=LINES)


def read(node: Node, topic: str) -> str:
    return node.glasslog("consume", topic, "--from-beginning", "--max-records", "300", "--values-only")


def test_a_plan_with_data_directories_is_shown_and_done_and_verified(node: Node) -> None:
    written(node, "ours")
    there = "d2" if node.holding("ours") == "d1" else "d1"
    plan = str(node.plan("ours", there))
    assert "broker 1: in" in node.glasslog("partition", "verify", "--plan-file", plan, status=1)
    node.glasslog("partition", "reassign", "--plan-file", plan)
    assert node.holding("ours") != there, "it was only shown"
    node.glasslog("partition", "reassign", "--plan-file", plan, "--execute", "--watch")
    assert node.holding("ours") == there
    assert "there" in node.glasslog("partition", "verify", "--plan-file", plan)
    assert read(node, "ours") == LINES
    listed = json.loads(node.glasslog("partition", "directories", "--format", "json"))
    (holding,) = [each for each in listed if any(part["topic"] == "ours" for part in each["partitions"])]
    assert holding["path"] == node.path(there)
    assert 0 < holding["usable_bytes"] <= holding["total_bytes"]
    nowhere = str(node.plan("ours", "d9"))
    refused = node.glasslog("partition", "reassign", "--plan-file", nowhere, "--execute", status=1)
    assert "no such data directory" in refused


def test_kafkas_own_tools_move_between_directories(node: Node) -> None:
    class_path()
    written(node, "theirs")
    there = "d2" if node.holding("theirs") == "d1" else "d1"
    plan = str(node.plan("theirs", there))
    moving = ("--reassignment-json-file", plan)
    executed = java(node, "reassign.ReassignPartitionsCommand", "--execute", *moving)
    assert "Successfully started moving log directory" in executed
    deadline = time.monotonic() + DEADLINE_S
    while "is still in progress" in (
        verified := java(node, "reassign.ReassignPartitionsCommand", "--verify", *moving)
    ):
        assert time.monotonic() < deadline, verified
    assert "theirs-0 on broker 1 is complete" in verified or "completed successfully" in verified
    assert node.holding("theirs") == there
    described = java(node, "LogDirsCommand", "--describe", "--topic-list", "theirs")
    found = json.loads(next(line for line in described.splitlines() if line.startswith("{")))
    (holding,) = [each for each in found["brokers"][0]["logDirs"] if each["partitions"]]
    assert holding["logDir"] == node.path(there)
    assert [each["isFuture"] for each in holding["partitions"]] == [False]
    assert read(node, "theirs") == LINES


def java(node: Node, name: str, *arguments: str) -> str:
    command = ("java", "-XX:TieredStopAtLevel=1", "-cp", class_path(), f"org.apache.kafka.tools.{name}")
    done = subprocess.run(
        (*command, "--bootstrap-server", node.kafka, *arguments),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
