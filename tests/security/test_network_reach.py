"""A run that reaches the host, other runs or the cloud's metadata: what its network shuts."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.docker import sandboxes
from orchestrator.adapters.process import SystemClock
from orchestrator.domain.errors import EngineError, ImageNotFound
from orchestrator.domain.pipeline import HELPER_IMAGE, HostSpec, Protection
from orchestrator.ports.engine import Sandbox, SandboxSpec
from orchestrator.services.networks import Networks
from tests.support.containers import SOCKET, Bench, docker_bench

# All ways that need no rights: plain, from a socket bound to its own address, and with the interface named,
# which makes the kernel go on where there is no route.
PROBE = """
import json, socket, struct, sys
port, word, *targets = json.loads(sys.argv[1])
me = socket.gethostbyname(socket.gethostname())
index = struct.pack("III", socket.if_nametoindex("eth0"), 0, 0)
reached, errors = set(), set()
for target in targets:
    for bound in (False, True):
        for named in (False, True):
            with socket.socket() as tcp:
                tcp.settimeout(0.4)
                try:
                    if named:
                        tcp.setsockopt(socket.SOL_SOCKET, 25, b"eth0")
                    if bound:
                        tcp.bind((me, 0))
                    tcp.connect((target, port))
                    reached.add("tcp " + target)
                except OSError as error:
                    errors.add(f"{target} {bound} {named} {error.errno}")
            with socket.socket(type=socket.SOCK_DGRAM) as udp:
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                try:
                    if bound:
                        udp.bind((me, 0))
                    data = f"{word} {target}".encode()
                    extra = [(socket.IPPROTO_IP, 8, index)] if named else []
                    udp.sendmsg([data], extra, 0, (target, port))
                    if named:
                        udp.setsockopt(socket.SOL_SOCKET, 25, b"eth0")
                        udp.sendto(data, (target, port))
                except OSError:
                    pass
