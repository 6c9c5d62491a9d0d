"""Files of tools and training libraries, by their documented layouts.

The libraries that are small enough write their own in tests/integration/collect; here stand the layouts of
those that are not (Lightning, transformers, Ultralytics, lm-eval), and what may be wrong with any of them.
"""

from __future__ import annotations

import json

import pytest

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.domain.collected import PlotKind
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Direction
from tests.support.left_files import curve, left, reading_of, readings, values

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def test_lightnings_sparse_rows_are_series_of_the_values_that_are_there() -> None:
    table = b"epoch,step,train_loss,val_acc\n0,49,0.9,\n0,99,,0.5\n1,149,0.7,\n1,199,,0.6\n"
    files = left(
        {
            "lightning_logs/version_0/metrics.csv": table,
            "lightning_logs/version_0/hparams.yaml": b"lr: 0.001\nlayers:\n- 3\n- 4\n",
        }
    )
    (reading,) = readings(files).values()
    assert values(reading) == {"train_loss": 0.7, "val_acc": 0.6}
    assert curve(reading, "val_acc") == [(99, 0.5), (199, 0.6)]
    assert [(p.name, p.text) for p in reading.params] == [("lr", "0.001"), ("layers", "[3, 4]")]


def test_of_several_versions_each_has_names_of_its_own() -> None:
    files = left({f"logs/version_{n}/metrics.csv": b"step,loss\n0,%d\n" % n for n in (0, 1)})
    (reading,) = readings(files).values()
    assert values(reading) == {"version_0/loss": 0, "version_1/loss": 1}


def test_hyperparameters_that_are_python_objects_are_a_warning() -> None:
    files = left(
        {
            "lightning_logs/version_0/metrics.csv": b"step,loss\n0,1\n",
            "lightning_logs/version_0/hparams.yaml": b"model: !!python/object/apply:os.system ['touch x']\n",
        }
    )
    (reading,) = readings(files).values()
    assert values(reading) == {"loss": 1}
    assert [(p.name, p.text) for p in reading.params] == [("model", '["touch x"]')]


HISTORY = {
    "best_metric": 0.8,
    "epoch": 2.0,
    "global_step": 20,
    "log_history": [
        {"epoch": 1.0, "loss": 0.9, "learning_rate": 5e-5, "step": 10},
        {"epoch": 1.0, "eval_accuracy": 0.7, "step": 10},
        {"epoch": 2.0, "loss": 0.4, "learning_rate": 0.0, "step": 20},
        {"epoch": 2.0, "eval_accuracy": 0.8, "step": 20},
    ],
}


def test_the_trainers_results_and_history_are_one_reading() -> None:
    older = HISTORY | {"log_history": HISTORY["log_history"][:2]}  # type: ignore[index]
    files = left(
        {
            "out/eval_results.json": json.dumps({"epoch": 2.0, "eval_accuracy": 0.8}).encode(),
            "out/all_results.json": json.dumps(
                {"epoch": 2.0, "eval_accuracy": 0.8, "train_runtime": 3}
            ).encode(),
            "out/trainer_state.json": json.dumps(HISTORY).encode(),
            "out/checkpoint-10/trainer_state.json": json.dumps(older).encode(),
        }
    )
    (reading,) = readings(files).values()
    assert values(reading) == {
        "loss": 0.4,
        "learning_rate": 0.0,
        "eval_accuracy": 0.8,
        "best_metric": 0.8,
        "train_runtime": 3,
    }
    assert curve(reading, "loss") == [(10, 0.9), (20, 0.4)]


def test_without_a_final_state_that_of_the_last_checkpoint_counts() -> None:
    def state(loss: float) -> bytes:
        return json.dumps({"log_history": [{"loss": loss, "step": 1}]}).encode()

    files = left({f"out/checkpoint-{n}/trainer_state.json": state(n) for n in (9, 10)})
    (reading,) = readings(files).values()
    assert values(reading) == {"loss": 10}


def test_ultralytics_headers_are_stripped_and_its_pictures_are_plots() -> None:
    table = (
        b"   epoch,     time,  train/box_loss,  metrics/mAP50(B)\n  1, 3.1,  1.5,  0.4\n  2, 6.2,  1.2, 0.5\n"
    )
    home = "runs/detect/train"
    files = left(
        {
            f"{home}/results.csv": table,
            f"{home}/args.yaml": b"task: detect\nlr0: 0.01\n",
            f"{home}/results.png": PNG,
        }
    )
    (reading,) = readings(files).values()
    assert values(reading) == {"train/box_loss": 1.2, "metrics/mAP50(B)": 0.5}
    assert curve(reading, "train/box_loss") == [(1, 1.5), (2, 1.2)]
    assert {p.name: p.text for p in reading.params} == {"task": "detect", "lr0": "0.01"}
    assert [(p.path, p.kind) for p in reading.plots] == [(f"{home}/results.png", PlotKind.IMAGE)]


