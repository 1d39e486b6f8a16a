"""CRC-32C, by the extension module inside the ``crc32c`` package.

The package's own front door looks up its version through ``importlib.metadata``, mail parser and all: a
megabyte and 20 ms for every node, where a controller may have fifty in all. The extension alone needs none
of that. Should a later package be laid out differently, its front door is taken after all. Refuses to know
what is summed.
"""

from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Protocol, cast

from glasslog.common.runtime.protocols import Buffer

_PACKAGE, _EXTENSION = "crc32c", "crc32c._crc32c"


def _extension() -> ModuleType:
    package = find_spec(_PACKAGE)
    folders = None if package is None else package.submodule_search_locations
    spec = None if folders is None else PathFinder.find_spec(_EXTENSION, folders)
    if spec is None or spec.loader is None:
        return import_module(_PACKAGE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module if hasattr(module, "crc32c") else import_module(_PACKAGE)


class _Checksum(Protocol):
    def __call__(self, data: Buffer, before: int = 0, /) -> int: ...


crc32c = cast(_Checksum, _extension().crc32c)
"""The checksum of a buffer, as an unsigned 32-bit integer, with the processor's own instructions.

``before`` is the checksum of what comes before the buffer: a long range need not be in memory at once.
"""
