"""The process between the nodes of a cluster that is broken on purpose: `glasslog toxiproxy`.

It has a proxy for every link. It starts before the nodes, which find each other through it, and ends after
them. Refuses to know faults.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from glasslog.client.cli.local import layout, probe, processes
from glasslog.client.cli.local.logs import begin, last_words
from glasslog.client.cli.local.processes import Condition
from glasslog.client.cli.local.state import ClusterState, Proxies

NAME = "toxiproxy"
"""What it is called where nodes have their names."""

COMMAND = (sys.executable, "-P", "-m", "glasslog.client", "toxiproxy")
CONFIG_FILE = "toxiproxy.json"
LOG_FILE = "toxiproxy.log"


def start(directory: Path, state: ClusterState, proxies: Proxies) -> Proxies:
    """Start it, without waiting; returns it with its process."""
    config = directory / CONFIG_FILE
    config.write_text(json.dumps(_configuration(state, proxies), indent=1) + "\n", encoding="utf-8")
    output = directory / LOG_FILE
    begin(output)
    process = processes.spawn(
        [*COMMAND, "--port", str(proxies.api_port), "--config", str(config)],
        output=output,
        folder=directory,
        environment=layout.environment_for_nodes(os.environ),
    )
    return replace(proxies, process=process)


def condition(proxies: Proxies) -> Condition:
    """How the process is."""
    return Condition.GONE if proxies.process is None else processes.condition(proxies.process)


def readiness(proxies: Proxies) -> probe.Readiness:
    """Whether its API answers: it does once every proxy listens."""
    return probe.ask(proxies.api, path="/version")


def last_words_of(directory: Path) -> str:
    """Why it ended."""
    return last_words(directory / LOG_FILE)


def remove(directory: Path) -> None:
    """What `start` left in the folder."""
    for name in (CONFIG_FILE, LOG_FILE, LOG_FILE + ".1"):
        (directory / name).unlink(missing_ok=True)


def _configuration(state: ClusterState, proxies: Proxies) -> list[dict[str, str]]:
    """As Toxiproxy's populate takes it."""
    return [
        {
            "name": link.name,
            "listen": link.address,
            "upstream": state.node(link.target).own_address(link.listener),
        }
        for link in proxies.links
    ]
