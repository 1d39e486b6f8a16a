"""Records as lines: what goes in comes out, whatever the bytes and wherever the blocks are cut."""

import asyncio
import base64
import json
import os

import pytest
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.records import LineSplitter, as_json, as_text
from glasslog.client.cli.stdin import blocks
from glasslog.client.types import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))), st.data())
def test_lines_do_not_depend_on_where_blocks_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    text = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter(key_separator=None)
    found = []
    while text:
        cut = data.draw(st.integers(1, len(text)))
        found += splitter.feed(text[:cut])
        text = text[cut:]
    assert [value for _, value in found + splitter.end()] == lines


def test_keys_end_at_the_first_separator_and_line_ends_do_not_count() -> None:
    splitter = LineSplitter(key_separator="::")
    assert splitter.feed(b"a::1::2\r\n::x\n") == [(b"a", b"1::2"), (b"", b"x")]
    assert splitter.feed(b"b::") == []
    assert splitter.end() == [(b"b", b"")]
    with pytest.raises(CommandError, match="line 4 has no key: '::' does not stand in it"):
        splitter.feed(b"nothing\n")


def record(key: bytes | None, value: bytes | None, timestamp: int = 0) -> ConsumerRecord:
    return ConsumerRecord("t", 1, 2, timestamp, key, value, (("h", b"\xff"), ("n", None)))


@given(st.none() | st.binary(), st.none() | st.binary())
def test_json_loses_no_byte(key: bytes | None, value: bytes | None) -> None:
    shown = json.loads(json.dumps(as_json(record(key, value))))
    for name, sent in (("key", key), ("value", value)):
        if name in shown:
            assert (None if sent is None else sent.decode()) == shown[name]
        else:
            assert base64.b64decode(shown[f"{name}_base64"]) == sent


def test_json_shape() -> None:
    assert as_json(record(b"k", None, timestamp=5)) == {
        "topic": "t",
        "partition": 1,
        "offset": 2,
        "timestamp": 5,
        "key": "k",
        "value": None,
        "headers": [{"name": "h", "value_base64": "/w=="}, {"name": "n", "value": None}],
    }


@given(st.none() | st.binary(), st.none() | st.binary(), st.integers(-1, 2**63 - 1))
def test_text_is_one_line(key: bytes | None, value: bytes | None, timestamp: int) -> None:
    shown = as_text(record(key, value, timestamp))
    assert len(shown.splitlines()) == 1
    assert len(shown.split("\t")) == 5


def test_text() -> None:
    assert as_text(record(b"k\n", "grün".encode(), timestamp=1_500)) == (
        "t-1@2\t1970-01-01T00:00:01.500Z\tk\\n\tgrün\th=\\xff,n=null"
    )


def test_standard_input_is_read_as_it_comes() -> None:
    reading, writing = os.pipe()

    async def main() -> list[bytes]:
        found = []
        os.write(writing, b"first")
        async for block in blocks(reading):
            found.append(block)
            if len(found) == 1:
                os.write(writing, b"second")
                os.close(writing)
        return found

    try:
        assert asyncio.run(main()) == [b"first", b"second"]
    finally:
        os.close(reading)
