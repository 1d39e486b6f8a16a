"""Compiles the codec when glasslog is installed, where possible; pure Python runs otherwise.

Called by hatchling for wheels and editable installs, and by make (``python hatch_build.py``) when the source
has changed since. It never fails an install: what went wrong is said in one line. It refuses to know what
the codec does. An extension module's name ends in a checksum of its source; see
``glasslog.common.runtime.extension``, which looks for that name.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchling.builders.config import BuilderConfig
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
FOLDER = "glasslog/log"
SOURCES = tuple(ROOT / "common" / FOLDER / name for name in ("compiled_codec.py", "compiled_walk.py"))
PREFIX = "_compiled_"
_WORDS_OF_A_REASON = 160


class Unbuilt(Exception):  # noqa: N818 - no error: the install goes on
    """The extension can not be built here; the text says why."""


def file_name(source: Path) -> str:
    """What the extension module of a source as it is now is called for the present Python."""
    checksum = zlib.crc32(source.read_bytes())
    return f"{PREFIX}{checksum:08x}{sysconfig.get_config_var('EXT_SUFFIX')}"


def build(target: Path) -> list[Path]:
    """Compile into the folder ``target`` what is not there already; raises ``Unbuilt``."""
    paths = [target / file_name(source) for source in SOURCES]
    try:
        for source, path in zip(SOURCES, paths, strict=True):
            if not path.exists():
                _build_one(source, path)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unbuilt(reason[:_WORDS_OF_A_REASON]) from error
    for stale in target.glob(f"{PREFIX}*{sysconfig.get_config_var('EXT_SUFFIX')}"):
        if stale not in paths:
            stale.unlink(missing_ok=True)
    return paths


def _build_one(source: Path, path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        built = _compile(source, Path(scratch), path.name.split(".")[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        # By way of a second name in the same folder: a process may have an earlier one open.
        shutil.copy(built, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


def _compile(source: Path, scratch: Path, module: str) -> Path:
    """Translate to C and compile in ``scratch``, quietly; any exception means that it can not be done."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "").split()
    if compiler and not shutil.which(compiler[0]):
        raise Unbuilt(f"no C compiler: there is no {compiler[0]}")
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    copy = scratch / f"{module}.py"
    shutil.copy(source, copy)
    flags = [] if sys.platform == "win32" else ["-O3", "-g0", "-w"]
    extension = Extension(f"glasslog.log.{module}", [str(copy)], extra_compile_args=flags)
    modules = cythonize([extension], quiet=True, build_dir=str(scratch / "c"))
    command = build_ext(Distribution({"name": "glasslog", "ext_modules": modules}))
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "temp")
    command.ensure_finalized()
    command.run()
    (built,) = (scratch / "lib").rglob(f"{module}*")
    return built


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def get_build_hook() -> "type[BuildHookInterface[BuilderConfig]]":
    """What hatchling asks this file for. Not at the top: make runs this file where there is no hatchling."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class CodecBuildHook(BuildHookInterface["BuilderConfig"]):
        """Puts the extension modules into the wheel, or beside their sources for an editable install."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Build; the wheel's tag names the platform only when there is something compiled in it."""
            try:
                paths = build(SOURCES[0].parent)
            except Unbuilt as reason:
                self.app.display_warning(f"codec: pure Python ({reason})")
                return
            self.app.display_info(f"codec: compiled ({_names(paths)})")
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            if version != "editable":
                for path in paths:
                    build_data["force_include"][str(path)] = f"{FOLDER}/{path.name}"

    return CodecBuildHook


def main() -> None:
    """Build beside the source and say in one line what came of it."""
    try:
        print(f"codec: compiled ({_names(build(SOURCES[0].parent))})")
    except Unbuilt as reason:
        print(f"codec: pure Python ({reason})")


if __name__ == "__main__":
    main()
