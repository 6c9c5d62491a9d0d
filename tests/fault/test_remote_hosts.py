"""Hosts over SSH whose link or engine breaks, or whose power fails (faults 6, 7, 9 to 11 and 17)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from tests.fault.test_stopping import STUBBORN
from tests.support.fleet import Fleet, Try, over_ssh
from tests.support.hosts import Host, HostNetwork, trust
from tests.support.installation import Installation
from tests.support.waiting import wait_until

KEEPALIVES = 3 * 5.0
"""Seconds within which a link that hangs has to be noticed."""
SLACK = 5.0
ENDLESS = """\
import json, os, time
folder = os.environ["MLCI_CHECKPOINT_DIR"]
begun = sorted(os.listdir(folder))
print("begins with", begun, flush=True)
json.dump({"accuracy": 0.8}, open("metrics.json", "w"))
open("model.txt", "w").write("model")
if not begun:
    os.makedirs(os.path.join(folder, "epochs"))
    open(os.path.join(folder, "epochs", "1.pt"), "w").write("weights")
    os.symlink("epochs/1.pt", os.path.join(folder, "last.pt"))
    while True:
        time.sleep(1)
print("goes on with", open(os.path.join(folder, "last.pt")).read())
open(os.path.join(folder, "epochs", "2.pt"), "w").write("more")
"""
GOES_ON = ["begins with ['epochs', 'last.pt']", "goes on with weights"]


@pytest.fixture
def lab(hosts: tuple[Host, Host], plain: Installation) -> Installation:
    """A pipeline for two hosts over SSH, the first one wanted more, and no local engine."""
    first, second = hosts
    trust(plain.folder / "var", first, second)
    plain.main = {"hosts": {"lab1": over_ssh(first), "lab2": over_ssh(second)}}
    plain.checks = ("accuracy >= 0.5",)
    plain.runners = {"cpu": {"hosts": ["lab1", "lab2"]}}
    plain.pipeline = {"actions": {}}
    return plain


@pytest.fixture
def fleet(lab: Installation) -> Iterator[Fleet]:
    lab.write()
    lab.orchestrator("db", "upgrade")
    with closing(Fleet(lab)) as made:
        yield made


def endless(lab: Installation) -> None:
    """Push a training that never ends, until it finds the checkpoint of one before it."""
    run = {"runner": "cpu", "command": "python3 train.py", "checkpoint_copy": "1s"}
    lab.pipeline = {**lab.pipeline, "run": run}
    lab.write()
    lab.commit(0.8, {"train.py": ENDLESS})


def begun(fleet: Fleet, line: str, host: str = "lab1") -> Try:
    """The running attempt on a host, once it has printed a line."""

    def printed() -> Try | None:
        return next((t for t in fleet.tries(host=host, state="running") if line in fleet.lines(t)), None)

    return wait_until(printed, f"'{line}' in the log", 60)


def wait_for_copy(lab: Installation, attempt: Try) -> None:
    """Return once the orchestrator has a copy of the attempt's checkpoint."""
    copies = lab.folder / "var" / "checkpoints"
    wait_until(lambda: list(copies.glob(f"{attempt.run}-0-1.tar")), "a copy of the checkpoint", 30)


def succeeded(fleet: Fleet) -> Try:
    """The attempt that has come to a good end, once there is one."""
    return wait_until(lambda: next(iter(fleet.tries(state="succeeded")), None), "a good end", 90)


def ended(fleet: Fleet, attempt: Try, seconds: float = 60) -> Try:
    """The attempt once it has ended."""
    return wait_until(
        lambda: next((t for t in fleet.tries() if t.id == attempt.id and t.ended), None), "it", seconds
    )


def containers(host: Host) -> list[str]:
    """The attempts' containers that a host has, past any link."""
    with closing(host.client()) as inside:
        # One may go between being listed and being looked at.
        found = inside.containers.list(all=True, filters={"label": "mlci.role=attempt"}, ignore_removed=True)
        return [str(c.name) for c in found]


def test_a_run_goes_on_over_a_cut_link_and_its_host_is_unreachable_meanwhile(
    lab: Installation, fleet: Fleet, hosts: tuple[Host, Host]
) -> None:
    host, _ = hosts
    lab.environment = {"LINES": "120", "PAUSE": "0.25"}
    lab.write()
    lab.commit(0.8)
    server = lab.serve()
    attempt = begun(fleet, "line 5")
    host.cut()
    wait_until(lambda: fleet.unreachable() == ["lab1"], "the host to be marked", KEEPALIVES + SLACK)
    (found,) = fleet.tries()
    assert found.state == "running", "an unreachable host is no outcome"
    readiness = httpx.get(f"{server.url}/readyz", timeout=30).json()
    assert "host lab1" in {**readiness["problems"], **readiness["degraded"]}
    host.restore()
    after = ended(fleet, attempt, 90)
    assert (after.state, after.container) == ("succeeded", attempt.container)
    assert fleet.lines(after) == [f"line {n}" for n in range(120)]
    assert fleet.unreachable() == []


