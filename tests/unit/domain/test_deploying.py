"""Who may deploy, and what a release is called."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.change import Cause
from orchestrator.domain.deployment import (
    RELEASE_PATTERN,
    Deployment,
    DeploymentState,
    is_superseded,
    release_name,
    why_not_deploy,
    why_not_trusted,
)
from orchestrator.domain.run import Purpose, RunState
from tests.unit.domain.examples import change, pipeline, run

PIPELINE = pipeline(deploy_branches=("main", "release/*"))


@pytest.mark.parametrize("cause", [Cause.FIRST_SIGHT, Cause.PUSH, Cause.DATA, Cause.MANUAL, Cause.RERUN])
@pytest.mark.parametrize("branch", ["main", "release/1", "release/1/hotfix"])
def test_a_passed_run_of_a_push_data_or_a_person_on_a_deploy_branch_deploys(
    cause: Cause, branch: str
) -> None:
    trusted = run(of=change(cause=cause, branch=branch))
    assert why_not_trusted(trusted, PIPELINE) is None
    assert why_not_deploy(trusted, PIPELINE) is None


@pytest.mark.parametrize("branch", ["feature", "Main", "main2", "release", "xrelease/1", ""])
def test_a_run_on_another_branch_never_deploys(branch: str) -> None:
    why = f"branch {branch} is not one of the deploy_branches (main, release/*)"
    assert why_not_deploy(run(of=change(branch=branch)), PIPELINE) == why


@pytest.mark.parametrize("branch", ["refs/tags/v1", ""])
def test_all_branches_are_neither_tags_nor_what_is_on_no_branch(branch: str) -> None:
    assert why_not_deploy(run(of=change(branch=branch)), pipeline(("*", "refs/*"))) is not None


def test_a_tag_deploys_where_the_rules_name_it() -> None:
    tagged = run(of=change(cause=Cause.TAG, branch="refs/tags/v1"))
    assert why_not_deploy(tagged, pipeline(("refs/tags/v*",))) is None
    assert why_not_deploy(tagged, pipeline(("refs/tags/w*",))) is not None


@pytest.mark.parametrize("rules", [("*",), ("refs/pull/*",), ("refs/pull/7/head",)])
@pytest.mark.parametrize("cause", [Cause.PULL_REQUEST, Cause.MANUAL, Cause.RERUN])
def test_a_pull_request_never_deploys_whoever_runs_it_and_whatever_the_rules_say(
    cause: Cause, rules: tuple[str, ...]
) -> None:
    pulled = run(of=change(cause=cause, branch="refs/pull/7/head"))
    assert why_not_deploy(pulled, pipeline(rules)) is not None


def test_without_deploy_branches_nothing_deploys() -> None:
    assert why_not_deploy(run(), pipeline(())) == "branch main is not one of the deploy_branches (none)"


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.PASSED])
def test_only_a_passed_run_deploys(state: RunState) -> None:
    assert why_not_deploy(run(state=state), PIPELINE) == f"the run has not passed ({state.value})"


@pytest.mark.parametrize("purpose", [Purpose.BASELINE, Purpose.REPRODUCE])
def test_a_run_that_measures_again_never_deploys(purpose: Purpose) -> None:
    assert why_not_deploy(run(purpose=purpose), PIPELINE) == f"a {purpose.value} run never deploys"


def test_a_baseline_run_is_trusted_on_a_deploy_branch_alone() -> None:
    again = run(purpose=Purpose.BASELINE, of=change(cause=Cause.BASELINE))
    assert why_not_trusted(again, PIPELINE) is None
    elsewhere = run(purpose=Purpose.BASELINE, of=change(cause=Cause.BASELINE, branch="feature"))
    assert why_not_trusted(elsewhere, PIPELINE) is not None


def test_a_cause_that_is_none_of_those_is_not_trusted() -> None:
    stray = run(of=change(cause=Cause.BASELINE))
    assert why_not_trusted(stray, PIPELINE) == "a run caused by baseline never deploys"


@pytest.mark.parametrize(("live_change", "superseded"), [(4, False), (5, False), (6, True)])
def test_a_change_older_than_the_live_one_is_superseded(live_change: int, superseded: bool) -> None:
    live = Deployment(1, 2, 3, "wine", "prod", "r", DeploymentState.ACTIVE, change_rank=live_change)
    assert is_superseded(5, live) is superseded


def test_the_first_deployment_is_superseded_by_nothing() -> None:
    assert not is_superseded(1, None)


def test_a_release_is_named_by_its_time_in_utc_and_its_run() -> None:
    east = timezone(timedelta(hours=2))
    assert release_name(run(), datetime(2026, 11, 23, 7, 44, 59, tzinfo=east)) == "20261123T054459Z-7"


@given(st.datetimes(min_value=datetime(1000, 1, 2), timezones=st.timezones()))  # noqa: DTZ001 - zones follow
def test_every_release_name_is_known_as_ours(now: datetime) -> None:
    assert RELEASE_PATTERN.fullmatch(release_name(run(), now))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "current",
        ".",
        "..",
        "backup",
        "20261123T054459Z",
        "20261123T054459Z-",
        "20261123T054459Z-4x",
        "x20261123T054459Z-42",
        "20261123T054459Z-42/..",
        "20261123T054459Z-42\n",
        "20261123T054459Z-٤",
    ],
)
def test_nothing_else_is_taken_for_a_release_of_ours(name: str) -> None:
    assert RELEASE_PATTERN.fullmatch(name) is None
