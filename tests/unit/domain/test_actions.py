"""When an owed action may be carried out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from orchestrator.domain.action import (
    MAX_ACTION_TRIES,
    REPORT_WAITS,
    Action,
    ActionState,
    Trigger,
    action_key,
    is_due,
    why_not_needed,
)
from orchestrator.domain.action_spec import (
    SPECS,
    ActionSpec,
    DeployAction,
    EmailAction,
    Rule,
    WebhookAction,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def action(
    number: int,
    spec: ActionSpec,
    state: ActionState = ActionState.PENDING,
    trigger: Trigger = Trigger.PASS,
    run_id: int = 7,
) -> Action:
    return Action(number, run_id, action_key(run_id, trigger, number), trigger, number, spec, state)


def deploy(
    number: int, state: ActionState = ActionState.PENDING, server: str = "prod", run_id: int = 7
) -> Action:
    return action(number, DeployAction(server), state, run_id=run_id)


def mail(number: int, state: ActionState = ActionState.PENDING, trigger: Trigger = Trigger.PASS) -> Action:
    return action(number, EmailAction(("a@example.com",)), state, trigger)


def due(*actions: Action) -> list[int]:
    return [a.id for a in actions if is_due(a, actions)]


def test_deployments_happen_in_the_order_written() -> None:
    assert due(deploy(1), deploy(2), deploy(3)) == [1]
    assert due(deploy(1, ActionState.RUNNING), deploy(2)) == []
    assert due(deploy(1, ActionState.DONE), deploy(2), deploy(3)) == [2]


def test_the_next_deployment_does_not_wait_for_one_that_was_given_up() -> None:
    assert due(deploy(1, ActionState.FAILED), deploy(2)) == [2]
    assert due(deploy(1, ActionState.SKIPPED), deploy(2)) == [2]
    assert due(deploy(1, ActionState.CANCELLED), deploy(2)) == [2]


def test_a_mail_waits_for_every_deployment_even_for_those_written_after_it() -> None:
    assert due(mail(1), deploy(2)) == [2]
    assert due(mail(1), deploy(2, ActionState.RUNNING)) == []
    assert due(mail(1), deploy(2, ActionState.FAILED)) == [1]


def test_deployments_never_wait_for_mails_nor_mails_for_each_other() -> None:
    assert due(mail(1), mail(2)) == [1, 2]
    assert due(mail(1, ActionState.RUNNING), deploy(2), mail(3)) == [2]


def test_the_mail_about_a_start_waits_for_nothing() -> None:
    assert due(deploy(1), mail(2, trigger=Trigger.START)) == [1, 2]


def test_only_pending_actions_are_due() -> None:
    for state in ActionState:
        assert due(deploy(1, state)) == ([1] if state is ActionState.PENDING else [])
        assert due(mail(1, state)) == ([1] if state is ActionState.PENDING else [])


def test_actions_of_other_runs_do_not_matter() -> None:
    assert due(deploy(1, ActionState.RUNNING, run_id=6), deploy(2), mail(3)) == [2]


def test_the_key_of_an_action_never_changes_and_is_its_own() -> None:
    assert action_key(12, Trigger.PASS, 0) == "run-12-pass-0"
    keys = {action_key(r, t, p) for r in range(20) for t in Trigger for p in range(20)}
    assert len(keys) == 20 * len(Trigger) * 20


def test_every_kind_of_action_is_given_up_some_time() -> None:
    assert set(MAX_ACTION_TRIES) == set(SPECS)
    assert min(MAX_ACTION_TRIES.values()) > 1


def ruled(number: int, rule: Rule, state: ActionState = ActionState.PENDING) -> Action:
    return action(number, DeployAction("prod", rule=rule), state)


def test_an_action_whose_need_was_not_done_is_told_which_one() -> None:
    needing = ruled(2, Rule(needs=("staging",)))
    for state in (ActionState.FAILED, ActionState.SKIPPED, ActionState.CANCELLED):
        staging = ruled(1, Rule(name="staging"), state)
        assert why_not_needed(needing, [staging, needing]) == f"it needs staging, which was {state.value}"
    done = ruled(1, Rule(name="staging"), ActionState.DONE)
    assert why_not_needed(needing, [done, needing]) == ""


def test_a_mail_that_needs_a_mail_waits_for_it() -> None:
    first = action(1, EmailAction(("a@example.com",), rule=Rule(name="first")))
    second = action(2, EmailAction(("b@example.com",), rule=Rule(needs=("first",))))
    assert due(first, second) == [1]
    assert due(replace(first, state=ActionState.DONE), second) == [2]


def test_needs_of_another_trigger_or_run_are_none() -> None:
    start = action(1, WebhookAction("chat", rule=Rule(name="live")), ActionState.FAILED, Trigger.START)
    needing = ruled(2, Rule(needs=("live",)))
    assert why_not_needed(needing, [start, needing]) == ""


def test_what_a_start_owes_still_holds_up_nothing_of_the_outcome() -> None:
    start = action(1, WebhookAction("chat"), trigger=Trigger.START)
    assert due(start, deploy(2)) == [1, 2]


def test_a_report_does_not_wait_long_for_an_approval() -> None:
    waiting = replace(deploy(1), waits="nobody has approved it", created_at=NOW)
    report = mail(2)
    assert not is_due(report, [waiting, report], NOW + REPORT_WAITS - timedelta(seconds=1))
    assert is_due(report, [waiting, report], NOW + REPORT_WAITS)
    tried = replace(waiting, waits="")
    assert not is_due(report, [tried, report], NOW + REPORT_WAITS)
