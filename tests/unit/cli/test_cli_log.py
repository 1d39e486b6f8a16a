"""``glasslog log``: what it prints, as text and as JSON, and how it ends."""

import json
from pathlib import Path

import pytest
from glasslog.client.cli.main import main

from tests.golden.kafka_files import CLEAN, OURS

SEGMENT = CLEAN / "txn-0" / "00000000000000000002.log"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = main(["log", *(str(argument) for argument in arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def damaged(tmp_path: Path) -> Path:
    """A segment with a flipped bit in its second batch."""
    path = tmp_path / SEGMENT.name
    data = bytearray(SEGMENT.read_bytes())
    data[160] ^= 1
    path.write_bytes(data)
    return path


def test_a_segment_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "dump", SEGMENT, "--print-records", "--max-batches", "2")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"{SEGMENT}: segment, base offset 2, 753 bytes",
        "  batch 2-2  position 0  78 bytes  1 record  leader epoch 0  crc 45eec758 ok  none  "
        "CreateTime 2026-11-22T19:27:48.750Z  producer 6 epoch 1  transactional  control",
        "    record 2  2026-11-22T19:27:48.750Z  control COMMIT  coordinatorEpoch 0",
        "  batch 3-4  position 78  93 bytes  2 records  leader epoch 0  crc 105f4e94 ok  none  "
        "CreateTime 2023-11-14T22:13:20.001Z  producer 6 epoch 1  sequence 0-1  transactional",
        '    record 3  2023-11-14T22:13:20.000Z  key "t1"  value "value 0"',
        '    record 4  2023-11-14T22:13:20.001Z  key "t1"  value "value 1"',
        "  2 batches, 3 records, 171 bytes, offsets 2 to 4: sound",
    ]


def test_a_segment_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "dump", SEGMENT, "--print-records", "--offset", "4", "--max-batches", "1", "--format", "json"
    )
    start, batch, first, second, end = map(json.loads, out.splitlines())
    assert status == 0
    assert (start["type"], start["kind"], start["base_offset"]) == ("file", "segment", 2)
    assert batch == {
        "type": "batch",
        "base_offset": 3,
        "last_offset": 4,
        "position": 78,
        "size_bytes": 93,
        "records": 2,
        "leader_epoch": 0,
        "crc": 0x105F4E94,
        "crc_holds": True,
        "compression": "none",
        "timestamp_type": "CreateTime",
        "base_timestamp": 1700000000000,
        "max_timestamp": 1700000000001,
        "producer_id": 6,
        "producer_epoch": 1,
        "base_sequence": 0,
        "last_sequence": 1,
        "has_delete_horizon": False,
        "transactional": True,
        "control": False,
    }
    assert (first["offset"], second["offset"]) == (3, 4)
    assert second["key"] == "t1"
    assert end == {
        "type": "end",
        "path": str(SEGMENT),
        "batches": 1,
        "records": 2,
        "bytes": 93,
        "first_offset": 3,
        "last_offset": 4,
        "problems": 0,
    }


def test_the_decoder_is_chosen_by_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    offsets = CLEAN / "__consumer_offsets-0" / "00000000000000000000.log"
    _, out, _ = run(capsys, "dump", offsets, "--print-records")
    assert "record OffsetCommit  groupId billing  topic plain  partition 0  offset 36" in out
    assert "record GroupMetadata  group billing  protocolType consumer  generation 1" in out
    _, out, _ = run(capsys, "dump", offsets, "--print-records", "--decoder", "none")
    assert "OffsetCommit" not in out
    transactions = CLEAN / "__transaction_state-0" / "00000000000000000000.log"
    _, out, _ = run(capsys, "dump", transactions, "--print-records")
    assert "transactionStatus PrepareAbort  transactionPartitions [{topic txn, partitionIds [0]}]" in out
    metadata = CLEAN / "__cluster_metadata-0" / "00000000000000000000.log"
    _, out, _ = run(capsys, "dump", metadata, "--print-records")
    assert "control LEADER_CHANGE  leaderId 1  voters [{voterId 1" in out
    assert "record PartitionRecord  version 2" in out


def test_damage_ends_with_1_and_says_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = damaged(tmp_path)
    status, out, err = run(capsys, "dump", path, SEGMENT)
    assert status == 1
    assert f"  UNSOUND: {path}, position 78, offset 3: the checksum is 0x" in out
    assert "crc 105f4e94 WRONG" in out
    assert out.count("sound\n") == 1
    assert err == "glasslog: 1 of 2 files are unsound\n"


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_a_cut_value_says_how_much_there_is(capsys: pytest.CaptureFixture[str], output_format: str) -> None:
    arguments = ("dump", SEGMENT, "--print-records", "--max-bytes", "3", "--format", output_format)
    _, out, _ = run(capsys, *arguments)
    if output_format == "text":
        assert 'value "val" and 4 bytes more' in out
    else:
        records = [json.loads(line) for line in out.splitlines() if '"record"' in line]
        assert {"value": "val", "value_bytes": 7}.items() <= records[1].items()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nowhere.log", "there is no such file"),
        ("plain-0", "is a folder; `glasslog log verify"),
        ("strange.txt", "a name that no file of a log has"),
    ],
)
def test_what_is_no_file_of_a_log_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, error: str
) -> None:
    (tmp_path / "plain-0").mkdir()
    (tmp_path / "strange.txt").write_text("x")
    status, out, err = run(capsys, "dump", tmp_path / name)
    assert (status, out) == (1, "")
    assert error in err
    assert err.count("\n") == 1


def test_verify_shows_a_table_and_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "verify", OURS / "t-0", "--deep")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == [
        "PARTITION",
        "SEGMENTS",
        "BATCHES",
        "RECORDS",
        "BYTES",
        "START",
        "END",
        "EPOCH",
        "STATE",
    ]
    assert lines[1].split()[:4] == ["t-0", "3", "19", "64"]
    assert lines[-1].startswith("1 directory, 1 partition, 3 segments, 64 records, ")
    assert lines[-1].endswith(": sound")


def test_verify_as_one_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "txn-0"
    folder.mkdir()
    damaged(folder)
    status, out, err = run(capsys, "verify", tmp_path, "--format", "json")
    document = json.loads(out)
    assert status == 1
    assert (document["sound"], document["problems"]) == (False, 1)
    (directory,) = document["directories"]
    (partition,) = directory["partitions"]
    assert (partition["partition"], partition["sound"], partition["end_offset"]) == ("txn-0", False, 14)
    finding, note = partition["findings"]
    assert (note["type"], note["position"]) == ("note", None)
    assert (finding["position"], finding["offset"], finding["torn"]) == (78, 3, False)
    assert err == f"glasslog: {tmp_path} is unsound: 1 problem\n"


def test_verify_refuses_what_holds_no_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = run(capsys, "verify", tmp_path)
    assert status == 1
    assert err == f"glasslog: {tmp_path}: holds neither partitions nor data directories\n"
