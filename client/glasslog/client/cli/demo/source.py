"""The demo's input: the files of a folder, as lines that can be put together again.

Knows files and lines; refuses to know topics and clusters.
"""

import hashlib
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glasslog.common.errors import ErrorCode, GlasslogError


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One input file as it was read: its lines joined are its bytes."""

    key: bytes
    lines: Sequence[bytes]
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder's files, in a fixed order. ``total_bytes`` is measured before reading, for progress."""

    root: Path
    paths: tuple[Path, ...]
    total_bytes: int

    def files(self) -> Iterator[SourceFile]:
        for path in self.paths:
            yield read_file(path, self.root)

    def read_again(self, key: bytes) -> SourceFile:
        """The file of a key, to find out what exactly differs."""
        return read_file(self.root / key.decode("utf-8", "surrogateescape"), self.root)


def read_file(path: Path, root: Path) -> SourceFile:
    """A file's lines with their ends, so that nothing is lost in joining them."""
    data = path.read_bytes()
    return SourceFile(
        key=path.relative_to(root).as_posix().encode("utf-8", "surrogateescape"),
        lines=data.splitlines(keepends=True),
        sha256=hashlib.sha256(data).digest(),
        size_bytes=len(data),
    )


def standard_library() -> Source:
    """Every ``.py`` file of the running Python's standard library, its installed packages aside."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return _source(root, (p for p in root.rglob("*.py") if "site-packages" not in p.parts), "*.py file")


def folder(root: Path) -> Source:
    """Every regular file below ``root``. Raises ``GlasslogError`` if it is no folder or has no file."""
    if not root.is_dir():
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"--input {root}: not a folder")
    return _source(root, root.rglob("*"), "file")


def _source(root: Path, candidates: Iterator[Path], what: str) -> Source:
    paths = tuple(sorted(path for path in candidates if path.is_file() and not path.is_symlink()))
    if not paths:
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"--input {root}: no {what} in it")
    return Source(root=root, paths=paths, total_bytes=sum(path.stat().st_size for path in paths))
