"""The command as it is typed: exit status, one line for every error, JSON where it is asked for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from glasslog.client.cli.ending import orderly_ending
from glasslog.client.cli.errors import UsageError
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.cli.main import COMMANDS, main
from glasslog.client.cli.output import aligned
from glasslog.client.cli.properties import parse_properties
from glasslog.client.options import ConsumerOptions, ProducerOptions
from glasslog.common.errors import ConfigError
from glasslog.log.codec import DESCRIPTION

from tests.unit.cli.test_cli_local import FAKE


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No command of a test may find a cluster that runs on this machine."""
    monkeypatch.setenv("GLASSLOG_DIR", str(tmp_path / "local"))
    monkeypatch.delenv("GLASSLOG_BOOTSTRAP", raising=False)
    monkeypatch.setattr("glasslog.client.cli.local.cluster.NODE_COMMAND", FAKE)
    monkeypatch.setattr(LocalCluster.__init__, "__kwdefaults__", {"command": FAKE})
    yield tmp_path
    cluster = LocalCluster(tmp_path / "local")
    if cluster.is_running():
        cluster.down()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["nonsense"], 2, "No such command 'nonsense'; see `glasslog --help`"),
        (["local", "nonsense"], 2, "No such command 'nonsense'; see `glasslog local --help`"),
        (["local", "kill"], 2, "Missing argument 'NODE'; see `glasslog local kill --help`"),
        (["local", "up", "--brokers", "0"], 2, "0 is not in the range 1<=x<=99"),
        (["local", "up", "--set", "x"], 2, "--set: 'x' is not key=value"),
        (
            ["local", "up", "--set", "log.dirs=/x"],
            2,
            "--set log.dirs: a local cluster gives each node its own",
        ),
        (["local", "up", "--set", "num.partition=1"], 2, "did you mean 'num.partitions'?"),
        (["local", "status"], 1, "there is no cluster in "),
        (["local", "down"], 1, "there is no cluster in "),
        (["topic", "list"], 1, "no cluster is named and none runs in "),
        (["topic", "create", "t", "--config", "segment.byte=1"], 2, "did you mean 'segment.bytes'?"),
        (["topic", "alter", "t"], 2, "no setting of topic 't' is named"),
        (["topic", "add-partitions", "t", "--partitions", "2", "--replicas", "1;2"], 2, "is not ID,ID"),
        (["config", "get", "topics"], 2, "'topics' does not begin with topic NAME, broker ID or brokers"),
        (["config", "get", "broker", "1", "x"], 2, "'x' was not expected after broker 1"),
        (["config", "set", "brokers", "x"], 2, "config set: 'x' is not key=value"),
        (["config", "set", "topic", "t", "a=b", "--append", "--subtract"], 2, "exclude each other"),
        (["partition", "elect"], 2, "name partitions as TOPIC-PARTITION, or give --all"),
        (["partition", "elect", "t-0", "--preferred", "--unclean"], 2, "exclude each other"),
        (["cluster", "set-feature", "f=x"], 2, "the level of f is 'x', not a number"),
        (["topic", "list", "--bootstrap", "nowhere"], 2, "'nowhere' is not of the form host:port"),
        (["partition", "reassign"], 2, "give either --plan or --plan-file FILE"),
        (["partition", "reassign", "--plan", "--plan-file", "x"], 2, "give either --plan or --plan-file"),
        (["partition", "reassign", "--plan-file", "x", "--topics", "t"], 2, "taken whole"),
        (["partition", "reassign", "--plan", "--watch"], 2, "--watch and --throttle go with --execute"),
        (["partition", "reassign", "--plan", "--brokers", "1,x"], 2, "'1,x' is not ID,ID"),
        (["partition", "reassign", "--plan-file", "/no/such"], 1, "/no/such can not be read"),
        (["partition", "cancel"], 2, "name partitions, or give --all"),
        (["partition", "cancel", "orders"], 2, "'orders' is not TOPIC-PARTITION"),
        (["produce", "t", "--key-separator", ""], 2, "--key-separator can not be empty"),
        (["produce", "t", "--property", "linger=1"], 2, "--property linger: there is no such option"),
        (
            ["consume", "t", "--group", "g", "--partition", "1"],
            2,
            "--partition can not be chosen with",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    shown = capsys.readouterr()
    assert text in shown.err
    assert shown.err.startswith("glasslog: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_help_lists_every_command_without_loading_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"  {name} " in text
        assert entry.help in text


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "server"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: glasslog {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"glasslog {version('glasslog')}"
    assert second == f"codec of records: {DESCRIPTION}"


def test_help_and_server_start_without_what_they_do_not_need() -> None:
    program = (
        "import sys; from glasslog.client.cli.main import main; main(['--help'])\n"
        "print([name for name in ('rich', 'grpc', 'asyncio') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"


def test_server_becomes_a_node() -> None:
    command = [sys.executable, "-m", "glasslog.client", "server", "--set", "node.id=x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "glasslog server: --set: node.id='x' is not an integer\n"


# --- local ------------------------------------------------------------------------------------------------


def test_status_has_the_shape_that_scripts_rely_on(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["local", "up", "--brokers", "2", "--controllers", "1", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["dir"] == str(elsewhere / "local")
    (controller,) = shown["controllers"]
    assert controller.keys() >= {"id", "endpoint", "pid", "state"}
    broker = shown["brokers"][1]
    assert broker.keys() >= {"id", "rack", "grpc", "kafka", "http", "pid", "state", "log_dirs"}
    assert (broker["id"], broker["rack"], broker["state"]) == (2, "rack-b", "running")
    assert broker["log_dirs"] == [str(elsewhere / "local" / "broker-2" / "data")]
    os.kill(broker["pid"], 0)


def test_a_person_sees_a_table_and_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["local", "up", "--brokers", "1", "--controllers", "1"]) == 0
    shown = capsys.readouterr()
    header, controller, broker = shown.out.splitlines()
    assert header.split() == ["NODE", "ID", "STATE", "PID", "RACK", "GRPC", "KAFKA", "CONTROLLER", "HTTP"]
    assert controller.split()[:3] == ["controller-1", "101", "running"]
    assert broker.split()[:3] == ["broker-1", "1", "running"]
    assert "glasslog local down" in shown.err
    assert main(["local", "up"]) == 1
    assert "already runs" in capsys.readouterr().err
    assert main(["local", "kill", "broker-1"]) == 0
    assert main(["local", "status"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].split()[:4] == ["broker-1", "1", "dead", "-"]
    assert main(["local", "restart", "broker-1"]) == 0
    assert main(["local", "logs", "broker-1", "-n", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "broker-1 listens"
    assert main(["local", "down", "--delete"]) == 0
    assert capsys.readouterr().out.endswith("is deleted.\n")


# --- small parts ------------------------------------------------------------------------------------------


def test_ending_is_asked_for_by_signals_and_undone_after() -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    with orderly_ending() as ending:
        assert not ending()
        signal.raise_signal(signal.SIGINT)
        assert ending()
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_columns_are_as_wide_as_they_must_be() -> None:
    assert aligned(("a", "long name"), [("value", "x"), ("", "y")]) == (
        "A      LONG NAME\nvalue  x\n       y"
    )


def test_properties_take_kafka_names_and_types() -> None:
    found = parse_properties(ProducerOptions, ["linger.ms=7", "enable_idempotence=false", "client.id=x"])
    assert found == {"linger_ms": 7, "enable_idempotence": False, "client_id": "x"}
    found = parse_properties(ConsumerOptions, ["partition.assignment.strategy=range"])
    assert found == {"partition_assignment_strategy": ("range",)}
    with pytest.raises(UsageError, match="no such option"):
        parse_properties(ConsumerOptions, ["group.id=x"])
    with pytest.raises(ConfigError, match="not an integer"):
        parse_properties(ConsumerOptions, ["fetch.min.bytes=x"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_GLASSLOG_COMPLETE" in script
    asked = subprocess.run(
        [sys.executable, "-m", "glasslog.client"],
        env={
            **os.environ,
            "_GLASSLOG_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": "glasslog gro" if shell != "fish" else "glasslog",
            "COMP_CWORD": "gro" if shell == "fish" else "1",
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "group" in asked.stdout
