"""Histories of a compacted log against its model; one that fails names its number.

``COMPACTION_MODEL=17`` replays history 17, ``COMPACTION_MODEL=0-100000`` runs a hundred thousand.
"""

import os

import pytest

from tests.unit.log.compaction_model import run_history

_CHUNK = 100


def _chunks() -> list[range]:
    first, _, end = os.environ.get("COMPACTION_MODEL", "0-600").partition("-")
    numbers = range(int(first), int(end) if end else int(first) + 1)
    return [numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK)]


@pytest.mark.parametrize("numbers", _chunks(), ids=lambda numbers: f"{numbers[0]}-{numbers[-1]}")
def test_the_newest_of_each_key_is_there_whatever_fails(numbers: range) -> None:
    for number in numbers:
        run_history(number)
