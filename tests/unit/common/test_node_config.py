"""Settings: every refusal names the key, the value and what is allowed."""

import pytest
from glasslog.common.addresses import parse_bootstrap_servers, parse_listeners, parse_voters
from glasslog.common.config import describe, parse
from glasslog.common.errors import ConfigError
from glasslog.common.node_config import NodeConfig
from glasslog.common.topic_config import TopicConfig, check_topic_overrides, topic_config

MINIMAL = {"node.id": "1", "process.roles": "broker,controller"}


def test_defaults_and_typed_values() -> None:
    config = parse(NodeConfig, {**MINIMAL, "log.dirs": "/a, /b", "auto.create.topics.enable": "False"})
    assert config.log_dirs == ("/a", "/b")
    assert config.auto_create_topics_enable is False
    assert config.is_broker
    assert config.is_controller
    assert config.effective_metadata_log_dir == "/a"


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"node.ids": "1"}, ["'node.ids'", "did you mean 'node.id'"]),
        ({"node.id": "x"}, ["node.id='x'", "integer"]),
        ({"node.id": "-3"}, ["node.id='-3'", "at least 0"]),
        ({"process.roles": "broker,king"}, ["process.roles", "broker, controller"]),
        ({"process.roles": ""}, ["process.roles", "broker, controller"]),
        ({"auto.create.topics.enable": "yes"}, ["auto.create.topics.enable='yes'", "boolean"]),
        ({"offsets.topic.num.partitions": "0"}, ["at least 1"]),
    ],
)
def test_bad_values_are_named(values: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(NodeConfig, {**MINIMAL, **values}, where="node.properties")
    for part in ["node.properties", *parts]:
        assert part in str(caught.value)


def test_brokers_know_controllers_by_id_or_only_where_to_ask() -> None:
    config = parse(
        NodeConfig,
        {
            **MINIMAL,
            "controller.quorum.voters": "101@a:9093",
            "controller.quorum.bootstrap.servers": "b:9093,c:9093",
        },
    )
    assert [(each.node_id, each.address) for each in config.known_controllers] == [
        (101, "a:9093"),
        (-2, "b:9093"),
        (-3, "c:9093"),
    ]


@pytest.mark.parametrize("text", ["b", ":9093", "b:", "b:x", "b:70000"])
def test_a_bootstrap_server_without_host_and_port_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"controller\.quorum\.bootstrap\.servers: '.*' is not host:port"):
        parse_bootstrap_servers((text,))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'process\.roles' is missing"):
        parse(NodeConfig, {"node.id": "1"})


def test_a_topic_setting_wins_over_the_broker_default() -> None:
    node = parse(
        NodeConfig, {**MINIMAL, "min.insync.replicas": "2", "unclean.leader.election.enable": "true"}
    )
    assert topic_config(node, {}).min_insync_replicas == 2
    assert topic_config(node, {}).unclean_leader_election_enable is True
    assert topic_config(node, {"min.insync.replicas": "3"}).min_insync_replicas == 3


def test_topic_overrides_are_checked() -> None:
    check_topic_overrides({"segment.bytes": "4096"})
    with pytest.raises(ConfigError, match=r"segment\.bytes='12'"):
        check_topic_overrides({"segment.bytes": "12"})


def test_every_setting_is_described() -> None:
    for cls in (NodeConfig, TopicConfig):
        for row in describe(cls):
            assert row.setting.doc
            assert row.type_name in {"boolean", "integer", "number", "string", "list"}


@pytest.mark.parametrize(
    "text",
    [
        "GRPC:/x:1",
        "GRPC://x",
        "GRPC://:1",
        "GRPC://x:70000",
        "FTP://x:1",
        "GRPC://x:a",
        "CONTROLLER_A://x:1",
        "KAFKA_://x:1",
    ],
)
def test_bad_listeners(text: str) -> None:
    with pytest.raises(ConfigError, match="listeners"):
        parse_listeners((text,))


def test_listeners_and_voters() -> None:
    first, second = parse_listeners(("GRPC://0.0.0.0:9192", "KAFKA://[::1]:0"))
    assert (first.protocol, first.address) == ("GRPC", "0.0.0.0:9192")
    assert (second.host, second.port) == ("[::1]", 0)
    with pytest.raises(ConfigError, match="twice"):
        parse_listeners(("GRPC://a:1", "GRPC://b:2"))
    assert [v.node_id for v in parse_voters(("1@a:1", "2@b:2"))] == [1, 2]
    for bad in ("1", "x@a:1", "1@a", "1@:1"):
        with pytest.raises(ConfigError, match="voters"):
            parse_voters((bad,))
    with pytest.raises(ConfigError, match="twice"):
        parse_voters(("1@a:1", "1@b:2"))


@pytest.mark.parametrize(
    ("values", "retention_ms"),
    [
        ({}, 7 * 24 * 3_600_000),
        ({"log.retention.hours": "2"}, 7_200_000),
        ({"log.retention.hours": "2", "log.retention.minutes": "3"}, 180_000),
        ({"log.retention.minutes": "3", "log.retention.ms": "4"}, 4),
        ({"log.retention.ms": "-1"}, -1),
        ({"log.retention.hours": "-1"}, -1),
    ],
)
def test_of_the_retention_times_the_finest_counts(values: dict[str, str], retention_ms: int) -> None:
    node = parse(NodeConfig, {**MINIMAL, **values})
    assert topic_config(node, {}).retention_ms == retention_ms
