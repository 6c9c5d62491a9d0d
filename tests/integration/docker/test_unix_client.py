"""What goes straight to an engine's socket is what docker-py would have sent; errors are told as by it."""

from __future__ import annotations

import gzip
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient
from docker.errors import APIError
from requests.exceptions import RequestException, TooManyRedirects

from orchestrator.adapters.docker.clients import Clients, endpoint
from orchestrator.adapters.docker.transport import OnePoolAdapter, UnixClient

_VERSION = "1.41"


class _Recorder(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers every request with ``answer``, and keeps what came."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answer = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"Id":"abc"}'
        self.requests: list[bytes] = []
        self.connections = 0
        self.hang_up = False
        self.hung_up = threading.Semaphore(0)
        super().__init__(str(path), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Recorder

    def handle(self) -> None:
        self.server.connections += 1
        while head := self._head():
            self.server.requests.append(head + self._body(head.lower()))
            self.wfile.write(self.server.answer)
            if b"Connection: close" in self.server.answer or self.server.hang_up:
                return

    def finish(self) -> None:
        super().finish()
        self.request.close()
        self.server.hung_up.release()

    def _head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return b""
            head += line
        return head

    def _body(self, head: bytes) -> bytes:
        if b"transfer-encoding: chunked" in head:
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += self.rfile.readline()
            return body
        length = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        return self.rfile.read(int(length[0].split(b":")[1])) if length else b""


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[_Recorder]:
    with _Recorder(tmp_path / "engine.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _plain(recorder: _Recorder) -> APIClient:
    client = APIClient(f"unix://{recorder.server_address}", version=_VERSION, timeout=5)
    client.mount("http+docker://", OnePoolAdapter(f"http+unix://{recorder.server_address}", 5))
    client.trust_env = False
    return client


CALLS: dict[str, Callable[[APIClient], object]] = {
    "inspect": lambda c: c.inspect_container("mlci-a"),
    "inspect an image": lambda c: c.inspect_image("registry.example:5000/a/b:1"),  # type: ignore[no-untyped-call]
    "list with filters": lambda c: c.get(
        endpoint(c, "/containers/json"), params={"all": 1, "filters": '{"label": ["a=b c"]}', "size": None}
    ),
    "create": lambda c: c.create_container("mlci/base:1", ["sh", "-c", "écho"], name="mlci-a"),
    "start": lambda c: c.start("mlci-a"),
    "put a stream": lambda c: c.put(
        endpoint(c, "/containers/mlci-a/archive"), params={"path": "/a b"}, data=iter([b"one", b"two"])
    ),
    "put bytes": lambda c: c.put(endpoint(c, "/containers/mlci-a/archive"), data=b"tar", timeout=(1, 2)),
    "stream": lambda c: (
        c.get(endpoint(c, "/info"), headers={"Accept-Encoding": "identity"}, stream=True).content
    ),
    "look at a path": lambda c: c.head(endpoint(c, "/containers/mlci-a/archive"), params={"path": "/a"}),
    "delete": lambda c: c.delete(endpoint(c, "/containers/mlci-a"), params={"force": "1"}),
    "json goes by requests": lambda c: c.post(endpoint(c, "/auth"), json={"a": 1}),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_goes_over_the_wire_as_by_docker_py(recorder: _Recorder, name: str) -> None:
    plain = _plain(recorder)
    direct = UnixClient(f"unix://{recorder.server_address}", _VERSION, 5)
    for client in (plain, direct):
        CALLS[name](client)
        client.close()
    by_docker_py, by_us = recorder.requests
    assert _parts(by_us) == _parts(by_docker_py)


@pytest.mark.parametrize("name", [name for name in CALLS if "requests" not in name])
def test_plain_requests_do_without_requests(
    recorder: _Recorder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise AssertionError(f"requests was asked for {args[1:]}")

    monkeypatch.setattr("requests.Session.request", refuse)
    direct = UnixClient(f"unix://{recorder.server_address}", _VERSION, 5)
    CALLS[name](direct)
    direct.close()
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("method", ["get", "head"])
def test_who_is_sent_elsewhere_goes_there_as_with_docker_py(recorder: _Recorder, method: str) -> None:
    recorder.answer = b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    for client in (_plain(recorder), UnixClient(f"unix://{recorder.server_address}", _VERSION, 5)):
        response = client.request(method.upper(), endpoint(client, "/info"), timeout=5, allow_redirects=False)
        assert response.status_code == 301
        with pytest.raises(TooManyRedirects):
            client.request(method.upper(), endpoint(client, "/info"), timeout=5, allow_redirects=True)
        client.close()


def test_connections_outlive_the_threads_that_made_them(recorder: _Recorder) -> None:
    clients = Clients(f"unix://{recorder.server_address}", 5)
    recorder.answer = b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"ApiVersion": "1.41"}'

    def ask() -> None:
        clients.control().inspect_container("mlci-a")

    clients.control()
    before = recorder.connections
    for _ in range(5):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert recorder.connections - before == 1
    clients.close()
    ask()
    assert recorder.connections - before == 2
    clients.close()


def test_more_connections_than_are_kept_close_without_a_word(
    recorder: _Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    client = UnixClient(f"unix://{recorder.server_address}", _VERSION, 5)
    under_way = [client.get(endpoint(client, "/info"), stream=True) for _ in range(40)]
    for response in under_way:
        assert response.content
    assert recorder.connections == 40
    for _ in range(3):
        assert client.inspect_container("mlci-a") == {"Id": "abc"}
    # Streams have connections of their own.
    assert recorder.connections == 41
    assert not caplog.records
    client.close()


def _parts(request: bytes) -> tuple[bytes, frozenset[bytes], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    return line, frozenset(header.lower() for header in headers), body


def test_refusals_and_silence_are_told_as_by_docker_py(recorder: _Recorder, tmp_path: Path) -> None:
    direct = UnixClient(f"unix://{recorder.server_address}", _VERSION, 5)
    recorder.answer = b'HTTP/1.1 409 Conflict\r\nContent-Length: 17\r\n\r\n{"message": "no"}'
    with pytest.raises(APIError, match="no") as refused:
        direct.start("mlci-a")
    assert refused.value.status_code == 409
    recorder.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\ncut"
    with pytest.raises(RequestException):
        direct.inspect_container("mlci-a")
    direct.close()
    nobody = UnixClient(f"unix://{tmp_path}/nobody.sock", _VERSION, 5)
    with pytest.raises(RequestException):
        nobody.ping()
    nobody.close()


ANSWERS: dict[str, bytes] = {
    "chunks": b'Transfer-Encoding: chunked\r\n\r\n6;x=y\r\n{"Id":\r\n6\r\n"abc"}\r\n0\r\nLate: 1\r\n\r\n',
    "until the end": b'Connection: close\r\n\r\n{"Id":"abc"}',
    "compressed": b"Content-Encoding: gzip\r\nContent-Length: 32\r\n\r\n"
    + gzip.compress(b'{"Id":"abc"}', mtime=0),
    "a header twice": b'X-A: 1\r\nx-a: 2\r\nContent-Length: 12\r\n\r\n{"Id":"abc"}',
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_all_forms_are_read_as_by_docker_py(recorder: _Recorder, name: str) -> None:
    recorder.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + ANSWERS[name]
    plain, direct = _plain(recorder), UnixClient(f"unix://{recorder.server_address}", _VERSION, 5)
    for _ in range(2):
        told = [
            client.get(endpoint(client, "/containers/mlci-a/json"), timeout=5) for client in (plain, direct)
        ]
        by_docker_py, by_us = told
        assert by_us.json() == by_docker_py.json() == {"Id": "abc"}
        assert by_us.headers == by_docker_py.headers
        assert (by_us.encoding, by_us.reason, by_us.url) == (
            by_docker_py.encoding,
            by_docker_py.reason,
            by_docker_py.url,
        )
    plain.close()
    direct.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_no_answer_is_an_error_and_ends_the_connection(recorder: _Recorder, answer: bytes) -> None:
    direct = UnixClient(f"unix://{recorder.server_address}", _VERSION, 5)
    good, recorder.answer = recorder.answer, answer
    with pytest.raises(RequestException):
        direct.inspect_container("mlci-a")
    recorder.answer = good
    assert direct.inspect_container("mlci-a") == {"Id": "abc"}
    assert recorder.connections == 2
    direct.close()


def test_a_connection_that_the_engine_closed_is_made_anew(recorder: _Recorder) -> None:
    direct = UnixClient(f"unix://{recorder.server_address}", _VERSION, 5)
    recorder.hang_up = True
    for _ in range(3):
        assert direct.inspect_container("mlci-a") == {"Id": "abc"}
        assert recorder.hung_up.acquire(timeout=5)
    assert recorder.connections == 3
    direct.close()


def test_silence_ends_with_the_time_for_it(recorder: _Recorder) -> None:
    direct = UnixClient(f"unix://{recorder.server_address}", _VERSION, 0.05)
    recorder.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
    with pytest.raises(RequestException, match="timed out"):
        direct.inspect_container("mlci-a")
    direct.close()
