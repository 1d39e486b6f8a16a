"""What README.md shows of containers is done as printed: from `make up` to a report, and away with it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from glasslog.client.cli.local.ports import is_free

from tests.e2e.test_readme import Reader, steps_in_containers
from tests.source_tree import ROOT

COMMAND_TIMEOUT_S = 600
"""The image may have to be built."""

_NOT_OF_THE_TREE = (".venv", ".git", ".*_cache", ".hypothesis", "__pycache__")
_FIRST_PORT = 19_192


@pytest.fixture
def newcomer(engine: None, tmp_path: Path) -> Iterator[Reader]:
    """Somebody with a fresh copy of the tree; containers of theirs are gone afterwards."""
    if not is_free(_FIRST_PORT):
        pytest.skip(f"a cluster of `make up` seems to run: port {_FIRST_PORT} is taken")
    folder = tmp_path / "newcomer"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_NOT_OF_THE_TREE))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GLASSLOG_")}
    path = os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))
    environment = {**kept, "HOME": str(tmp_path), "PATH": path}
    yield Reader(folder, environment, timeout_s=COMMAND_TIMEOUT_S)
    command = ["make", "down", "VOLUMES=1"]
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=180)


def test_readme_goes_from_make_up_to_a_report(newcomer: Reader) -> None:
    script = list(steps_in_containers((ROOT / "README.md").read_text(encoding="utf-8")))
    assert len(script) == 5
    assert script[0].text == "make up"
    for step in script:
        assert not (complaint := newcomer.follow(step)), complaint
    assert "PASSED" in (newcomer.folder / "report.html").read_text(encoding="utf-8")
