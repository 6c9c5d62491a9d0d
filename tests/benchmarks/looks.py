"""What looks save: the wall time of runs whose case is clear, in looks and with all replicates at once.

One pipeline, on the local engine with two slots. Its training sleeps and then says an accuracy that varies
with its seed by one standard deviation of 0.4 points. ``worse`` loses ten of these, ``same`` nothing, where
five are allowed. Each is run in turns by ``looks: [2, 4, 8]`` and by ``replicates: 8``; a run's time is from
its enqueuing to its verdict. ``*_attempts`` are how many replicates the looks took.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import docker

from tests.benchmarks.harness import Figures, Parameters, Samples, table
from tests.support.engine import BASE_IMAGE, RUNNER_IMAGES, run_script
from tests.support.git import GitRepository
from tests.support.installation import Installation, removed_afterwards
from tests.support.smtp import SmtpServer

_TRAIN = """\
import json, os, random, time
time.sleep(float(os.environ["SECONDS"]))
level = float(open("level.txt").read())
accuracy = random.Random(int(os.environ["MLCI_SEED"])).gauss(level, 0.004)
json.dump({"accuracy": accuracy}, open("metrics.json", "w"))
"""
_LEVELS = {"worse": 0.86, "same": 0.90}


def measure(parameters: Parameters) -> Figures:
    """``rounds``: 3 of each; ``seconds``: 5 that a training sleeps."""
    rounds, seconds = parameters.number("rounds", 3), parameters.number("seconds", 5)
    run_script(RUNNER_IMAGES / "engine")
    run_script(RUNNER_IMAGES / "base" / "make", BASE_IMAGE)
    samples: Samples = {f"{case}_{way}": [] for case in _LEVELS for way in ("at_once", "looks")}
    attempts: dict[str, list[int]] = {case: [] for case in _LEVELS}
    with ExitStack() as stack:
        engine = stack.enter_context(closing(docker.from_env(timeout=60)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        smtp = SmtpServer()  # nothing is sent
        made = Installation(folder, GitRepository.create(folder), smtp, None, BASE_IMAGE)
        made.environment = {"SECONDS": str(seconds)}
        made.checks = ["accuracy not worse than run:1 by 2pp"]
        made.pipeline = {"datasets": {}, "actions": {}, "artifacts": []}
        stack.enter_context(removed_afterwards(made, engine))
        _run(made, 0.90, {"replicates": 8})
        for _ in range(rounds):
            for case, level in _LEVELS.items():
                took, _count = _run(made, level, {"replicates": 8})
                samples[f"{case}_at_once"].append(took)
                took, count = _run(made, level, {"replicates": {"looks": [2, 4, 8]}})
                samples[f"{case}_looks"].append(took)
                attempts[case].append(count)
    for case in _LEVELS:
        table(case, {way: samples[f"{case}_{way}"] for way in ("at_once", "looks")}, "s", 1)
    middle = {name: statistics.median(values) for name, values in samples.items()}
    ratios = {f"{case}_saved": 1 - middle[f"{case}_looks"] / middle[f"{case}_at_once"] for case in _LEVELS}
    return Figures(ratios, samples, {f"{case}_attempts": counts for case, counts in attempts.items()})


def _run(made: Installation, level: float, replicates: dict[str, object]) -> tuple[float, int]:
    """How long a run of a training at that level took, in seconds, and its replicates."""
    made.pipeline = {**made.pipeline, **replicates}
    made.write()
    made.repository.commit({"train.py": _TRAIN, "level.txt": f"{level}\n"}, f"Reach {level}")
    made.orchestrator("run", "line", expect=None)
    run = made.json("runs", "show", str(made.json("runs", "list")[0]["id"]))
    ended = datetime.fromisoformat(run["finished_at"])
    return (ended - datetime.fromisoformat(run["created_at"])).total_seconds(), len(run["attempts"])
