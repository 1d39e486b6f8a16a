"""Generates the Python stubs beside the .proto files, or checks that the committed ones are up to date.

It refuses to know what the messages mean.  Only messages are generated: services document which calls exist,
while the transport carries bytes and needs no gRPC stubs.

    python proto/generate.py            write glasslog/v1/*_pb2.py and *_pb2.pyi
    python proto/generate.py --check    exit status 1 and a list unless they are what would be written
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROTO_ROOT = Path(__file__).resolve().parent
PACKAGE = Path("glasslog", "v1")
SUFFIXES = ("_pb2.py", "_pb2.pyi")


class GenerationError(Exception):
    """The compiler refused a .proto file, or is not installed; the text says which."""


def generate(proto_root: Path, target: Path) -> None:
    """Compile every .proto file of the package under ``proto_root`` into ``target``."""
    sources = sorted(
        path.relative_to(proto_root).as_posix() for path in (proto_root / PACKAGE).glob("*.proto")
    )
    if not sources:
        raise GenerationError(f"no .proto files in {proto_root / PACKAGE}")
    plugin = Path(sysconfig.get_path("scripts"), "protoc-gen-mypy")
    if not plugin.exists():
        raise GenerationError(f"{plugin} is missing: install the development tools (make stubs does)")
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"--plugin=protoc-gen-mypy={plugin}", "-I."]
    outputs = [f"--python_out={target}", f"--mypy_out=quiet:{target}"]
    # Run in the folder of the sources: the compiler splits its include path at ':'.
    done = subprocess.run(
        [*compiler, *outputs, *sources], cwd=proto_root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise GenerationError(done.stderr.strip())


def stubs_in(root: Path) -> dict[str, bytes]:
    """Content of every generated file of the package under ``root``, by name."""
    package = root / PACKAGE
    return {
        path.name: path.read_bytes() for path in sorted(package.iterdir()) if path.name.endswith(SUFFIXES)
    }


def differences(proto_root: Path) -> list[str]:
    """What is wrong with the committed stubs, one line a file; empty when they are up to date."""
    with tempfile.TemporaryDirectory() as folder:
        generate(proto_root, Path(folder))
        wanted, present = stubs_in(Path(folder)), stubs_in(proto_root)
    return [
        f"{name}: {_difference(wanted.get(name), present.get(name))}"
        for name in sorted(wanted.keys() | present.keys())
        if wanted.get(name) != present.get(name)
    ]


def _difference(wanted: bytes | None, present: bytes | None) -> str:
    if wanted is None:
        return "no .proto file makes it"
    return "missing" if present is None else "out of date"


def write(proto_root: Path) -> None:
    """Write the stubs beside their sources, and remove those whose source is gone."""
    with tempfile.TemporaryDirectory() as folder:
        generate(proto_root, Path(folder))
        wanted = stubs_in(Path(folder))
    for name in stubs_in(proto_root).keys() - wanted.keys():
        (proto_root / PACKAGE / name).unlink()
    for name, content in wanted.items():
        (proto_root / PACKAGE / name).write_bytes(content)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Generate the Python stubs from the .proto files.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if the stubs are out of date"
    )
    options = parser.parse_args(arguments)
    try:
        if not options.check:
            write(PROTO_ROOT)
            return 0
        wrong = differences(PROTO_ROOT)
    except GenerationError as error:
        print(f"stubs: {error}", file=sys.stderr)
        return 1
    if wrong:
        print("stubs differ from their .proto files; run `make stubs`:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    print("Stubs are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
