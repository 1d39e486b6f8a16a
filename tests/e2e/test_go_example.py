"""``examples/go`` does what README says: a client made from the .proto files alone writes and reads a topic.

Skipped where there is no Go, or where its modules can not be had.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.sync import Consumer, Producer
from glasslog.common.ids import TopicPartition

from tests.source_tree import ROOT

BUILD_TIMEOUT_S, RUN_TIMEOUT_S = 70, 30
RECORDS = 1_700


class Workshop:
    """A copy of the example beside the .proto files, so that nothing is left in the tree."""

    def __init__(self, folder: Path) -> None:
        self.example = folder / "examples" / "go"
        unwanted = shutil.ignore_patterns("bin", "glasslogv1", "glasslog.example")
        shutil.copytree(ROOT / "examples" / "go", self.example, ignore=unwanted)
        shutil.copytree(ROOT / "proto", folder / "proto", ignore=shutil.ignore_patterns("*.py*"))
        tools = folder / "tools"
        tools.mkdir()
        protoc = tools / "protoc"
        protoc.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m grpc_tools.protoc "$@"\n')
        protoc.chmod(0o755)
        # Of another Go than the one that is here nothing is downloaded.
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-buildvcs=false",
        }

    def run(
        self, *command: str, timeout_s: float, given: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        with subprocess.Popen(
            command,
            cwd=self.example,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, said = process.communicate(given, timeout=timeout_s)
            except subprocess.TimeoutExpired:
                # With the compilers that it has started, which would hold the pipes open.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, said)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    if shutil.which("go") is None:
        pytest.skip("needs Go")
    made = Workshop(tmp_path_factory.mktemp("go"))
    deadline = time.monotonic() + BUILD_TIMEOUT_S
    for command in (("go", "mod", "download"), ("./generate.sh",), ("go", "build")):
        try:
            done = made.run(*command, timeout_s=deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            # What Go has fetched and compiled by now it keeps for the next time.
            pytest.skip(f"Go did not come to the end of {command[0]} within {BUILD_TIMEOUT_S} s")
        if done.returncode and command[-1] == "download":
            pytest.skip(f"Go's modules can not be had: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("go-cluster") / "local")
    made.up()
    yield made
    made.down()


def test_it_is_made_of_the_protos_and_tidy(workshop: Workshop) -> None:
    assert (workshop.example / "glasslogv1" / "broker_grpc.pb.go").exists()
    sources = [path.name for path in workshop.example.glob("*.go")]
    assert workshop.run("gofmt", "-l", *sources, timeout_s=RUN_TIMEOUT_S).stdout == ""


def test_what_it_writes_others_read_and_the_other_way_round(
    workshop: Workshop, cluster: LocalCluster
) -> None:
    brokers = ("-brokers", ",".join(cluster.bootstrap))
    lines = "".join(f"line {number}\n" for number in range(RECORDS))
    written = workshop.run(
        "./glasslog.example", *brokers, "produce", "go", timeout_s=RUN_TIMEOUT_S, given=lines
    )
    assert written.returncode == 0, written.stderr
    partition = TopicPartition("go", 0)
    with Consumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        found = [record.value for _, record in zip(range(RECORDS), consumer, strict=False)]
    assert found == [line.encode() for line in lines.splitlines()]
    with Producer(cluster.bootstrap) as producer:
        producer.send("go", "grüße".encode(), key=b"keyed", partition=0)
    read = workshop.run("./glasslog.example", *brokers, "consume", "go", timeout_s=RUN_TIMEOUT_S)
    assert read.returncode == 0, read.stderr
    values = [*lines.splitlines(), "grüße"]
    assert read.stdout.splitlines() == [f"0\t{offset}\t{value}" for offset, value in enumerate(values)]


def test_what_can_not_be_is_said(workshop: Workshop, cluster: LocalCluster) -> None:
    brokers = ("-brokers", ",".join(cluster.bootstrap))
    refused = workshop.run(
        "./glasslog.example", *brokers, "produce", "no/topic", timeout_s=RUN_TIMEOUT_S, given="x\n"
    )
    assert refused.returncode == 1
    assert "no/topic" in refused.stderr
