"""What the readers say of files that the real libraries wrote."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.domain.collected import PlotKind, Reading
from orchestrator.domain.metrics import Direction
from tests.support.left_files import curve, left_in, readings, values

MLFLOW = """
import math, mlflow
with mlflow.start_run(run_name="main"):
    mlflow.log_param("lr", 0.1)
    for step in range(3):
        mlflow.log_metric("val/loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"nan": math.nan, "up": math.inf, "down": -math.inf, "accuracy": 0.9}, step=7)
    with mlflow.start_run(run_name="fold", nested=True):
        mlflow.log_metric("val/loss", 3.0)
with mlflow.start_run(run_name="gone") as run:
    mlflow.log_metric("never", 1.0)
mlflow.delete_run(run.info.run_id)
"""

DVCLIVE = """
import numpy
from dvclive import Live
with Live("dvclive", save_dvc_exp=False, report=None, dvcyaml="dvc.yaml") as live:
    live.log_params({"lr": 0.1, "layers": [3, 4], "optimizer": {"name": "adam"}})
    for step in range(3):
        live.log_metric("train/acc", 0.5 + step / 10, timestamp=True)
        live.log_metric("loss", float("nan") if step == 2 else 1 / (step + 1))
        live.next_step()
    live.log_sklearn_plot("confusion_matrix", [0, 1, 1, 0], [0, 1, 0, 0], name="cm")
    live.log_sklearn_plot("roc", [0, 1, 1, 0], [0.1, 0.9, 0.4, 0.2])
    live.log_plot("xy", [{"a": 1, "b": 2}, {"a": 2, "b": 3}], x="a", y="b", title="XY")
    live.log_image("img.png", numpy.zeros((4, 4, 3), dtype="uint8"))
"""

EVENTS = """
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2
from tensorboard.plugins.scalar import metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util
import numpy

def scalar(writer, step, **values):
    each = [Summary.Value(tag=tag.replace("__", "/"), simple_value=value) for tag, value in values.items()]
    writer.add_event(Event(wall_time=1000.5 + step, step=step, summary=Summary(value=each)))

def tensor(writer, step, tag, value):
    made = tensor_util.make_tensor_proto(value)
    said = Summary.Value(tag=tag, tensor=made, metadata=metadata.create_summary_metadata("", ""))
    writer.add_event(Event(wall_time=1000.5 + step, step=step, summary=Summary(value=[said])))

writer = EventFileWriter("logs/train")
for step in range(300):
    scalar(writer, step, loss=1 / (step + 1), accuracy=0.9)
    tensor(writer, step, "double", numpy.float64(step) / 3)
    tensor(writer, step, "float", numpy.float32(step))
    tensor(writer, step, "whole", numpy.int64(-step))
scalar(writer, 2**40, far=float("nan"))
scalar(writer, -1, far=float("inf"))
writer.close()
writer = EventFileWriter("logs/validation")
for step in range(5):
    scalar(writer, step, loss=step / 2)
writer.close()
"""

TENSORBOARDX = """
import numpy
from tensorboardX import SummaryWriter
with SummaryWriter("runs/only", flush_secs=1) as writer:
    for step in range(4):
        writer.add_scalar("Loss/train", step / 4, step)
    writer.add_image("digits", numpy.zeros((3, 4, 4), dtype="uint8"), 3)
    writer.add_histogram("weights", numpy.arange(100), 3)
    writer.add_hparams({"lr": 0.25, "model": "mlp", "deep": True}, {"score": 0.5}, name="tuned")
"""

REPORT = """
import json
from sklearn.metrics import classification_report
report = classification_report([0, 1, 1, 0], [0, 1, 0, 0], output_dict=True)
json.dump(report, open("classification_report.json", "w"))
"""

TESTS = """
def test_good(record_property):
    record_property("accuracy", 0.75)
    record_property("note", "fine")
def test_bad():
    assert False
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a library writes."""
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


def made_by(place: Path, script: str, *arguments: str, expected: int = 0, **environment: str) -> None:
    """Run a script that uses the library, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, *(arguments or ("-c", script))],
        cwd=place,
        env={**os.environ, "DVC_NO_ANALYTICS": "1", "HOME": str(place.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == expected, ended.stdout + ended.stderr


def check_mlflow(reading: Reading) -> None:
    """What both stores say of the same runs."""
    found = values(reading)
    assert math.isnan(found.pop("nan"))
    assert found == {
        "val/loss": 1 / 3,
        "accuracy": 0.9,
        "up": math.inf,
        "down": -math.inf,
        "fold/val/loss": 3.0,
    }
    assert curve(reading, "val/loss") == [(0, 1), (1, 0.5), (2, 1 / 3)]
    (series,) = reading.series
    assert all(1.5e9 < moment < 5e9 for moment in series.timestamps)
    assert [(param.name, param.text) for param in reading.params] == [("lr", "0.1")]
    assert next(metric.step for metric in reading.metrics if metric.name == "accuracy") == 7
    assert not reading.warnings


def test_mlflow_runs_are_read_from_its_database_and_from_its_folders(place: Path) -> None:
    made_by(place, MLFLOW, MLFLOW_TRACKING_URI=f"sqlite:///{place}/mlflow.db")
    made_by(place, MLFLOW, MLFLOW_TRACKING_URI=f"file://{place}/mlruns", MLFLOW_ALLOW_FILE_STORE="true")
    found = readings(left_in(place))
    assert sorted(found) == ["mlflow-db:mlflow.db", "mlflow-files:mlruns"]
    check_mlflow(found["mlflow-db:mlflow.db"])
    check_mlflow(found["mlflow-files:mlruns"])


def test_a_dvclive_folder_is_read_with_its_series_params_and_plots(place: Path) -> None:
    made_by(place, DVCLIVE)
    files = left_in(place)
    found = readings(files)
    reading = found["dvclive:dvclive"]
    assert values(reading)["train/acc"] == pytest.approx(0.7)
    assert math.isnan(values(reading)["loss"])
    assert {metric.step for metric in reading.metrics} == {2}
    assert curve(reading, "train/acc") == [(0, 0.5), (1, 0.6), (2, 0.7)]
    with_time = next(series for series in reading.series if series.name == "train/acc")
    assert all(1.5e9 < moment < 5e9 for moment in with_time.timestamps)
    assert {param.name: param.text for param in reading.params} == {
        "lr": "0.1",
        "layers": "[3, 4]",
        "optimizer/name": "adam",
    }
    plots = {plot.path: plot for plot in reading.plots}
    assert plots["dvclive/plots/sklearn/cm.json"].kind is PlotKind.CONFUSION
    assert plots["dvclive/plots/sklearn/roc.json"].hints == {"key": "roc", "x": "fpr", "y": "tpr"}
    assert plots["dvclive/plots/images/img.png"].kind is PlotKind.IMAGE
    assert not reading.warnings
    assert FormatReaders().named_by(files["dvc.yaml"]) == ("dvclive/metrics.json",)
    hinted = {plot.path: plot.hints for plot in found["dvc.yaml:dvc.yaml"].plots}
    assert hinted["dvclive/plots/sklearn/cm.json"]["template"] == "confusion"


def test_tensorboard_says_the_same_as_its_own_reader(place: Path) -> None:
    made_by(place, EVENTS)
    said = place.parent / "said.json"
    made_by(
        place,
        "import json, sys\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "from tensorboard.util.tensor_util import make_ndarray\n"
        "said = {}\n"
        "for run in ('train', 'validation'):\n"
        "    read = EventAccumulator(f'logs/{run}', {'scalars': 0, 'tensors': 0},"
        " purge_orphaned_data=False).Reload()\n"
        "    for tag in read.Tags()['scalars']:\n"
        "        said[f'{run}/{tag}'] = [(e.step, e.value, e.wall_time) for e in read.Scalars(tag)]\n"
        "    for tag in read.Tags()['tensors']:\n"
        "        said[f'{run}/{tag}'] = [(e.step, float(make_ndarray(e.tensor_proto)), e.wall_time)"
        " for e in read.Tensors(tag)]\n"
        f"json.dump(said, open({str(said)!r}, 'w'))\n",
    )
    (reading,) = readings(left_in(place)).values()
    assert not reading.warnings
    theirs = json.loads(said.read_text())
    ours = {
        series.name: [
            list(point) for point in zip(series.steps, series.values, series.timestamps, strict=True)
        ]
        for series in reading.series
    }
    assert len(theirs["train/loss"]) == 300
    assert repr(ours) == repr({name: [[float(n) for n in p] for p in theirs[name]] for name in ours})
    assert ours.keys() == theirs.keys()
    # Single precision keeps 0.9 as 0.89999998; what a gate is to judge is what was logged.
    assert values(reading)["train/accuracy"] == 0.9
    assert values(reading)["train/double"] == 299 / 3


def test_tensorboardx_scalars_pictures_and_params_are_read(place: Path) -> None:
    made_by(place, TENSORBOARDX)
    (reading,) = readings(left_in(place)).values()
    assert curve(reading, "Loss/train") == [(0, 0), (1, 0.25), (2, 0.5), (3, 0.75)]
    assert values(reading)["tuned/score"] == 0.5
    assert {param.name: param.text for param in reading.params} == {
        "tuned/lr": "0.25",
        "tuned/model": "mlp",
        "tuned/deep": "true",
    }
    (plot,) = reading.plots
    assert plot.content.startswith(b"\x89PNG")
    assert plot.path.endswith("#digits.png")
    assert not reading.warnings


def test_a_report_of_scikit_learn_has_directions_and_support_has_none(place: Path) -> None:
    made_by(place, REPORT)
    (reading,) = readings(left_in(place)).values()
    found = {metric.name: metric for metric in reading.metrics}
    assert found["accuracy"].value == 0.75
    assert found["macro avg/f1-score"].direction is Direction.HIGHER
    assert found["1/support"].direction is None


def test_a_report_of_pytest_has_counts_and_numeric_properties(place: Path) -> None:
    (place / "test_it.py").write_text(TESTS)
    made_by(place, "", "-m", "pytest", "-p", "no:randomly", "--junitxml=junit.xml", "test_it.py", expected=1)
    reading = readings(left_in(place))["junit:junit.xml"]
    found = values(reading)
    assert found.pop("time") >= 0
    assert found == {
        "test_it.test_good/accuracy": 0.75,
        "tests": 2,
        "failures": 1,
        "errors": 0,
        "skipped": 0,
    }
