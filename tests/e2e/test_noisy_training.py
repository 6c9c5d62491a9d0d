"""A real training with real noise: an MLP on scikit-learn's digits, judged by replicates in looks.

Over 60 seeds its accuracy has a standard deviation of .35 points. 720 rows cost .80 points, 300 rows cost
3.9; a layer of 256 units is .72 better than one of 32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation

CPU = Path(__file__).resolve().parents[2] / "runner-images" / "cpu"
TRAIN = """\
import json, os, warnings
warnings.filterwarnings("ignore")
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from settings import ROWS, WIDTH

images, labels = load_digits(return_X_y=True)
known, unseen, right, asked = train_test_split(
    images / 16, labels, test_size=0.5, random_state=0, stratify=labels
)
seed = int(os.environ["MLCI_SEED"])
model = MLPClassifier((WIDTH,), max_iter=60, learning_rate_init=0.01, random_state=seed)
model.fit(known[:ROWS], right[:ROWS])
json.dump({"accuracy": model.score(unseen, asked)}, open("metrics.json", "w"))
"""


def settings(rows: int = 898, width: int = 32) -> dict[str, str]:
    return {"train.py": TRAIN, "settings.py": f"ROWS, WIDTH = {rows}, {width}\n"}


@pytest.fixture
def digits(installation: Installation) -> Installation:
    installation.runner_image = {"build": str(CPU)}
    installation.runners = {"cpu": {"resources": {"memory": "1g", "cpus": 1}}}
    installation.environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    installation.checks = ["accuracy not worse than branch:main"]
    installation.pipeline = {
        "replicates": {"looks": [2, 4, 8]},
        "datasets": {},
        "actions": {},
        "artifacts": [],
    }
    installation.write()
    return installation


def judged(digits: Installation, word: str, files: dict[str, str], *arguments: str) -> dict[str, Any]:
    """A run of a commit with these files: how it ended."""
    digits.repository.commit(files, word)
    digits.orchestrator("run", "line", *arguments, expect=None)
    newest = digits.json("runs", "list")[0]
    found: dict[str, Any] = digits.json("runs", "show", str(newest["id"]))
    return found


def test_a_noisy_training_is_judged_by_what_its_replicates_show(digits: Installation) -> None:
    first = judged(digits, "Learn digits", settings(), "--replicates", "8")
    assert (first["state"], len(first["attempts"])) == ("passed", 8)

    unchanged = judged(digits, "Say what this is", {"README": "digits\n"})
    assert unchanged["state"] in ("passed", "inconclusive")

    worse = judged(digits, "Learn from less", settings(rows=720))
    assert worse["state"] == "rejected"
    (check,) = worse["checks"]
    assert check["sentence"].startswith("accuracy 0.96")
    assert check["sentence"].endswith("fail")
    assert check["candidate_n"] == len(worse["attempts"])
    assert check["baseline_n"] >= 8

    hopeless = judged(digits, "Learn from very little", settings(rows=300))
    assert (hopeless["state"], len(hopeless["attempts"])) == ("rejected", 2), "two replicates show that"

    digits.checks = ["accuracy better than branch:main"]
    digits.write()
    same = judged(digits, "Learn from all again", settings())
    assert same["state"] != "passed", "nothing that was not there is promoted"
    better = judged(digits, "Learn with more units", settings(width=256))
    assert better["state"] == "passed"
    (check,) = better["checks"]
    assert check["lower"] > 0
