"""Makes every test that starts a cluster run in one of the parallel processes, one after the other.

Under ``--dist loadgroup`` (as ``make test`` does) the rest spreads over the other processes meanwhile.
"""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long drawing an example takes tells of the machine, not of the code: on a busy one that is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

CLUSTER_FOLDERS = frozenset({"integration", "e2e"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = config.rootpath / "tests"
    for item in items:
        if item.path.is_relative_to(tests) and item.path.relative_to(tests).parts[0] in CLUSTER_FOLDERS:
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Give the next test the log levels this one found: commands silence the library for their process."""
    loggers = [logging.getLogger(), logging.getLogger("glasslog")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
