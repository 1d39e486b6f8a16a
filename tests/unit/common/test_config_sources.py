"""Properties files, environment and arguments: what they say, and where a mistake is."""

import pytest
from glasslog.common.config_sources import (
    from_environment,
    parse_assignments,
    parse_properties,
    to_properties,
)
from glasslog.common.errors import ConfigError


def test_properties() -> None:
    text = "# a comment\n! another\n\nnode.id = 1\nlisteners=GRPC://a:1,KAFKA://a:2\nlog.dirs: /a\n"
    assert parse_properties(text, where="f") == {
        "node.id": "1",
        "listeners": "GRPC://a:1,KAFKA://a:2",
        "log.dirs": "/a",
    }


@pytest.mark.parametrize(
    ("text", "line"), [("node.id=1\nwhat\n", "f:2"), ("a=1\n\na=2\n", "f:3"), ("=5\n", "f:1")]
)
def test_a_bad_line_is_named(text: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        parse_properties(text, where="f")


def test_properties_survive_their_text() -> None:
    values = {"node.id": "1", "listeners": "GRPC://a:1"}
    assert parse_properties(to_properties(values), where="f") == values


def test_assignments() -> None:
    assert parse_assignments(["a.b = c=d", "x="]) == {"a.b": "c=d", "x": ""}
    for bad in ("a", "=1"):
        with pytest.raises(ConfigError, match="key=value"):
            parse_assignments([bad])


def test_environment_gives_known_keys_only() -> None:
    environment = {"GLASSLOG_NODE_ID": "4", "GLASSLOG_BOOTSTRAP": "x:1", "NODE_ID": "5"}
    assert from_environment(environment, ["node.id", "log.dirs"]) == {"node.id": "4"}
