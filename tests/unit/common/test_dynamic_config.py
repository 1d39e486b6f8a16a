"""Settings of a broker that change while it runs: which, on what, and in which order they win."""

import logging

import pytest
from glasslog.common.dynamic_config import (
    DYNAMIC_SETTINGS,
    Scope,
    check_broker_overrides,
    list_default,
    with_overrides,
)
from glasslog.common.errors import ConfigError
from glasslog.common.node_config import NodeConfig
from glasslog.common.topic_config import topic_config

CONFIG = NodeConfig(node_id=1, process_roles=("broker",), log_retention_hours=1)


def test_one_brokers_setting_wins_over_every_brokers_and_that_over_the_file() -> None:
    every, own = {"log.retention.ms": "2000", "log.segment.bytes": "4096"}, {"log.retention.ms": "3000"}
    assert with_overrides(CONFIG, {}, {}) is CONFIG
    assert topic_config(CONFIG, {}).retention_ms == 3_600_000
    assert topic_config(with_overrides(CONFIG, every, {}), {}).retention_ms == 2_000
    both = topic_config(with_overrides(CONFIG, every, own), {})
    assert (both.retention_ms, both.segment_bytes) == (3_000, 4_096)
    assert topic_config(with_overrides(CONFIG, every, own), {"retention.ms": "1"}).retention_ms == 1


@pytest.mark.parametrize("overrides", [{"no.such": "1"}, {"node.id": "9"}, {"log.segment.bytes": "some"}])
def test_what_a_broker_can_not_take_is_left_out_and_told(
    overrides: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A newer controller may know settings that this broker does not: it must not stop for that."""
    with caplog.at_level(logging.WARNING):
        made = with_overrides(CONFIG, {**overrides, "log.retention.ms": "5"}, {})
    assert (made.node_id, made.log_retention_ms) == (1, 5)
    assert "has no effect" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "is_every_broker", "words"),
    [
        ({"no.such": "1"}, True, "unknown setting 'no.such'"),
        ({"listeners": "GRPC://h:1"}, True, "'listeners' is read-only"),
        ({"log.retention.ms": "-2"}, True, "at least -1"),
        ({"unclean.leader.election.enable": "true"}, False, "can not differ between brokers"),
    ],
)
def test_a_refusal_says_why(overrides: dict[str, str], is_every_broker: bool, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_broker_overrides(overrides, is_every_broker=is_every_broker)


def test_what_the_controllers_act_on_is_the_same_on_every_broker() -> None:
    whole = {key for key, scope in DYNAMIC_SETTINGS.items() if scope is Scope.EVERY_BROKER}
    assert whole == {"min.insync.replicas", "unclean.leader.election.enable"}
    check_broker_overrides(dict.fromkeys(whole - {"min.insync.replicas"}, "true"), is_every_broker=True)


def test_lists_are_known_by_their_defaults() -> None:
    assert list_default("log.cleanup.policy") == "delete"
    assert list_default("log.segment.bytes") is None
    assert list_default("no.such") is None
