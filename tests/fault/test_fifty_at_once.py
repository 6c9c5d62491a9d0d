"""As many logs at once as a sshd with stock limits would never let log in (fault 12)."""

from __future__ import annotations

from contextlib import closing

from tests.support.fleet import Fleet, over_ssh, run_many
from tests.support.hosts import Host, trust
from tests.support.installation import Installation
from tests.support.waiting import wait_until

RUNS = 50
UNTIL_TOLD = """\
import json, signal, threading
told = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: told.set())
number = 0
while not told.wait(0.5):
    print("line", number)
    number += 1
print("wrote", number)
json.dump({"accuracy": 0.8}, open("metrics.json", "w"))
"""


def test_fifty_attempts_at_once_on_a_host_with_stock_limits_write_whole_logs(
    hosts: tuple[Host, Host], plain: Installation
) -> None:
    host, _ = hosts
    assert "maxsessions 10" in host.run("/usr/sbin/sshd", "-T")
    trust(plain.folder / "var", host)
    plain.runners = {"cpu": {"resources": {"memory": "64m"}}}
    plain.main = {"hosts": {"lab1": over_ssh(host, slots=RUNS)}}
    plain.pipeline = {"actions": {}}
    plain.write()
    plain.commit(0.8, {"train.py": UNTIL_TOLD})
    plain.serve()
    with closing(Fleet(plain)) as fleet:
        # The push is one run.
        run_many(plain, *["line"] * (RUNS - 1))
        wait_until(
            lambda: sum(bool(fleet.lines(t)) for t in fleet.tries(state="running")) == RUNS,
            "a line of each of the runs at once",
            180,
        )
        host.run("pkill", "-USR1", "-f", "^python3 train.py")
        wait_until(lambda: fleet.states()["passed"] == RUNS, "all to pass", 120)
        assert len(fleet.tries()) == RUNS
        for attempt in fleet.tries():
            *lines, last = fleet.lines(attempt)
            assert lines == [f"line {n}" for n in range(len(lines))], attempt
            assert last == f"wrote {len(lines)}", attempt
