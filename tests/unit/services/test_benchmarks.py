"""A user's benchmark computes metrics from what a training left, in a container of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from orchestrator.domain.check import parse_check
from orchestrator.domain.errors import EngineUnavailable
from orchestrator.domain.gate import Gate
from orchestrator.domain.pipeline import Benchmark, Pipeline, Resources, RunnerSpec
from orchestrator.domain.run import Exit, Reason, Run, RunState
from orchestrator.ports.engine import ContainerSpec
from orchestrator.services import naming
from tests.support.fake_engine import File, Script
from tests.unit.services.worlds import World, pipeline

SCORED = Benchmark(("python", "score.py"), ("accuracy",), timeout=60)


def plan(**changes: object) -> Pipeline:
    gate = Gate((parse_check("accuracy >= 0.8"),))
    return pipeline(**{"gate": gate, "benchmark": SCORED} | changes)


def is_benchmark(spec: ContainerSpec) -> bool:
    return spec.labels[naming.ROLE_LABEL] == naming.BENCHMARK


class Bench:
    """A training that leaves a model, and a benchmark that says how good it is."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.given: dict[str, File] = {}
        self.spec: ContainerSpec | None = None
        self.starts = 0
        self.begun: Callable[[], None] = lambda: None
        begin = world.engine.start

        def start(name: str) -> None:
            container = world.engine.containers[name]
            if is_benchmark(container.spec):
                self.starts += 1
                self.given, self.spec = dict(container.files), container.spec
                self.begun()
            begin(name)

        monkeypatch.setattr(world.engine, "start", start)
        self.train({"model.txt": b"weights"})

    def train(self, files: Mapping[str, bytes]) -> None:
        there = {f"/mlci/output/{path}": content for path, content in files.items()}
        self.world.engine.script(Script((b"training",), Exit(0), there))

    def score(self, metrics: object = None, end: Exit | None = None, lines: tuple[bytes, ...] = ()) -> None:
        left = {} if metrics is None else {"/mlci/output/metrics.json": json.dumps(metrics).encode()}
        self.world.engine.script(Script(lines, end or Exit(0), left), is_benchmark)

    def run(self, planned: Pipeline | None = None) -> Run:
        return self.world.finish(self.world.first_run(planned or plan()), self.world.server())

    def values(self, run: Run) -> dict[str, tuple[float, str]]:
        return {m.name: (m.value, m.source) for m in self.world.store.runs.metrics(run.id)[0]}


