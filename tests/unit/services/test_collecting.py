"""What a stopped container left: kept, read, or said to be missing."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

import pytest

from orchestrator.adapters.collectors import format_readers
from orchestrator.domain.check import parse_check
from orchestrator.domain.collected import PlotKind
from orchestrator.domain.gate import Gate
from orchestrator.domain.pipeline import CollectSpec, Limits, MetricSpec, NamedImage, Pipeline, Resources
from orchestrator.domain.run import Reason, RunState
from orchestrator.ports.engine import ContainerSpec
from orchestrator.services.archive import CHECKOUT_TIME
from orchestrator.services.collect import Collected, OutputCollector, required_metrics
from tests.support.fake_engine import File, Script
from tests.unit.services.worlds import World, pipeline

OUT = "/mlci/output"
WORK = "/workspace"


def collect(world: World, of: Pipeline, files: dict[str, bytes], output: Sequence[bytes] = ()) -> Collected:
    spec = ContainerSpec("c", NamedImage("image:1").name, ("true",), {}, {}, "0:0", "/", Resources())
    world.engine.create(spec)
    world.engine.containers["c"].files = {path: File(content) for path, content in files.items()}
    return OutputCollector(world.blobs, format_readers()).collect(world.engine, "c", of, lambda: output)


def numbers(found: Collected) -> dict[str, float]:
    return {m.name: m.value for m in found.metrics}


def test_everything_in_the_output_folder_is_kept_and_declared_metrics_are_read(world: World) -> None:
    found = collect(
        world,
        pipeline(collect=("scores/*.json",)),
        {f"{OUT}/scores/a.json": b'{"accuracy": 0.9, "loss": {"test": 1}}', f"{OUT}/model.bin": b"\x00\x01"},
    )
    assert numbers(found) == {"accuracy": 0.9, "loss/test": 1.0}
    assert {a.path: a.kind for a in found.artifacts} == {"model.bin": "artifact", "scores/a.json": "metrics"}
    assert found.problem is None
    model = next(a for a in found.artifacts if a.path == "model.bin")
    with world.blobs.open(model.sha256) as stream:
        assert stream.read() == b"\x00\x01"


def test_declared_files_of_the_working_folder_are_kept_and_others_are_not(world: World) -> None:
    found = collect(
        world,
        pipeline(artifacts=("plots/*.png",)),
        {f"{WORK}/plots/roc.png": b"png", f"{WORK}/train.py": b"code", f"{WORK}/metrics.json": b'{"a": 1}'},
    )
    assert sorted(a.path for a in found.artifacts) == ["metrics.json", "plots/roc.png"]
    assert numbers(found) == {"a": 1.0}


def test_a_declared_file_that_is_missing_is_a_problem_that_names_what_is_there(world: World) -> None:
    found = collect(world, pipeline(collect=("metrics.json",)), {f"{OUT}/result.json": b"{}"})
    assert found.problem is not None
    reason, message = found.problem
    assert reason is Reason.MISSING_METRICS
    assert message == (
        "metrics.json was declared and is neither in the working folder nor in $MLCI_OUTPUT_DIR,"
        " which holds: result.json"
    )


def test_the_repositorys_own_metrics_file_is_never_taken_for_a_result(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("metrics.json")
        member.size, member.mtime = len(b'{"accuracy": 1}'), CHECKOUT_TIME
        tar.addfile(member, io.BytesIO(b'{"accuracy": 1}'))

    def get(name: str, path: str) -> io.BytesIO | None:
        return io.BytesIO(packed.getvalue()) if path == f"{WORK}/metrics.json" else None

    monkeypatch.setattr(world.engine, "get", get)
    monkeypatch.setattr(world.engine, "modified", lambda name, path: None)
    found = OutputCollector(world.blobs, format_readers()).collect(
        world.engine, "c", pipeline(collect=("metrics.json",))
    )
    assert found.metrics == []
    assert found.problem is not None
    assert found.problem[0] is Reason.MISSING_METRICS
    assert "this run did not write it" in found.problem[1]


def test_the_output_folder_wins_over_the_working_folder(world: World) -> None:
    files = {f"{OUT}/metrics.json": b'{"a": 1}', f"{WORK}/metrics.json": b'{"a": 2}'}
    assert numbers(collect(world, pipeline(), files)) == {"a": 1.0}


def test_not_a_number_is_kept_as_such(world: World) -> None:
    found = collect(world, pipeline(collect=("m.json",)), {f"{OUT}/m.json": b'{"a": NaN, "b": -Infinity}'})
    assert math.isnan(numbers(found)["a"])
    assert numbers(found)["b"] == -math.inf
    assert found.problem is None


def test_a_declared_file_that_is_no_json_is_a_problem(world: World) -> None:
    found = collect(world, pipeline(collect=("m.json",)), {f"{OUT}/m.json": b"accuracy: 1"})
    assert found.problem is not None
    assert found.problem[0] is Reason.INVALID_METRICS
    assert "m.json:1:1" in found.problem[1]


def test_an_undeclared_file_that_cannot_be_read_is_a_warning(world: World) -> None:
    found = collect(world, pipeline(), {f"{OUT}/metrics.json": b""})
    assert found.problem is None
    assert found.warnings == [
        'metrics.json: the file is empty; expected an object of named numbers such as {"accuracy": 0.93}'
    ]


def test_a_format_that_no_reader_knows_is_kept_with_a_warning(world: World) -> None:
    found = collect(world, pipeline(collect=("m.xyz",)), {f"{OUT}/m.xyz": b"?"})
    assert [a.path for a in found.artifacts] == ["m.xyz"]
    assert found.warnings == ["m.xyz: no reader knows this format; it is kept as a file"]


def test_metrics_that_were_declared_or_are_judged_must_be_there(world: World) -> None:
    judged = pipeline(
        metrics=(MetricSpec("f1"),), gate=Gate((parse_check("accuracy >= 0.5"), parse_check("f1 >= 0.5")))
    )
    assert required_metrics(judged) == ["f1", "accuracy"]
    found = collect(world, judged, {f"{OUT}/metrics.json": b'{"loss": 1}'})
    assert found.problem == (
        Reason.MISSING_METRICS,
        "metric f1, accuracy was declared and is not there; the metrics are: loss",
    )


def test_an_attempt_that_left_nothing_and_owes_nothing_is_fine(world: World) -> None:
    found = collect(world, pipeline(), {})
    assert (found.metrics, found.artifacts, found.problem) == ([], [], None)


TOO_MUCH = (
    "with its 8 bytes the 8 kept would be more than all files together may have"
    " (15, storage.limits.total_size)"
)


def test_what_exceeds_a_limit_is_listed_and_not_kept(world: World) -> None:
    limits = Limits(files=2, file_size=10, total_size=15)
    files = {
        f"{OUT}/a": b"1" * 8,
        f"{OUT}/b": b"1" * 11,
        f"{OUT}/c": b"1" * 8,
        f"{OUT}/d": b"1",
        f"{OUT}/e": b"1",
    }
    found = collect(world, pipeline(limits=limits), files)
    assert [a.path for a in found.artifacts] == ["a", "d"]
    assert found.left_out == [
        "b: its 11 bytes are more than one file may have (10, storage.limits.file_size)",
        f"c: {TOO_MUCH}",
        "e: there are more than 2 files, storage.limits.files",
    ]


def test_a_declared_artifact_that_exceeds_a_limit_is_a_warning(world: World) -> None:
    files = {f"{OUT}/model.bin": b"1" * 11, f"{OUT}/noise.bin": b"1" * 11}
    limited = pipeline(limits=Limits(file_size=10), artifacts=("model.*",))
    found = collect(world, limited, files)
    (warning,) = found.warnings
    assert warning.startswith("model.bin is declared under artifacts and was not kept: its 11 bytes")


def test_the_limits_hold_over_all_folders_together(world: World) -> None:
    files = {f"{OUT}/a": b"1" * 8, "/workspace/b": b"1" * 8, "/workspace/c": b"1"}
    found = collect(world, pipeline(limits=Limits(files=2, total_size=15), artifacts=("b", "c")), files)
    assert [a.path for a in found.artifacts] == ["a", "c"]
    assert found.left_out == [
        f"b: {TOO_MUCH}",
    ]


def test_links_and_names_that_climb_are_listed_and_never_followed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        link = tarfile.TarInfo("output/metrics.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        climbing = tarfile.TarInfo("output/../../etc/cron.d/x")
        climbing.size = 1
        tar.addfile(climbing, io.BytesIO(b"x"))

    def get(name: str, path: str) -> io.BytesIO | None:
        return io.BytesIO(packed.getvalue()) if path == OUT else None

    monkeypatch.setattr(world.engine, "get", get)
    monkeypatch.setattr(world.engine, "modified", lambda name, path: None)
    found = OutputCollector(world.blobs, format_readers()).collect(world.engine, "c", pipeline())
    assert found.artifacts == []
    assert len(found.left_out) == 2


def test_declared_metrics_that_are_too_large_to_read_are_not_called_missing(world: World) -> None:
    files = {f"{OUT}/m.json": b" " * (33 << 20), f"{OUT}/n.json": b'{"accuracy": 0.9}'}
    found = collect(world, pipeline(collect=("*.json",)), files)
    assert found.problem is not None
    assert found.problem[0] is Reason.INVALID_METRICS
    assert found.problem[1].startswith("m.json: it has 34603008 bytes, and a file of this kind may have")
    assert [a.path for a in found.artifacts] == ["m.json", "n.json"]


def test_undeclared_metrics_that_are_too_large_to_read_are_a_warning(world: World) -> None:
    found = collect(world, pipeline(), {f"{OUT}/metrics.json": b" " * (33 << 20)})
    assert found.problem is None
    (warning,) = found.warnings
    assert warning.startswith("metrics.json: it has 34603008 bytes")


def test_of_more_metrics_than_fit_those_judged_are_kept_and_the_others_listed(
    world: World,
) -> None:
    numbers_of = {name: json.dumps({f"{name}{n}": n for n in range(20)}).encode() for name in "ab"}
    files = {f"{OUT}/{name}.json": content for name, content in numbers_of.items()}
    judged = Gate((parse_check("b19 >= 0.5"),))
    few = pipeline(collect=("*.json",), limits=Limits(metrics=30), gate=judged)
    found = collect(world, few, files)
    assert len(found.metrics) == 30
    assert numbers(found)["b19"] == 19
    assert found.left_out[-1] == "metric b18 of b.json: there are more than 30, storage.limits.metrics"
    assert found.problem is None


def test_names_for_messages_are_counted_and_not_all_kept(world: World) -> None:
    found = collect(world, pipeline(collect=("no.json",)), {f"{OUT}/{n:03}": b"" for n in range(300)})
    assert len(found.seen) == 10
    assert found.problem is not None
    assert found.problem[1].endswith("008, 009 and 290 more")


def test_declared_metrics_beyond_a_limit_are_not_called_missing(world: World) -> None:
    limited = pipeline(collect=("m.json",), limits=Limits(file_size=10))
    found = collect(world, limited, {f"{OUT}/m.json": b'{"accuracy": 0.9}'})
    assert found.problem == (
        Reason.INVALID_METRICS,
        "m.json was not read: its 17 bytes are more than one file may have (10, storage.limits.file_size)",
    )


def test_an_output_folder_that_nothing_was_written_to_is_not_fetched(world: World) -> None:
    world.engine.script(Script(files={f"{WORK}/metrics.json": b'{"accuracy": 0.9}'}))
    paths: list[str] = []
    get = world.engine.get

    def noting(name: str, path: str) -> BinaryIO | None:
        paths.append(path)
        return get(name, path)

    world.engine.get = noting  # type: ignore[method-assign]
    run = world.finish(world.first_run(pipeline(collect=("metrics.json",))), world.server())
    assert run.state is RunState.PASSED
    assert paths == [f"{WORK}/metrics.json"]


def test_an_output_folder_that_was_written_to_is_fetched(world: World) -> None:
    world.engine.script(Script(files={f"{OUT}/metrics.json": b'{"accuracy": 0.9}'}))
    run = world.finish(world.first_run(pipeline(collect=("metrics.json",))), world.server())
    assert [m.value for m in world.store.runs.metrics(run.id)[0]] == [0.9]


def test_files_named_one_by_one_keep_their_folders(world: World) -> None:
    files = {f"{WORK}/out/m.json": b'{"a": 1}', f"{WORK}/out/n.json": b'{"b": 2}', f"{WORK}/out/x": b"x"}
    found = collect(world, pipeline(collect=("out/m.json", "./out/n.json")), files)
    assert numbers(found) == {"a": 1.0, "b": 2.0}
    assert [a.path for a in found.artifacts] == ["out/m.json", "out/n.json"]


def test_what_training_libraries_write_is_found_in_the_working_folder(
    world: World,
) -> None:
    files = {
        f"{WORK}/dvclive/metrics.json": b'{"accuracy": 0.9, "step": 1}',
        f"{WORK}/dvclive/params.yaml": b"lr: 0.1\n",
        f"{WORK}/dvclive/plots/metrics/accuracy.tsv": b"step\taccuracy\n0\t0.5\n1\t0.9\n",
        f"{WORK}/dvclive/plots/images/roc.png": b"png",
        f"{WORK}/lightning_logs/version_0/metrics.csv": b"epoch,step,loss\n0,1,0.5\n1,2,0.25\n",
        f"{WORK}/train.py": b"code",
    }
    found = collect(world, pipeline(gate=Gate((parse_check("accuracy >= 0.5"),))), files)
    assert found.problem is None
    assert numbers(found)["accuracy"] == 0.9
    assert numbers(found)["loss"] == 0.25
    assert [(p.name, p.text) for p in found.params] == [("lr", "0.1")]
    assert {each.facts.name: each.facts.points for each in found.series}["accuracy"] == 2
    assert [(p.path, p.kind) for p in found.plots] == [("dvclive/plots/images/roc.png", PlotKind.IMAGE)]
    kinds = {artifact.path: artifact.kind for artifact in found.artifacts}
    assert kinds["dvclive/plots/images/roc.png"] == "artifact"
    assert kinds["dvclive/metrics.json"] == "metrics"
    assert "train.py" not in kinds


def test_with_declared_files_nothing_else_of_the_working_folder_is_looked_at(world: World) -> None:
    files = {f"{WORK}/m.json": b'{"a": 1}', f"{WORK}/metrics.json": b'{"b": 2}'}
    assert numbers(collect(world, pipeline(collect=("m.json",)), files)) == {"a": 1.0}


def test_a_pattern_reads_a_text_file(world: World) -> None:
    of = pipeline(
        collect=("log.txt",), readings=(CollectSpec("log.txt", r"Accuracy:\s+(?P<accuracy>[0-9.]+)"),)
    )
    found = collect(world, of, {f"{WORK}/log.txt": b"Accuracy: 0.8\nAccuracy: 0.9\n"})
    assert (numbers(found), found.problem) == ({"accuracy": 0.9}, None)
    assert [a.kind for a in found.artifacts] == ["metrics"]
    nothing = collect(world, of, {f"{WORK}/log.txt": b"no numbers\n"})
    assert nothing.problem is not None
    assert nothing.problem[0] is Reason.INVALID_METRICS
    assert nothing.problem[1].startswith("log.txt: ")


def test_a_named_format_reads_a_file_whatever_it_is_called(world: World) -> None:
    of = pipeline(collect=("scores",), readings=(CollectSpec("scores", format="csv"),))
    assert numbers(collect(world, of, {f"{OUT}/scores": b"step,loss\n1,0.5\n2,0.25\n"}))["loss"] == 0.25


def printing(world: World, of: Pipeline, output: bytes, files: dict[str, bytes] | None = None) -> Collected:
    return collect(world, of, files or {}, output.splitlines())


def test_judged_metrics_are_found_in_plain_prints_when_no_file_has_them(world: World) -> None:
    judged = Gate((parse_check("accuracy >= 0.5"), parse_check("loss <= 1")))
    output = b"epoch 1\naccuracy: 0.8\nother: 3\naccuracy: 0.9\n"
    files = {f"{OUT}/metrics.json": b'{"loss": 0.25}'}
    found = printing(world, pipeline(gate=judged), output, files)
    assert found.problem is None
    assert {m.name: (m.value, m.source) for m in found.metrics} == {
        "loss": (0.25, "metrics.json"),
        "accuracy": (0.9, "output"),
    }


def test_the_output_is_not_read_when_files_have_all_that_is_needed(world: World) -> None:
    def refuse() -> Iterator[bytes]:
        raise AssertionError("the output was read")

    spec = ContainerSpec("c", "image:1", ("true",), {}, {}, "0:0", "/", Resources())
    world.engine.create(spec)
    world.engine.containers["c"].files = {f"{OUT}/metrics.json": File(b'{"accuracy": 1}')}
    of = pipeline(gate=Gate((parse_check("accuracy >= 0.5"),)))
    found = OutputCollector(world.blobs, format_readers()).collect(world.engine, "c", of, refuse)
    assert found.problem is None


def test_a_declared_pattern_finds_metrics_and_series_in_the_output(world: World) -> None:
    of = pipeline(readings=(CollectSpec("", r"epoch (?P<step>\d+): loss (?P<loss>\S+)"),))
    found = printing(world, of, b"epoch 1: loss 0.5\nepoch 2: loss 0.25\n")
    assert numbers(found) == {"loss": 0.25}
    assert [(each.facts.name, each.facts.points) for each in found.series] == [("loss", 2)]


def test_json_lines_of_the_output_are_read_when_declared(world: World) -> None:
    found = printing(world, pipeline(readings=(CollectSpec(),)), b'starting\n{"loss": 0.5}\n{"loss": 0.25}\n')
    assert numbers(found) == {"loss": 0.25}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            CollectSpec("", r"loss (?P<loss>\S+)"),
            r"no line of the output fits the declared pattern loss (?P<loss>\S+)",
        ),
        (
            CollectSpec(),
            "the output was declared to hold metrics, and no line of it is a JSON object with numbers",
        ),
    ],
)
def test_a_declared_output_without_metrics_is_a_problem(world: World, spec: CollectSpec, says: str) -> None:
    found = printing(world, pipeline(readings=(spec,)), b"hello\n")
    assert found.problem == (Reason.MISSING_METRICS, says)


def test_a_judged_metric_with_different_values_in_two_files_is_a_problem(world: World) -> None:
    files = {
        f"{OUT}/metrics.json": b'{"accuracy": 0.9}',
        f"{OUT}/dvclive/metrics.json": b'{"accuracy": 0.8}',
    }
    found = collect(world, pipeline(gate=Gate((parse_check("accuracy >= 0.5"),))), files)
    assert found.problem is not None
    assert found.problem[0] is Reason.INVALID_METRICS
    assert found.problem[1].startswith("accuracy is 0.8 in dvclive/metrics.json and 0.9 in metrics.json:")
    declared = pipeline(collect=("metrics.json",), gate=Gate((parse_check("accuracy >= 0.5"),)))
    clear = collect(world, declared, files)
    assert clear.problem is None
    assert numbers(clear)["accuracy"] == 0.9
    told = "accuracy is 0.9 in metrics.json and 0.8 in dvclive/metrics.json, which is not declared"
    assert clear.warnings == [f"{told}: the first counts"]


def test_files_that_a_dvc_yaml_names_are_fetched_and_read(world: World) -> None:
    files = {
        f"{WORK}/dvc.yaml": b"metrics:\n  - eval/scores.json\n",
        f"{WORK}/eval/scores.json": b'{"auc": 0.7}',
        f"{WORK}/eval/other.json": b'{"x": 1}',
    }
    assert numbers(collect(world, pipeline(), files)) == {"auc": 0.7}


def test_a_layout_of_the_repositorys_own_is_no_result(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content, mtime in (
            ("dvclive/metrics.json", b'{"accuracy": 1}', CHECKOUT_TIME),
            ("dvclive/params.yaml", b"lr: 3\n", CHECKOUT_TIME + 9),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), mtime
            tar.addfile(member, io.BytesIO(content))

    def get(name: str, path: str) -> io.BytesIO | None:
        return io.BytesIO(packed.getvalue()) if path == f"{WORK}/dvclive" else None

    monkeypatch.setattr(world.engine, "get", get)
    monkeypatch.setattr(world.engine, "modified", lambda name, path: None)
    found = OutputCollector(world.blobs, format_readers()).collect(world.engine, "c", pipeline())
    assert found.metrics == []
    assert [p.text for p in found.params] == ["3"]
    assert [a.path for a in found.artifacts] == ["dvclive/params.yaml"]


def noting(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the engine is asked for, as they come."""
    asked: list[str] = []
    get = world.engine.get

    def noted(name: str, path: str) -> AbstractContextManager[BinaryIO] | None:
        asked.append(path)
        return get(name, path)

    monkeypatch.setattr(world.engine, "get", noted)
    return asked


def test_a_dvc_yaml_cannot_lead_out_of_the_folder_or_ask_for_a_thousand_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = noting(world, monkeypatch)
    names = [
        "../secret.json",
        "/etc/passwd",
        "a/../../b.json",
        "./c.json",
        *(f"n{n}.json" for n in range(999)),
    ]
    content = "metrics:\n" + "".join(f"  - {name}\n" for name in names)
    found = collect(world, pipeline(), {f"{OUT}/dvc.yaml": content.encode()})
    assert not [path for path in asked if ".." in path or path.endswith("passwd")]
    assert len([path for path in asked if path.startswith(f"{WORK}/n")]) <= 100
    assert any("more than 100 files of metrics are named by other files" in each for each in found.left_out)


def test_layouts_come_with_the_folder_where_it_is_fetched_anyway(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = noting(world, monkeypatch)
    files = {f"{WORK}/metrics.json": b'{"a": 1}', f"{WORK}/model.bin": b"m", f"{WORK}/x.txt": b"x"}
    found = collect(world, pipeline(artifacts=("model.*",)), files)
    assert asked == [OUT, WORK]
    assert sorted(artifact.path for artifact in found.artifacts) == ["metrics.json", "model.bin"]
    assert numbers(found) == {"a": 1.0}
