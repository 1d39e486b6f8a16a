"""Every switch by its name, in the order of ``--list``."""

from collections.abc import Mapping

from glasslog.simulator.switches.switch import Switch
from glasslog.simulator.switches.truncation import TRUNCATE_TO_HIGH_WATERMARK

SWITCHES: Mapping[str, Switch] = {switch.name: switch for switch in (TRUNCATE_TO_HIGH_WATERMARK,)}
