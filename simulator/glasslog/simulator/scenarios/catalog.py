"""Every scenario by its name, in the order of ``--list``."""

from collections.abc import Mapping

from glasslog.simulator.scenarios.bit_rot import BIT_ROT, LOST_TAIL
from glasslog.simulator.scenarios.clients import (
    CALM,
    FLUSHED_POWER_LOSS,
    LONG_PAUSE,
    POWER_LOSS,
    RETRIED_BATCHES,
)
from glasslog.simulator.scenarios.closest_replica import CLOSEST_REPLICA
from glasslog.simulator.scenarios.elections import DIVERGED_EPOCHS, FOLLOWER_AHEAD
from glasslog.simulator.scenarios.failures import FAILURES, HURRIED_KILLS
from glasslog.simulator.scenarios.groups import DYING_COORDINATORS
from glasslog.simulator.scenarios.in_sync import EMPTY_DISK, FENCED_REPLICA, LAST_REPLICA
from glasslog.simulator.scenarios.moves import MOVED_BACK
from glasslog.simulator.scenarios.quorum import ISOLATED_LEADER, LOST_DISK, LOST_ENTRIES, LOST_VOTE
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.scenarios.snapshots import CORRUPT_SNAPSHOT
from glasslog.simulator.scenarios.stale_high_watermark import STALE_HIGH_WATERMARK
from glasslog.simulator.scenarios.truncation import TRUNCATED_CONSUMER

SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        STALE_HIGH_WATERMARK,
        DIVERGED_EPOCHS,
        TRUNCATED_CONSUMER,
        FOLLOWER_AHEAD,
        EMPTY_DISK,
        FENCED_REPLICA,
        LAST_REPLICA,
        ISOLATED_LEADER,
        LOST_VOTE,
        LOST_ENTRIES,
        LOST_DISK,
        CORRUPT_SNAPSHOT,
        BIT_ROT,
        LOST_TAIL,
        RETRIED_BATCHES,
        LONG_PAUSE,
        POWER_LOSS,
        FLUSHED_POWER_LOSS,
        CALM,
        DYING_COORDINATORS,
        MOVED_BACK,
        CLOSEST_REPLICA,
        *FAILURES,
        HURRIED_KILLS,
    )
}
