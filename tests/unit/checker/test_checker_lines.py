"""Bad lines of a history: told by number, what is wrong and what must be there; and ``glasslog check``."""

import json
from pathlib import Path

import pytest
from glasslog.checker import reading
from glasslog.checker.reading import HistoryError, read_history
from glasslog.client.cli.main import main

HISTORIES = Path(__file__).parent / "histories"
HEADER = '{"type":"history","version":1}'
SEND = (
    '{"type":"send","index":0,"process":"p","outcome":"ok",'
    '"start_ms":0,"end_ms":1,"steps":[["send","t-0","a",0]]}'
)
END = '{"type":"end","operations":1,"drained":["t-0"]}'


def changed(**fields: object) -> str:
    """The send with fields changed; ``None`` takes one away."""
    made = {**json.loads(SEND), **fields}
    return json.dumps({name: value for name, value in made.items() if value is not None})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "it is empty; a history starts with"),
        ([SEND], "line 1: a line of type 'send' before the header"),
        (['{"type":"history"}'], "line 1: field 'version' of 'history' is missing"),
        (['{"type":"history","version":2}'], "line 1: version 2 of the format; this is version 1"),
        ([HEADER, HEADER], "line 2: a second header"),
        ([HEADER, "{"], "line 2: no JSON: "),
        ([HEADER, "[" * 100_000], "line 2: no JSON: "),
        ([HEADER, "[1]"], "line 2: a list instead of an object"),
        ([HEADER, "{}"], "line 2: field 'type' is missing"),
        ([HEADER, '{"type":"read"}'], "line 2: type 'read' is none of send, poll,"),
        ([HEADER, changed(process=None)], "line 2: field 'process' of 'send' is missing"),
        ([HEADER, changed(index=None)], "line 2: field 'index' of 'send' is missing"),
        ([HEADER, changed(start_ms=None)], "line 2: field 'start_ms' of 'send' is missing"),
        ([HEADER, changed(steps=None)], "line 2: field 'steps' of 'send' is missing"),
        ([HEADER, changed(drian=True)], "line 2: unknown field 'drian' of 'send'"),
        ([HEADER, changed(index=-1)], "line 2: field 'index' is -1; it must be a whole number from 0"),
        ([HEADER, changed(index=True)], "line 2: field 'index' is true; it must be a whole number from 0"),
        (
            [HEADER, changed(outcome="maybe")],
            "field 'outcome' is \"maybe\"; it must be one of ok, fail, info",
        ),
        ([HEADER, changed(end_ms=-1)], "line 2: end_ms -1 is before start_ms 0"),
        ([HEADER, changed(end_ms=float("nan"))], "line 2: field 'end_ms' is NaN; it must be a number"),
        ([HEADER, changed(acks="2")], "field 'acks' is \"2\"; it must be one of 0, 1, all"),
        (
            [HEADER, changed(steps=[["send", "t-0"]])],
            'line 2: a step of \'send\' is ["send", "t-0"]; it must be',
        ),
        ([HEADER, changed(steps=[["poll", {}]])], "line 2: a step of 'send' is"),
        ([HEADER, changed(steps=[["send", "t-0", "a", -5]])], "line 2: a step of 'send' is"),
        (
            [HEADER, changed(type="poll", steps=[["poll", {"t-0": [[0]]}]])],
            "line 2: a record polled from 't-0' is [0]; it must be [OFFSET,VALUE]",
        ),
        ([HEADER, SEND, SEND], "line 3: operation 0 is there twice"),
        (
            [HEADER, changed(steps=[["send", "t-0", "a"]] * 2)],
            "by operation 0 and operation 0; values are unique",
        ),
        ([HEADER, SEND, changed(index=1)], "line 3: 'a' is sent to t-0 by operation 0 and operation 1"),
        ([HEADER, SEND, END, changed(index=1)], "line 4: a line of type 'send' after the end"),
        ([HEADER, changed(index=1), END], "the end counts 1 operations, but there is an operation 1"),
        (
            [HEADER, '{"type":"fault","name":"x","start_ms":1}'],
            "line 2: field 'end_ms' of 'fault' is missing",
        ),
    ],
)
def test_a_bad_line_is_named(lines: list[str], message: str) -> None:
    with pytest.raises(HistoryError) as caught:
        read_history(line.encode() for line in lines)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_endless_line_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 100)
    with pytest.raises(HistoryError, match="line 1: longer than 100 bytes"):
        read_history([b"{" * 101])


def test_only_a_complete_and_clean_history_ends_with_status_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = HISTORIES / "unseen.clean.jsonl"
    assert main(["check", str(clean)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "verdict: good"
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(clean.read_bytes().splitlines(keepends=True)[:-1]))
    assert main(["check", str(cut)]) == 1
    shown = capsys.readouterr().out
    assert "incomplete: it has no end: the recording broke off" in shown
    assert "verdict: incomplete" in shown
    assert main(["check", str(HISTORIES / "lost-write.corrupted.jsonl")]) == 1
    shown = capsys.readouterr().out
    assert "lost-write in t-0: b, acknowledged at offset 1, was never read" in shown
    assert "verdict: bad" in shown


def test_the_verdict_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(HISTORIES / "duplicate.corrupted.jsonl"), "--format", "json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["verdict"] == "bad"
    assert verdict["complete"] is True
    assert verdict["counts"] == {"duplicate": 1}
    (anomaly,) = verdict["anomalies"]
    assert (anomaly["values"], anomaly["offsets"], anomaly["operations"]) == (["b"], [1, 3], [1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "is no history: it is empty"),
        (b"\xff\xfe", "is no history: line 1: no JSON"),
    ],
)
def test_what_is_no_history_is_one_line(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert main(["check", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
