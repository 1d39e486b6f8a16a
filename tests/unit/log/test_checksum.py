"""The checksum is Castagnoli's, and costs a node no more than it has to."""

import subprocess
import sys

import crc32c as package
from glasslog.log.checksum import crc32c


def test_the_check_value_of_the_catalogue() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_it_is_the_packages_own_over_any_buffer() -> None:
    data = bytes(range(256)) * 41
    for buffer in (data, bytearray(data), memoryview(data)[3:]):
        assert crc32c(buffer) == package.crc32c(buffer)


def test_the_packages_front_door_stays_shut() -> None:
    """It loads a mail parser to find its own version, a megabyte in every node."""
    code = "import sys, glasslog.log.log; print([m for m in ('email', 'zipfile') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
