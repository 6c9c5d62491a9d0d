"""Hooks and programs through the running service: at the start, on the way and at the end of a run."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.installation import Installation
from tests.support.mailserver import make_certificate
from tests.support.waiting import wait_until

SECRET = "0123456789abcdef"
KEEP = """\
#!/bin/sh
cat > "{folder}/$MLCI_EVENT.json"
echo "kept run $MLCI_RUN_ID for $WHO"
"""


class Service:
    """A service behind TLS that is out of order for the first call at the start and at the end."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self.came: list[tuple[str, str, bool, bytes]] = []
        """Event, idempotency key, whether its signature was right, and the body."""
        seen = {"progress"}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                event, key = self.headers["X-MLCI-Event"], self.headers["Idempotency-Key"]
                right = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
                service.came.append((event, key, self.headers["X-MLCI-Signature-256"] == right, body))
                self.send_response(503 if event not in seen else 204)
                seen.add(event)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_request(self, code: object = "-", size: object = "-") -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.port = self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "tls"
    folder.mkdir()
    return make_certificate(folder)


@pytest.fixture
def service(certificate: tuple[Path, Path]) -> Iterator[Service]:
    made = Service(certificate)
    yield made
    made.close()


def test_hooks_and_programs_are_told_at_the_start_on_the_way_and_at_the_end(
    installation: Installation, service: Service, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    program = tmp_path / "keep"
    program.write_text(KEEP.format(folder=kept))
    program.chmod(0o755)
    hook = {"secret": SECRET, "ca_file": str(certificate[0]), "allow_private": True}
    installation.main = {
        "hooks": {
            "chat": {"url": f"https://127.0.0.1:{service.port}/ci", **hook},
            # The certificate is of an address, and not of this name.
            "impostor": {"url": f"https://localhost:{service.port}/ci", **hook},
        },
        "programs": {"keep": {"path": str(program), "env": {"WHO": "ann"}}},
    }
    retry = {"tries": 4, "pause": "1s"}
    call = {"webhook": "chat", "retry": retry}
    installation.pipeline = {
        "actions": {
            "start": [call],
            "progress": [{"webhook": "chat", "every": "1m", "retry": retry}],
            "pass": [call, {"exec": "keep"}, {"webhook": "impostor", "retry": {"tries": 1}}],
        }
    }
    # Longer than the shortest time between two reports on the way.
    installation.environment = {"LINES": "80", "PAUSE": "1"}
    installation.write()
    server = installation.serve()
    commit = installation.commit(0.9)

    def ended() -> bool:
        runs = installation.json("runs", "list")
        return bool(runs) and runs[0]["state"] == "passed" and (kept / "pass.json").exists()

    wait_until(ended, "the run to pass and the program to be told", 180)
    wait_until(
        lambda: all(
            action["state"] in ("done", "failed")
            for action in installation.json("runs", "show", "1")["actions"]
        ),
        "all actions to end",
        60,
    )
    actions = installation.json("runs", "show", "1")["actions"]
    told = {(action["trigger"], action["spec"]["kind"]): action for action in actions}
    assert {place: action["state"] for place, action in told.items() if place[1] == "exec"} == {
        ("pass", "exec"): "done"
    }
    calls = [
        (action["trigger"], action["state"]) for action in actions if action["spec"]["kind"] == "webhook"
    ]
    assert calls == [("start", "done"), ("progress", "done"), ("pass", "done"), ("pass", "failed")]
    (refused,) = (action for action in actions if action["state"] == "failed")
    assert "certificate" in refused["message"]

    events = [event for event, _, _, _ in service.came]
    assert events == ["start", "start", "progress", "pass", "pass"]
    assert all(right for _, _, right, _ in service.came)
    keys = [key for _, key, _, _ in service.came]
    assert keys[0] == keys[1] != keys[2] != keys[3] == keys[4]
    bodies = [json.loads(body) for _, _, _, body in service.came]
    assert [body["run"]["state"] for body in bodies] == [*["running"] * 3, "passed", "passed"]
    assert {body["change"]["commit"] for body in bodies} == {commit}
    assert json.loads((kept / "pass.json").read_text())["metrics"]["accuracy"] == 0.9
    assert "kept run 1 for ann" in told["pass", "exec"]["output"] + told["pass", "exec"]["message"]
    assert server.terminate() == 0
