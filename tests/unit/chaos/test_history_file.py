"""What clients did and saw is in the file from the moment on at which it has ended."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.chaos.history_file import HistoryFile
from glasslog.chaos.run.recorder import Recorder
from glasslog.checker.operations import Acks, Fault, History
from glasslog.checker.reading import read_history
from glasslog.checker.verdict import check
from glasslog.client.cli.errors import CommandError


def in_file(path: Path) -> History:
    def lines() -> Iterator[bytes]:
        with path.open("rb") as file:
            yield from file

    return read_history(lines())


def send(recorder: Recorder, number: int) -> None:
    batch = recorder.sending(
        "p", "orders-0", (f"p/{number}",), acks=Acks.ALL, is_idempotent=True, now_ms=number
    )
    recorder.acknowledged(batch, number, number + 1)


def test_what_has_ended_is_there_if_the_tool_dies_now(tmp_path: Path) -> None:
    """The history was written in the end: when the tool was killed, nobody could judge what it had done."""
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path, "a run")
    recorder = Recorder(file.operation, file.fault)
    send(recorder, 0)
    recorder.fault(Fault(name="kill broker-1", start_ms=0, end_ms=1))
    found = in_file(path)
    assert (found.name, len(found.operations), [fault.name for fault in found.faults]) == (
        "a run",
        1,
        ["kill broker-1"],
    )
    assert not check(found).is_good, "nobody has read it to the end"
    file.close(keep=False)


def test_in_the_end_it_is_the_history_that_was_judged(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path, "a run")
    recorder = Recorder(file.operation, file.fault)
    late = recorder.sending("q", "orders-0", ("p/9",), acks=Acks.ALL, is_idempotent=True, now_ms=0)
    send(recorder, 0)
    recorder.acknowledged(late, 1, 5)
    recorder.polled("r", {"orders-0": [(0, "p/0"), (1, "p/9")]}, start_ms=6, now_ms=7, is_drain=True)
    recorder.drained = ("orders-0",)
    recorder.replicas = {"orders-0": ("broker-1",)}
    history = recorder.recorded("a run")
    file.end(history)
    assert file.close(keep=False) is None
    found = in_file(path)
    assert check(history).is_good
    assert [each.index for each in found.operations] == [0, 1, 2]
    assert (check(found).is_good, check(found).sent, check(found).read) == (True, 2, 2)
    assert (found.faults, found.replicas, found.end) == (history.faults, history.replicas, history.end)


def test_a_run_that_never_began_leaves_what_there_was(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("of yesterday")
    assert HistoryFile(path, "a run").close(keep=True) is None
    assert path.read_text() == "of yesterday"


@pytest.mark.parametrize("keep", [True, False])
def test_one_that_nobody_asked_for_is_kept_only_if_it_tells_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = HistoryFile(None, "a run")
    send(Recorder(file.operation), 0)
    kept = file.close(keep=keep)
    assert list(tmp_path.glob("*/history.jsonl")) == ([kept] if keep else [])
    assert len(list(tmp_path.iterdir())) == int(keep)


def test_a_full_disk_is_told_in_one_line() -> None:
    file = HistoryFile(Path("/dev/full"), "a run")
    with pytest.raises(CommandError, match="the history /dev/full: No space left on device"):
        send(Recorder(file.operation), 0)
    assert file.close(keep=True) is None
