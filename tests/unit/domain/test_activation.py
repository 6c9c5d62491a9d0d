"""What counts as serving, and as the expected answer."""

from __future__ import annotations

import pytest

from orchestrator.domain.activation import (
    Activation,
    Answer,
    Command,
    Health,
    HttpRequest,
    Smoke,
    TcpConnect,
    pause_after,
    tail,
    why_other_answer,
    why_unhealthy,
)

WEB = HttpRequest("http://localhost/health")


@pytest.mark.parametrize(
    ("health", "answer", "why"),
    [
        (Health(WEB), Answer(204), ""),
        (Health(WEB), Answer(302), "answers with status 302"),
        (Health(HttpRequest("http://a", status=(503,))), Answer(503), ""),
        (Health(HttpRequest("http://a", status=(503,))), Answer(200), "answers with status 200"),
        (Health(WEB, contains="ready"), Answer(200, "all ready"), ""),
        (Health(WEB, contains="ready"), Answer(200, "starting"), "without 'ready'"),
        (Health(TcpConnect("a", 1)), Answer(), ""),
        (Health(TcpConnect("a", 1)), Answer(problem="no answer"), "tcp a:1: no answer"),
        (Health(Command(("check",))), Answer(0, "fine"), ""),
        (Health(Command(("check",))), Answer(1, "bad"), "check ends with status 1: 'bad'"),
    ],
)
def test_an_answer_is_healthy_or_it_is_told_why_not(health: Health, answer: Answer, why: str) -> None:
    told = why_unhealthy(health, answer)
    assert bool(told) == bool(why)
    assert why in told


@pytest.mark.parametrize(
    ("expected", "answer", "why"),
    [
        ('{"y": 2}', '{"y": 2.0000001, "more": 1}', ""),
        ('{"y": 2}', '{"y": 2.1}', "2 is expected at y, and it is '2.1'"),
        ('{"y": 1000000}', '{"y": 1000000.5}', ""),
        ('{"y": {"z": [1, 2]}}', '{"y": {"z": [1, 3]}}', "2 is expected at y.z[1], and it is '3'"),
        ('{"y": [1]}', '{"y": [1, 2]}', "1 values are expected at y"),
        ('{"y": 1}', "{}", "the answer has no y"),
        ('{"y": 1}', "[1]", "a mapping is expected"),
        ("true", "1", "true is expected"),
        ('"cat"', "cat\n", ""),
        ('"cat"', "dog", '"cat" is expected'),
        ("NaN", "NaN", ""),
        ("1", "NaN", "1 is expected"),
    ],
)
def test_a_prediction_is_compared_as_values_not_as_text(expected: str, answer: str, why: str) -> None:
    told = why_other_answer(Smoke(WEB, expected), Answer(200, answer))
    assert bool(told) == bool(why)
    assert why in told


def test_a_look_is_repeated_until_its_tries_are_over() -> None:
    health = Health(WEB, tries=3, interval=7.0)
    assert [pause_after(health, looks) for looks in (1, 2, 3)] == [7.0, 7.0, None]


def test_the_end_of_long_output_is_kept_by_whole_lines() -> None:
    kept = tail("".join(f"line {number}\n" for number in range(100)), 50)
    assert kept.startswith("[")
    assert kept.endswith("line 98\nline 99\n")
    assert kept.splitlines()[1].startswith("line ")
    assert tail("short", 50) == "short"


def test_what_needs_commands_and_what_proves_is_known() -> None:
    assert not Activation(health=(Health(WEB),)).needs_commands
    assert Activation(health=(Health(Command(("a",))),)).needs_commands
    assert Activation(logs=(Command(("a",)),)).needs_commands
    assert not Activation(before=(Command(("a",)),)).proves
    assert Activation(bake=1.0).proves
