"""Which state may follow which, compared over all pairs with tables written by hand."""

from collections.abc import Mapping
from enum import StrEnum

import pytest

from orchestrator.domain.action import ACTION_TRANSITIONS, ActionState
from orchestrator.domain.deployment import DEPLOYMENT_TRANSITIONS, DeploymentState
from orchestrator.domain.run import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, AttemptState, RunState

RUN = """
awaiting_approval -> queued cancelled
queued            -> running cancelled
running           -> evaluating failed errored cancelled
evaluating        -> running passed rejected inconclusive failed errored cancelled
passed            ->
rejected          ->
inconclusive      ->
failed            ->
errored           ->
cancelled         ->
"""

ATTEMPT = """
queued     -> preparing errored cancelled
preparing  -> running failed errored cancelled
running    -> collecting errored cancelled
collecting -> succeeded failed errored cancelled
succeeded  ->
failed     ->
errored    ->
cancelled  ->
"""

ACTION = """
pending   -> running skipped cancelled
running   -> pending done failed skipped cancelled
done      ->
failed    ->
skipped   ->
cancelled ->
"""

DEPLOYMENT = """
queued            -> awaiting_approval uploading activating failed cancelled superseded
awaiting_approval -> rejected uploading activating failed cancelled superseded
uploading         -> verifying failed cancelled superseded
verifying         -> activating failed cancelled superseded
activating        -> baking putting_back failed superseded
baking            -> active putting_back failed superseded
putting_back      -> rolled_back failed
active            -> retired putting_back
retired           -> active
rejected          ->
failed            ->
cancelled         ->
superseded        ->
rolled_back       ->
"""

Table = Mapping[StrEnum, frozenset[StrEnum]]


def pairs(text: str) -> set[tuple[str, str]]:
    """The legal pairs of a table as written above."""
    lines = [line.partition("->") for line in text.strip().splitlines()]
    return {(before.strip(), after) for before, _, afters in lines for after in afters.split()}


def states(text: str) -> set[str]:
    """The states of a table as written above."""
    return {line.partition("->")[0].strip() for line in text.strip().splitlines()}


@pytest.mark.parametrize(
    ("table", "kind", "written"),
    [
        pytest.param(RUN_TRANSITIONS, RunState, RUN, id="run"),
        pytest.param(ATTEMPT_TRANSITIONS, AttemptState, ATTEMPT, id="attempt"),
        pytest.param(ACTION_TRANSITIONS, ActionState, ACTION, id="action"),
        pytest.param(DEPLOYMENT_TRANSITIONS, DeploymentState, DEPLOYMENT, id="deployment"),
    ],
)
def test_every_pair_of_states_is_as_legal_as_the_table_says(
    table: Table, kind: type[StrEnum], written: str
) -> None:
    assert {state.value for state in kind} == states(written)
    assert set(table) == set(kind)
    legal = pairs(written)
    wrong = [
        f"{before.value} -> {after.value}"
        for before in kind
        for after in kind
        if (after in table[before]) != ((before.value, after.value) in legal)
    ]
    assert wrong == []


def test_a_run_is_final_where_nothing_may_follow() -> None:
    assert {state.value for state in RunState if state.final} == {
        "passed",
        "rejected",
        "inconclusive",
        "failed",
        "errored",
        "cancelled",
    }


def test_an_attempt_is_queued_or_active_or_final() -> None:
    assert {s.value for s in AttemptState if s.active} == {"preparing", "running", "collecting"}
    assert {s.value for s in AttemptState if s.final} == {"succeeded", "failed", "errored", "cancelled"}


def test_an_action_that_failed_or_was_skipped_is_not_taken_up_again() -> None:
    assert {s.value for s in ActionState if s.final} == {"done", "failed", "skipped", "cancelled"}


def test_an_active_deployment_rests_although_it_may_still_be_retired() -> None:
    assert DeploymentState.ACTIVE.final
    assert not DeploymentState.BAKING.final
    assert not DeploymentState.AWAITING_APPROVAL.final
    assert DeploymentState.ROLLED_BACK.final


def test_every_unfinished_state_leads_to_an_end() -> None:
    for table in (RUN_TRANSITIONS, ATTEMPT_TRANSITIONS, ACTION_TRANSITIONS, DEPLOYMENT_TRANSITIONS):
        reachable: dict[StrEnum, set[StrEnum]] = {state: set(after) for state, after in table.items()}
        for _ in table:
            for state, after in reachable.items():
                reachable[state] = after.union(*(reachable[s] for s in after))
        ends = {state for state, after in table.items() if not after}
        assert [s for s, after in reachable.items() if s not in ends and not after & ends] == []
