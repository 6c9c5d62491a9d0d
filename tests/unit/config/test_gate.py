"""Gates as people write them, and as the domain judges them."""

from pathlib import Path

from orchestrator.bootstrap.configured import pipeline_of
from orchestrator.config.load import load
from orchestrator.domain.baseline import Selector, SelectorKind
from orchestrator.domain.check import Claim, Comparison, Margin, Operator, Test, Threshold
from orchestrator.domain.gate import Drift, Gate, Holdout, HoldoutMode, OnInconclusive, Require
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import MetricSpec, Pipeline, Scale

PIPELINE = """
pipeline: wine
source: {git: "https://example.org/wine.git"}
run: {runner: cpu, command: python train.py}
artifacts: [model.pkl]
"""
WHOLE = (
    PIPELINE
    + """
datasets:
  test-v3: {path: data, role: evaluation}
baselines:
  main:     {select: "branch:main", replicates: 8}
  deployed: {select: last_deployed, replicates: 8}
metrics:
  accuracy:   {direction: higher, predictions: preds.csv, id: row_id}
  latency_ms: {direction: lower, scale: log_ratio}
gate:
  alpha: 0.01
  correction: none
  on_inconclusive: manual
  require: any
  checks:
    - {metric: accuracy, threshold: 0, test: replicates, alpha: 0.1}
    - {metric: accuracy, vs: deployed, claim: non_inferior, margin: 0.005}
    - {metric: accuracy, vs: best, claim: superior, min_gain: 0.5pp}
    - {metric: latency_ms, vs: main, claim: no_regression, margin: 5%}
    - {metric: accuracy, vs: deployed, claim: non_inferior, margin: 0.01, test: paired_rows, slices: country}
    - accuracy proven not worse than deployed by 1pp
holdout: {dataset: test-v3, mode: none, max_uses: 100, delta: 0.05, on_exhausted: fail}
drift: {metrics: [accuracy], max_pvalue: 0.001, min_magnitude: 0.5%, action: warn}
"""
)


def read(folder: Path, text: str) -> Pipeline:
    put(folder, "runners/cpu.yaml", "runner: cpu\nimage: python:3.11\n")
    put(folder, "pipelines/wine.yaml", text)
    put(folder, "orchestrator.yaml", "hosts: {here: {engine: unix:///var/run/docker.sock}}\n")
    loaded = load(folder, check_paths=False)
    assert loaded.configuration is not None, [str(problem) for problem in loaded.problems]
    return pipeline_of(loaded.configuration, loaded.configuration.pipelines["wine"])


def put(folder: Path, name: str, text: str) -> None:
    place = folder / name
    place.parent.mkdir(exist_ok=True, parents=True)
    place.write_text(text)


def test_a_whole_gate_reaches_the_domain_as_it_was_written(tmp_path: Path) -> None:
    pipeline = read(tmp_path, WHOLE)
    deployed = Selector(SelectorKind.NAMED, "deployed")
    assert pipeline.gate == Gate(
        (
            Threshold("accuracy", Operator.AT_LEAST, 0.0, test=Test.REPLICATES, alpha=0.1),
            Comparison("accuracy", deployed, Claim.NON_INFERIOR, Margin(0.005)),
            Comparison("accuracy", Selector(SelectorKind.BEST), Claim.SUPERIOR, Margin(0.005, points=True)),
            Comparison(
                "latency_ms",
                Selector(SelectorKind.NAMED, "main"),
                Claim.NO_REGRESSION,
                Margin(0.05, relative=True),
            ),
            Comparison(
                "accuracy",
                deployed,
                Claim.NON_INFERIOR,
                Margin(0.01),
                test=Test.PAIRED_ROWS,
                slices="country",
            ),
            Comparison("accuracy", deployed, Claim.NON_INFERIOR, Margin(0.01, points=True)),
        ),
        OnInconclusive.MANUAL,
        alpha=0.01,
        holm=False,
        require=Require.ANY,
        holdout=Holdout("test-v3", HoldoutMode.NONE, 100, 0.05, OnInconclusive.FAIL),
        drift=Drift(("accuracy",), 0.001, Margin(0.005, relative=True)),
    )
    assert pipeline.metrics == (
        MetricSpec("accuracy", Direction.HIGHER, "", Scale.LINEAR, "preds.csv", "row_id"),
        MetricSpec("latency_ms", Direction.LOWER, "", Scale.LOG_RATIO, "", ""),
    )


def test_predictions_are_kept_without_being_named_twice(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE).artifacts == ("model.pkl", "preds.csv")


def test_a_gate_of_which_nothing_is_said_has_plain_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, PIPELINE).gate == Gate()
