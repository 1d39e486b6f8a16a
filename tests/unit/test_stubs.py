"""The check of the generated stubs notices each way in which they can be wrong."""

import shutil
from pathlib import Path

import pytest
from generate import PACKAGE, GenerationError, differences, write

SOURCE = """
syntax = "proto3";
package glasslog.v1;
message Greeting { string text = 1; }
"""


@pytest.fixture
def proto_root(tmp_path: Path) -> Path:
    root = tmp_path / "with a space"
    (root / PACKAGE).mkdir(parents=True)
    (root / PACKAGE / "greeting.proto").write_text(SOURCE, encoding="utf-8")
    return root


def test_stubs_are_noticed_when_missing_stale_or_orphaned(proto_root: Path) -> None:
    assert differences(proto_root) == ["greeting_pb2.py: missing", "greeting_pb2.pyi: missing"]
    write(proto_root)
    assert differences(proto_root) == []

    stub = proto_root / PACKAGE / "greeting_pb2.py"
    shutil.copy(stub, stub.with_name("farewell_pb2.py"))
    stub.write_text(stub.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert differences(proto_root) == [
        "farewell_pb2.py: no .proto file makes it",
        "greeting_pb2.py: out of date",
    ]

    write(proto_root)
    assert sorted(path.name for path in (proto_root / PACKAGE).iterdir()) == [
        "greeting.proto",
        "greeting_pb2.py",
        "greeting_pb2.pyi",
    ]


def test_a_source_that_does_not_compile_is_named_and_changes_nothing(proto_root: Path) -> None:
    write(proto_root)
    before = sorted((path.name, path.read_bytes()) for path in (proto_root / PACKAGE).glob("*_pb2*"))
    (proto_root / PACKAGE / "greeting.proto").write_text(SOURCE.replace("}", ""), encoding="utf-8")
    with pytest.raises(GenerationError, match=r"glasslog/v1/greeting\.proto:"):
        write(proto_root)
    assert sorted((path.name, path.read_bytes()) for path in (proto_root / PACKAGE).glob("*_pb2*")) == before
