"""Tables, times and log lines as people get them."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.cli.follow import progress_text
from orchestrator.cli.output import Column, ago, count, print_json, print_table
from orchestrator.cli.progress import ProgressLine
from orchestrator.cli.views import short_metric
from orchestrator.domain.text import clean, readable
from orchestrator.ports.progress import ProgressEvent

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_table_cuts_elastic_columns_and_never_names(capsys: pytest.CaptureFixture[str]) -> None:
    name, text = "wine-quality#" + "4" * 40, "long " * 40
    print_table(("run", Column("why", elastic=True)), [(name, text)])
    header, row = printed(capsys)
    assert header.split() == ["run", "why"]
    assert name in row
    assert row.endswith("…")
    assert len(row) <= 100


def test_a_spare_column_gives_way_and_an_end_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("run", Column("metric", elastic=True, keep_end=True, least=12), Column("cause", spare=True))
    print_table(columns, [("w" * 30, "validation/accuracy 0.9 (+0.01)", "push")])
    assert printed(capsys)[1].split() == ["w" * 30, "validation/accuracy", "0.9", "(+0.01)", "push"]
    print_table(columns, [("w" * 86, "validation/accuracy 0.9 (+0.01)", "push")])
    header, row = printed(capsys)
    assert header.split() == ["run", "metric"]
    assert row == "w" * 86 + "  …0.9 (+0.01)"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("accuracy 0.986111 (±0)", "accuracy 0.9861 (±0)"),
        ("accuracy 0.98 (-0.0125)", "accuracy 0.98 (-0.0125)"),
        ("val/loss 0.0000123456", "val/loss 1.235e-05"),
        ("perplexity 12345.678 (+2.1)", "perplexity 12346 (+2.1)"),
        ("rows 1234567", "rows 1234567"),
        ("loss NaN", "loss NaN"),
        ("", ""),
    ],
)
def test_a_key_metric_is_shortened_in_its_digits_alone(text: str, short: str) -> None:
    assert short_metric(text) == short


def test_a_folding_column_keeps_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"word{n}" for n in range(40)]
    print_table(("run", Column("why", fold=True)), [("wine#1", " ".join(words))])
    lines = printed(capsys)
    assert all(len(line) <= 100 for line in lines)
    assert " ".join(lines[1:]).replace("wine#1", "").split() == words


def test_wide_characters_stay_in_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "next"), [("模型", "a"), ("abcd", "b")])
    _, wide, narrow = printed(capsys)
    assert wide == "模型  a"
    assert narrow == "abcd  b"


def test_without_rows_there_is_talk_and_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("run",), [], "no runs yet")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no runs yet\n")


def test_no_control_code_of_a_repository_reaches_the_terminal() -> None:
    assert clean("fix \x1b[31mred\x1b[0m\r\nnext \u202eevil\x07") == "fix [31mred[0m  next evil"


def test_a_log_line_shows_its_last_state_without_colours() -> None:
    assert readable(b"\x1b[32m10%\x1b[0m\r\x1b[32m100%\x1b[0m\r") == "100%"
    assert readable(b"a\tb \xff") == "a    b \ufffd"
    assert readable(b"\x1b]0;title\x07text") == "text"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s ago"),
        (59, "59 s ago"),
        (60, "1 m ago"),
        (7200, "2 h ago"),
        (200_000, "2 d ago"),
        (-5, "0 s ago"),
    ],
)
def test_times_are_relative(seconds: int, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_nouns_follow_their_number() -> None:
    assert (count(1, "run"), count(0, "run"), count(2, "run")) == ("1 run", "0 runs", "2 runs")


def test_progress_shows_amounts_in_their_unit() -> None:
    text = progress_text(ProgressEvent("staging wine v7", 5 << 20, 20 << 20, "bytes"))
    assert text == "staging wine v7 ▓▓▓▓▓░░░░░░░░░░░░░░░ 5.0 MiB of 20.0 MiB"
    assert progress_text(ProgressEvent("pulling x")) == "pulling x …"


def test_json_means_the_same_and_holds_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = {"subject": "\x1b]0;x\x07 \x9b31m \x7f \u202egnp.exe \u2028 \udce9", "author": "Zoë"}
    print_json(hostile)
    shown = capsys.readouterr().out
    assert json.loads(shown) == hostile
    assert "Zoë" in shown
    assert [c for c in shown if not c.isprintable() and c != "\n"] == []


class Screen(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, no_color: str) -> str:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    print_table(("run", "verdict"), [("wine#1", "rejected (broken)")])
    with ProgressLine() as progress:
        progress(ProgressEvent("copying data", 1, 2))
    return screen.getvalue()


def test_no_control_code_is_written_to_a_terminal_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" in on_a_terminal(monkeypatch, "")
    assert on_a_terminal(monkeypatch, "1").replace("\n", "").isprintable()


def test_a_terminal_shows_the_last_line_of_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with ProgressLine() as progress:
        progress(ProgressEvent("building mlci/cpu:1"))
        progress(ProgressEvent("build", line="Collecting numpy\x1b[2J"))
    assert "building mlci/cpu:1 … Collecting numpy" in screen.getvalue()
    assert "\n" not in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()


def test_elsewhere_each_part_is_said_once_and_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine() as progress:
        for done in range(3):
            progress(ProgressEvent("pulling debian", done, 3, "bytes"))
            progress(ProgressEvent("build", line="Collecting numpy"))
    assert capsys.readouterr().err == "pulling debian\n"
