"""The repository's own files, for tests about them. It refuses to know any rule."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARES = (
    "proto",
    "checker",
    "common",
    "controller",
    "broker",
    "client",
    "node",
    "simulator",
    "chaos",
    "testing",
)
"""Top-level folders that hold a share of the ``glasslog`` namespace."""

NOT_SOURCE = frozenset({"__pycache__", "build", "dist"})
GENERATED = ("_pb2.py", "_pb2.pyi")


def files(folder: Path, *suffixes: str) -> Iterator[Path]:
    """Every file below ``folder`` that ends in one of ``suffixes``, by path, without hidden folders."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in NOT_SOURCE:
            continue
        if path.is_dir():
            yield from files(path, *suffixes)
        elif path.name.endswith(suffixes):
            yield path


def written_modules(folder: Path = ROOT) -> Iterator[Path]:
    """Every Python module below ``folder`` that a person wrote."""
    return (path for path in files(folder, ".py") if not path.name.endswith(GENERATED))


def product_modules() -> Iterator[Path]:
    """Every written module of the ``glasslog`` namespace."""
    for share in SHARES:
        yield from written_modules(ROOT / share / "glasslog")


def name_of(path: Path) -> str:
    """The path from the root, as messages show it."""
    return path.relative_to(ROOT).as_posix()