def test_a_host_that_is_silent_for_too_long_loses_its_attempt_to_another_which_goes_on_from_its_checkpoint(
    lab: Installation, fleet: Fleet, hosts: tuple[Host, Host]
) -> None:
    first, _ = hosts
    assert isinstance(lab.main["hosts"], dict)
    lab.main["hosts"]["lab1"] = over_ssh(first, lost_after="10s")
    endless(lab)
    lab.serve()
    attempt = begun(fleet, "begins with []")
    wait_for_copy(lab, attempt)
    first.cut()
    lost = ended(fleet, attempt, 90)
    assert (lost.state, lost.reason) == ("errored", "lost")
    again = succeeded(fleet)
    assert again.host == "lab2"
    assert fleet.lines(again) == GOES_ON
    assert containers(first) == [attempt.container], "it went on, unseen"
    first.restore()
    wait_until(lambda: containers(first) == [], "the orphan to be ended", 60)
    shown = lab.json("runs", "show", str(attempt.run))
    assert shown["state"] == "passed"
    assert [a["artifacts"] != [] for a in shown["attempts"]] == [False, True]
    assert any("holds what try 1 had" in w for w in shown["attempts"][1]["warnings"])


def test_a_session_that_hangs_is_noticed_within_three_keepalives_and_holds_up_no_other_host(
    lab: Installation, fleet: Fleet, hosts: tuple[Host, Host]
) -> None:
    first, _ = hosts
    lab.environment = {"LINES": "120", "PAUSE": "0.25"}
    lab.write()
    lab.commit(0.8)
    lab.serve()
    attempt = begun(fleet, "line 5")
    first.freeze_logins()
    frozen = time.monotonic()
    lab.orchestrator("run", "line", "--no-wait", "--host", "lab2")
    other = begun(fleet, "line 1", "lab2")
    assert time.monotonic() - frozen < KEEPALIVES, "another host's run had to wait"
    # The next login works, so that the run is followed again as soon as the old one is given up.
    seen = len(fleet.lines(attempt))
    wait_until(lambda: len(fleet.lines(attempt)) > seen + 8, "lines to come again", KEEPALIVES + 2 * SLACK)
    for one in (attempt, other):
        assert ended(fleet, one, 90).state == "succeeded"
        assert fleet.lines(one) == [f"line {n}" for n in range(120)]


def test_a_training_that_ignores_sigterm_and_is_cancelled_during_a_cut_is_dead_after_it(
    lab: Installation, fleet: Fleet, hosts: tuple[Host, Host]
) -> None:
    host, _ = hosts
    lab.command = ["python3", "train.py"]
    lab.write()
    lab.commit(0.8, {"train.py": STUBBORN})
    lab.serve()
    attempt = begun(fleet, "begun")
    host.cut()
    lab.orchestrator("runs", "cancel", str(attempt.run))
    wait_until(lambda: fleet.unreachable() == ["lab1"], "the host to be marked", KEEPALIVES + SLACK)
    assert containers(host) == [attempt.container]
    host.restore()
    after = ended(fleet, attempt, 90)
    assert (after.state, after.reason) == ("cancelled", "cancelled_by_person")
    wait_until(lambda: containers(host) == [], "its container to go", 30)
    assert lab.json("runs", "show", str(attempt.run))["state"] == "cancelled"


def test_an_engine_that_dies_takes_its_containers_along_and_the_run_is_tried_again(
    lab: Installation, fleet: Fleet, hosts: tuple[Host, Host]
) -> None:
    host, _ = hosts
    endless(lab)
    lab.serve()
    attempt = begun(fleet, "begins with []")
    wait_for_copy(lab, attempt)
    host.kill_engine()
    host.start()
    after = ended(fleet, attempt)
    # Told to end by the next engine, as any container that has an init is.
    assert (after.state, after.reason) == ("errored", "lost")
    assert lab.json("runs", "show", str(attempt.run))["attempts"][0]["exit"]["code"] == 143
    again = succeeded(fleet)
    assert again.host == "lab2", "the host may be at fault"
    assert fleet.lines(again) == GOES_ON
    assert len(fleet.tries()) == 2


def test_a_run_lives_on_under_the_next_engine_where_one_that_is_killed_lets_containers_live(
    host_network: HostNetwork, plain: Installation, base_image: str
) -> None:
    with host_network.host([base_image], arguments=["--live-restore"]) as host:
        trust(plain.folder / "var", host)
        plain.main = {"hosts": {"lab1": over_ssh(host)}}
        plain.environment = {"LINES": "80", "PAUSE": "0.1"}
        plain.write()
        plain.commit(0.8)
        plain.serve()
        plain.wait_for_line("line 3")
        host.kill_engine()
        host.start()
        plain.wait_for_mails(1)
        (attempt,) = plain.json("runs", "show", "1")["attempts"]
        assert (attempt["state"], attempt["exit"]["code"]) == ("succeeded", 0)
        lines = plain.orchestrator("runs", "logs", "1").splitlines()
        assert lines == [f"line {n}" for n in range(80)]


def test_an_exit_that_a_power_cut_left_behind_is_not_the_commands(
    lab: Installation, fleet: Fleet, hosts: tuple[Host, Host]
) -> None:
    host, _ = hosts
    lab.runners = {"cpu": {"hosts": ["lab1"]}}
    endless(lab)
    lab.serve()
    attempt = begun(fleet, "begins with []")
    wait_for_copy(lab, attempt)
    host.power_off()
    host.power_on()
    after = ended(fleet, attempt, 90)
    assert (after.state, after.reason) == ("errored", "lost")
    shown = lab.json("runs", "show", str(attempt.run))["attempts"][0]
    assert shown["exit"]["code"] == 255
    assert "started anew" in shown["message"]
    again = succeeded(fleet)
    assert (again.host, fleet.lines(again)) == ("lab1", GOES_ON), "its volume outlives the power"
