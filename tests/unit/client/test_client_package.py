"""``from glasslog.client import Producer`` works, and costs nobody anything who does not ask for it."""

import subprocess
import sys

import glasslog.client
import pytest


def test_the_public_names_are_there() -> None:
    from glasslog.client import Admin, Consumer, ConsumerRecord, Producer, TopicPartition

    found = {cls.__name__ for cls in (Admin, Consumer, ConsumerRecord, Producer, TopicPartition)}
    assert found == set(glasslog.client.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Prodcer'"):
        getattr(glasslog.client, "Prodcer")  # noqa: B009 - mypy would refuse the plain form


def test_the_package_loads_nothing_by_itself() -> None:
    code = (
        "import sys, glasslog.client\n"
        "loaded = [name for name in sys.modules if name.startswith(('glasslog.', 'google', 'grpc'))]\n"
        "assert loaded == ['glasslog.client'], loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
