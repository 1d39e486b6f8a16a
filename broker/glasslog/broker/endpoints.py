"""What a broker tells others of its listeners: as advertised, or as really bound.

Refuses to bind anything. Source: Kafka's ``listeners`` and ``advertised.listeners``.
"""

from collections.abc import Mapping

from glasslog.common.addresses import ListenAddress, parse_listeners
from glasslog.common.errors import ConfigError
from glasslog.common.node_config import NodeConfig
from glasslog.metadata.records import Endpoint

GRPC, KAFKA = "GRPC", "KAFKA"
_EVERYWHERE = frozenset({"0.0.0.0", "::", "[::]"})


def broker_listeners(config: NodeConfig) -> Mapping[str, ListenAddress]:
    """The addresses of all listeners of GRPC and KAFKA, by name.

    A broker needs one of each by the bare name: it is the one that other brokers use.
    """
    found = {each.name: each for each in parse_listeners(config.listeners)}
    for name in (GRPC, KAFKA):
        if name not in found:
            raise ConfigError(f"listeners: a broker needs one as {name}://host:port")
    return {name: each for name, each in found.items() if each.protocol in (GRPC, KAFKA)}


def endpoints_to_register(config: NodeConfig, bound_ports: Mapping[str, int]) -> tuple[Endpoint, ...]:
    """Where others reach the listeners, given the ports really bound. Port 0 stands for the bound one.

    Raises ``ConfigError`` for an address that nobody could connect to.
    """
    listeners = broker_listeners(config)
    advertised = {each.name: each for each in parse_listeners(config.advertised_listeners)}
    for each in advertised.values():
        if each.protocol in (GRPC, KAFKA) and each.name not in listeners:
            raise ConfigError(f"advertised.listeners: {each.name} is none of {', '.join(config.listeners)}")
    endpoints = []
    for name, address in listeners.items():
        chosen = advertised.get(name, address)
        if chosen.host in _EVERYWHERE:
            key = "advertised.listeners" if name in advertised else "listeners"
            raise ConfigError(
                f"{key}: others can not connect to {chosen.name}://{chosen.address}; "
                f"name a host for {name} in advertised.listeners"
            )
        port = bound_ports[name] if name not in advertised or chosen.port == 0 else chosen.port
        endpoints.append(Endpoint(name=name, host=chosen.host, port=port))
    return tuple(endpoints)
