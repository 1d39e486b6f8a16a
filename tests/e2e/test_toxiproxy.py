"""``glasslog toxiproxy`` as its users drive it: over HTTP and real sockets, by a client library too.

The same tests run against the real server when ``TOXIPROXY_SERVER`` names its program.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib import import_module
from pathlib import Path

import pytest

PATIENCE_S = 20
REAL = os.environ.get("TOXIPROXY_SERVER", "")
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Api:
    """A server's HTTP API."""

    port: int

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, object]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with closing(connection):
            text = body if isinstance(body, str) else json.dumps(body) if body is not None else None
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            raw = answer.read()
        try:
            return answer.status, json.loads(raw) if raw else None
        except ValueError:
            return answer.status, raw.decode()

    def good(self, method: str, path: str, body: object = None) -> Json:
        status, answer = self.call(method, path, body)
        assert status in (200, 201), answer
        assert isinstance(answer, dict)
        return answer

    def gone(self, method: str, path: str) -> None:
        assert self.call(method, path) == (204, None)

    def proxy(self, upstream: int, name: str = "p") -> int:
        """A new proxy; its port."""
        made = self.good(
            "POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream}"}
        )
        assert made["enabled"] is True
        return int(str(made["listen"]).rpartition(":")[2])

    def toxic(self, kind: str, *, stream: str = "downstream", proxy: str = "p", **attributes: int) -> Json:
        body = {"type": kind, "stream": stream, "attributes": attributes}
        return self.good("POST", f"/proxies/{proxy}/toxics", body)


def start_ours() -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "glasslog.client", "toxiproxy", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().rpartition(":")[2])


def start_real() -> tuple[subprocess.Popen[str], int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
    process = subprocess.Popen(
        [REAL, "-port", str(port)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port))):
            return process, port
    raise AssertionError("the real server does not answer")


@pytest.fixture(scope="module", params=["glasslog", "toxiproxy"])
def server(request: pytest.FixtureRequest) -> Iterator[Api]:
    if request.param == "toxiproxy" and not REAL:
        pytest.skip("TOXIPROXY_SERVER names no program of the real server")
    process, port = start_ours() if request.param == "glasslog" else start_real()
    try:
        yield Api(port)
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) in (0, -15, 2)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    yield server
    _, proxies = server.call("GET", "/proxies")
    assert isinstance(proxies, dict)
    for name in proxies:
        server.gone("DELETE", f"/proxies/{name}")


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                threading.Thread(target=answer, args=(accepted,), daemon=True).start()

    def answer(accepted: socket.socket) -> None:
        with suppress(OSError), closing(accepted):
            while data := accepted.recv(65536):
                accepted.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(PATIENCE_S)


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            break
        data += more
    return data


def round_trip_s(connection: socket.socket, data: bytes = b"ping") -> float:
    began = time.monotonic()
    connection.sendall(data)
    assert receive(connection, len(data)) == data
    return time.monotonic() - began


def test_bytes_pass_whole_and_in_order_through_a_healthy_proxy(api: Api, echo: int) -> None:
    with closing(dial(api.proxy(echo))) as connection:
        sent = os.urandom(1 << 20)
        writer = threading.Thread(target=connection.sendall, args=(sent,))
        writer.start()
        assert receive(connection, len(sent)) == sent
        writer.join(PATIENCE_S)


def test_latency_comes_and_goes_on_an_open_connection(api: Api, echo: int) -> None:
    with closing(dial(api.proxy(echo))) as connection:
        round_trip_s(connection)
        made = api.toxic("latency", latency=300)
        assert made == {
            "attributes": {"latency": 300, "jitter": 0},
            "name": "latency_downstream",
            "type": "latency",
            "stream": "downstream",
            "toxicity": 1,
        }
        assert round_trip_s(connection) >= 0.29
        changed = api.good("POST", "/proxies/p/toxics/latency_downstream", {"attributes": {"latency": 100}})
        assert changed["attributes"] == {"latency": 100, "jitter": 0}
        assert round_trip_s(connection) >= 0.09
        api.gone("DELETE", "/proxies/p/toxics/latency_downstream")
        assert min(round_trip_s(connection) for _ in range(5)) < 0.09


def test_bandwidth_holds_back_without_losing(api: Api, echo: int) -> None:
    with closing(dial(api.proxy(echo))) as connection:
        api.toxic("bandwidth", stream="upstream", rate=100)
        assert round_trip_s(connection, os.urandom(50_000)) >= 0.4


def test_limit_data_closes_after_its_bytes(api: Api, echo: int) -> None:
    port = api.proxy(echo)
    api.toxic("limit_data", bytes=5)
    with closing(dial(port)) as connection:
        connection.sendall(b"0123456789")
        assert receive(connection, 10) == b"01234"


def test_reset_peer_resets(api: Api, echo: int) -> None:
    port = api.proxy(echo)
    api.toxic("reset_peer", timeout=0)
    with closing(dial(port)) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_timeout_swallows_then_closes(api: Api, echo: int) -> None:
    port = api.proxy(echo)
    api.toxic("timeout", timeout=200)
    with closing(dial(port)) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b""


