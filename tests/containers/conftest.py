"""What containers' tests need: an engine, the image built from this tree, a cluster that they share."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from testcontainers.core.config import testcontainers_config

from tests.containers.container_nodes import ContainerNodes
from tests.source_tree import ROOT

IMAGE = "glasslog-test"
BASE_IMAGE = "python:3.11-slim-bookworm"
BUILD_TIMEOUT_S = 900

# It removes containers after a run that died; where no registry can be reached there is none.
testcontainers_config.ryuk_disabled = True


def _says(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    try:
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        # An engine that hangs, or a registry that swallows packets, is as good as none.
        return False


@pytest.fixture(scope="session")
def engine() -> None:
    """An engine that answers and has, or gets, the base image."""
    if not _says("docker", "info"):
        pytest.skip("no Docker engine answers: nothing was tested with containers")
    if not _says("docker", "image", "inspect", BASE_IMAGE) and not _says("docker", "pull", BASE_IMAGE):
        pytest.skip(f"no image {BASE_IMAGE}, and no registry that has it: deploy/base-image.sh makes it")


def build() -> None:
    """The image of this tree."""
    command = ["docker", "build", "--quiet", "--file", "deploy/Dockerfile", "--tag", IMAGE, "."]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """``GLASSLOG_TEST_IMAGE`` names one that is there already."""
    if named := os.environ.get("GLASSLOG_TEST_IMAGE"):
        return named
    build()
    return IMAGE


@pytest.fixture(scope="session")
def nodes(image: str) -> Iterator[ContainerNodes]:
    """Three controllers and three brokers on three racks, shared: each scenario leaves them whole."""
    with ContainerNodes(image) as made:
        yield made
