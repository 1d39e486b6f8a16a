"""Stands in for a node: takes the place of its HTTP port and answers ``/readyz``. Starts in milliseconds.

``FAKE_NODES`` in the environment says who misbehaves, as ``broker-2:dies,controller-1:never-ready``.
"""

import os
import signal
import socket
import sys
from pathlib import Path

READY = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nready\n"
NOT_READY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\nbroker: fenced\n"


def main(path: str) -> int:
    values = dict(line.split("=", 1) for line in Path(path).read_text(encoding="utf-8").splitlines())
    name = Path(path).parent.name
    behaviours = dict(item.split(":") for item in os.environ.get("FAKE_NODES", "").split(",") if item)
    behaviour = behaviours.get(name, "")
    if behaviour == "dies":
        print("glasslog server: data directory is foreign", file=sys.stderr)
        return 1
    # Like a node, it stops by a signal that it takes; unlike one, a stubborn one does not.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else _stop)
    host, port = values["http.listener"].split(":")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen()
        print(f"{name} listens", file=sys.stderr, flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(NOT_READY if behaviour == "never-ready" else READY)


def _stop(number: int, frame: object) -> None:
    print("stopping in order", file=sys.stderr, flush=True)
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
