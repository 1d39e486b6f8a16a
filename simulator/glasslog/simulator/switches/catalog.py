"""Every switch by its name, in the order of ``--list``."""

from collections.abc import Mapping

from glasslog.simulator.switches.consumers import UNNOTICED_TRUNCATION
from glasslog.simulator.switches.groups import UNREPLICATED_COMMITS
from glasslog.simulator.switches.in_sync import ANY_INCARNATION, ANYBODY_IN_SYNC, LAST_STAYS
from glasslog.simulator.switches.moves import SAME_EPOCH
from glasslog.simulator.switches.producers import FORGOTTEN_PRODUCERS
from glasslog.simulator.switches.quorum import (
    ANY_DISK,
    LOG_BEFORE_SYNC,
    NO_CHECK_QUORUM,
    NO_PRE_VOTE,
    VOTE_BEFORE_SYNC,
)
from glasslog.simulator.switches.snapshots import EMPTY_FOR_CORRUPT
from glasslog.simulator.switches.switch import Switch
from glasslog.simulator.switches.truncation import OFFSETS_WITHOUT_EPOCHS, TRUNCATE_TO_HIGH_WATERMARK

SWITCHES: Mapping[str, Switch] = {
    switch.name: switch
    for switch in (
        TRUNCATE_TO_HIGH_WATERMARK,
        OFFSETS_WITHOUT_EPOCHS,
        UNNOTICED_TRUNCATION,
        ANY_INCARNATION,
        ANYBODY_IN_SYNC,
        LAST_STAYS,
        NO_CHECK_QUORUM,
        NO_PRE_VOTE,
        VOTE_BEFORE_SYNC,
        LOG_BEFORE_SYNC,
        ANY_DISK,
        EMPTY_FOR_CORRUPT,
        FORGOTTEN_PRODUCERS,
        UNREPLICATED_COMMITS,
        SAME_EPOCH,
    )
}
