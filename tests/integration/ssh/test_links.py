"""The ways to hosts on other machines, with real machines at their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.adapters.process import SystemClock, look_at
from orchestrator.adapters.ssh import SshLinks
from orchestrator.domain.errors import EngineUnavailable, HostRefused
from orchestrator.domain.pipeline import HostSpec, SshSpec
from orchestrator.ports.links import LinkState
from tests.support.hosts import Host
from tests.support.sshd import make_key
from tests.support.waiting import wait_until

Hosts = tuple[Host, Host]


class Bench:
    """Links of a process of its own, and engines over them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.known_hosts = folder / "ssh" / "known_hosts"
        self.links = stack.enter_context(closing(SshLinks(self.known_hosts, SystemClock())))
        self._stack = stack

    def trust(self, *lines: str) -> None:
        """Write down keys as trusted."""
        self.known_hosts.parent.mkdir(exist_ok=True)
        self.known_hosts.write_text("".join(f"{line}\n" for line in lines))

    def engine(self, spec: HostSpec) -> DockerEngine:
        """The engine at the end of a link."""
        way = self.links.link(spec)
        return self._stack.enter_context(closing(DockerEngine(spec.engine, "test", way=way)))

    def answers(self, engine: DockerEngine) -> bool:
        """Whether an engine answers now."""
        try:
            engine.info()
        except EngineUnavailable:
            return False
        return True


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def spec_of(host: Host, name: str = "lab", **changes: object) -> HostSpec:
    ssh = SshSpec(host.address, host.user, identity_file=str(host.key_path))
    ssh = replace(ssh, **changes)  # type: ignore[arg-type]  # any field of the spec
    return HostSpec(name, str(ssh), ssh=ssh)


def test_one_ssh_carries_all_requests_to_an_engine(hosts: Hosts, bench: Bench) -> None:
    bench.trust(hosts[0].host_key_line)
    spec = spec_of(hosts[0])
    engine = bench.engine(spec)
    assert engine.info().name == hosts[0].hostname
    pid = bench.links.link(spec).pid
    with ExitStack() as open_at_once:
        for number in range(15):
            other = bench.engine(spec)
            open_at_once.callback(other.close)
            assert other.info().name == hosts[0].hostname, f"request {number} got no answer"
    assert bench.links.link(spec).pid == pid
    status = bench.links.status("lab")
    assert status is not None
    assert status.state is LinkState.UP


def test_a_host_without_a_trusted_key_is_refused_until_its_key_is_trusted(hosts: Hosts, bench: Bench) -> None:
    spec = spec_of(hosts[0])
    engine = bench.engine(spec)
    with pytest.raises(HostRefused, match="orchestrator hosts trust lab"):
        engine.info()
    (key,) = bench.links.keys(spec)
    assert not key.trusted
    assert f"{key.name} {key.kind} {key.blob}" == hosts[0].host_key_line
    bench.links.trust(spec, key)
    wait_until(lambda: bench.answers(engine), "the link to be made once the key is trusted")
    assert [known.trusted for known in bench.links.keys(spec)] == [True]


def test_a_broken_connection_is_made_anew_below_the_engines_feet(hosts: Hosts, bench: Bench) -> None:
    bench.trust(hosts[0].host_key_line)
    spec = spec_of(hosts[0])
    engine = bench.engine(spec)
    engine.info()
    before = bench.links.link(spec).pid
    hosts[0].drop_logins()
    wait_until(lambda: bench.links.link(spec).pid not in (None, before), "another ssh")
    assert engine.info().name == hosts[0].hostname


def test_while_a_host_is_down_nobody_waits_for_it_and_it_comes_back_by_itself(
    hosts: Hosts, bench: Bench
) -> None:
    bench.trust(hosts[0].host_key_line)
    engine = bench.engine(spec_of(hosts[0]))
    hosts[0].stop_sshd()
    with pytest.raises(EngineUnavailable, match="refuses connections"):
        engine.info()
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(EngineUnavailable, match="see that sshd runs there"):
            engine.info()
    assert time.monotonic() - began < 2
    hosts[0].start_sshd()
    wait_until(lambda: bench.answers(engine), "the link to come back")


def test_a_host_behind_another_one_is_reached_over_it_and_both_keys_count(hosts: Hosts, bench: Bench) -> None:
    bastion, inner = hosts
    spec = spec_of(inner, proxy_jump=f"{bastion.user}@{bastion.address}")
    names = []
    for key in bench.links.keys(spec):
        names.append(key.name)
        bench.links.trust(spec, key)
    assert names == [bastion.address, inner.address]
    assert bench.engine(spec).info().name == inner.hostname
    peer = bench.links.run(spec, ["sh", "-c", "echo $SSH_CLIENT"]).out.split()[0]
    assert peer == bastion.address

    bench.trust(inner.host_key_line)
    other = replace(spec, name="other")
    with pytest.raises(HostRefused, match=f"the host key of {bastion.address} is not known"):
        bench.engine(other).info()


def test_an_ssh_config_may_say_where_a_host_is(hosts: Hosts, bench: Bench, tmp_path: Path) -> None:
    bastion, inner = hosts
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host lab\n  HostName {inner.address}\n  User {inner.user}\n  ProxyJump bastion\n"
        f"Host bastion\n  HostName {bastion.address}\n  User {bastion.user}\n"
        f"Host *\n  IdentityFile {inner.key_path}\n  StrictHostKeyChecking no\n  ForwardAgent yes\n"
    )
    ssh = SshSpec("lab", config=str(config))
    spec = HostSpec("lab", str(ssh), ssh=ssh)
    with pytest.raises(HostRefused, match="is not known yet"):
        bench.engine(spec).info()
    for key in bench.links.keys(spec):
        bench.links.trust(spec, key)
    wait_until(lambda: bench.answers(bench.engine(spec)), "the link to be made once the keys are trusted")
    assert bench.engine(spec).info().name == inner.hostname


