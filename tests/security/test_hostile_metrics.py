"""Files of metrics are data, whatever they hold: nothing is unpickled, made or run, and none costs much."""

from __future__ import annotations

import gzip
import pickle
import time
import tracemalloc
from pathlib import Path

import pytest

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.domain.errors import InvalidInput
from tests.support.left_files import left, reading_of, readings

NAMES = (
    "metrics.json",
    "metrics.yaml",
    "metrics.toml",
    "metrics.csv",
    "metrics.tsv",
    "metrics.jsonl",
    "mlflow.db",
    "junit.xml",
    "events.out.tfevents.1.host",
    "results_1.json",
    "dvclive/metrics.json",
    "dvclive/params.yaml",
    "lightning_logs/version_0/metrics.csv",
    "mlruns/0/a/metrics/x",
    "mlruns/0/a/meta.yaml",
    "dvc.yaml",
    "trainer_state.json",
    "results.csv",
)


def test_a_name_that_stands_twice_among_very_many_is_found_at_once() -> None:
    names = ",".join(f'"m{number}": 1' for number in range(200_000))
    begun = time.process_time()
    assert "the name 'm0' appears twice" in outcome("metrics.json", f'{{{names}, "m0": 2}}'.encode())
    assert time.process_time() - begun < 5, "by comparing each with each, it takes minutes"


@pytest.mark.parametrize("letter", ["x", "\\u0001"])
def test_a_long_name_costs_its_length_once_whatever_is_below_it(letter: str) -> None:
    content = f'{{"{letter * 1_000_000}": [{",".join("1" * 100_000)}]}}'.encode()
    begun = time.process_time()
    assert outcome("metrics.json", content).startswith("refused: metrics.json: it holds more than")
    assert time.process_time() - begun < 10, "joined for each number, it takes hours"


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def outcome(name: str, content: bytes) -> str:
    """What comes of a file that is found by itself: a refusal, or warnings, or nothing."""
    try:
        return " ".join(str(reading) for reading in readings(left({name: content})).values())
    except InvalidInput as error:
        return f"refused: {error}"


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_under_any_name_is_never_unpickled(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    content = pickle.dumps(Payload(mark))
    pickle.loads(content)  # noqa: S301 - it does what it says
    assert mark.exists()
    mark.unlink()
    outcome(name, content)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["metrics.yaml", "dvclive/params.yaml", "dvc.yaml"])
def test_tags_of_yaml_make_no_objects(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "made"
    outcome(name, f"a: !!python/object/apply:os.mkdir [{mark}]\nmetrics: 1\n".encode())
    assert not mark.exists()


def test_models_are_no_metrics() -> None:
    readers = FormatReaders()
    for name in (
        "model.pkl",
        "model.joblib",
        "model.pt",
        "weights.npy",
        "data.npz",
        "a.zip",
        "a.tar.gz",
        "x.py",
    ):
        assert not readers.reads(name, declared=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_bomb_under_any_name_is_not_unpacked(name: str) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    outcome(name, bomb)  # imports what it needs
    tracemalloc.start()
    try:
        outcome(name, bomb)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.yaml", b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
            b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 9)) for n in range(97, 110)
        )),
        ("metrics.json", b"[" * 1_000_000),
        ("metrics.json", b'{"a":' * 300_000),
        ("metrics.yaml", b"[" * 1_000_000),
        ("metrics.yaml", b"{a: " * 100_000),
        ("metrics.yaml", b"- " * 100_000),
        ("metrics.toml", b"a = " + b"[" * 100_000),
        ("metrics.toml", b"a." * 50_000 + b"b = 1"),
        ("metrics.csv", b"a," * 1_000_000 + b"b\n"),
        ("metrics.csv", b'a\n"' + b"x" * 5_000_000),
        ("metrics.jsonl", b"1" * 5_000_000),
        ("junit.xml", b"<testsuite>" + b"<a>" * 200_000),
        ("events.out.tfevents.1.host", b"\xff" * 5_000_000),
        ("events.out.tfevents.1.host", b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_would_grow_or_nest_without_end_is_refused_at_once(name: str, content: bytes) -> None:
    began = time.process_time()
    assert outcome(name, content).startswith("refused")
    assert time.process_time() - began < 10


def test_texts_of_a_container_cannot_command_a_terminal() -> None:
    reading = reading_of("metrics.json", b'{"\\u001b[2Jacc\\u202e": 1}')
    assert [metric.name for metric in reading.metrics] == ["[2Jacc"]