@pytest.fixture
def bench(world: World, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(world, monkeypatch)


def test_its_score_is_judged_like_any_other_metric(bench: Bench) -> None:
    bench.score({"accuracy": 0.9})
    run = bench.run()
    assert run.state is RunState.PASSED
    assert bench.values(run) == {"accuracy": (0.9, "benchmark/metrics.json")}
    bench.score({"accuracy": 0.7})
    bench.world.sources.push("main", "worse")
    (worse,) = bench.world.detector.poll_source(plan(), plan().sources[0])
    assert bench.world.finish(worse, bench.world.server()).state is RunState.REJECTED


def test_it_has_the_artifacts_the_code_and_no_way_out(bench: Bench) -> None:
    bench.score({"accuracy": 0.9})
    limits = Resources(memory=1 << 30)
    bench.run(plan(runner=RunnerSpec("cpu", plan().runner.image, limits, uid=1234, gid=1234)))
    spec, given = bench.spec, bench.given
    assert spec is not None
    assert given["/mlci/artifacts/model.txt"].content == b"weights"
    assert given["/mlci/artifacts/model.txt"].uid == 1234
    assert any(path.startswith("/workspace/") for path in given)
    assert (spec.network, spec.user, spec.resources) == (None, "1234:1234", limits)
    assert spec.env["MLCI_ARTIFACTS"] == "/mlci/artifacts"
    assert spec.command == ("python", "score.py")


def test_it_has_no_secrets(bench: Bench) -> None:
    bench.world.secrets.values["TOKEN"] = "hunter2"
    bench.score({"accuracy": 0.9})
    secret = plan().execution
    run = bench.run(plan(execution=type(secret)(secret.command, secrets=("TOKEN",))))
    assert run.state is RunState.PASSED
    assert not any(b"hunter2" in (file.content or b"") for file in bench.given.values())


def test_it_counts_where_the_training_claims_the_same_metric(bench: Bench) -> None:
    bench.train({"metrics.json": b'{"accuracy": 0.99, "loss": 0.1}'})
    bench.score({"accuracy": 0.7})
    run = bench.run()
    assert run.state is RunState.REJECTED
    assert bench.values(run)["accuracy"] == (0.7, "benchmark/metrics.json")
    assert bench.values(run)["loss"][0] == 0.1
    (attempt,) = bench.world.store.attempts.of_run(run.id)
    assert "the benchmark's accuracy counts, not what the training says" in attempt.warnings


def test_what_it_leaves_besides_is_shown_as_its_own_and_in_place_of_the_trainings(bench: Bench) -> None:
    logs = "lightning_logs/version_0"
    written = b"step,loss\n1,0.5\n2,0.4\n"
    bench.train({f"{logs}/metrics.csv": written, f"{logs}/hparams.yaml": b"{depth: 3}"})
    metrics = {"/mlci/output/metrics.json": b'{"accuracy": 0.9}', f"/mlci/output/{logs}/metrics.csv": written}
    given = {f"/mlci/output/{logs}/hparams.yaml": b"{depth: 4}", "/mlci/output/roc.png": b"\x89PNG\r\n\x1a\n"}
    bench.world.engine.script(Script((), Exit(0), {**metrics, **given}), is_benchmark)
    run = bench.run()
    assert run.state is RunState.PASSED
    (attempt,) = bench.world.store.attempts.of_run(run.id)
    findings = bench.world.store.findings
    assert [(s.name, s.source) for s in findings.series_facts(attempt.id)] == [
        ("loss", f"benchmark/{logs}/metrics.csv")
    ]
    assert [(p.name, p.text) for p in findings.params(attempt.id)] == [("depth", "4")]
    assert [p.path for p in findings.plots(attempt.id)] == ["benchmark/roc.png"]


def test_a_training_cannot_put_a_file_in_the_place_of_its_score(bench: Bench) -> None:
    bench.train({"model.txt": b"weights", "benchmark/metrics.json": b'{"accuracy": 0.99}'})
    bench.score({"accuracy": 0.85})
    run = bench.run()
    assert run.state is RunState.PASSED
    assert bench.values(run)["accuracy"] == (0.85, "benchmark/metrics.json")
    (attempt,) = bench.world.store.attempts.of_run(run.id)
    kept = {a.path: a for a in bench.world.store.attempts.artifacts(attempt.id)}
    with bench.world.blobs.open(kept["benchmark/metrics.json"].sha256) as content:
        assert b"0.85" in content.read()
    told = "benchmark/metrics.json: the benchmark left a file of that name"
    assert told in bench.world.store.attempts.left_out(attempt.id)


def test_one_that_fails_fails_the_run_with_its_last_words(bench: Bench) -> None:
    bench.score(end=Exit(3), lines=(b"loading", b"ValueError: no model"))
    run = bench.run()
    assert (run.state, run.reason) == (RunState.FAILED, Reason.BENCHMARK)
    assert run.message == "the benchmark ended with exit code 3\nloading\nValueError: no model"
    (attempt,) = bench.world.store.attempts.of_run(run.id)
    assert bench.world.logs.tail(attempt.id, 9) == ("training", "loading", "ValueError: no model")


def test_one_that_leaves_no_such_metric_fails_the_run(bench: Bench) -> None:
    bench.score({"f1": 0.9})
    run = bench.run()
    assert (run.state, run.reason) == (RunState.FAILED, Reason.BENCHMARK)
    assert "metric accuracy was declared and is not there; the metrics are: f1" in run.message


def test_one_that_takes_too_long_is_stopped(bench: Bench) -> None:
    bench.world.engine.script(Script((), None), is_benchmark)
    run = bench.run()
    assert (run.state, run.reason) == (RunState.FAILED, Reason.BENCHMARK)
    assert run.message == "the benchmark was stopped after 60 s, its timeout"


def test_a_training_that_failed_has_no_benchmark(bench: Bench) -> None:
    bench.world.engine.script(Script((), Exit(1)))
    run = bench.run()
    assert (run.reason, bench.starts) == (Reason.EXIT_CODE, 0)


def test_nothing_of_it_is_left(bench: Bench) -> None:
    bench.score({"accuracy": 0.9})
    bench.run()
    roles = [c.labels.get(naming.ROLE_LABEL) for c in bench.world.engine.containers.values()]
    assert naming.BENCHMARK not in roles


def test_it_is_done_again_when_the_engine_was_away(bench: Bench) -> None:
    bench.score({"accuracy": 0.9})
    bench.world.engine.fail("put", EngineUnavailable("away"), after=1)
    run = bench.run()
    assert (run.state, bench.starts) == (RunState.PASSED, 1)


def test_a_cancelled_run_ends_its_benchmark(bench: Bench) -> None:
    bench.world.engine.script(Script((), None), is_benchmark)
    planned = plan(benchmark=Benchmark(("x",), ("accuracy",), timeout=1e9))
    run = bench.world.first_run(planned)

    def cancel() -> None:
        now = bench.world.clock.now()
        bench.world.store.runs.request_cancel(run.id, "ada", Reason.CANCELLED_BY_PERSON, now)

    bench.begun = cancel
    after = bench.world.finish(run, bench.world.server())
    assert (after.state, bench.starts) == (RunState.CANCELLED, 1)
    (attempt,) = bench.world.store.attempts.of_run(run.id)
    assert attempt.message == "cancelled during its benchmark"
