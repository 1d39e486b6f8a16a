"""The architecture's rules beyond who imports whom: the runtime seam, cores without I/O, one namespace.

Each rule is a function from source text to complaints, tried on a sample that breaks it and then on the tree.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch

import pytest

from tests.source_tree import ROOT, SHARES, name_of, product_modules

MAY_TOUCH_THE_WORLD = (
    "common/glasslog/common/runtime/*",
    "client/glasslog/client/cli/*",
    "client/glasslog/client/__main__.py",
    "node/glasslog/node/*",
    "simulator/glasslog/simulator/*",
    "chaos/glasslog/chaos/*",
    "testing/glasslog/pytest/*",
)
"""Patterns of paths; ``*`` crosses folders. Before adding one: no simulator can replace what is here."""

CORES = (
    "checker/glasslog/checker/*.py",
    "controller/glasslog/controller/raft/*.py",
    "broker/glasslog/broker/group/core*.py",
    "broker/glasslog/broker/lifecycle_core.py",
    "broker/glasslog/broker/controller_finder.py",
    "broker/glasslog/broker/observed_log.py",
    "client/glasslog/client/accumulator.py",
    "client/glasslog/client/assignors/*.py",
    "client/glasslog/client/cluster.py",
    "client/glasslog/client/consumer_protocol.py",
    "client/glasslog/client/partition_queue.py",
    "client/glasslog/client/partitioner.py",
    "client/glasslog/client/pending_batch.py",
    "client/glasslog/client/subscription.py",
    "chaos/glasslog/chaos/run/chronicle.py",
    "chaos/glasslog/chaos/run/recorder.py",
    "chaos/glasslog/chaos/scenario/[mrty]*.py",
    "chaos/glasslog/chaos/toxiproxy/pipe.py",
    "chaos/glasslog/chaos/toxiproxy/toxics.py",
    "common/glasslog/metadata/*.py",
    "common/glasslog/log/*.py",
)
SHELLS_AMONG_CORES = frozenset(
    f"controller/glasslog/controller/raft/{name}.py"
    for name in (
        "node",
        "duties",
        "inbox",
        "peers",
        "raft_log",
        "snapshots",
        "snapshot_files",
        "quorum_admin",
    )
)
"""Paths that a pattern of ``CORES`` matches although they are shells."""

PUBLIC_PACKAGE = "client/glasslog/client/__init__.py"
"""Re-exports what users import; ``test_client_package`` holds that it loads nothing by itself."""

WORLD = frozenset(
    {
        *("time", "datetime", "random", "uuid", "secrets"),
        *("os", "pathlib", "tempfile", "shutil", "glob", "fcntl", "mmap"),
        *("socket", "select", "selectors", "ssl", "grpc", "uvloop"),
        *("threading", "multiprocessing", "concurrent", "subprocess", "signal"),
    }
)
WORLD_OF_ASYNCIO = frozenset(
    {
        *("open_connection", "start_server", "open_unix_connection", "start_unix_server"),
        *("to_thread", "create_subprocess_exec", "create_subprocess_shell"),
    }
)
_ASYNCIO_NAMES = frozenset(f"asyncio.{name}" for name in WORLD_OF_ASYNCIO)
WORLD_OF_LOOP = frozenset(
    {"run_in_executor", "add_signal_handler", "sock_connect", "sock_recv", "sock_sendall"}
)


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported absolutely, anywhere in the module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)


def is_within(name: str, packages: frozenset[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in packages for length in range(1, len(parts) + 1))


def world_touched(source: str) -> list[str]:
    """How this source goes past the seam, one complaint each."""
    tree = ast.parse(source)
    complaints = [
        f"{line}: imports {name}"
        for line, name in imported_modules(tree)
        if is_within(name, WORLD | _ASYNCIO_NAMES)
    ]
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="asyncio"), attr=name) if name in WORLD_OF_ASYNCIO:
                complaints.append(f"{node.lineno}: uses asyncio.{name}")
            case ast.Attribute(attr=name) if name in WORLD_OF_LOOP:
                complaints.append(f"{node.lineno}: uses {name}")
            case ast.Call(func=ast.Name(id="open" | "input" | "print" as name)):
                complaints.append(f"{node.lineno}: calls {name}")
    return complaints


def impurities(source: str) -> list[str]:
    """What in this source a core must not have, one complaint each."""
    tree = ast.parse(source)
    complaints = [
        f"{line}: imports {name}"
        for line, name in imported_modules(tree)
        if is_within(name, frozenset({"asyncio"}))
    ]
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                complaints.append(f"{node.lineno}: is asynchronous")
            case ast.Call(func=ast.Name(id="hash")):
                complaints.append(f"{node.lineno}: calls hash, which differs from process to process")
    return complaints


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os.path",
        "from time import monotonic",
        "from concurrent.futures import ThreadPoolExecutor",
        "def late():\n    import random",
        "import grpc.aio as transport",
        "from asyncio import to_thread",
        "import asyncio\nasyncio.start_server",
        "loop.run_in_executor(None, work)",
        "open('file')",
        "print('hello')",
    ],
)
def test_going_past_the_seam_is_noticed(source: str) -> None:
    assert world_touched(source)


def test_what_is_no_world_is_let_through() -> None:
    allowed = (
        "import asyncio, io, zlib\nfrom glasslog.broker.grpc import x\nfiles.open('x')\nasyncio.timeout(1)"
    )
    assert world_touched(allowed) == []


def test_only_the_runtime_and_the_outermost_parts_touch_the_world() -> None:
    complaints = [
        f"{name_of(path)}:{complaint} (use glasslog.common.runtime.protocols)"
        for path in product_modules()
        if not matches(name_of(path), MAY_TOUCH_THE_WORLD)
        for complaint in world_touched(path.read_text(encoding="utf-8"))
    ]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    "source",
    [
        "async def step() -> None: ...",
        "class Core:\n    async def step(self) -> None: ...",
        "import asyncio",
        "from asyncio import Event",
        "order = hash('partition')",
    ],
)
def test_an_impure_core_is_noticed(source: str) -> None:
    assert impurities(source)


def test_cores_are_synchronous_and_repeatable() -> None:
    complaints = [
        f"{name_of(path)}:{complaint}"
        for path in product_modules()
        if matches(name_of(path), CORES) and name_of(path) not in SHELLS_AMONG_CORES
        for complaint in impurities(path.read_text(encoding="utf-8"))
    ]
    assert not complaints, "\n".join(complaints)


def test_no_share_claims_the_namespace() -> None:
    """One ``glasslog/__init__.py`` would hide every other share from Python."""
    claims = [share for share in SHARES if (ROOT / share / "glasslog" / "__init__.py").exists()]
    assert not claims


def test_packages_hold_nothing_but_a_docstring() -> None:
    """An import in a package would run, and count as a dependency, for everyone who imports a neighbour."""
    busy = [
        name_of(path)
        for path in product_modules()
        if path.name == "__init__.py"
        and name_of(path) != PUBLIC_PACKAGE
        and len(ast.parse(path.read_text(encoding="utf-8")).body) > 1
    ]
    assert not busy
