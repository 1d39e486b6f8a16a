"""Where a node's settings come from, and what is said when they are wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from glasslog.common.errors import ConfigError
from glasslog.node import settings
from glasslog.node.__main__ import main

FILE = "node.id=1\nprocess.roles=broker\nnum.partitions=2\nlog.level=DEBUG\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.properties"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_the_environment_wins_over_the_file_and_set_over_both(file: Path) -> None:
    environment = {"GLASSLOG_NUM_PARTITIONS": "3", "GLASSLOG_NODE_ID": "9", "GLASSLOG_BOOTSTRAP": "x:1"}
    config = settings.load(file, environment=environment, assignments=["node.id=7"])
    assert (config.node_id, config.num_partitions, config.log_level) == (7, 3, "DEBUG")


@pytest.mark.parametrize(
    ("text", "environment", "assignments", "message"),
    [
        (FILE + "nod.id=3\n", {}, [], "node.properties: unknown setting 'nod.id'; did you mean 'node.id'?"),
        (FILE + "node.id=3\n", {}, [], "node.properties:5: 'node.id' is set twice"),
        (FILE, {"GLASSLOG_NODE_ID": "x"}, [], "environment: node.id='x' is not an integer"),
        (FILE, {}, ["num.partitions=0"], "--set: num.partitions='0' is out of range: at least 1"),
        ("node.id=1\n", {}, [], "node.properties: setting 'process.roles' is missing"),
    ],
)
def test_a_mistake_is_reported_with_its_source(
    file: Path, text: str, environment: dict[str, str], assignments: list[str], message: str
) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        settings.load(file, environment=environment, assignments=assignments)
    assert message in str(caught.value)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == (
        f"glasslog server: --config {tmp_path / 'none'} can not be read: No such file or directory\n"
    )


def test_every_setting_is_described_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--describe-config", "--format", "json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["node.id"]["default"] is None
    assert rows["log.level"]["choices"] == ["DEBUG", "INFO", "WARNING", "ERROR"]
    assert rows["node.id"]["dynamic"] is None
    assert rows["log.retention.ms"]["dynamic"] == "one broker, or every broker"
    assert main(["--describe-config"]) == 0
    text = capsys.readouterr().out
    assert all(f"{key}\n    {row['doc']}\n" in text for key, row in rows.items())


def test_a_node_loads_nothing_that_only_people_need() -> None:
    """At rest a broker has 60 MB, a controller 50 MB: what the command line uses must stay out of them."""
    program = (
        "import sys, glasslog.node.process, glasslog.node.roles, glasslog.node.settings,"
        " glasslog.broker.server, glasslog.controller.server, glasslog.common.runtime.production.transport\n"
        "print([name for name in ('click', 'rich', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
