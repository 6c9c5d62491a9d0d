"""Hooks are called over real connections, signed, and never where they may not be."""

from __future__ import annotations

import hashlib
import hmac
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orchestrator.adapters.webhooks import Target, WebHooks
from orchestrator.domain.errors import ActionRejected, ActionUnavailable, NotFound

BODY = b'{"version": 1}\n'


class Receiver:
    """A server that answers as it was told, and remembers what came."""

    def __init__(self) -> None:
        self.status, self.answer, self.location = 200, b"thanks", ""
        self.hangs, self.drips = False, False
        self.over = threading.Event()
        self.came: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.came.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                if receiver.hangs:
                    receiver.over.wait(20)
                    return
                if receiver.drips:
                    while not receiver.over.wait(0.05):
                        try:
                            self.wfile.write(b"H")
                            self.wfile.flush()
                        except OSError:
                            return
                    return
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)

            def log_request(self, code: object = "-", size: object = "-") -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hooks/ci?room=1"

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def hooks(url: str, allow_private: bool = True, **changes: str) -> WebHooks:
    target = Target(url, changes.get("secret", ""), {"X-Room": "ops"}, 5.0, allow_private)
    return WebHooks({"chat": lambda: target}, lambda text: text.replace("hush-hush", "***"))


def call(to: WebHooks, timeout: float = 0) -> str:
    return to.call("chat", "run-7-pass-0", "pass", BODY, timeout)


def test_a_call_is_signed_and_carries_its_key(receiver: Receiver) -> None:
    assert call(hooks(receiver.url, secret="0123456789abcdef")) == "HTTP 200"
    ((path, headers, body),) = receiver.came
    expected = hmac.new(b"0123456789abcdef", body, hashlib.sha256).hexdigest()
    assert (path, body) == ("/hooks/ci?room=1", BODY)
    assert headers["x-mlci-signature-256"] == f"sha256={expected}"
    assert headers["idempotency-key"] == "run-7-pass-0"
    assert headers["x-mlci-event"] == "pass"
    assert headers["content-type"] == "application/json"
    assert headers["x-room"] == "ops"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_in_trouble_is_asked_again(receiver: Receiver, status: int) -> None:
    receiver.status, receiver.answer = status, b"busy with\x1b[31m hush-hush"
    with pytest.raises(ActionUnavailable, match=rf"answered HTTP {status} busy with\[31m \*\*\*$"):
        call(hooks(receiver.url))


@pytest.mark.parametrize("answer", ["x" * 195 + "hush-hush", "busy hush\x00-hush"])
def test_no_part_of_a_secret_is_kept_of_an_answer(receiver: Receiver, answer: str) -> None:
    receiver.status, receiver.answer = 400, answer.encode()
    with pytest.raises(ActionRejected) as refused:
        call(hooks(receiver.url))
    assert "***" in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("", "Bearer hush\nhush"),
        ("", "Bearer hush €"),
        ("http://127.0.0.1:{port}/hush-über", "x"),
        ("http://127.0.0.1:{port}/hush hush", "x"),
        ("http://127.0.0.1:99999/hush", "x"),
        ("http://[hush/", "x"),
    ],
)
def test_what_no_request_can_hold_is_refused_without_its_text(
    receiver: Receiver, url: str, header: str
) -> None:
    address = url.replace("{port}", str(receiver.server.server_address[1])) or receiver.url
    target = Target(address, headers={"Authorization": header}, timeout=5, allow_private=True)
    with pytest.raises(ActionRejected, match="the hook chat: its address or one of its headers") as refused:
        call(WebHooks({"chat": lambda: target}, lambda text: text))
    assert "hush" not in f"{refused.value!r} {refused.value.__cause__!r}"
    assert receiver.came == []


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refusal_is_final(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(ActionRejected, match=f"answered HTTP {status}"):
        call(hooks(receiver.url))


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.status, receiver.location = 307, "http://169.254.169.254/latest/meta-data"
    with pytest.raises(ActionRejected, match="answered HTTP 307"):
        call(hooks(receiver.url))
    assert len(receiver.came) == 1


@pytest.mark.parametrize("how", ["hangs", "drips"])
def test_a_server_that_never_ends_is_given_up_in_time(receiver: Receiver, how: str) -> None:
    setattr(receiver, how, True)
    with pytest.raises(ActionUnavailable):
        call(hooks(receiver.url), timeout=0.5)


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:169.254.169.254]/",
        "http://169.254.169.254/",
    ],
)
def test_the_clouds_metadata_are_never_called(url: str) -> None:
    with pytest.raises(ActionRejected, match="an address that may not be called"):
        call(hooks(url, allow_private=True))


def test_this_machine_is_called_only_where_that_is_allowed(receiver: Receiver) -> None:
    with pytest.raises(ActionRejected, match="in the clear"):
        call(hooks(receiver.url, allow_private=False))
    with pytest.raises(ActionRejected, match="an address that may not be called"):
        call(hooks(receiver.url.replace("http:", "https:"), allow_private=False))
    assert receiver.came == []


def test_nothing_is_sent_to_a_server_without_a_certificate(receiver: Receiver) -> None:
    with pytest.raises((ActionUnavailable, ActionRejected)):
        call(hooks(receiver.url.replace("http:", "https:")))
    assert receiver.came == []


def test_a_server_that_is_down_is_asked_again() -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else can answer there.
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ActionUnavailable, match="the hook chat: Connection refused"):
            call(hooks(f"http://127.0.0.1:{taken.getsockname()[1]}/"))


def test_no_secret_is_in_what_a_target_says_of_itself() -> None:
    assert "hush" not in repr(Target("https://h/hush", "hush", {"Authorization": "hush"}))


def test_a_hook_that_is_gone_from_the_configuration_is_missed() -> None:
    with pytest.raises(NotFound, match="there is no hook other"):
        hooks("https://h/").call("other", "k", "pass", BODY, 0)
