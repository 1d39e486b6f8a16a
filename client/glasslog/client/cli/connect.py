"""Which cluster a command talks to, and how: finds the brokers, runs asyncio code, ends it on Ctrl-C.

Refuses to know what is asked of the cluster.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.local.cluster import LocalCluster, default_directory
from glasslog.client.options import ClientKeywords
from glasslog.common.runtime.protocols import Runtime

if TYPE_CHECKING:
    from glasslog.client.admin import Admin

T = TypeVar("T")

BOOTSTRAP_TIMEOUT_MS = 5_000
API_TIMEOUT_MS = 15_000
"""A person waits; the library's own patience is meant for programs."""


def bootstrap_servers(named: str | None) -> str:
    """``--bootstrap`` if given, else the brokers of the running local cluster.

    Raises ``CommandError`` when there is neither.
    """
    if named:
        return named
    cluster = LocalCluster(default_directory())
    if not cluster.is_running():
        raise CommandError(
            f"no cluster is named and none runs in {cluster.directory}: "
            "give --bootstrap HOST:PORT or start one with `glasslog local up`"
        )
    return ",".join(cluster.bootstrap)


def run(work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Run asyncio code against the real world. Ctrl-C cancels it and raises ``KeyboardInterrupt``."""
    import logging

    from glasslog.common.runtime.production.start import run as run_in_process

    # What the client has to say to a person comes as errors; its log is for programs.
    log = logging.getLogger("glasslog")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return run_in_process(work)
    finally:
        log.setLevel(before)


def run_admin(named: str | None, work: "Callable[[Admin], Awaitable[T]]") -> T:
    """Ask an ``Admin`` of the cluster; see ``bootstrap_servers`` and ``run``."""
    servers = bootstrap_servers(named)

    async def ask(runtime: Runtime) -> T:
        from glasslog.client.admin import Admin

        options = ClientKeywords(
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS, default_api_timeout_ms=API_TIMEOUT_MS
        )
        async with Admin(servers, runtime=runtime, **options) as admin:
            return await work(admin)

    return run(ask)
