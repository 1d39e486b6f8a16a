"""``examples/go`` does what README says: a client made from the .proto files alone writes and reads a topic.

Skipped where there is no Go, or where its modules can not be had.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.sync import Consumer, Producer
from glasslog.common.ids import TopicPartition

from tests.source_tree import ROOT

MODULES_TIMEOUT_S, BUILD_TIMEOUT_S, RUN_TIMEOUT_S = 60, 110, 60
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
        return subprocess.run(
            command,
            cwd=self.example,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    if shutil.which("go") is None:
        pytest.skip("needs Go")
    made = Workshop(tmp_path_factory.mktemp("go"))
    try:
        got = made.run("go", "mod", "download", timeout_s=MODULES_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"Go's modules did not come within {MODULES_TIMEOUT_S} s")
    if got.returncode:
        pytest.skip(f"Go's modules can not be had: {got.stderr.strip()[-300:]}")
    return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("go-cluster") / "local")
    made.up()
    yield made
    made.down()


def test_it_is_generated_and_tidy(workshop: Workshop) -> None:
    """A test of its own since the first time takes Go a while; what it compiled it keeps."""
    generated = workshop.run("./generate.sh", timeout_s=BUILD_TIMEOUT_S)
    assert generated.returncode == 0, generated.stderr
    assert (workshop.example / "glasslogv1" / "broker_grpc.pb.go").exists()
    sources = [path.name for path in workshop.example.glob("*.go")]
    assert workshop.run("gofmt", "-l", *sources, timeout_s=RUN_TIMEOUT_S).stdout == ""


def test_it_is_built(workshop: Workshop) -> None:
    built = workshop.run("go", "build", timeout_s=BUILD_TIMEOUT_S)
    assert built.returncode == 0, built.stderr


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
