"""The build of the compiled codec: what it makes, that it never fails an install, and the wheel's tag."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from glasslog.log.codec import COMPILED

from tests.source_tree import ROOT

SOURCE = "common/glasslog/log/compiled_codec.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a build needs of the repository, without anything that was built before."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("_compiled_*", "__pycache__")
    for share in ("proto", "common"):
        shutil.copytree(ROOT / share, tmp_path / share, ignore=ignored)
    return tmp_path


def run(tree: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def extensions(tree: Path) -> list[str]:
    return [path.name for path in (tree / SOURCE).parent.glob("_compiled_*")]


def test_without_a_compiler_one_line_says_so(tree: Path) -> None:
    said = run(tree, "hatch_build.py", CC="no-such-compiler")
    assert said == "codec: pure Python (no C compiler: there is no no-such-compiler)\n"
    assert extensions(tree) == []


def test_a_compiler_that_fails_is_no_failure(tree: Path) -> None:
    assert run(tree, "hatch_build.py", CC="false").startswith("codec: pure Python (")
    assert extensions(tree) == []


def test_a_source_that_does_not_compile_is_no_failure(tree: Path) -> None:
    (tree / SOURCE).write_text("import cython\n\nx: cython.int = undeclared(\n", encoding="utf-8")
    assert run(tree, "hatch_build.py").startswith("codec: pure Python (")


def test_the_wheel_without_it_runs_everywhere(tree: Path, tmp_path: Path) -> None:
    run(tree, "-m", "hatchling", "build", "-t", "wheel", "-d", "out", CC="no-such-compiler")
    (wheel,) = (tmp_path / "out").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.skipif(COMPILED is None, reason="needs what was compiled by the install")
def test_nothing_is_compiled_twice() -> None:
    there = sorted((ROOT / SOURCE).parent.glob("_compiled_*.so"))
    before = [path.stat().st_mtime_ns for path in there]
    said = run(ROOT, "hatch_build.py")
    assert said.startswith("codec: compiled (")
    assert sorted(said.removeprefix("codec: compiled (").removesuffix(")\n").split(", ")) == [
        path.name for path in there
    ]
    assert [path.stat().st_mtime_ns for path in there] == before
