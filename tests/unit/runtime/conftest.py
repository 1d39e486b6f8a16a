"""Both transports, for what they must do alike."""

import pytest

from tests.unit.runtime.transports import Runner, in_memory, on_loopback


@pytest.fixture(params=[in_memory, on_loopback], ids=["memory", "loopback"])
def run_on(request: pytest.FixtureRequest) -> Runner:
    runner: Runner = request.param
    return runner
