"""Commands and probes on a real server: what a release is proved by."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from orchestrator.domain.activation import Answer, Command, HttpRequest, TcpConnect
from tests.support.releases import Site, SiteMaker

RELEASE = "20260101T000000Z-1"
SERVE = """
import http.server, json, socket, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status); self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        if self.path == "/hang":
            threading.Event().wait(30)
        elif self.path == "/redirect":
            self.send_response(302); self.send_header("Location", "/health"); self.end_headers()
        else:
            self.answer(200 if self.path == "/health?now" else 404, self.headers["Host"].encode())
    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200, json.dumps({"y": sent["x"] * 2, "type": self.headers["Content-Type"]}).encode())
    def log_message(self, *args):
        pass
mute = socket.create_server(("127.0.0.1", 0))
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, mute.getsockname()[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
threading.Event().wait(60)
"""


@pytest.fixture
def site(new_site: SiteMaker) -> Site:
    made = new_site()
    made.deploy(RELEASE, {"model": b"weights", "it's \\n.txt": b""})
    return made


@pytest.fixture
def ports(site: Site) -> Iterator[tuple[int, int]]:
    """A web service on the server's own localhost, and one that accepts and says nothing."""
    site.shell(
        f"cat > serve.py <<'END'\n{SERVE}\nEND\nnohup python3 serve.py > ports 2> trouble & echo $! > pid"
    )
    for _ in range(100):
        if told := site.shell("cat ports").split():
            break
        time.sleep(0.1)
    else:
        raise AssertionError(site.shell("cat trouble"))
    yield int(told[0]), int(told[1])
    site.shell("kill $(cat pid)")


def run(site: Site, *arguments: str, timeout: float = 20.0, **variables: str) -> Answer:
    with site.target() as target:
        return target.run(Command(arguments, timeout), RELEASE, variables)


def test_a_command_gets_its_arguments_as_they_are_and_the_releases_folder(site: Site) -> None:
    odd = ["a b", "$HOME", "it's", "`id`", "x;y", "two\nlines", ""]
    assert run(site, "printf", "[%s]", *odd) == Answer(0, "".join(f"[{each}]" for each in odd))
    told = run(site, "sh", "-c", 'cat model; echo " $MLCI_RELEASE_PATH $MLCI_PATH $WHO"; ls', WHO="o'neil")
    folder = site.path("releases", RELEASE)
    assert told.text == f"weights {folder} {site.server.path} o'neil\nit's \\n.txt\nmodel\n"


def test_a_commands_status_and_complaints_are_told(site: Site) -> None:
    assert run(site, "sh", "-c", "echo out; echo bad >&2; exit 3") == Answer(3, "out\nbad\n")
    missing = run(site, "no-such-program")
    assert missing.status == 127
    assert "no-such-program" in missing.text
    assert run(site, "sh", "-c", "kill -9 $$").status


def test_a_command_that_hangs_is_stopped_with_its_children(site: Site) -> None:
    started = time.monotonic()
    answer = run(site, "sh", "-c", "echo begun; sleep 4321 & sleep 4321", timeout=1.0)
    assert time.monotonic() - started < 12
    assert (answer.text, answer.problem) == ("begun\n", "did not end within 1 s, and was stopped")
    assert site.shell("ps -eo args | grep -c '[s]leep 4321' || true").strip() == "0"


def test_a_service_that_a_command_leaves_behind_is_not_waited_for(site: Site) -> None:
    started = time.monotonic()
    answer = run(site, "sh", "-c", "sleep 4322 & echo $! > ../../left; echo started", timeout=60.0)
    assert time.monotonic() - started < 15
    assert answer == Answer(0, "started\n")
    site.shell("kill $(cat left)")


def test_only_the_end_of_much_output_is_kept(site: Site) -> None:
    answer = run(site, "sh", "-c", "yes | head -c 300000; echo end")
    assert answer.status == 0
    assert answer.text.endswith("end\n")
    assert len(answer.text) <= 64 * 1024


def test_the_servers_own_localhost_is_asked(site: Site, ports: tuple[int, int]) -> None:
    web, _ = ports
    with site.target() as target:
        url = f"http://localhost:{web}"
        assert target.ask(HttpRequest(f"{url}/health?now"), 5.0) == Answer(200, f"localhost:{web}")
        assert target.ask(HttpRequest(f"{url}/other"), 5.0).status == 404
        assert target.ask(HttpRequest(f"{url}/redirect"), 5.0).status == 302
        told = target.ask(HttpRequest(f"{url}/predict", '{"x": 21}'), 5.0)
        assert told == Answer(200, '{"y": 42, "type": "application/json"}')
        assert target.ask(TcpConnect("localhost", web), 5.0) == Answer()


def test_a_service_that_does_not_serve_is_told_as_that(site: Site, ports: tuple[int, int]) -> None:
    web, mute = ports
    with site.target() as target:
        nobody = target.ask(TcpConnect("localhost", 1), 5.0)
        assert nobody.problem == "nothing accepts connections at localhost:1"
        for url in (f"http://localhost:{web}/hang", f"http://localhost:{mute}/"):
            started = time.monotonic()
            assert target.ask(HttpRequest(url), 1.0).problem == "no answer within 1 s"
            assert time.monotonic() - started < 4
        assert target.ask(HttpRequest(f"https://localhost:{web}/"), 5.0).problem.startswith("TLS failed")
        ssh = target.ask(HttpRequest("http://localhost:22/"), 5.0).problem
        assert ssh.startswith("what answers is not HTTP")
        # The connection has outlived it all.
        assert target.current() == RELEASE


def test_a_first_release_can_be_taken_away_again(site: Site) -> None:
    with site.target() as target:
        target.withdraw("20270101T000000Z-2")
        assert target.current() == RELEASE
        target.withdraw(RELEASE)
        assert target.current() is None
        assert list(target.verified()) == [RELEASE]


def test_the_release_to_go_back_to_stays_whatever_is_kept(site: Site) -> None:
    site.deploy("20260102T000000Z-2", {"model": b"2"})
    site.deploy("20260103T000000Z-3", {"model": b"3"})
    with site.target() as target:
        assert list(target.prune(1, (RELEASE,))) == ["20260102T000000Z-2"]
        assert list(target.verified()) == [RELEASE, "20260103T000000Z-3"]
