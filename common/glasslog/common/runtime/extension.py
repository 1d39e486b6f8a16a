"""Finding the compiled twin of a module, if there is one that fits.

An extension module is built from a source that lies beside it and has that source's checksum in its name:
one that was built from another text is not found, so it can not shadow a change. This module knows names,
files and the environment; it refuses to know what is compiled.
"""

import os
import zlib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PURE_PYTHON_VARIABLE = "GLASSLOG_PURE_PYTHON"
"""Set to anything but the empty string or 0, it keeps every extension module out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """An extension module that was built from the source as it is."""

    module: ModuleType


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCompiled:
    """There is none to use, and why."""

    reason: str


def extension_name(source: bytes) -> str:
    """What the extension module that is built from ``source`` is called; ``hatch_build.py`` names it."""
    return f"_compiled_{zlib.crc32(source):08x}"


def find_extension(source_module: str) -> Compiled | NotCompiled:
    """The extension module built from ``source_module`` (a dotted name, not imported here)."""
    if os.environ.get(PURE_PYTHON_VARIABLE, "0") not in ("", "0"):
        return NotCompiled(reason=f"{PURE_PYTHON_VARIABLE} is set")
    package, _, name = source_module.rpartition(".")
    spec = find_spec(package)
    folders = () if spec is None else spec.submodule_search_locations or ()
    for folder in folders:
        try:
            source = Path(folder, f"{name}.py").read_bytes()
        except OSError:
            continue
        return _import(f"{package}.{extension_name(source)}")
    return NotCompiled(reason=f"the source of {source_module} is not there")


def _import(name: str) -> Compiled | NotCompiled:
    try:
        return Compiled(module=import_module(name))
    except ModuleNotFoundError:
        return NotCompiled(reason="it was not built from this source")
    except ImportError as error:
        return NotCompiled(reason=f"it can not be loaded: {error}")
