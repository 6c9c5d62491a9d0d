"""Row of security.md: a Git server whose answers never end."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.adapters.git import GitCommand, process
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec

COMMIT = b"1" * 40


def line(text: bytes) -> bytes:
    """As Git frames it."""
    return b"%04x" % (len(text) + 4) + text


class Endless(BaseHTTPRequestHandler):
    """Lists branches for as long as somebody listens, or a number of them."""

    branches = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.end_headers()
        self.wfile.write(line(b"# service=git-upload-pack\n") + b"0000")
        self.wfile.write(line(COMMIT + b" refs/heads/a\0 side-band-64k\n"))
        number = 0
        while not self.branches or number < self.branches:
            names = (b" refs/heads/%012d\n" % n for n in range(number, number + 10_000))
            number += 10_000
            self.wfile.write(b"".join(line(COMMIT + name) for name in names))
        self.wfile.write(b"0000")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def listing(branches: int) -> Iterator[SourceSpec]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is what is wanted."""

    server = Server(("127.0.0.1", 0), type("Listing", (Endless,), {"branches": branches}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield SourceSpec("wine", f"http://127.0.0.1:{server.server_port}/wine.git")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_lists_branches_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MOST_MEMORY", 96 << 20)
    with listing(0) as source, pytest.raises(SourceUnavailable, match="has not the memory"):
        GitCommand(tmp_path / "mirrors", quick=100.0).heads(source)


def test_more_branches_than_anybody_has_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = GitCommand(tmp_path / "mirrors")
    with listing(50_000) as source:
        assert len(git.heads(source)) == 50_001
        monkeypatch.setattr(process, "MOST_HEARD", 1 << 20)
        with pytest.raises(SourceUnavailable, match=r"sent more than 1\.0 MiB of names"):
            git.heads(source)
