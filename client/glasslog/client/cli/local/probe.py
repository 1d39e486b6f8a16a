"""Asks a node over HTTP whether it is ready. Refuses to know what that means to the node."""

import socket
from dataclasses import dataclass

_LONGEST_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What ``/readyz`` says. ``reason`` tells what is missing when it is not ready."""

    ready: bool
    reason: str


def ask(address: str, *, path: str = "/readyz", timeout_s: float = 0.5) -> Readiness:
    """One GET at ``host:port``; no answer counts as not ready."""
    host, _, port = address.rpartition(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
            connection.sendall(request.encode("ascii"))
            return _parse(_read_all(connection))
    except OSError as error:
        return Readiness(ready=False, reason=f"no answer from {address} ({error})")


def _read_all(connection: socket.socket) -> bytes:
    answer = bytearray()
    while len(answer) < _LONGEST_ANSWER_BYTES and (part := connection.recv(_LONGEST_ANSWER_BYTES)):
        answer += part
    return bytes(answer)


def _parse(answer: bytes) -> Readiness:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    ready = len(words) > 1 and words[1] == b"200"
    return Readiness(ready=ready, reason=body.decode("utf-8", "replace").strip())
