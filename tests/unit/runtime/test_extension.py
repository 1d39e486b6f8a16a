"""Which extension module is taken for a source: the one that was built from it, and no other."""

import subprocess
import sys
from pathlib import Path

import pytest
from glasslog.common.runtime.extension import (
    PURE_PYTHON_VARIABLE,
    Compiled,
    NotCompiled,
    extension_name,
    find_extension,
)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a source, and beside it what stands for an extension module built from it."""
    monkeypatch.delenv(PURE_PYTHON_VARIABLE, raising=False)
    package = tmp_path / f"package_of_{tmp_path.name}"
    package.mkdir()
    (package / "__init__.py").touch()
    source = package / "source.py"
    source.write_bytes(b"SPEED = 'slow'\n")
    (package / f"{extension_name(source.read_bytes())}.py").write_bytes(b"SPEED = 'fast'\n")
    monkeypatch.syspath_prepend(tmp_path)
    return source


def found(source: Path) -> Compiled | NotCompiled:
    return find_extension(f"{source.parent.name}.source")


def test_it_is_found(source: Path) -> None:
    extension = found(source)
    assert isinstance(extension, Compiled)
    assert vars(extension.module)["SPEED"] == "fast"


def test_one_of_another_text_is_not_taken(source: Path) -> None:
    source.write_bytes(b"SPEED = 'changed'\n")
    assert found(source) == NotCompiled(reason="it was not built from this source")


@pytest.mark.parametrize("value", ["1", "yes"])
def test_the_environment_keeps_it_out(source: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(PURE_PYTHON_VARIABLE, value)
    assert found(source) == NotCompiled(reason=f"{PURE_PYTHON_VARIABLE} is set")


@pytest.mark.parametrize("value", ["", "0"])
def test_these_values_do_not(source: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(PURE_PYTHON_VARIABLE, value)
    assert isinstance(found(source), Compiled)


def test_one_that_does_not_load_says_why(source: Path) -> None:
    (source.parent / f"{extension_name(source.read_bytes())}.py").write_bytes(
        b"raise ImportError('no libm')\n"
    )
    assert found(source) == NotCompiled(reason="it can not be loaded: no libm")


def test_without_its_source_none_is_taken(source: Path) -> None:
    source.unlink()
    extension = found(source)
    assert isinstance(extension, NotCompiled)
    assert "is not there" in extension.reason


@pytest.mark.parametrize("variable", ["", "1"])
def test_the_codec_in_use_heeds_it(variable: str) -> None:
    code = (
        "from glasslog.log.codec import CODEC, COMPILED, PURE; print(CODEC is (COMPILED or PURE), CODEC.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={PURE_PYTHON_VARIABLE: variable},
        capture_output=True,
        text=True,
        check=True,
    )
    chosen, name = done.stdout.split(maxsplit=1)
    assert chosen == "True"
    assert name.strip() in (("pure Python",) if variable else ("pure Python", "compiled"))
