"""A real Kafka of one process, broker and controller, for what is compared with it."""

import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.golden.kafka_tools import class_path

_CLUSTER_ID = "AAAAAAAAQACAAAAAAAAAAg"
_START_S = 60.0


class RealKafka:
    """Runs from ``start`` to ``stop``."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        """Returns once it takes connections; skips the test where there is no Kafka."""
        class_path()
        self._folder.mkdir(parents=True)
        self.port, controller = _free_port(), _free_port()
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"KAFKA://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "inter.broker.listener.name": "KAFKA",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "KAFKA:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._folder / "data"),
            **self._settings,
        }
        properties = self._folder / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        format_it = ("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties))
        subprocess.run(_java(*format_it), check=True, capture_output=True, timeout=_START_S)
        with (self._folder / "kafka.log").open("wb") as log:
            self._process = subprocess.Popen(
                _java("kafka.Kafka", str(properties)), stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        log = self._folder / "kafka.log"
        while b"Kafka Server started" not in log.read_bytes():
            assert self._process is not None
            assert self._process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _java(*arguments: str) -> list[str]:
    return ["java", "-Xmx400m", "-XX:TieredStopAtLevel=1", "-cp", class_path(), *arguments]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port
