"""Kafka's own tools, where a machine has them: ``GLASSLOG_KAFKA_LIBS`` names a folder with all its jars."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

LIBS_VARIABLE = "GLASSLOG_KAFKA_LIBS"
_MAVEN = Path.home() / ".m2" / "repository"
_BROKER_JARS = "org/apache/kafka/kafka_2.13/4.*/kafka_2.13-4.*.jar"
_TIMEOUT_S = 60


def class_path() -> str:
    """Where Java finds Kafka; skips the test when it can not."""
    if shutil.which("java") is None:
        pytest.skip("there is no java to run Kafka's tools with")
    libs = os.environ.get(LIBS_VARIABLE)
    if libs:
        return f"{libs}/*"
    if _MAVEN.is_dir() and any(_MAVEN.glob(_BROKER_JARS)):
        return os.pathsep.join(str(path) for path in sorted(_MAVEN.rglob("*.jar")))
    pytest.skip(f"Kafka's jars are neither in {LIBS_VARIABLE} nor in Maven's cache")


def dump_log_segments(files: Sequence[Path], *options: str) -> str:
    """What Kafka's ``DumpLogSegments`` prints; fails the test when it ends with an error."""
    command = ["java", "-cp", class_path(), "kafka.tools.DumpLogSegments", *options, "--files"]
    done = subprocess.run(
        [*command, ",".join(str(file) for file in files)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
