"""The server's own exposure: what the real one answers, and to whom; nothing changes through it."""

from __future__ import annotations

import socket
import subprocess
from urllib.parse import urlsplit

import httpx
import pytest

from tests.security.conftest import InstallationMaker
from tests.support.installation import COMMAND, Installation, Server

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
PATHS = ("/", "/healthz", "/readyz", "/runs/1", "/runs/1/log", "/nothing", "/../../etc/passwd", "/docs")


@pytest.fixture(scope="module")
def server(shared_installation: InstallationMaker) -> Server:
    """A server that has no run."""
    return shared_installation().serve()


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_headers_that_tie_a_browsers_hands(server: Server, path: str) -> None:
    answer = httpx.get(server.url + path)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "form-action 'none'" in policy
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "169.254.169.254", "localhost.evil.example", ""]
)
def test_a_page_of_another_site_that_points_its_name_here_gets_nothing(server: Server, host: str) -> None:
    for path in ("/", "/readyz", "/healthz"):
        answer = httpx.get(server.url + path, headers={"Host": host})
        assert answer.status_code in (400, 421)
        assert "Runs" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", [*PATHS, "/runs", "/runs/1/cancel", "/api/v1/runs", "/webhooks/github"])
def test_no_request_changes_anything(server: Server, method: str, path: str) -> None:
    answer = httpx.request(
        method, server.url + path, content=b"{}", headers={"Origin": "http://evil.example"}
    )
    assert answer.status_code in (404, 405)
    assert "access-control-allow-origin" not in answer.headers


def test_only_this_machine_is_listened_to(server: Server) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((_own_address(), port), timeout=3)


def _own_address() -> str:
    """An address of this machine that others reach; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - that is refused
def test_serve_refuses_to_open_itself_to_the_network(installation: Installation, host: str) -> None:
    done = subprocess.run(
        [COMMAND, "--config", str(installation.config), "serve", "--host", host, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert host in done.stderr
    assert "Traceback" not in done.stderr
