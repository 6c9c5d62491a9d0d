"""Training scripts as people write them, each picked up with no configuration beyond the gate."""

from __future__ import annotations

import re
import sys
import tarfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.installation import Installation

PRINTS = """\
import random
loss = 1.0
for epoch in range(1, 6):
    loss *= 0.7
    print(f"epoch {epoch}/5  loss: {loss:.4f}")
print("Accuracy: 0.912")
"""
CSV_LOGGER = """\
# What Lightning's CSVLogger leaves: it needs torch, which is too large to install here.
import csv, os
os.makedirs("lightning_logs/version_0")
with open("lightning_logs/version_0/metrics.csv", "w", newline="") as out:
    rows = csv.DictWriter(out, ["epoch", "step", "train_loss", "accuracy"])
    rows.writeheader()
    for epoch in range(4):
        rows.writerow({"epoch": epoch, "step": epoch * 10 + 9, "train_loss": 1 / (epoch + 1)})
        rows.writerow({"epoch": epoch, "step": epoch * 10 + 9, "accuracy": 0.6 + epoch / 10})
with open("lightning_logs/version_0/hparams.yaml", "w") as out:
    out.write("lr: 0.02\\n")
"""
DVCLIVE = """\
from dvclive import Live
with Live(save_dvc_exp=False) as live:
    live.log_param("lr", 0.02)
    for epoch in range(4):
        live.log_metric("train/loss", 1 / (epoch + 1))
        live.log_metric("accuracy", 0.6 + epoch / 10)
        live.next_step()
"""
MLFLOW = """\
import mlflow
with mlflow.start_run():
    mlflow.log_param("lr", 0.02)
    for epoch in range(4):
        mlflow.log_metric("train/loss", 1 / (epoch + 1), step=epoch)
        mlflow.log_metric("accuracy", 0.6 + epoch / 10, step=epoch)
    with open("notes.txt", "w") as out:
        out.write("as it went")
    mlflow.log_artifact("notes.txt")
"""
TENSORBOARD = """\
from tensorboardX import SummaryWriter
with SummaryWriter() as writer:
    for epoch in range(4):
        writer.add_scalar("train/loss", 1 / (epoch + 1), epoch)
        writer.add_scalar("accuracy", 0.6 + epoch / 10, epoch)
"""


def trained(installation: Installation, script: str) -> dict[str, Any]:
    """Run a script with a gate on its accuracy, and nothing else configured; what there is to know of it."""
    installation.pipeline = {"collect": [], "artifacts": []}
    installation.checks = ["accuracy >= 0.85"]
    installation.write()
    installation.commit(0, {"train.py": script})
    installation.orchestrator("run", "line")
    shown: dict[str, Any] = installation.json("runs", "show", "1")
    return shown


def test_plain_prints_are_judged(installation: Installation) -> None:
    shown = trained(installation, PRINTS)
    assert shown["state"] == "passed"
    assert [(c["metric"], c["estimate"]) for c in shown["checks"]] == [("accuracy", 0.912)]
    assert shown["warnings"] == []


def test_what_lightnings_csv_logger_writes_is_judged_and_drawn(installation: Installation) -> None:
    shown = trained(installation, CSV_LOGGER)
    assert shown["state"] == "passed"
    series = {each["name"]: each for each in installation.json("runs", "series", "1")}
    assert series["train_loss"]["points"] == 4
    assert series["accuracy"]["last"] == pytest.approx(0.9)
    assert [(p["name"], p["text"]) for p in installation.json("runs", "params", "1")] == [("lr", "0.02")]
    (accuracy,) = [m for m in installation.json("runs", "metrics", "1") if m["name"] == "accuracy"]
    assert (accuracy["source"], accuracy["step"]) == ("lightning_logs/version_0/metrics.csv", 39)
    (points,) = installation.json("runs", "series", "1", "train_loss")
    assert points["values"] == [1.0, 0.5, 1 / 3, 0.25]
    assert points["steps"] == [9, 19, 29, 39]


def with_libraries(installation: Installation, folder: Path) -> None:
    """Let the runner have the libraries that are installed here: nothing is fetched from anywhere."""
    (folder / "image").mkdir()
    distributions: dict[str, Distribution] = {}
    for name in ("dvclive", "mlflow-skinny", "sqlalchemy", "alembic", "tensorboardx"):
        need(name, distributions)
    with tarfile.open(folder / "image" / "site.tar", "w") as site:
        for each in distributions.values():
            for file in each.files or ():
                source = Path(str(each.locate_file(file)))
                if not {"..", "tests"} & set(file.parts) and source.is_file():
                    site.add(source, str(file))
    recipe = f"FROM {installation.image}\nADD site.tar /opt/site/\nENV PYTHONPATH=/opt/site\n"
    (folder / "image" / "Dockerfile").write_text(recipe)
    installation.runner_image = {"build": str(folder / "image")}
    installation.runners["cpu"] = {"resources": {"memory": "1g", "cpus": 2}}


def need(name: str, found: dict[str, Distribution]) -> None:
    """Add an installed distribution and all that it needs."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in found:
        return
    found[key] = distribution(key)
    for line in found[key].requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            need(requirement.name, found)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the base image has Python 3.11")
def test_scripts_with_dvclive_mlflow_and_tensorboard_are_judged_and_drawn(
    installation: Installation, tmp_path: Path
) -> None:
    with_libraries(installation, tmp_path)
    installation.pipeline = {"collect": [], "artifacts": []}
    installation.checks = ["accuracy >= 0.85"]
    installation.write()
    for number, (script, reader, has_params) in enumerate(
        ((DVCLIVE, "dvclive", True), (MLFLOW, "mlflow", True), (TENSORBOARD, "tensorboard", False)), 1
    ):
        installation.commit(number, {"train.py": script})
        installation.orchestrator("run", "line")
        shown = installation.json("runs", "show", str(number))
        log = installation.orchestrator("runs", "logs", str(number))
        assert shown["state"] == "passed", (reader, shown["headline"], log)
        (check,) = shown["checks"]
        assert check["estimate"] == pytest.approx(0.9), reader
        series = {each["name"]: each for each in installation.json("runs", "series", str(number))}
        assert (series["accuracy"]["points"], series["accuracy"]["reader"]) == (4, reader)
        loss = installation.json("runs", "series", str(number), "train/loss")[0]
        assert loss["values"] == pytest.approx([1.0, 0.5, 1 / 3, 0.25])
        params = {each["name"]: each["text"] for each in installation.json("runs", "params", str(number))}
        assert params.get("lr") == ("0.02" if has_params else None), reader
        assert shown["warnings"] == [], reader
    kept = {each["path"] for each in installation.json("runs", "artifacts", "2")}
    assert any(path.endswith("/notes.txt") for path in kept), kept
