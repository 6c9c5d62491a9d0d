"""Baselines from a shell: measured further while nothing waits, confirmed, and begun anew."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.installation import Installation
from tests.support.waiting import wait_until

NOISY = """\
import json, os
accuracy = float(open("accuracy.txt").read()) + int(os.environ["MLCI_SEED"]) % 1000 / 1e5
json.dump({"accuracy": accuracy}, open("metrics.json", "w"))
"""


@pytest.fixture
def noisy(installation: Installation) -> Installation:
    installation.checks = ["accuracy not worse than main by 0.5", "accuracy not worse than best by 0.5"]
    installation.pipeline = {
        "baselines": {
            "main": {"select": "branch:main", "replicates": 3},
            "best": {"select": "best", "confirm": 2},
        },
        "datasets": {},
        "actions": {},
        "artifacts": [],
    }
    installation.write()
    return installation


def measured(noisy: Installation) -> dict[str, tuple[int, int]]:
    rows: list[dict[str, Any]] = noisy.json("baselines", "list")
    return {row["check"].split()[4]: (row["measurements"], row["wanted"]) for row in rows if row["wanted"]}


def test_baselines_are_measured_further_confirmed_and_begun_anew(noisy: Installation) -> None:
    noisy.repository.commit({"train.py": NOISY, "accuracy.txt": "0.9"}, "Learn")
    server = noisy.serve()
    wait_until(lambda: measured(noisy) == {"main": (3, 3), "best": (2, 2)}, "three measurements", 120)
    runs = noisy.json("runs", "list")
    assert {(run["cause"], run["state"]) for run in runs} == {
        ("first_sight", "passed"),
        ("baseline", "passed"),
    }
    assert runs[0]["purpose"] == "baseline"

    noisy.repository.commit({"accuracy.txt": "0.8"}, "Learn less")
    first = runs[-1]["id"]

    def judged() -> bool:
        return any(r["cause"] == "push" and r["state"] == "passed" for r in noisy.json("runs", "list"))

    wait_until(judged, "the verdict", 120)
    assert server.terminate() == 0
    (pushed,) = [run for run in noisy.json("runs", "list") if run["cause"] == "push"]
    checks = noisy.json("runs", "show", str(pushed["id"]))["checks"]
    assert [check["baseline_n"] for check in checks] == [3, 2]
    assert first in checks[0]["baseline_runs"]
    assert first not in checks[1]["baseline_runs"]

    noisy.orchestrator("rebaseline", "line", f"line#{pushed['number']}", "--reason", "a harder task")
    begins = noisy.json("baselines", "list")[-1]
    assert (begins["check"], begins["baseline"]) == ("all begin with", f"line#{pushed['number']}")
    assert "a harder task" in begins["why_none"]