print(json.dumps([sorted(reached), sorted(errors)]))
"""


class Service:
    """A service of the host that listens on all addresses, as many do; TCP and UDP on one port."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("0.0.0.0", 0), backlog=64)  # noqa: S104 - that is what is tested
        self.port: int = self.tcp.getsockname()[1]
        self.udp = socket.socket(type=socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", self.port))  # noqa: S104 - that is what is tested
        self.heard: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while (said := self.udp.recv(1000)) != b"over":
            self.heard.append(said.decode())

    def close(self) -> None:
        self.udp.sendto(b"over", ("127.0.0.1", self.port))
        self._thread.join()
        self.udp.close()
        self.tcp.close()

    def reached_from(
        self, bench: Bench, network: Sandbox | str, *targets: str, port: int = 0
    ) -> tuple[set[str], list[str]]:
        """What a run in that network reached of the targets: "tcp ADDRESS" and "udp ADDRESS"; and errors."""
        word = uuid.uuid4().hex
        told = json.dumps([port or self.port, word, *targets])
        bench.engine.remove(bench.name())
        ending, lines = bench.shell("", command=("python3", "-c", PROBE, told), network=network)
        assert ending.code == 0, lines
        reached, errors = json.loads(lines[-1].text)
        # What the run sent is here before its end was: the loopback keeps the order.
        mark = uuid.uuid4().hex
        with socket.socket(type=socket.SOCK_DGRAM) as own:
            own.sendto(mark.encode(), ("127.0.0.1", self.port))
        while mark not in self.heard:
            threading.Event().wait(0.01)
        heard = {"udp " + said.split()[1] for said in self.heard if said.startswith(word)}
        return {*reached, *heard}, errors


@pytest.fixture
def bench(docker_engine: docker.DockerClient, base_image: str) -> Iterator[Bench]:
    with docker_bench(base_image) as bench:
        yield bench


@pytest.fixture
def service() -> Iterator[Service]:
    with closing(Service()) as made:
        yield made


def networks_of(bench: Bench, **changes: object) -> Networks:
    """What gives runs their network on a host with two slots."""
    host = replace(HostSpec("local", SOCKET, 2), **changes)  # type: ignore[arg-type]  # any field of the spec
    return Networks(bench.prefix[-8:], [host], SystemClock())


def joined(bench: Bench, slot: int = 0, **changes: object) -> Sandbox:
    found = networks_of(bench, **changes).join(bench.engine, "local", slot)
    assert isinstance(found, Sandbox)
    return found


def gateway(client: docker.DockerClient, network: str) -> str:
    """The host's own address on a network."""
    found: str = client.networks.get(network).attrs["IPAM"]["Config"][0]["Gateway"]
    return found


def own_addresses(bench: Bench) -> list[str]:
    """Two of the host's own addresses, and not those of networks that come and go with other tests."""
    with socket.socket(type=socket.SOCK_DGRAM) as asked:
        asked.connect(("192.0.2.77", 9))
        outwards: str = asked.getsockname()[0]
    with closing(docker.from_env()) as client:
        found = sorted({gateway(client, "bridge"), outwards})
    assert set(found) <= set(bench.engine.host_addresses(bench.image))
    return found


def test_a_run_reaches_no_service_of_the_host_in_any_way(
    bench: Bench, docker_engine: docker.DockerClient, service: Service
) -> None:
    sandbox = joined(bench)
    groups = ["255.255.255.255", "224.0.0.1"]
    mine, own = gateway(docker_engine, sandbox.name), own_addresses(bench)
    assert len(own) > 1
    assert service.reached_from(bench, sandbox, mine, *own, *groups)[0] == set()
    # The same on a network with nothing shut, so that the silence above means something.
    bench.engine.ensure_network(bench.name("open"), {})
    theirs = gateway(docker_engine, bench.name("open"))
    reached, _ = service.reached_from(bench, bench.name("open"), theirs, *own, *groups)
    assert reached >= {
        f"tcp {theirs}",
        f"udp {theirs}",
        *(f"tcp {a}" for a in own),
        *(f"udp {g}" for g in groups),
    }


def test_the_clouds_metadata_are_refused_before_anything_is_sent(bench: Bench, service: Service) -> None:
    reached, errors = service.reached_from(bench, joined(bench), "169.254.169.254", "100.100.100.200")
    assert reached == set()
    plain = [error for error in errors if " False False " in error]
    assert len(plain) == 2
    assert all(error.endswith(" 13") for error in plain), "permission denied, by its own kernel"


def test_a_run_without_a_network_reaches_neither_host_nor_metadata(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    _, lines = bench.shell("cat /proc/net/route; ip -4 -o addr", network=None)
    told = "\n".join(line.text.decode() for line in lines[1:])
    assert "127.0.0.1/8" in told
    assert "eth" not in told


LISTEN = "import http.server as h; print('ready', flush=True); h.test(h.SimpleHTTPRequestHandler, port=8000)"


def test_a_run_reaches_neither_another_run_nor_other_containers_and_their_published_ports(
    bench: Bench, docker_engine: docker.DockerClient, service: Service
) -> None:
    first, second = joined(bench, 0), joined(bench, 1)
    listener = replace(bench.spec("", what="other"), command=("python3", "-u", "-c", LISTEN), network=second)
    bench.engine.create(listener)
    bench.engine.start(listener.name)
    assert next(bench.engine.logs(listener.name, None)).text == b"ready"
    ports = docker_engine.containers.get(second.name).attrs["NetworkSettings"]["Networks"]
    run = ports[second.name]["IPAddress"]
    labels = {"mlci.instance": bench.prefix, "mlci.container": bench.name("published")}
    foreign = docker_engine.containers.run(
        bench.image, ["python3", "-u", "-c", LISTEN], name=bench.name("published"), detach=True,
        labels=labels, ports={"8000/tcp": None},
    )  # fmt: skip
    foreign.reload()
    networks = foreign.attrs["NetworkSettings"]
    address = networks["Networks"]["bridge"]["IPAddress"]
    assert service.reached_from(bench, first, run, address, port=8000)[0] == set()
    published = int(networks["Ports"]["8000/tcp"][0]["HostPort"])
    probe = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)"
    host = own_addresses(bench)[0]
    socket.create_connection((host, published), timeout=3).close()
    bench.engine.remove(bench.name())
    ending, lines = bench.shell("", command=("python3", "-c", probe, host, str(published)), network=first)
    assert ending.code == 1
    assert b"Permission denied" in lines[-1].text
    bench.engine.remove(bench.name())
    ending, _ = bench.shell("", command=("python3", "-c", probe, run, "8000"), network=second)
    assert ending.code == 0, "the other run has to answer, or the silence above proves nothing"


def reaches_the_outside() -> bool:
    try:
        socket.create_connection(("pypi.org", 443), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_run_reaches_the_outside_and_can_ask_for_names(bench: Bench) -> None:
    if not reaches_the_outside():
        pytest.skip("this machine does not reach the outside itself")
    for protection in (Protection.HOST, Protection.PRIVATE):
        probe = "import socket; socket.create_connection(('pypi.org', 443), timeout=10)"
        network = joined(bench, protection=protection)
        ending, lines = bench.shell("", command=("python3", "-c", probe), network=network)
        assert ending.code == 0, lines
        bench.engine.remove(bench.name())


def test_an_address_that_the_administrator_names_is_reached_and_no_other(
    bench: Bench, service: Service
) -> None:
    named, *others = own_addresses(bench)
    sandbox = joined(bench, reachable=(named,))
    assert service.reached_from(bench, sandbox, named, *others)[0] == {f"tcp {named}", f"udp {named}"}


def test_private_networks_are_shut_where_the_administrator_says_so(bench: Bench, service: Service) -> None:
    sandbox = joined(bench, protection=Protection.PRIVATE)
    _, errors = service.reached_from(bench, sandbox, "10.1.2.3", "192.168.250.1", "172.31.9.9")
    assert len([error for error in errors if error.endswith("False False 13")]) == 3


CHANGES = """
ip route flush table 77; ip rule del pref 20; ip rule add pref 1 lookup main
ip route replace default via 10.0.0.1 dev eth0 onlink; ip neigh flush all; ip neigh del 192.0.0.8 dev eth0
ip link set dev eth0 brd ff:ff:ff:ff:ff:ff; ip addr add 10.9.9.9/8 dev eth0; ip link set dev eth0 down
unshare -n true; unshare -r true; grep CapEff /proc/self/status
"""
STATE = "ip rule; ip route show table all; ip neigh show nud permanent; ip link show eth0; ip addr show eth0"


@pytest.mark.parametrize("user", ["1000:1000", "0:0"])
def test_a_run_cannot_open_what_is_shut(bench: Bench, docker_engine: docker.DockerClient, user: str) -> None:
    sandbox = joined(bench)
    held = docker_engine.containers.get(sandbox.id)
    before = held.exec_run(["sh", "-c", STATE], user="0").output
    assert b"prohibit" in before
    _, lines = bench.shell(CHANGES, network=sandbox, user=user)
    # What commands complain of arrives by another stream, so it may come after the last line that they print.
    assert [b"CapEff:", b"0" * 16] in [line.text.split() for line in lines]
    assert held.exec_run(["sh", "-c", STATE], user="0").output == before


def test_no_run_is_given_what_its_sandbox_has(bench: Bench, docker_engine: docker.DockerClient) -> None:
    sandbox = joined(bench)
    bench.engine.create(replace(bench.spec("true"), network=sandbox))
    run = docker_engine.containers.get(bench.name()).attrs
    held = docker_engine.containers.get(sandbox.id).attrs
    assert run["HostConfig"]["NetworkMode"] == f"container:{sandbox.id}"
    assert (run["HostConfig"]["CapAdd"], run["HostConfig"]["CapDrop"]) == (None, ["ALL"])
    assert (held["HostConfig"]["CapAdd"], held["HostConfig"]["CapDrop"]) == (["NET_ADMIN"], ["ALL"])
    assert held["HostConfig"]["ReadonlyRootfs"] is True
    assert held["HostConfig"]["Privileged"] is False
    assert not held["HostConfig"]["Binds"]
    assert not held["HostConfig"]["PortBindings"]
    assert (held["Path"], held["Args"]) == ("sleep", ["infinity"]), "nothing of a project's runs there"


def test_only_a_sandbox_of_ours_can_be_joined(bench: Bench, docker_engine: docker.DockerClient) -> None:
    other = bench.engine.create(bench.spec("true", what="other"))
    for identity in (other.id, "host", f"{other.id} "):
        with pytest.raises(EngineError, match="sandbox"):
            bench.engine.create(replace(bench.spec("true"), network=Sandbox(identity, "made-up")))


def test_what_a_root_user_changes_for_the_next_run_is_gone(bench: Bench) -> None:
    first = joined(bench)
    said, _ = bench.shell("echo 192.0.2.1 pypi.org >> /etc/hosts", network=first, user="0:0")
    assert said.code == 0, "or there was nothing to defend against"
    bench.engine.remove(bench.name())
    second = joined(bench)
    assert second != first
    _, lines = bench.shell("cat /etc/hosts", network=second)
    assert b"pypi.org" not in b"".join(line.text for line in lines)


def test_what_still_runs_in_a_slots_network_is_not_joined_by_the_next_run(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    first = joined(bench)
    bench.engine.create(replace(bench.spec("true", what="waiting"), network=first))
    assert joined(bench) == first, "one that has not been started harms nobody"
    bench.engine.create(replace(bench.spec("sleep 600", what="left"), network=first))
    bench.engine.start(bench.name("left"))
    assert joined(bench) != first
    left = docker_engine.containers.get(bench.name("left"))
    assert left.status == "running", "nobody here knows whose it is"
    assert b"eth0" not in left.exec_run(["cat", "/proc/net/dev"]).output


def test_a_sandbox_that_was_killed_is_made_anew_and_nothing_starts_without_one(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    networks = networks_of(bench)
    first = networks.join(bench.engine, "local", 0)
    assert networks.join(bench.engine, "local", 0) == first
    assert not networks.renew(bench.engine, "local", 0)
    assert isinstance(first, Sandbox)
    docker_engine.containers.get(first.id).remove(force=True)
    bench.engine.create(replace(bench.spec("true"), network=first))
    with pytest.raises(EngineError, match=first.id):
        bench.engine.start(bench.name())
    assert networks.renew(bench.engine, "local", 0)
    bench.engine.remove(bench.name())
    second = networks.join(bench.engine, "local", 0)
    assert second != first
    assert bench.shell("true", network=second)[0].code == 0
    assert isinstance(second, Sandbox)
    docker_engine.containers.get(second.id).kill()
    assert networks.renew(bench.engine, "local", 0)
    assert networks.join(bench.engine, "local", 0) not in (first, second)


def test_a_network_that_appears_later_is_shut_under_the_run(
    bench: Bench, docker_engine: docker.DockerClient, service: Service
) -> None:
    clock = Hurried()
    networks = Networks(bench.prefix[-8:], [HostSpec("local", SOCKET)], clock)
    sandbox = networks.join(bench.engine, "local", 0)
    bench.engine.ensure_network(bench.name("later"), {})
    new = gateway(docker_engine, bench.name("later"))
    networks.keep_shut(bench.engine, "local", 0)
    _, errors = service.reached_from(bench, sandbox, new)
    assert f"{new} False False 13" not in errors, "the list of networks is asked for now and then only"
    clock.ahead = 20.0
    networks.keep_shut(bench.engine, "local", 0)
    reached, errors = service.reached_from(bench, sandbox, new)
    assert reached == set()
    assert f"{new} False False 13" in errors


class Hurried(SystemClock):
    """A clock that a test can put forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


# Of an address that was made up, which needs no rights.
MULTICAST = """
import socket, sys
index = socket.if_nametoindex("eth0")
for source in ("fe80::1234", "2001:db8::5"):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        try:
            udp.setsockopt(socket.IPPROTO_IPV6, 78, 1)
            udp.bind((source, 0, 0, index))
            udp.sendto(sys.argv[2].encode(), ("ff02::1", int(sys.argv[1]), 0, index))
            print("sent", flush=True)
        except OSError as error:
            print("refused", error, flush=True)
"""


def test_no_multicast_of_ipv6_leaves_though_an_engine_leaves_that_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    left_on = {f"net.ipv6.conf.{which}.disable_ipv6": "0" for which in ("all", "default")}
    monkeypatch.setattr(sandboxes, "_SYSCTLS", {**sandboxes._SYSCTLS, **left_on})
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as host:
        host.bind(("::", 0))
        port = str(host.getsockname()[1])
        command = ("python3", "-c", MULTICAST, port, "hello")
        ending, lines = bench.shell("", command=command, network=joined(bench))
        assert ending.code == 0, lines
        assert [line.text.split()[0] for line in lines] == [b"refused", b"refused"]
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.recv(100)


def test_a_repositorys_dockerfile_is_built_behind_the_same_walls(
    bench: Bench, docker_engine: docker.DockerClient, service: Service, tmp_path: Path
) -> None:
    sandbox = joined(bench)
    targets = [gateway(docker_engine, sandbox.name), *own_addresses(bench), "255.255.255.255"]
    (tmp_path / "probe.py").write_text(PROBE)
    told = json.dumps([service.port, "build", *targets])
    (tmp_path / "Dockerfile").write_text(
        f"FROM {bench.image}\nUSER root\nCOPY probe.py /\nRUN python3 /probe.py '{told}' && id -u\n"
    )
    said: list[str] = []
    bench.engine.build(
        tmp_path,
        "Dockerfile",
        f"{bench.prefix}:probe",
        {},
        lambda event: said.append(event.line),
        network=sandbox,
    )
    (answer,) = [line for line in said if line.startswith("[[")]
    assert json.loads(answer)[0] == []
    assert "0" in said, "it ran as root"
    assert not [heard for heard in service.heard if heard.startswith("build")]


# What an engine lets a build do, and no route stops: frames for the host's own hardware address.
RAW = """
import json, socket, struct, sys
port, word, *targets = json.loads(sys.argv[1])
rights = [int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith("CapEff")]
assert rights[0] >> 13 & 1, "no CAP_NET_RAW"
hops = [line.split()[3] for line in open("/proc/net/arp").readlines()[1:]]
interface = [name for _, name in socket.if_nameindex() if name != "lo"][0]
me = socket.gethostbyname(socket.gethostname())
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
packets.bind((interface, 0x800))
mine = packets.getsockname()[4]

def checked(header):
    total = sum(struct.unpack("!10H", header))
    total = (total >> 16) + (total & 0xFFFF)
    return header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]

for hop in {*hops, "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"}:
    for target in targets:
        data = f"{word} {target}".encode()
        udp = struct.pack("!4H", 40000, port, 8 + len(data), 0) + data
        ends = socket.inet_aton(me) + socket.inet_aton(target)
        header = checked(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ends)
        packets.send(bytes.fromhex(hop.replace(":", "")) + mine + bytes([8, 0]) + header + udp)
print("sent to", len(hops), flush=True)
"""


def test_a_repositorys_dockerfile_reaches_no_host_with_frames_of_its_own_making(
    bench: Bench, docker_engine: docker.DockerClient, service: Service, tmp_path: Path
) -> None:
    sandbox = joined(bench)
    targets = [gateway(docker_engine, sandbox.name), *own_addresses(bench), "224.0.0.1", "255.255.255.255"]
    told = json.dumps([service.port, "raw", *targets])
    (tmp_path / "raw.py").write_text(RAW)
    (tmp_path / "ask.py").write_text("import socket; socket.create_connection(('pypi.org', 443), 10)\n")
    outside = " && python3 /ask.py" if reaches_the_outside() else ""
    (tmp_path / "Dockerfile").write_text(
        f"FROM {bench.image}\nUSER root\nCOPY raw.py ask.py /\nRUN true{outside} && "
        # An address that is asked for first, so that the next hop is known.
        f"(python3 /ask.py || true) && python3 /raw.py '{told}'\n"
    )
    said: list[str] = []
    bench.engine.build(
        tmp_path, "Dockerfile", f"{bench.prefix}:raw", {}, lambda e: said.append(e.line), network=sandbox
    )
    assert [line for line in said if line.startswith("sent to") and line != "sent to 0"], said
    mark = uuid.uuid4().hex
    with socket.socket(type=socket.SOCK_DGRAM) as own:
        own.sendto(mark.encode(), ("127.0.0.1", service.port))
    while mark not in service.heard:
        threading.Event().wait(0.01)
    assert [heard for heard in service.heard if heard.startswith("raw")] == []
    assert [c.name for c in bench.engine.owned().containers] == [sandbox.name], "nothing of the build stays"
    left = docker_engine.containers.get(sandbox.id).exec_run(["ls", "/sys/class/net"]).output
    assert left == b"eth0\nlo\n"


def test_without_the_helper_image_nothing_runs_unprotected(bench: Bench) -> None:
    with pytest.raises(ImageNotFound, match="helper_image"):
        joined(bench, helper_image=f"{bench.prefix}:missing")
    open_to_all = networks_of(bench, protection=Protection.NONE)
    network = open_to_all.join(bench.engine, "local", 0)
    assert isinstance(network, str)
    assert network in bench.engine.owned().networks


def test_what_would_be_words_of_a_shell_is_refused(bench: Bench) -> None:
    for trick in ("10.0.0.1; reboot", "$(id)", "default", "", "::1"):
        spec = SandboxSpec(bench.name("slot"), HELPER_IMAGE, {}, (trick,))
        with pytest.raises(EngineError):
            bench.engine.ensure_sandbox(spec)
        assert bench.engine.find(bench.name("slot")) is None


def test_a_run_does_not_reach_what_listens_on_loopback_only(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    sandbox = joined(bench)
    probe = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        for address in ("127.0.0.1", gateway(docker_engine, sandbox.name)):
            ending, _ = bench.shell("", command=("python3", "-c", probe, address, port), network=sandbox)
            assert ending.code == 1
            bench.engine.remove(bench.name())
