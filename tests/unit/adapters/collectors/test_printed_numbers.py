"""Numbers in texts and in a program's output."""

from __future__ import annotations

import time

import pytest

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import infer_direction
from tests.support.left_files import curve, left, values

READERS = FormatReaders()


def search(text: bytes, pattern: str) -> dict[str, float]:
    """What a pattern finds in a file."""
    return values(READERS.search(left({"metrics.txt": text})["metrics.txt"], pattern))


def printed(text: str, *wanted: str, pattern: str = "") -> dict[str, float]:
    """What a program's output holds."""
    return values(READERS.printed(text.encode().splitlines(), wanted, pattern))


def test_named_groups_of_a_pattern_are_metrics_and_all_matches_the_series() -> None:
    text = b"epoch 1: loss 0.5 Accuracy:  0.8\nepoch 2: loss 0.25 Accuracy: 0.9\n"
    pattern = r"epoch (?P<step>\d+): loss (?P<loss>\S+) Accuracy:\s+(?P<accuracy>[0-9.]+)"
    reading = READERS.search(left({"m.txt": text})["m.txt"], pattern)
    assert values(reading) == {"loss": 0.25, "accuracy": 0.9}
    assert curve(reading, "loss") == [(1, 0.5), (2, 0.25)]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(", "cannot be used"),
        (r"(?P<a>\d)(?=x)", "cannot be used"),
        (r"\d+", "has no named group"),
        (r"(?P<step>\d+)", "has no named group"),
        ("a" * 1001, "at most 1000"),
        (r"(?P<a>\w{1000}){1000}", "cannot be used"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        search(b"text", pattern)


@pytest.mark.parametrize(("text", "said"), [(b"", "the file is empty"), (b"loss 1", "nothing in it fits")])
def test_a_text_without_a_match_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        search(text, r"accuracy (?P<accuracy>\S+)")


def test_what_a_group_finds_and_is_no_number_is_a_warning() -> None:
    reading = READERS.search(left({"m.txt": b"acc 0.5\nacc high\n"})["m.txt"], r"acc (?P<acc>\S+)")
    assert values(reading) == {"acc": 0.5}
    assert reading.warnings == ("m.txt: 'high' was found for acc and is no number",)


def test_an_expression_that_would_take_for_ever_takes_its_time_by_the_text_alone() -> None:
    began = time.process_time()
    with pytest.raises(InvalidInput, match="nothing in it fits"):
        search(b"a" * 5000 + b"!", r"^(?P<x>(a+)+)$")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("accuracy: 0.93", 0.93),
        ("Accuracy = 0.93", 0.93),
        ("Test accuracy 0.93", 0.93),
        ("val done, accuracy=0.93, loss=0.1", 0.93),
        ("Final accuracy is 93.0%", 0.93),
        ("accuracy: 93 %.", 0.93),
        ("accuracy: 9.3e-1", 0.93),
        ("accuracy: 0.5 -> accuracy: 0.93.", 0.93),
        ("\x1b[32maccuracy: 0.93\x1b[0m", 0.93),
        ("step 1 accuracy: 0.1\rstep 2 accuracy: 0.93", 0.93),
        ("{'accuracy': 0.93}", 0.93),
        ('"accuracy": 0.93,', 0.93),
    ],
)
def test_a_judged_number_is_found_in_lines_as_people_print_them(line: str, value: float) -> None:
    assert printed(line, "accuracy") == {"accuracy": pytest.approx(value)}


@pytest.mark.parametrize(
    "line",
    [
        "accuracy",
        "accuracy: high",
        "inaccuracy: 0.1",
        "accuracy of model 3: 0.5",
        "accuracy_std: 0.1",
        "0.93",
    ],
)
def test_a_line_that_says_something_else_is_not_taken_for_it(line: str) -> None:
    assert printed(line, "accuracy") == {}


def test_names_are_found_whatever_separates_their_words() -> None:
    assert printed("Val Loss: 0.5\nval-f1 = 0.25", "val_loss", "val/f1") == {"val_loss": 0.5, "val/f1": 0.25}
    assert infer_direction("val_loss") is not None


def test_the_last_of_several_prints_counts() -> None:
    assert printed("accuracy: 0.1\nsomething\naccuracy: 0.2\naccuracy: soon\n", "accuracy") == {
        "accuracy": 0.2
    }


def test_json_lines_in_the_output_are_metrics_and_go_before_prints() -> None:
    text = 'accuracy: 0.1\n{"step": 1, "accuracy": 0.5}\n{"step": 2, "accuracy": 0.75, "x": 1}\n{broken'
    assert printed(text, "accuracy") == {"accuracy": 0.75, "x": 1}


def test_a_pattern_reads_the_output_too() -> None:
    assert printed("loss 3\nloss 2", pattern=r"^loss (?P<loss>\d+)") == {"loss": 2}


def test_nothing_is_found_in_output_that_says_nothing() -> None:
    assert printed("hello\n\n\x00\xff", "accuracy") == {}