def test_a_removed_timeout_closes_what_it_held(api: Api, echo: int) -> None:
    with closing(dial(api.proxy(echo))) as connection:
        round_trip_s(connection)
        api.toxic("timeout", timeout=0)
        api.gone("DELETE", "/proxies/p/toxics/timeout_downstream")
        assert receive(connection, 1) == b""


def test_slices_make_up_the_whole(api: Api, echo: int) -> None:
    with closing(dial(api.proxy(echo))) as connection:
        api.toxic("slicer", average_size=64, size_variation=32, delay=10)
        round_trip_s(connection, os.urandom(20_000))


def test_slow_close_delays_the_end(api: Api, echo: int) -> None:
    port = api.proxy(echo)
    api.toxic("slow_close", delay=300)
    with closing(dial(port)) as connection:
        round_trip_s(connection)
        began = time.monotonic()
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 1) == b""
        assert time.monotonic() - began >= 0.28


def test_a_disabled_proxy_drops_connections_and_refuses_new_ones(api: Api, echo: int) -> None:
    port = api.proxy(echo)
    with closing(dial(port)) as connection:
        round_trip_s(connection)
        assert api.good("POST", "/proxies/p", {"enabled": False})["enabled"] is False
        with suppress(ConnectionResetError):
            assert receive(connection, 1) == b""
        with pytest.raises(ConnectionRefusedError):
            dial(port)
    api.toxic("latency", latency=1)
    api.gone("POST", "/reset")
    shown = api.good("GET", "/proxies/p")
    assert (shown["enabled"], shown["toxics"]) == (True, [])
    with closing(dial(port)) as connection:
        round_trip_s(connection)


def test_populate_keeps_what_is_as_asked(api: Api, echo: int) -> None:
    port = api.proxy(echo, name="kept")
    wanted = [
        {"name": "kept", "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{echo}"},
        {"name": "new", "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{echo}", "enabled": False},
    ]
    with closing(dial(port)) as connection:
        round_trip_s(connection)
        proxies = api.good("POST", "/populate", wanted)["proxies"]
        assert isinstance(proxies, list)
        assert [each["name"] for each in proxies] == ["kept", "new"]
        assert [api.good("GET", f"/proxies/{name}")["enabled"] for name in ("kept", "new")] == [True, False]
        round_trip_s(connection)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/proxies/nobody", None, 404, "proxy not found"),
        ("DELETE", "/proxies/nobody", None, 404, "proxy not found"),
        ("GET", "/proxies/p/toxics/none", None, 404, "toxic not found"),
        ("DELETE", "/proxies/p/toxics/none", None, 404, "toxic not found"),
        ("POST", "/proxies", "{", 400, "bad request body"),
        ("POST", "/proxies", {"upstream": "127.0.0.1:1"}, 400, "missing required field"),
        ("POST", "/proxies", {"name": "x"}, 400, "missing required field"),
        ("POST", "/proxies", {"name": "p", "upstream": "127.0.0.1:1"}, 409, "proxy already exists"),
        ("POST", "/proxies/p/toxics", {"type": "plague"}, 400, "invalid toxic type"),
        ("POST", "/proxies/p/toxics", {"type": "latency", "stream": "sideways"}, 400, "stream was invalid"),
        (
            "POST",
            "/proxies/p/toxics",
            {"type": "latency", "attributes": {"latency": "x"}},
            400,
            "bad request",
        ),
        ("POST", "/proxies/p/toxics", {"type": "latency", "name": "taken"}, 409, "toxic already exists"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    api: Api, echo: int, method: str, path: str, body: object, status: int, text: str
) -> None:
    api.proxy(echo)
    api.good("POST", "/proxies/p/toxics", {"type": "latency", "name": "taken", "attributes": {"latency": 1}})
    found, answer = api.call(method, path, body)
    assert found == status
    assert isinstance(answer, dict)
    assert answer["status"] == status
    assert text in str(answer["error"])


def test_a_browser_is_turned_away(api: Api) -> None:
    status, _ = api.call("GET", "/proxies", **{"User-Agent": "Mozilla/5.0"})
    assert status == 403


def test_toxiproxys_python_client_drives_it(api: Api, echo: int) -> None:
    with warnings.catch_warnings():
        # It rests on a compatibility package that is older than the warnings.
        warnings.simplefilter("ignore")
        client = import_module("toxiproxy").Toxiproxy()
    client.update_api_consumer("127.0.0.1", api.port)
    assert client.running()
    proxy = client.create(name="python", upstream=f"127.0.0.1:{echo}")
    port = int(proxy.listen.rpartition(":")[2])
    with closing(dial(port)) as connection:
        proxy.add_toxic(type="latency", attributes={"latency": 200})
        assert round_trip_s(connection) >= 0.19
        proxy.destroy_toxic("latency_downstream")
        assert proxy.toxics() == {}
    with proxy.down(), pytest.raises(ConnectionRefusedError):
        dial(port)
    assert client.reset()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glasslog.client", "toxiproxy", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_taken_port_and_a_bad_file_are_one_line(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        refused = run("--port", str(port))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert str(port) in refused.stderr
    config = tmp_path / "proxies.json"
    for content in ("{", '{"name": "x"}', '[{"name": "x"}]'):
        config.write_text(content)
        refused = run("--port", "0", "--config", str(config))
        assert refused.returncode in (1, 2), refused
        assert refused.stderr.count("\n") == 1
        assert "proxies.json" in refused.stderr
