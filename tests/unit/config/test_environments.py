"""Environments in orchestrator.yaml: what may be written, and what is told of mistakes."""

import pytest

from orchestrator.config.models.environment import Environment, check_environments, places_of, window_of
from orchestrator.domain.environment import Strategy, Window
from orchestrator.domain.model_registry import Stage

WORKDAYS = (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("Mon-Fri 09:00-17:00", Window(WORKDAYS, 540, 1020)),
        ("sat,SUN 10:00-12:30", Window((5, 6), 600, 750)),
        ("Fri-Mon 00:00-24:00", Window((0, 4, 5, 6), 0, 1440)),
        ("22:00-02:00", Window(tuple(range(7)), 1320, 120)),
    ],
)
def test_windows_are_written_as_people_write_them(text: str, window: Window) -> None:
    assert window_of(text) == window


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("workdays", "two times of the day are expected"),
        ("Mo 09:00-17:00", "Mo is no weekday of mon, tue"),
        ("Mon 9-17", "two times of the day are expected"),
        ("Mon 09:00-25:00", "there is no 25:00 on a clock"),
        ("Mon 09:61-10:00", "there is no 09:61 on a clock"),
        ("Mon 09:00-09:00", "it ends when it begins"),
        ("Mon-Tue-Wed 09:00-10:00", "Mon-Tue-Wed has more than two ends"),
        ("Mon, 09:00-10:00", "nothing is no weekday"),
    ],
)
def test_what_is_no_window_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        window_of(text)
    with pytest.raises(ValueError, match="is no window of time"):
        Environment.model_validate({"servers": ["a"], "windows": [text]})


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ({"servers": []}, "at least 1"),
        ({"servers": ["a", "a"]}, "a is listed twice"),
        ({"servers": ["a"], "batch": 2}, "under all there are no batches"),
        ({"servers": ["a"], "pause": "5m"}, "under all, servers change without a pause"),
        ({"servers": ["a"], "strategy": "blue-green"}, "'all', 'rolling' or 'canary'"),
        ({"servers": ["a"], "timezone": "Mars/Olympus"}, "time zone"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(written: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Environment.model_validate(written)


@pytest.mark.parametrize(
    ("environments", "why"),
    [
        ({"prod": {"servers": ["c"]}}, 'the environment "prod" names "c", which is no server'),
        ({"a": {"servers": ["b"]}}, '"a" is a server and an environment'),
        (
            {"prod": {"servers": ["a"]}, "test": {"servers": ["a"]}},
            '"a" is in the environments "prod" and "test"',
        ),
        ({"prod": {"servers": ["a"], "after": "stage"}}, '"prod" comes after "stage", which there is not'),
        (
            {"one": {"servers": ["a"], "after": "two"}, "two": {"servers": ["b"], "after": "one"}},
            "in a circle: one, two, one",
        ),
    ],
)
def test_environments_that_do_not_fit_the_servers_are_refused(
    environments: dict[str, dict[str, object]], why: str
) -> None:
    made = {name: Environment.model_validate(each) for name, each in environments.items()}
    with pytest.raises(ValueError, match=why):
        check_environments(made, {"a", "b"})


def test_all_that_is_written_reaches_the_domain_and_stages_follow_the_order() -> None:
    written = {
        "staging": Environment.model_validate({"servers": ["s"]}),
        "prod": Environment.model_validate(
            {
                "servers": ["a", "b", "c"],
                "strategy": "rolling",
                "batch": 2,
                "pause": "5m",
                "approval": {"by": ["ana"]},
                "windows": ["Mon-Fri 09:00-17:00"],
                "timezone": "Europe/Berlin",
                "after": "staging",
            }
        ),
        "lab": Environment.model_validate({"servers": ["l"], "stage": "none", "approval": True}),
    }
    places = places_of(written)
    prod = places["prod"]
    assert (prod.servers, prod.strategy, prod.batch, prod.pause) == (
        ("a", "b", "c"),
        Strategy.ROLLING,
        2,
        300.0,
    )
    assert (prod.approval, prod.approvers, prod.after, prod.zone) == (
        True,
        ("ana",),
        "staging",
        "Europe/Berlin",
    )
    assert prod.windows == (Window(WORKDAYS, 540, 1020),)
    assert (places["staging"].stage, prod.stage, places["lab"].stage) == (
        Stage.CANDIDATE,
        Stage.PRODUCTION,
        None,
    )
    assert (places["staging"].approval, places["lab"].approval) == (False, True)
