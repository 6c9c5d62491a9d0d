"""A benchmark in its own container, and runs that are done again, on the real engine."""

from __future__ import annotations

from typing import Any

import docker
import pytest

from tests.support.installation import Installation

TRAIN = """\
import json, os, random
seed = int(os.environ["MLCI_SEED"])
open("model.txt", "w").write(str(random.Random(seed).random()))
json.dump({"accuracy": 0.99}, open("metrics.json", "w"))
print("trained with", seed)
"""
SCORE = """\
import json, os, socket
model = float(open(os.path.join(os.environ["MLCI_ARTIFACTS"], "model.txt")).read())
rows = len(os.listdir(os.environ["MLCI_DATA_ROWS"]))
interfaces = [name for _, name in socket.if_nameindex() if name != "lo"]
secrets = os.path.exists("/mlci/secrets/env") or "TOKEN" in os.environ
result = {"accuracy": model, "rows": rows, "interfaces": len(interfaces), "secrets": int(secrets)}
json.dump(result, open(os.path.join(os.environ["MLCI_OUTPUT_DIR"], "score.json"), "w"))
json.dump(result, open(os.path.join(os.environ["MLCI_OUTPUT_DIR"], "metrics.json"), "w"))
print("scored", model)
"""


@pytest.fixture
def scored(installation: Installation) -> Installation:
    installation.checks = ["accuracy >= 0"]
    installation.pipeline = {
        "actions": {},
        "benchmark": {"command": ["python3", "score.py"], "metrics": ["accuracy"]},
    }
    installation.write()
    installation.repository.commit({"train.py": TRAIN, "score.py": SCORE}, "Train and score")
    return installation


def newest(scored: Installation) -> dict[str, Any]:
    found: dict[str, Any] = scored.json("runs", "show", str(scored.json("runs", "list")[0]["id"]))
    return found


def test_a_benchmark_scores_the_artifacts_and_a_run_is_reproduced_to_the_last_digit(
    scored: Installation, docker_engine: docker.DockerClient
) -> None:
    scored.orchestrator("run", "line")
    first = newest(scored)
    assert first["state"] == "passed"
    values = {row["name"]: row["value"] for row in first["metrics"]}
    assert values["accuracy"] != "0.99", "the training's own claim"
    assert (values["rows"], values["interfaces"], values["secrets"]) == ("1", "0", "0")
    assert "benchmark/score.json" in {a["path"] for a in first["attempts"][0]["artifacts"]}
    seed = first["attempts"][0]["seed"]
    log = scored.orchestrator("runs", "logs", "1").splitlines()
    assert log[0] == f"trained with {seed}"
    assert log[-1].startswith("scored 0.")
    label = f"mlci.instance={scored.instance()}"
    left = docker_engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
    assert not [c.name for c in left if str(c.name).endswith("-benchmark")]

    scored.orchestrator("runs", "reproduce", "line#1")
    again = newest(scored)
    assert (again["state"], again["attempts"][0]["seed"]) == ("passed", seed)
    assert again["attempts"][0]["image_digest"] == first["attempts"][0]["image_digest"]
    assert again["headline"] == ("line #1 is reproduced with its seed: accuracy agrees to the last digit")


def test_a_training_that_ignores_its_seed_is_told_from_one_that_can_be_done_again(
    scored: Installation,
) -> None:
    careless = TRAIN.replace("random.Random(seed)", "random.SystemRandom()")
    scored.repository.commit({"train.py": careless}, "Roll dice")
    scored.orchestrator("run", "line")
    scored.orchestrator("runs", "reproduce", "line#1", expect=1)
    again = newest(scored)
    assert again["state"] == "rejected"
    assert again["headline"].startswith("line #1 is not reproduced: accuracy is 0.")
