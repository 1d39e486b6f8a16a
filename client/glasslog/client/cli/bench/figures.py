"""What is made of times: percentiles and gaps. Refuses to know how they were measured."""

import math
from collections.abc import Sequence
from itertools import pairwise

from glasslog.client.cli.bench.pacing import Acknowledgement


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent of them are not above."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def longest_gap_ms(acknowledged: Sequence[Acknowledgement], *, after_s: float) -> float:
    """The longest time that ended after ``after_s`` in which some partition got no acknowledgement.

    Every partition must have been written to all the while.
    """
    times: dict[int, list[float]] = {}
    for ack in acknowledged:
        times.setdefault(ack.partition, []).append(ack.acked_s)
    gaps = (pair for series in times.values() for pair in pairwise(series))
    return max((later - earlier) * 1e3 for earlier, later in gaps if later > after_s)
