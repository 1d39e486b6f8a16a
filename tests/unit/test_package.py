"""What a user gets from the wheel: the whole namespace, typed, and nothing that hides another package."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from glasslog.log.codec import COMPILED

from tests.source_tree import ROOT, SHARES, files

TYPED = (
    "v1",
    "checker",
    "common",
    "log",
    "metadata",
    "controller",
    "broker",
    "client",
    "node",
    "simulator",
    "chaos",
    "pytest",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("*.whl")
    with ZipFile(built) as archive:
        yield archive


def test_the_wheel_holds_every_share_of_the_namespace(wheel: ZipFile) -> None:
    wanted = {
        path.relative_to(ROOT / share).as_posix()
        for share in SHARES
        for path in files(ROOT / share / "glasslog", ".py", ".pyi", "py.typed")
    }
    assert "glasslog/common/ids.py" in wanted
    assert wanted <= set(wheel.namelist())


def test_the_wheel_holds_nothing_else(wheel: ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"glasslog"}
    assert "glasslog/__init__.py" not in wheel.namelist()
    assert not [name for name in wheel.namelist() if name.endswith(".pyc")]


def test_every_part_says_that_it_is_typed(wheel: ZipFile) -> None:
    assert {f"glasslog/{part}/py.typed" for part in TYPED} <= set(wheel.namelist())


def test_the_wheel_names_a_platform_if_something_is_compiled_in_it(wheel: ZipFile) -> None:
    compiled = [name for name in wheel.namelist() if name.startswith("glasslog/log/_compiled_")]
    (tags,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".dist-info/WHEEL"))
    assert ("Tag: py3-none-any" in tags) == (not compiled)
    assert len(compiled) == 2 * (COMPILED is not None)


def test_the_wheel_brings_the_command_and_the_licence(wheel: ZipFile) -> None:
    by_name = {name.split("/", 1)[-1]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "glasslog = glasslog.client.__main__:main" in wheel.read(by_name["entry_points.txt"]).decode()
    assert "licenses/LICENSE" in by_name


def test_the_unpacked_wheel_imports_without_the_repository(wheel: ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import glasslog.common.ids as ids; print(ids.__file__)"
    )
    # -S: no site-packages, so the editable install cannot stand in for the wheel.
    command = [sys.executable, "-S", "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)


def test_pytest_finds_its_plugin_in_the_wheel_and_warns_of_nothing(wheel: ZipFile, tmp_path: Path) -> None:
    """A package named pytest within the namespace is taken for pytest itself: "can not be rewritten"."""
    wheel.extractall(tmp_path / "site")
    (tmp_path / "test_fixture.py").write_text(
        "import sys\n\ndef test(glasslog_simulation):\n"
        "    assert sys.modules['glasslog.pytest.plugin'].__file__.startswith(sys.path[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
