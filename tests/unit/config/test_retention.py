"""How long things are kept, as people write it, and as the services read it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.bootstrap.retention import policy_of
from orchestrator.domain.retention import Limits, Policy, StateRules, Unused
from orchestrator.domain.space import Reserve
from tests.support.configuration import ConfigFolder

DAY = timedelta(days=1)
UNUSED = Unused(age=30 * DAY)
HOUR = timedelta(hours=1)
MONTH = 30 * DAY
ONLY_REBUILT = Policy(images=UNUSED, volumes=UNUSED, leftovers=HOUR, mirrors=MONTH, gone=MONTH)


def policy(folder: ConfigFolder, text: str) -> Policy:
    folder.write("orchestrator.yaml", text)
    result = folder.load()
    assert result.configuration is not None, folder.problems()
    return policy_of(result.configuration.orchestrator.retention)


@pytest.mark.parametrize("text", ["", "retention: {}\n"])
def test_without_a_rule_only_what_can_be_made_again_goes(folder: ConfigFolder, text: str) -> None:
    assert policy(folder, text) == ONLY_REBUILT


def test_a_plain_duration_is_an_age(folder: ConfigFolder) -> None:
    found = policy(folder, "retention: {runs: 365d, artifacts: 90d, logs: 26w, releases: 9d, journal: 2d}\n")
    assert found.state == StateRules(Limits(age=365 * DAY), Limits(age=90 * DAY), Limits(age=182 * DAY))
    assert (found.releases, found.journal) == (9 * DAY, 2 * DAY)
    assert (found.images, found.volumes) == (UNUSED, UNUSED)


def test_versions_of_data_go_with_the_age_of_runs_unless_they_have_a_rule(folder: ConfigFolder) -> None:
    assert policy(folder, "retention: {runs: 365d}\n").versions == 365 * DAY
    assert policy(folder, "retention: {runs: {count: 9}}\n").versions is None
    assert policy(folder, "retention: {runs: 365d, versions: keep}\n").versions is None
    found = policy(folder, "retention: {versions: 60d, mirrors: 9d, gone: keep}\n")
    assert (found.versions, found.mirrors, found.gone) == (60 * DAY, 9 * DAY, None)


def test_keep_keeps_all(folder: ConfigFolder) -> None:
    text = (
        "retention: {runs: keep, artifacts: keep, images: keep, volumes: keep, leftovers: keep,"
        " releases: keep, journal: keep, versions: keep, mirrors: keep, gone: keep}"
    )
    assert policy(folder, text + "\n") == Policy()


def test_the_long_form_says_all(folder: ConfigFolder) -> None:
    found = policy(
        folder,
        """\
retention:
  runs: {age: 365d, keep_last: 0}
  artifacts: {age: 90d, count: 200, per_branch: 20, keep_last: 9, keep_passed: true}
  images: {unused: 14d, budget: 50g}
  volumes: {budget: 1t}
  releases: {age: 90d}
  leftovers: 1d
  disk: {min_free: 10%, hosts_min_free: 5%}
  every: 10m
  pipelines:
    wine: {artifacts: keep, logs: 5d}
""",
    )
    general = StateRules(Limits(365 * DAY, keep_last=0), Limits(90 * DAY, 200, 20, 9, keep_passed=True))
    assert found == Policy(
        state=general,
        pipelines={"wine": StateRules(general.runs, Limits(keep_all=True), Limits(5 * DAY))},
        images=Unused(14 * DAY, 50 << 30),
        volumes=Unused(None, 1 << 40),
        leftovers=DAY,
        releases=90 * DAY,
        versions=365 * DAY,
        mirrors=MONTH,
        gone=MONTH,
        min_free=Reserve(share=0.1),
        host_free=Reserve(share=0.05),
        every=timedelta(minutes=10),
    )
    assert found.rules_of("wine").logs.age == 5 * DAY
    assert found.rules_of("beer") == general


AGE = "expected a duration such as 90d, `keep` to keep all, or a mapping such as {age: 90d}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{runs: 365}", f'1:19: "365" is not a duration; {AGE}; did you mean "365d"?'),
        ("{logs: 6 weeks}", f'1:19: "6 weeks" is not a duration; {AGE}; did you mean "6w"?'),
        ("{images: kep}", f'1:21: "kep" is not a duration; {AGE}; did you mean "keep"?'),
        ("{runs: [1d]}", f"1:19: a list is not possible here; {AGE}"),
        ("{runs: true}", f"1:19: true or false is not possible here; {AGE}"),
        (
            "{journal: 5s}",
            "1:22: this is shorter than a minute; expected at least 1m; a duration such as 90d, ",
        ),
        ("{log: 5d}", '1:13: unknown key "log"; '),
        ("{runs: {max_age: 5d}}", '1:20: unknown key "max_age"; expected one of age, count, per_branch, '),
        ("{runs: {count: 0}}", "1:27: 0 is too small; expected at least 1"),
        ("{images: {age: 5d}}", '1:22: unknown key "age"; expected one of unused, budget'),
        ("{volumes: {budget: 50}}", '1:31: "50" has no unit; '),
        ("{disk: 10%}", '1:19: "10%" is not possible here; expected a mapping'),
        ("{disk: {min_free: 120%}}", '1:30: "120%" is not a share of a disk; '),
        ("{every: 5s}", "1:13: this is shorter than a minute; expected a duration such as 1h"),
        (
            "{pipelines: {wein: {runs: 5d}}}",
            '1:25: there is no pipeline "wein"; expected wine',
        ),
        (
            "{pipelines: {wine: {images: 5d}}}",
            '1:32: unknown key "images"; expected one of runs, artifacts, ',
        ),
    ],
)
def test_a_mistake_is_reported_where_it_stands_with_what_was_meant(
    folder: ConfigFolder, text: str, says: str
) -> None:
    problems = folder.problems_of_main(f"retention: {text}\n")
    assert any(problem.startswith(says) for problem in problems), problems
