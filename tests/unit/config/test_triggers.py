"""Schedules, zones and pipelines after which others run, as people write them."""

from __future__ import annotations

import pytest

from orchestrator.bootstrap.configured import pipeline_of
from orchestrator.domain.pipeline import Schedule
from tests.support.configuration import MAIN, PIPELINE, ConfigFolder


def test_schedules_are_read_with_their_zone(folder: ConfigFolder) -> None:
    lines = 'schedule: ["0 3  * * 1", "0 3 * * 1", "30 2 * * *"]\ntimezone: Europe/Berlin\n'
    folder.write("pipelines/wine.yaml", PIPELINE + lines)
    config = folder.load().configuration
    assert config is not None
    pipeline = pipeline_of(config, config.pipelines["wine"])
    assert pipeline.schedules == (
        Schedule("0 3 * * 1", "Europe/Berlin"),
        Schedule("30 2 * * *", "Europe/Berlin"),
    )


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('schedule: ["0 3 * *"]', '4:12: "0 3 * *" has 4 fields; expected five fields: minute, hour,'),
        ('schedule: ["0 0 3 * * 1"]', '4:12: "0 0 3 * * 1" has 6 fields'),
        ('schedule: ["0 25 * * *"]', '4:12: "0 25 * * *" is not a schedule: its hour is not possible'),
        (
            'schedule: ["0 0 31 4 *"]',
            '4:12: "0 0 31 4 *" is not a schedule: its day of month is not possible',
        ),
        ('schedule: ["@daily"]', '4:12: "@daily" is not a schedule here; expected five fields'),
        ('schedule: "0 3 * * *"', '4:11: "0 3 * * *" is text; expected a list'),
        ("timezone: Europe/Berlin", "4:1: there is a time zone and no schedule that it is of"),
        ("after: [wine]", "4:9: a pipeline cannot run after itself"),
        ("after: [features]", '4:9: there is no pipeline "features"; expected another pipeline'),
    ],
)
def test_a_wrong_trigger_is_reported_where_it_stands(folder: ConfigFolder, lines: str, says: str) -> None:
    problems = folder.problems_with(lines + "\n")
    assert any(problem.startswith(says) for problem in problems), problems


def test_a_misspelt_zone_is_told_with_the_one_that_is_like_it(folder: ConfigFolder) -> None:
    problems = folder.problems_with('schedule: ["0 3 * * 1"]\ntimezone: Europe/Berln\n')
    assert any('no time zone "Europe/Berln"' in p and '"Europe/Berlin"?' in p for p in problems), problems


def test_pipelines_that_wait_for_each_other_in_a_circle_are_reported(folder: ConfigFolder) -> None:
    for name, after in (("first", "third"), ("second", "first"), ("third", "second")):
        other = PIPELINE.replace("pipeline: wine", f"pipeline: {name}") + f"after: [{after}]\n"
        folder.write(f"pipelines/{name}.yaml", other)
    problems = [str(p) for p in folder.load().errors]
    assert len(problems) == 3, problems
    assert all("runs after" in p and "without end" in p for p in problems)


def test_a_pipeline_whose_file_cannot_be_read_is_known_all_the_same(folder: ConfigFolder) -> None:
    folder.write("pipelines/features.yaml", '"')
    assert not any("no pipeline" in p for p in folder.problems_with("after: [features]\n"))


def test_pipelines_of_repositories_are_not_known_before_their_files_are_read(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", MAIN + "repositories: {acme: {git: https://example.org/acme.git}}\n")
    assert not any("no pipeline" in p for p in folder.problems_with("after: [acme.features]\n"))
    assert any("no pipeline" in p for p in folder.problems_with("after: [other.features]\n"))


def test_a_trigger_token_that_can_be_guessed_is_refused(folder: ConfigFolder) -> None:
    problems = folder.problems_of_main(MAIN + "web: {trigger_token: secret}\n")
    assert any("this token can be guessed" in problem for problem in problems), problems
