"""docs/testing.md: its examples are test files, run as a user would, warnings being errors."""

import re
import subprocess
import sys
from pathlib import Path

from tests.source_tree import ROOT

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            "kept",
            *arguments,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_examples_pass(tmp_path: Path) -> None:
    blocks = _BLOCK.findall((ROOT / "docs" / "testing.md").read_text(encoding="utf-8"))
    for number, block in enumerate(blocks):
        (tmp_path / f"test_example_{number}.py").write_text(block, encoding="utf-8")
    done = run_pytest(tmp_path, "--glasslog-seeds", "2")
    tests = sum(block.count("\ndef test_") for block in blocks)
    assert tests >= 5
    assert f"{tests} passed" in done.stdout, done.stdout
    assert list(tmp_path.glob("kept/*/glasslog/broker-1/node.log")), "what the nodes said is kept"
