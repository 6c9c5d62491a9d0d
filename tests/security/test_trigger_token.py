"""The door by which programs start runs, on the real server: who has no token gets nothing through it."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.security.conftest import InstallationMaker
from tests.support.installation import Installation, Server
from tests.support.waiting import wait_until

TOKEN = "what-a-program-shows-4711"
PATH = "/api/v1/pipelines/line/trigger"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def installation(shared_installation: InstallationMaker) -> Installation:
    made = shared_installation()
    made.engine = f"unix://{made.folder}/no-engine.sock"  # the runs need not be executed
    secret = made.folder / "trigger-token"
    secret.write_text(f"{TOKEN}\n")
    secret.chmod(0o600)
    made.main = {"web": {"port": 0, "trigger_token": f"${{{{ file:{secret} }}}}"}}
    made.pipeline = {"source": {"git": made.repository.url, "poll": "1h", "settle": "0s"}, "datasets": {}}
    made.commit(0.9)
    made.write()
    return made


@pytest.fixture(scope="module")
def server(installation: Installation) -> Iterator[Server]:
    served = installation.serve()
    wait_until(lambda: len(causes(installation)) == 1, "the first run")
    yield served
    served.kill()


def causes(installation: Installation) -> list[str]:
    """The causes of all runs, oldest first."""
    database = installation.folder / "var" / "orchestrator.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [cause for (cause,) in connection.execute("SELECT cause FROM changes ORDER BY id")]


def test_whoever_has_the_token_starts_a_run_and_the_token_is_nowhere_to_be_read(
    installation: Installation, server: Server
) -> None:
    before = causes(installation)
    answer = httpx.post(server.url + PATH, json={"ref": "main", "reason": f"I am {TOKEN}"}, headers=BEARER)
    assert answer.status_code == 201, answer.text
    assert causes(installation) == [*before, "trigger"]
    page = httpx.get(f"{server.url}/runs/{answer.json()['id']}").text
    assert TOKEN not in page
    assert TOKEN not in answer.text
    for path in (installation.folder / "var").rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("shown", [None, "wrong", TOKEN[:-1], f"{TOKEN}x"])
def test_whoever_has_no_token_starts_nothing(
    installation: Installation, server: Server, shown: str | None
) -> None:
    before = causes(installation)
    headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
    assert httpx.post(server.url + PATH, json={}, headers=headers).status_code == 401
    assert causes(installation) == before


def test_a_page_of_another_site_starts_nothing(installation: Installation, server: Server) -> None:
    before = causes(installation)
    evil = {**BEARER, "Host": "evil.example", "Origin": "http://evil.example"}
    assert httpx.post(server.url + PATH, json={}, headers=evil).status_code == 421
    asked = httpx.options(server.url + PATH, headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in asked.headers
    assert causes(installation) == before


@pytest.mark.parametrize("headers", [{}, BEARER])
def test_a_body_of_a_gigabyte_is_refused_before_it_is_read(server: Server, headers: dict[str, str]) -> None:
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    lines = {
        "Host": address.netloc,
        "Content-Type": "application/json",
        "Content-Length": str(GIGABYTE),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode())
        answer = connection.recv(4096)
    assert answer.split(b"\r\n")[0].split()[1] == (b"413" if headers else b"401")


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch /tmp/pwned", "$(id)", "../../etc/passwd", "refs/pull/7/head"]
)
def test_a_ref_is_nothing_but_a_name(installation: Installation, server: Server, ref: str) -> None:
    before = causes(installation)
    answer = httpx.post(
        server.url + PATH,
        content=json.dumps({"ref": ref}),
        headers={**BEARER, "Content-Type": "application/json"},
    )
    assert answer.status_code in (404, 422), answer.text
    assert causes(installation) == before
    assert not Path("/tmp/pwned").exists()
