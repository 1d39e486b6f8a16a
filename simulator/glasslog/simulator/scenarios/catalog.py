"""Every scenario by its name, in the order of ``--list``."""

from collections.abc import Mapping

from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.scenarios.stale_high_watermark import STALE_HIGH_WATERMARK

SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in (STALE_HIGH_WATERMARK,)}
