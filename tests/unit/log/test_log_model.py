"""Ten thousand histories of a log against its model; one that fails names its number.

``LOG_MODEL=17`` replays history 17, ``LOG_MODEL=0-1000000`` runs a million.
"""

import os

import pytest

from tests.unit.log.log_model import run_history

_CHUNK = 250


def _chunks() -> list[range]:
    first, _, end = os.environ.get("LOG_MODEL", "0-10000").partition("-")
    numbers = range(int(first), int(end) if end else int(first) + 1)
    return [numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK)]


@pytest.mark.parametrize("numbers", _chunks(), ids=lambda numbers: f"{numbers[0]}-{numbers[-1]}")
def test_a_log_is_its_model_whatever_fails(numbers: range) -> None:
    for number in numbers:
        run_history(number)
