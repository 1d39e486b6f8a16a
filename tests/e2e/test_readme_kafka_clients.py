"""README's "Use your Kafka client", as printed, against a local cluster and against docker-compose's.

``GLASSLOG_COMPOSE_BOOTSTRAP`` in the environment names the KAFKA address of a cluster that ``make up``
started (``localhost:19092``); without it that half is skipped, as are the lines of tools that are not there.
"""

import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.client.cli.local.cluster import LocalCluster

from tests.e2e.test_readme import Reader, Step, steps
from tests.golden.kafka_tools import class_path
from tests.source_tree import ROOT

TITLE = "### Use your Kafka client\n"
TOOLS = {
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}
"""What the scripts of a Kafka distribution run."""


def section() -> str:
    """Up to the next title."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split(TITLE)[1]
    return text.split("\n### ")[0]


def shell_lines() -> list[str]:
    """The commands of the blocks that README's own test does not run."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.fixture(scope="module", params=["local", "compose"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Somebody with a cluster, and records in it that the Python programs of the section have written."""
    folder = tmp_path_factory.mktemp("kafka-clients")
    if request.param == "compose":
        bootstrap = os.environ.get("GLASSLOG_COMPOSE_BOOTSTRAP", "")
        if not bootstrap:
            pytest.skip("GLASSLOG_COMPOSE_BOOTSTRAP names no cluster that `make up` started")
        yield following(folder, bootstrap)
        return
    cluster = LocalCluster(folder / "local")
    try:
        brokers = cluster.up().brokers
        yield following(folder, ",".join(broker.address("KAFKA") for broker in brokers))
    finally:
        if cluster.is_running():
            cluster.down()


def following(folder: Path, bootstrap: str) -> Reader:
    """A reader who has done what the section says for Python."""
    path = os.pathsep.join((str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
    reader = Reader(folder, {**os.environ, "PATH": path, "KAFKA_BOOTSTRAP": bootstrap})
    programs = [step for step in steps(section()) if step.kind == "python"]
    assert len(programs) == 2
    for step in programs:
        complaint = reader.follow(step)
        assert not complaint, complaint
    return reader


def follow_lines_of(reader: Reader, program: str) -> None:
    lines = [line for line in shell_lines() if program in line]
    assert lines, f"README does not show {program}"
    for line in lines:
        complaint = reader.follow(Step(0, "console", line, ""))
        assert not complaint, complaint


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_kcat_as_printed(reader: Reader) -> None:
    follow_lines_of(reader, "kcat")


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_kafkas_console_tools_as_printed(reader: Reader, tool: str) -> None:
    script = reader.folder / "bin" / tool
    script.parent.mkdir(exist_ok=True)
    script.write_text(
        f'#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -cp "{class_path()}" {TOOLS[tool]} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    follow_lines_of(reader, tool)


def test_every_line_of_the_section_is_run_by_a_test_here() -> None:
    programs = ("kcat", *TOOLS)
    assert [line for line in shell_lines() if not any(program in line for program in programs)] == []
