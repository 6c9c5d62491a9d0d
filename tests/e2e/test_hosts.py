"""Runs on the local engine and on two hosts over SSH at the same time, while all kinds of things break."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing

from tests.support.fleet import Fleet, over_ssh, run_many
from tests.support.hosts import Host, trust
from tests.support.installation import Installation
from tests.support.waiting import wait_until

RUNS = 30
LINES = 24
PAUSE = 0.5
SLOTS = {"local": 2, "lab1": 4, "lab2": 4}
CUT = 30.0
PATIENCE = 240.0


def settled(installation: Installation, hosts: Mapping[str, dict[str, object]]) -> None:
    """Write the configuration: hosts, a pipeline for any of them, and one for those in the lab alone."""
    installation.environment = {"LINES": str(LINES), "PAUSE": str(PAUSE)}
    installation.checks = ("accuracy >= 0.5",)
    installation.main = {"hosts": dict(hosts)}
    installation.runners = {"lab": {"hosts": {"labels": {"zone": "lab"}}}}
    installation.pipeline = {"actions": {}}
    installation.write()


def test_thirty_runs_on_three_hosts_outlive_a_cut_link_a_dead_host_and_a_killed_server(
    hosts: tuple[Host, Host], installation: Installation
) -> None:
    first, second = hosts
    local = {"engine": installation.engine, "slots": SLOTS["local"], "min_free": "0"}
    trust(installation.folder / "var", first, second)
    settled(
        installation,
        {"local": local, "lab1": over_ssh(first), "lab2": over_ssh(second, lost_after="20s")},
    )
    installation.commit(0.8)
    server = installation.serve()
    with closing(Fleet(installation)) as fleet:
        # The push is one run of each pipeline.
        run_many(installation, *(["line", "lab"] * RUNS)[: RUNS - 2])

        def all_at_work() -> bool:
            running = Counter(t.host for t in fleet.tries(state="running"))
            return all(running[host] == slots for host, slots in SLOTS.items())

        wait_until(all_at_work, "all slots to be taken", 90)
        before = {t.id: t for t in fleet.tries(state="running")}
        first.cut()
        cut_at = time.monotonic()
        wait_until(lambda: fleet.unreachable() == ["lab1"], "the cut host to be marked", CUT)
        server.kill()
        server = installation.serve()
        wait_until(lambda: time.monotonic() - cut_at > CUT, "the end of the cut", CUT + 5)
        first.restore()
        wait_until(lambda: len(fleet.tries(host="lab2", state="running")) >= 2, "runs on the second", 90)
        dying = {t.id for t in fleet.tries(host="lab2") if not t.ended}
        second.power_off()
        wait_until(lambda: fleet.unreachable() == ["lab2"], "the dead host to be marked", CUT)
        wait_until(lambda: fleet.states()["passed"] == RUNS, f"{RUNS} runs to pass", PATIENCE)

        tries = fleet.tries()
        lost = [t for t in tries if t.state == "errored"]
        assert {t.host for t in lost} == {"lab2"}
        assert {t.id for t in lost} <= dying, "an attempt was lost on a host that lived"
        assert len(tries) == RUNS + len(lost)
        moved = [t for t in tries if t.run in {old.run for old in lost} and t.state == "succeeded"]
        assert len(moved) == len(lost) > 0
        assert not {t.host for t in moved} & {"lab2"}
        for attempt in fleet.tries(state="succeeded"):
            assert fleet.lines(attempt) == [f"line {n}" for n in range(LINES)], attempt
        for attempt in fleet.tries():
            if attempt.id in before and attempt.state == "succeeded":
                assert attempt.container == before[attempt.id].container, "it was not adopted"
        used = {p: {t.host for t in tries if t.pipeline == p} for p in ("line", "lab")}
        assert used["lab"] == {"lab1", "lab2"}, "a run went to a host without the label"
        assert "local" in used["line"]
        assert {host: fleet.most_at_once(host) for host in SLOTS} == SLOTS
