"""The demo's judgement: it must pass what is whole and fail everything else, with the right name for it."""

from pathlib import Path

import pytest
from glasslog.client.cli.demo.ledger import Ledger
from glasslog.client.cli.demo.source import Source, folder, standard_library
from glasslog.common.errors import GlasslogError

Row = tuple[int, bytes | None, bytes | None]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\r\n\n\nlast without end")
    (tmp_path / "sub" / "b.txt").write_bytes(b"x\rdiffer\x85ent\x0cends\n")
    (tmp_path / "empty").write_bytes(b"")
    return folder(tmp_path)


def rows_of(source: Source) -> list[Row]:
    rows: list[Row] = []
    for file in source.files():
        rows += [(len(rows) + index, file.key, line) for index, line in enumerate(file.lines)]
    return rows


def ledger_of(source: Source, *chunks: list[Row]) -> Ledger:
    ledger = Ledger()
    for file in source.files():
        ledger.sent(file)
    for chunk in chunks:
        ledger.received(0, [(offset, 0, key, value, ()) for offset, key, value in chunk])
    return ledger


def test_lines_are_the_bytes_of_their_file(source: Source) -> None:
    for file in source.files():
        assert b"".join(file.lines) == (source.root / file.key.decode()).read_bytes()
    assert source.total_bytes == sum(file.size_bytes for file in source.files())


def test_everything_back_once_is_clean(source: Source) -> None:
    ledger = ledger_of(source, rows_of(source))
    verdict = ledger.compare(source.read_again)
    assert ledger.complete
    assert verdict.clean
    assert (verdict.files, verdict.lost, verdict.doubled, verdict.redelivered) == (3, 0, 0, 0)


def test_the_same_offset_again_is_a_redelivery_not_a_double(source: Source) -> None:
    rows = rows_of(source)
    verdict = ledger_of(source, rows[:3], rows[1:]).compare(source.read_again)
    assert verdict.clean
    assert verdict.redelivered == 2


def test_one_record_at_two_offsets_is_doubled(source: Source) -> None:
    rows = rows_of(source)
    again = (rows[-1][0] + 1, rows[0][1], rows[0][2])
    verdict = ledger_of(source, [*rows, again]).compare(source.read_again)
    assert not verdict.clean
    assert (verdict.lost, verdict.doubled) == (0, 1)


def test_a_missing_record_is_lost(source: Source) -> None:
    rows = rows_of(source)
    ledger = ledger_of(source, rows[:2] + rows[3:])
    verdict = ledger.compare(source.read_again)
    assert not ledger.complete
    assert (verdict.lost, verdict.doubled) == (1, 0)
    assert "1 lost" in str(verdict.differences[0])


def test_a_changed_byte_is_one_lost_and_one_never_sent(source: Source) -> None:
    rows = rows_of(source)
    rows[1] = (rows[1][0], rows[1][1], b"tw0\r\n")
    verdict = ledger_of(source, rows).compare(source.read_again)
    assert verdict.differences[0].foreign == 1
    assert verdict.lost == 1


def test_another_order_is_not_clean(source: Source) -> None:
    rows = rows_of(source)
    rows[0], rows[1] = (rows[0][0], *rows[1][1:]), (rows[1][0], *rows[0][1:])
    verdict = ledger_of(source, rows).compare(source.read_again)
    assert not verdict.clean
    assert "order" in str(verdict.differences[0])


@pytest.mark.parametrize("row", [(99, b"never sent", b"x"), (99, None, b"x"), (99, b"a.txt", None)])
def test_what_was_never_sent_is_not_clean(source: Source, row: Row) -> None:
    verdict = ledger_of(source, [*rows_of(source), row]).compare(source.read_again)
    assert not verdict.clean
    assert sum(difference.foreign for difference in verdict.differences) == 1


def test_no_files_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "only-a-folder").mkdir()
    with pytest.raises(GlasslogError, match="no file in it"):
        folder(tmp_path)
    with pytest.raises(GlasslogError, match="not a folder"):
        folder(tmp_path / "missing")


def test_the_standard_library_is_found() -> None:
    source = standard_library()
    assert any(path.name == "asyncio" or path.parent.name == "asyncio" for path in source.paths)
    assert not any("site-packages" in path.parts for path in source.paths)
