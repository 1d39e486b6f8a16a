"""Writes docs/grpc-reference.md from the .proto files and their comments, or checks that it is up to date.

It refuses to know what the messages mean: what the reference says stands beside the fields.

    python proto/document.py            write docs/grpc-reference.md
    python proto/document.py --check    exit status 1 unless it is what would be written
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

PROTO_ROOT = Path(__file__).resolve().parent
TARGET = PROTO_ROOT.parent / "docs" / "grpc-reference.md"
SERVICE_FILE = "glasslog/v1/broker.proto"
_PACKAGE = ".glasslog.v1."
_HEAD = """# The gRPC API, field by field

Generated from `proto/glasslog/v1/*.proto` by `make stubs`; change it there. How to call it is in
[grpc.md](grpc.md). Fields have the meanings that they have in Kafka's requests of the same names; error codes
are Kafka's numbers, 0 is none. Times are in milliseconds, upper bounds of offsets are exclusive.
"""
_MESSAGE_FIELD, _SERVICE_FIELD, _METHOD_FIELD, _NESTED_FIELD, _FIELD_FIELD = 4, 6, 2, 3, 2
"""Numbers in ``FileDescriptorProto`` and its parts, of which a comment's path is made."""

Place = tuple[int, ...]


def described() -> FileDescriptorSet:
    """All files that the service needs, with their comments."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "set")
        compiler = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I.",
            "--include_source_info",
            "--include_imports",
        ]
        command = [*compiler, f"--descriptor_set_out={found}", SERVICE_FILE]
        subprocess.run(command, cwd=PROTO_ROOT, check=True)
        return FileDescriptorSet.FromString(found.read_bytes())


class _File:
    """One .proto file with its comments by place."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self.file = file
        self._comments = {
            tuple(location.path): " ".join(
                f"{location.leading_comments} {location.trailing_comments}".split()
            )
            for location in file.source_code_info.location
        }

    def comment(self, place: Place) -> str:
        return self._comments.get(place, "").replace("|", "\\|")

    def messages(self) -> Iterator[tuple[str, DescriptorProto, Place]]:
        for index, message in enumerate(self.file.message_type):
            yield from self._nested(message.name, message, (_MESSAGE_FIELD, index))

    def _nested(
        self, name: str, message: DescriptorProto, place: Place
    ) -> Iterator[tuple[str, DescriptorProto, Place]]:
        if message.options.map_entry:
            return
        yield name, message, place
        for index, nested in enumerate(message.nested_type):
            yield from self._nested(f"{name}.{nested.name}", nested, (*place, _NESTED_FIELD, index))


def reference(files: FileDescriptorSet) -> str:
    """The whole text."""
    parsed = [_File(file) for file in files.file]
    known = {name: (file, message, place) for file in parsed for name, message, place in file.messages()}
    lines = [_HEAD, "## Calls", "", "| call | request | answer | |", "|---|---|---|---|"]
    wanted: dict[str, None] = {}
    for file in parsed:
        for number, service in enumerate(file.file.service):
            if file.file.name != SERVICE_FILE:
                continue
            for index, method in enumerate(service.method):
                names = [_short(method.input_type), _short(method.output_type)]
                wanted.update(dict.fromkeys(names))
                told = file.comment((_SERVICE_FIELD, number, _METHOD_FIELD, index))
                stream = "stream of " if method.client_streaming else ""
                lines.append(
                    f"| {method.name} | {stream}{_link(names[0])} | {stream}{_link(names[1])} | {told} |"
                )
    lines += ["", "## Messages"]
    for name in _reachable(wanted, known):
        lines += _message(name, *known[name])
    return "\n".join(lines) + "\n"


def _reachable(
    wanted: Sequence[str] | dict[str, None], known: dict[str, tuple[_File, DescriptorProto, Place]]
) -> list[str]:
    """With everything that these messages hold, each once, in the order of use."""
    found: dict[str, None] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found[name] = None
        held = [_short(field.type_name) for field in known[name][1].field if field.type_name]
        waiting = [each for each in held if each in known] + waiting
    return list(found)


def _message(name: str, file: _File, message: DescriptorProto, place: Place) -> list[str]:
    lines = ["", f"### {name}", ""]
    if told := file.comment(place):
        lines += [told, ""]
    if not message.field:
        return [*lines, "Nothing."]
    lines += ["| field | type | |", "|---|---|---|"]
    for index, field in enumerate(message.field):
        told = file.comment((*place, _FIELD_FIELD, index))
        lines.append(f"| {field.name} | {_type(field, message)} | {told} |")
    return lines


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.type_name:
        for nested in message.nested_type:
            if nested.options.map_entry and field.type_name.endswith(f".{message.name}.{nested.name}"):
                key, value = nested.field
                return f"map of {_type(key, nested)} to {_type(value, nested)}"
        kind = _link(_short(field.type_name)) if field.type == FieldDescriptorProto.TYPE_MESSAGE else "enum"
    else:
        kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _short(type_name: str) -> str:
    return type_name.removeprefix(_PACKAGE)


def _link(name: str) -> str:
    return f"[{name}](#{name.lower().replace('.', '')})"


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    text = reference(described())
    if "--check" not in arguments:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET} is not what the .proto files say: run make stubs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