def test_lm_eval_tells_direction_and_standard_error() -> None:
    document = {
        "results": {
            "arc": {"alias": "arc", "acc,none": 0.4, "acc_stderr,none": 0.01, "acc_norm,flexible": 0.5},
            "wikitext": {"word_perplexity,none": 12.5, "word_perplexity_stderr,none": "N/A"},
        },
        "higher_is_better": {"arc": {"acc": True, "acc_norm": True}, "wikitext": {"word_perplexity": False}},
        "n-shot": {"arc": 5},
        "model_name": "tiny",
    }
    (reading,) = readings(left({"results_2026-01-01.json": json.dumps(document).encode()})).values()
    found = {metric.name: metric for metric in reading.metrics}
    assert found["arc/acc"].stderr == 0.01
    assert found["arc/acc"].direction is Direction.HIGHER
    assert found["arc/acc_norm,flexible"].value == 0.5
    assert found["wikitext/word_perplexity"].direction is Direction.LOWER
    assert found["wikitext/word_perplexity"].stderr is None
    assert {p.name: p.text for p in reading.params} == {"n-shot/arc": "5", "model": "tiny"}


def test_benchers_format_has_a_metric_for_each_measure() -> None:
    document = {"predict": {"latency": {"value": 4.5, "lower_value": 4.0, "upper_value": 5.0}}}
    (reading,) = readings(left({"bmf.json": json.dumps(document).encode()})).values()
    assert values(reading) == {
        "predict/latency": 4.5,
        "predict/latency/lower_value": 4.0,
        "predict/latency/upper_value": 5.0,
    }
    assert reading.metrics[0].direction is Direction.LOWER


def test_benchmarks_of_pytest_are_in_seconds_with_their_standard_error() -> None:
    stats = {"min": 1.0, "max": 3.0, "mean": 2.0, "stddev": 0.5, "rounds": 25, "median": 2.0, "ops": 0.5}
    document = {
        "machine_info": {},
        "benchmarks": [{"name": "test_fast", "stats": stats, "extra_info": {"rows": 7}}],
    }
    (reading,) = readings(left({"benchmark.json": json.dumps(document).encode()})).values()
    mean = next(metric for metric in reading.metrics if metric.name == "test_fast/mean")
    assert (mean.value, mean.stderr, mean.unit, mean.direction) == (2.0, 0.1, "s", Direction.LOWER)
    assert values(reading)["test_fast/rows"] == 7


def test_a_report_with_a_document_type_is_refused() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite>&b;</testsuite>'
    with pytest.raises(InvalidInput, match="it has a document type"):
        reading_of("junit.xml", bomb)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<html/>", "its root is <html>"),
        (b"<testsuite><a", "not XML"),
        (b"\xff\xfe", "not XML"),
    ],
)
def test_xml_that_is_no_report_says_what_it_is(content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        reading_of("junit.xml", content)


def test_plots_are_shown_by_what_they_are_and_a_false_picture_is_a_warning() -> None:
    files = left(
        {"a.png": PNG, "b.svg": b"<svg/>", "c.vl.json": b"{}", "d.jpg": b"MZ not a picture", "e.gif": b""}
    )
    (reading,) = readings(files).values()
    assert [(plot.path, plot.kind) for plot in reading.plots] == [
        ("a.png", PlotKind.IMAGE),
        ("b.svg", PlotKind.ACTIVE),
        ("c.vl.json", PlotKind.VEGA),
    ]
    assert reading.warnings == (
        "d.jpg: it is no jpg, and is not shown",
        "e.gif: the file is empty, and is not shown",
    )


def test_dvc_yaml_names_metrics_and_how_plots_are_drawn_but_nothing_outside() -> None:
    document = b"""
metrics: [eval/metrics.json, ../../etc/passwd]
stages:
  train:
    cmd: python train.py
    metrics: [{summary.yaml: {cache: false}}]
    plots: [{curve.csv: {x: step, y: loss, template: smooth}}]
plots:
- eval/pictures
- ROC: {x: fpr, y: {eval/roc.json: tpr}, title: The curve}
- /etc/shadow.csv
"""
    files = left({"dvc.yaml": document})
    assert FormatReaders().named_by(files["dvc.yaml"]) == ("eval/metrics.json", "summary.yaml")
    plots = {plot.path: dict(plot.hints) for plot in readings(files)["dvc.yaml:dvc.yaml"].plots}
    assert plots == {
        "eval/roc.json": {"x": "fpr", "title": "The curve", "y": "tpr"},
        "curve.csv": {"x": "step", "y": "loss", "template": "smooth"},
    }


def test_files_of_one_layout_are_one_claim_and_no_file_is_read_twice() -> None:
    paths = [
        "dvclive/metrics.json",
        "dvclive/plots/metrics/train/loss.tsv",
        "dvclive/plots/images/a.png",
        "mlflow.db",
        "mlflow.db-wal",
        "mlruns/0/ab/metrics/loss",
        "mlruns/0/ab/artifacts/model.pkl",
        "logs/train/events.out.tfevents.1.h",
        "logs/validation/events.out.tfevents.2.h",
        "metrics.json",
        "model.pkl",
        "scores.json",
    ]
    claims = FormatReaders().claims(paths, lambda path: path == "scores.json")
    assert [(claim.reader, claim.paths, claim.declared) for claim in claims] == [
        ("dvclive:dvclive", tuple(sorted(paths[:3])), False),
        ("mlflow-db:mlflow.db", ("mlflow.db", "mlflow.db-wal"), False),
        ("mlflow-files:mlruns", ("mlruns/0/ab/metrics/loss",), False),
        ("tensorboard:", (paths[7], paths[8]), False),
        ("metrics:metrics.json", ("metrics.json",), False),
        ("file:scores.json", ("scores.json",), True),
    ]
