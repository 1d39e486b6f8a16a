"""The options of producer, consumer and admin: names, meanings, defaults and bounds.

Option names are Kafka's in snake_case. Refuses to know what an option does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TypedDict, TypeVar, get_args, get_type_hints

from glasslog.common.config import Setting, setting
from glasslog.common.errors import ConfigError
from glasslog.common.runtime.addresses import split_address
from glasslog.log.batch import Compression

_INT32 = 2**31 - 1
_MAX_IN_FLIGHT_IDEMPOTENT = 5
_COMPRESSIONS: Mapping[str, Compression] = {codec.name.lower(): codec for codec in Compression}
_ACKS: Mapping[object, int] = {"all": -1, "-1": -1, "0": 0, "1": 1}

Bootstrap = str | Sequence[str]
"""``"host:port,host:port"`` or a list of ``"host:port"``: GRPC listeners of some brokers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What producer, consumer and admin have in common."""

    bootstrap_servers: tuple[str, ...] = setting("bootstrap_servers", "brokers to ask first")
    client_id: str = setting("client_id", "name in logs and quotas", default="glasslog")
    request_timeout_ms: int = setting(
        "request_timeout_ms", "longest wait for one answer", default=30_000, minimum=1, maximum=_INT32
    )
    default_api_timeout_ms: int = setting(
        "default_api_timeout_ms", "longest wait of one call, retries included", default=60_000, minimum=1
    )
    bootstrap_timeout_ms: int = setting(
        "bootstrap_timeout_ms", "longest wait at the start for any broker", default=10_000, minimum=1
    )
    retry_backoff_ms: int = setting(
        "retry_backoff_ms", "pause before a first retry", default=20, minimum=1, maximum=_INT32
    )
    retry_backoff_max_ms: int = setting(
        "retry_backoff_max_ms", "longest pause before a retry", default=1_000, minimum=1, maximum=_INT32
    )
    metadata_max_age_ms: int = setting(
        "metadata_max_age_ms", "age at which metadata is read again", default=300_000, minimum=100
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerOptions(ClientOptions):
    """How a producer batches, sends and retries."""

    acks: int = setting("acks", "0, 1 or -1 (all)", default=-1, minimum=-1, maximum=1)
    enable_idempotence: bool = setting("enable_idempotence", "retries never double a record", default=True)
    linger_ms: int = setting("linger_ms", "wait for a batch to fill", default=5, minimum=0, maximum=_INT32)
    batch_size: int = setting(
        "batch_size", "size of a batch in bytes", default=131_072, minimum=1, maximum=_INT32
    )
    buffer_memory: int = setting(
        "buffer_memory", "bytes of records not yet acknowledged", default=33_554_432, minimum=1
    )
    max_request_size: int = setting(
        "max_request_size", "bytes of one request", default=1_048_576, minimum=1, maximum=_INT32
    )
    max_in_flight: int = setting("max_in_flight", "requests per broker without answer", default=5, minimum=1)
    retries: int = setting(
        "retries", "attempts after the first one", default=_INT32, minimum=0, maximum=_INT32
    )
    delivery_timeout_ms: int = setting(
        "delivery_timeout_ms", "longest time from send to outcome", default=120_000, minimum=1
    )
    max_block_ms: int = setting(
        "max_block_ms", "longest wait of send for room or metadata", default=60_000, minimum=0
    )
    compression_type: str = setting(
        "compression_type", "codec of batches", default="none", choices=tuple(_COMPRESSIONS)
    )

    @property
    def compression(self) -> Compression:
        return _COMPRESSIONS[self.compression_type]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerOptions(ClientOptions):
    """How a consumer fetches, commits and takes part in a group."""

    group_id: str = setting("group_id", "its group; empty: none", default="")
    group_instance_id: str = setting("group_instance_id", "name of a static member", default="")
    auto_offset_reset: str = setting(
        "auto_offset_reset",
        "where to start without a position",
        default="latest",
        choices=("earliest", "latest", "none"),
    )
    enable_auto_commit: bool = setting("enable_auto_commit", "commit what was processed", default=True)
    auto_commit_interval_ms: int = setting(
        "auto_commit_interval_ms", "pause between automatic commits", default=5_000, minimum=1
    )
    session_timeout_ms: int = setting(
        "session_timeout_ms", "silence that ends a membership", default=45_000, minimum=1, maximum=_INT32
    )
    heartbeat_interval_ms: int = setting(
        "heartbeat_interval_ms",
        "pause between heartbeats; 0: a third of session_timeout_ms. Of rebalances its coordinator tells a "
        "consumer at once",
        default=0,
        minimum=0,
        maximum=_INT32,
    )
    max_poll_interval_ms: int = setting(
        "max_poll_interval_ms", "longest pause between polls", default=300_000, minimum=1, maximum=_INT32
    )
    max_poll_records: int = setting("max_poll_records", "records of one poll", default=500, minimum=1)
    partition_assignment_strategy: tuple[str, ...] = setting(
        "partition_assignment_strategy",
        "assignors by preference: range, roundrobin, sticky, cooperative-sticky",
        default=("range", "cooperative-sticky"),
    )
    fetch_min_bytes: int = setting("fetch_min_bytes", "bytes worth an answer", default=1, minimum=0)
    fetch_max_wait_ms: int = setting("fetch_max_wait_ms", "wait for them", default=500, minimum=0)
    fetch_max_bytes: int = setting(
        "fetch_max_bytes", "bytes of one answer", default=16_777_216, minimum=1, maximum=_INT32
    )
    max_partition_fetch_bytes: int = setting(
        "max_partition_fetch_bytes",
        "bytes of one partition in it",
        default=1_048_576,
        minimum=1,
        maximum=_INT32,
    )
    isolation_level: str = setting(
        "isolation_level",
        "up to where to read",
        default="read_uncommitted",
        choices=("read_uncommitted", "read_committed"),
    )
    client_rack: str = setting("client_rack", "prefer replicas of this rack", default="")

    @property
    def heartbeat_every_ms(self) -> int:
        """In ms, whether it was given or not."""
        return self.heartbeat_interval_ms or max(1, self.session_timeout_ms // 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminOptions(ClientOptions):
    """Nothing of its own yet."""


class ClientKeywords(TypedDict, total=False):
    """The keyword arguments that every client takes; see ``ClientOptions``."""

    client_id: str
    request_timeout_ms: int
    default_api_timeout_ms: int
    bootstrap_timeout_ms: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    metadata_max_age_ms: int


class ProducerKeywords(ClientKeywords, total=False):
    """The keyword arguments of ``Producer``; see ``ProducerOptions``."""

    acks: int | str
    enable_idempotence: bool
    linger_ms: int
    batch_size: int
    buffer_memory: int
    max_request_size: int
    max_in_flight: int
    retries: int
    delivery_timeout_ms: int
    max_block_ms: int
    compression_type: str | None


class ConsumerKeywords(ClientKeywords, total=False):
    """The keyword arguments of ``Consumer``; see ``ConsumerOptions``."""

    group_instance_id: str
    auto_offset_reset: str
    enable_auto_commit: bool
    auto_commit_interval_ms: int
    session_timeout_ms: int
    heartbeat_interval_ms: int
    max_poll_interval_ms: int
    max_poll_records: int
    partition_assignment_strategy: Sequence[str]
    fetch_min_bytes: int
    fetch_max_wait_ms: int
    fetch_max_bytes: int
    max_partition_fetch_bytes: int
    isolation_level: str
    client_rack: str


Options = TypeVar("Options", bound=ClientOptions)


def producer_options(bootstrap_servers: Bootstrap, keywords: Mapping[str, object]) -> ProducerOptions:
    """Checked options; raises ``ConfigError`` naming the option, its value and what is allowed."""
    given = dict(keywords)
    if "acks" in given:
        given["acks"] = _ACKS.get(given["acks"], given["acks"])
    if given.get("compression_type", "") is None:
        given["compression_type"] = "none"
    if given.get("acks", -1) != -1 and "enable_idempotence" not in given:
        given["enable_idempotence"] = False
    if "delivery_timeout_ms" in given and "request_timeout_ms" not in given:
        _shorten_request_timeout(given)
    options = _build(ProducerOptions, bootstrap_servers, given)
    _check_idempotence(options)
    if options.delivery_timeout_ms < options.linger_ms + options.request_timeout_ms:
        raise ConfigError(
            f"delivery_timeout_ms={options.delivery_timeout_ms} is below linger_ms + request_timeout_ms "
            f"= {options.linger_ms + options.request_timeout_ms}"
        )
    return options


def consumer_options(bootstrap_servers: Bootstrap, keywords: Mapping[str, object]) -> ConsumerOptions:
    """Checked options; raises ``ConfigError`` naming the option, its value and what is allowed."""
    given = dict(keywords)
    strategy = given.get("partition_assignment_strategy")
    if isinstance(strategy, Sequence) and not isinstance(strategy, str):
        given["partition_assignment_strategy"] = tuple(strategy)
    options = _build(ConsumerOptions, bootstrap_servers, given)
    if options.heartbeat_interval_ms >= options.session_timeout_ms:
        raise ConfigError(
            f"heartbeat_interval_ms={options.heartbeat_interval_ms} must be below session_timeout_ms="
            f"{options.session_timeout_ms}"
        )
    if not options.partition_assignment_strategy:
        raise ConfigError("partition_assignment_strategy must name at least one assignor")
    return options


def admin_options(bootstrap_servers: Bootstrap, keywords: Mapping[str, object]) -> AdminOptions:
    """Checked options; raises ``ConfigError`` naming the option, its value and what is allowed."""
    return _build(AdminOptions, bootstrap_servers, keywords)


def parse_bootstrap(servers: object) -> tuple[str, ...]:
    """Addresses from text or a list; raises ``ConfigError`` for none, and for what is not ``host:port``."""
    if isinstance(servers, str):
        servers = servers.split(",")
    if not isinstance(servers, Sequence):
        raise ConfigError(f"bootstrap_servers={servers!r} must be text or a list of host:port")
    addresses = tuple(str(item).strip() for item in servers if str(item).strip())
    if not addresses:
        raise ConfigError("bootstrap_servers is empty: name at least one broker's GRPC listener as host:port")
    for address in addresses:
        split_address(address)
    return addresses


def _shorten_request_timeout(given: dict[str, object]) -> None:
    """A short delivery timeout alone is a clear wish: the default request timeout gives way."""
    delivery_ms, linger_ms = given["delivery_timeout_ms"], given.get("linger_ms", 5)
    if isinstance(delivery_ms, int) and isinstance(linger_ms, int):
        given["request_timeout_ms"] = max(1, min(30_000, delivery_ms - linger_ms))


def _check_idempotence(options: ProducerOptions) -> None:
    if not options.enable_idempotence:
        return
    if options.acks != -1:
        raise ConfigError(f"enable_idempotence needs acks='all', not {options.acks}")
    if options.max_in_flight > _MAX_IN_FLIGHT_IDEMPOTENT:
        raise ConfigError(f"enable_idempotence needs max_in_flight of at most 5, not {options.max_in_flight}")
    if options.retries == 0:
        raise ConfigError("enable_idempotence needs retries above 0")


def _build(cls: type[Options], bootstrap_servers: Bootstrap, given: Mapping[str, object]) -> Options:
    known = {item.name: item for item in fields(cls)}
    hints = get_type_hints(cls)
    values: dict[str, object] = {"bootstrap_servers": parse_bootstrap(bootstrap_servers)}
    for name, value in given.items():
        if name not in known:
            close = get_close_matches(name, list(known), n=1)
            raise ConfigError(f"unknown option {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        about = known[name].metadata["setting"]
        _check(about, hints[name], value)
        values[name] = value
    make: Callable[..., Options] = cls
    return make(**values)


def _check(about: Setting, kind: object, value: object) -> None:
    expected = tuple if get_args(kind) else kind
    # A boolean is an int to Python, but linger_ms=True is a mistake.
    fits = isinstance(expected, type) and isinstance(value, expected)
    if not fits or (expected is int and isinstance(value, bool)):
        name = expected.__name__ if isinstance(expected, type) else str(expected)
        raise ConfigError(f"{about.key}={value!r} must be of type {name}")
    if about.choices and value not in about.choices:
        raise ConfigError(f"{about.key}={value!r}: allowed: {', '.join(about.choices)}")
    if isinstance(value, int) and about.minimum is not None and value < about.minimum:
        raise ConfigError(f"{about.key}={value!r} must be at least {about.minimum:.0f}")
    if isinstance(value, int) and about.maximum is not None and value > about.maximum:
        raise ConfigError(f"{about.key}={value!r} must be at most {about.maximum:.0f}")
