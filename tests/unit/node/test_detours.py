"""A node that is broken on purpose reaches its peers by other addresses, and tells nobody of them."""

import asyncio

import pytest
from glasslog.common.addresses import parse_detours
from glasslog.common.errors import ConfigError
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.production.start import production_runtime
from glasslog.common.runtime.protocols import Peer, Services
from glasslog.node.detours import with_detours
from glasslog.node.roles import build

METHOD = "/test.Echo/Say"


def test_a_detour_is_dialled_in_place_of_the_address_that_was_told() -> None:
    async def story() -> bytes:
        runtime = production_runtime()

        async def answer(request: bytes, peer: Peer) -> bytes:
            return b"heard " + request

        listener = await runtime.transport.listen("127.0.0.1:0", Services(unary={METHOD: answer}))
        world = with_detours(runtime, {"told.invalid:1": f"127.0.0.1:{listener.port}"})
        channel = world.transport.dial("told.invalid:1")
        try:
            return await channel.unary(METHOD, b"it", timeout_ms=10_000)
        finally:
            await channel.close()
            await listener.close()

    assert asyncio.run(story()) == b"heard it"


def test_without_detours_the_world_is_as_it_was() -> None:
    runtime = production_runtime()
    assert with_detours(runtime, {}) is runtime


def test_detours_are_read_or_refused() -> None:
    assert parse_detours(("a:1=b:2", "c:3=b:4")) == {"a:1": "b:2", "c:3": "b:4"}
    for bad in ("a:1", "a:1=b", "a=b:1", "=b:1", "a:1=b:65536"):
        with pytest.raises(ConfigError, match=r"is not host:port=host:port"):
            parse_detours((bad,))
    with pytest.raises(ConfigError, match="a:1 is named twice"):
        parse_detours(("a:1=b:2", "a:1=b:3"))


def test_detours_are_for_clusters_that_may_be_broken() -> None:
    """A stray setting would make a node of a cluster that matters talk to who knows whom."""
    config = NodeConfig(node_id=1, process_roles=("broker",), cluster_id="c" * 22, chaos_detours=("a:1=b:2",))
    with pytest.raises(ConfigError, match=r"needs chaos\.enabled=true"):
        build(production_runtime(), config)
