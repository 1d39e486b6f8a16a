"""What holds for every test: drawing examples takes its time, and log levels are put back."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long drawing an example takes tells of the machine, not of the code: on a busy one that is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Give the next test the log levels this one found: commands silence the library for their process."""
    loggers = [logging.getLogger(), logging.getLogger("glasslog")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
