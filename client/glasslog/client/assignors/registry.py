"""Which assignors there are, by name. ``ASSIGNORS`` is where a new one is added."""

from collections.abc import Mapping, Sequence

from glasslog.client.assignors.members import Assignor
from glasslog.client.assignors.ranges import RangeAssignor
from glasslog.client.assignors.round_robin import RoundRobinAssignor
from glasslog.client.assignors.sticky import CooperativeStickyAssignor, StickyAssignor
from glasslog.common.errors import ConfigError

_ALL: tuple[Assignor, ...] = (
    RangeAssignor(),
    RoundRobinAssignor(),
    StickyAssignor(),
    CooperativeStickyAssignor(),
)
ASSIGNORS: Mapping[str, Assignor] = {assignor.name: assignor for assignor in _ALL}


def assignors_named(names: Sequence[str]) -> tuple[Assignor, ...]:
    """The assignors by name; raises ``ConfigError`` for one that does not exist."""
    for name in names:
        if name not in ASSIGNORS:
            raise ConfigError(
                f"partition_assignment_strategy={name!r}: there are {', '.join(sorted(ASSIGNORS))}"
            )
    return tuple(ASSIGNORS[name] for name in names)