def test_an_agents_key_lets_us_in(
    hosts: Hosts, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.trust(hosts[0].host_key_line)
    nothing = tmp_path / "empty"
    nothing.touch()
    spec = spec_of(hosts[0], identity_file=None, config=str(nothing))
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / "agent").exists, "the agent's socket")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        with pytest.raises(HostRefused, match="is not let in with a key of the SSH agent"):
            bench.links.run(spec, ["true"])
        subprocess.run(["ssh-add", "-q", str(hosts[0].key_path)], check=True)
        assert bench.engine(spec).info().name == hosts[0].hostname
    finally:
        agent.terminate()
        agent.wait(10)


def test_a_login_that_is_refused_says_which_key_goes_where(
    hosts: Hosts, bench: Bench, tmp_path: Path
) -> None:
    bench.trust(hosts[0].host_key_line)
    spec = spec_of(hosts[0], identity_file=str(make_key(tmp_path / "other")))
    with pytest.raises(HostRefused, match="is not let in with") as caught:
        bench.engine(spec).info()
    assert "authorized_keys" in caught.value.remedy


@pytest.mark.parametrize(
    ("socket", "told"),
    [
        ("/run/absent.sock", "has no /run/absent.sock"),
        ("/etc/hostname", "/etc/hostname on .* is no socket"),
        ("/run/denied.sock", "ci may not use /run/denied.sock .* chmod g\\+rw /run/denied.sock"),
        ("/run/dead.sock", "nobody answers at /run/dead.sock"),
    ],
)
def test_a_host_without_a_usable_engine_says_what_is_wrong_with_it(
    hosts: Hosts, bench: Bench, socket: str, told: str
) -> None:
    host = hosts[0]
    make = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    for name, mode in (("denied", "600"), ("dead", "666")):
        host.run("sh", "-c", f"rm -f /run/{name}.sock; python3 -c '{make}' /run/{name}.sock")
        host.run("chmod", mode, f"/run/{name}.sock")
    bench.trust(host.host_key_line)
    with pytest.raises(EngineUnavailable, match=told):
        bench.engine(spec_of(host, socket=socket)).info()


def test_a_command_on_a_host_tells_its_code_and_what_it_wrote(hosts: Hosts, bench: Bench) -> None:
    bench.trust(hosts[0].host_key_line)
    answer = bench.links.run(
        spec_of(hosts[0]), ["sh", "-c", 'echo "$1"; echo no >&2; exit 7', "sh", "$(id) 'x"]
    )
    assert (answer.code, answer.out, answer.err) == (7, "$(id) 'x\n", "no\n")
    with pytest.raises(EngineUnavailable, match="no answer within 1 s"):
        bench.links.run(spec_of(hosts[0]), ["sleep", "60"], timeout=1)


def test_no_ssh_and_no_folder_stays_behind_after_closing(hosts: Hosts, bench: Bench) -> None:
    bench.trust(hosts[0].host_key_line)
    spec = spec_of(hosts[0])
    bench.engine(spec).info()
    link = bench.links.link(spec)
    pid, folder = link.pid, link.files.socket.parent
    assert pid is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    bench.links.close()
    assert look_at(pid) is None
    assert not folder.exists()


def test_a_host_that_is_forgotten_is_connected_to_no_longer(hosts: Hosts, bench: Bench) -> None:
    bench.trust(hosts[0].host_key_line)
    spec = spec_of(hosts[0])
    engine = bench.engine(spec)
    engine.info()
    pid = bench.links.link(spec).pid
    assert pid is not None
    bench.links.forget("lab")
    assert look_at(pid) is None
    with pytest.raises(EngineUnavailable):
        engine.info()
    assert bench.engine(spec).info().name == hosts[0].hostname


KILLED = """
import sys, time
from pathlib import Path
from orchestrator.adapters.process import SystemClock
from orchestrator.adapters.ssh import SshLinks
from orchestrator.domain.pipeline import HostSpec, SshSpec
known, address, user, key = sys.argv[1:]
ssh = SshSpec(address, user, identity_file=key)
link = SshLinks(Path(known), SystemClock()).link(HostSpec("lab", str(ssh), ssh=ssh))
link.ready()
print(link.pid, link.files.socket, flush=True)
time.sleep(600)
"""


def test_no_ssh_outlives_a_killed_process_and_the_next_one_clears_its_folder(
    hosts: Hosts, bench: Bench, tmp_path: Path
) -> None:
    bench.trust(hosts[0].host_key_line)
    host = hosts[0]
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(bench.known_hosts),
        host.address,
        host.user,
        str(host.key_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, socket = process.stdout.readline().split()
        assert look_at(int(pid)) is not None
        process.send_signal(signal.SIGKILL)
    wait_until(gone(int(pid)), "ssh to end with the killed process")
    folder = Path(socket).parent
    assert folder.exists()
    an_hour_ago = time.time() - 3600
    os.utime(folder, (an_hour_ago, an_hour_ago))
    bench.links.link(spec_of(host))
    assert not folder.exists()


def gone(pid: int) -> Callable[[], bool]:
    """Whether a process has ended; a zombie has."""

    def ended() -> bool:
        seen = look_at(pid)
        return seen is None or seen[0] == "Z"

    return ended
