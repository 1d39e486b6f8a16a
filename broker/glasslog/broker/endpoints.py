"""What a broker tells others of its listeners: as advertised, or as really bound.

Refuses to bind anything. Source: Kafka's ``listeners`` and ``advertised.listeners``.
"""

from collections.abc import Mapping

from glasslog.common.errors import ConfigError
from glasslog.common.node_config import ListenAddress, NodeConfig, parse_listeners
from glasslog.metadata.records import Endpoint

GRPC, KAFKA = "GRPC", "KAFKA"
_EVERYWHERE = frozenset({"0.0.0.0", "::", "[::]"})


def broker_listeners(config: NodeConfig) -> Mapping[str, ListenAddress]:
    """The addresses of the GRPC and the KAFKA listener, by those names; a broker needs both."""
    found = {each.protocol: each for each in parse_listeners(config.listeners)}
    for name in (GRPC, KAFKA):
        if name not in found:
            raise ConfigError(f"listeners: a broker needs one as {name}://host:port")
    return {name: found[name] for name in (GRPC, KAFKA)}


def endpoints_to_register(config: NodeConfig, bound_ports: Mapping[str, int]) -> tuple[Endpoint, ...]:
    """Where others reach the listeners, given the ports really bound. Port 0 stands for the bound one.

    Raises ``ConfigError`` for an address that nobody could connect to.
    """
    listeners = broker_listeners(config)
    advertised = {each.protocol: each for each in parse_listeners(config.advertised_listeners)}
    endpoints = []
    for name, address in listeners.items():
        chosen = advertised.get(name, address)
        if chosen.host in _EVERYWHERE:
            key = "advertised.listeners" if name in advertised else "listeners"
            raise ConfigError(
                f"{key}: others can not connect to {chosen.protocol}://{chosen.address}; "
                f"name a host for {name} in advertised.listeners"
            )
        port = bound_ports[name] if name not in advertised or chosen.port == 0 else chosen.port
        endpoints.append(Endpoint(name=name, host=chosen.host, port=port))
    return tuple(endpoints)
