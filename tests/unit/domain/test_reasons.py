"""Why an attempt ended, whose fault that is, and how a container's end is told apart."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.run import (
    ATTEMPT_TRANSITIONS,
    CONSEQUENCES,
    Attempt,
    AttemptState,
    Exit,
    Reason,
    StopCause,
    classify,
    failed_hosts,
    may_be_interrupted,
    warnings_of,
    was_interrupted,
)

THE_PROJECT = {
    "exit_code",
    "out_of_memory",
    "timeout",
    "log_limit",
    "image_build",
    "setup",
    "start",
    "missing_metrics",
    "invalid_metrics",
    "benchmark",
}
OURS_OR_THE_HOST = {
    "killed",
    "lost",
    "engine_unavailable",
    "engine_refused",
    "disk_full",
    "gpu_unavailable",
    "image_not_found",
    "registry_denied",
    "registry_unavailable",
    "host_unknown",
    "no_suitable_host",
    "source_unavailable",
    "revision_gone",
    "data_unavailable",
    "data_moved",
    "secret_missing",
    "internal",
}
RETRYABLE = {
    "killed",
    "lost",
    "engine_unavailable",
    "disk_full",
    "gpu_unavailable",
    "registry_unavailable",
    "source_unavailable",
    "data_unavailable",
}


def with_state(state: AttemptState) -> set[str]:
    return {reason.value for reason in Reason if CONSEQUENCES[reason].state is state}


def test_every_reason_has_a_consequence_on_the_side_at_fault() -> None:
    assert set(CONSEQUENCES) == set(Reason)
    assert with_state(AttemptState.SUCCEEDED) == {"completed"}
    assert with_state(AttemptState.FAILED) == THE_PROJECT
    assert with_state(AttemptState.ERRORED) == OURS_OR_THE_HOST
    assert with_state(AttemptState.CANCELLED) == {"cancelled_by_person", "superseded"}


def test_only_passing_trouble_of_the_infrastructure_is_tried_again() -> None:
    assert {r.value for r in Reason if CONSEQUENCES[r].retryable} == RETRYABLE
    assert RETRYABLE <= OURS_OR_THE_HOST


def test_every_consequence_can_be_reached_from_an_active_state() -> None:
    active = [state for state in AttemptState if state.active]
    for consequence in CONSEQUENCES.values():
        assert any(consequence.state in ATTEMPT_TRANSITIONS[state] for state in active)


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        pytest.param(Exit(0), Reason.COMPLETED, id="success"),
        pytest.param(Exit(1), Reason.EXIT_CODE, id="traceback"),
        pytest.param(Exit(255), Reason.EXIT_CODE, id="255"),
        pytest.param(Exit(143), Reason.EXIT_CODE, id="ended itself by SIGTERM"),
        pytest.param(Exit(137, oom_killed=True), Reason.OUT_OF_MEMORY, id="process 1 out of memory"),
        pytest.param(
            Exit(1, oom_killed=True), Reason.OUT_OF_MEMORY, id="child out of memory, parent gave up"
        ),
        pytest.param(Exit(0, oom_killed=True), Reason.COMPLETED, id="child out of memory, parent went on"),
        pytest.param(Exit(137), Reason.KILLED, id="docker kill"),
        pytest.param(Exit(127, error="exec: nope: not found"), Reason.START, id="command not found"),
        pytest.param(Exit(126, error="permission denied"), Reason.START, id="command not executable"),
        pytest.param(Exit(127), Reason.EXIT_CODE, id="a shell that did not find its command"),
        pytest.param(Exit(126), Reason.EXIT_CODE, id="a shell that could not execute its command"),
        pytest.param(
            Exit(128, error="no such device"), Reason.ENGINE_REFUSED, id="engine could not start it"
        ),
        pytest.param(Exit(128), Reason.EXIT_CODE, id="a command that ends with 128"),
    ],
)
def test_a_container_that_ended_by_itself_is_classified_by_its_exit(ended: Exit, reason: Reason) -> None:
    assert classify(ended, None) is reason


@pytest.mark.parametrize(
    ("stopped", "reason"),
    [
        (StopCause.TIMEOUT, Reason.TIMEOUT),
        (StopCause.LOG_LIMIT, Reason.LOG_LIMIT),
        (StopCause.CANCELLED, Reason.CANCELLED_BY_PERSON),
        (StopCause.SUPERSEDED, Reason.SUPERSEDED),
    ],
)
@pytest.mark.parametrize(
    "ended",
    [Exit(0), Exit(1), Exit(137), Exit(143), Exit(137, oom_killed=True), Exit(127, error="not found")],
    ids=str,
)
def test_our_own_stop_outranks_how_the_container_ended(
    ended: Exit, stopped: StopCause, reason: Reason
) -> None:
    assert classify(ended, stopped) is reason


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("began", "ended", "interrupted"),
    [
        pytest.param(-60, -5, True, id="told to end by an engine or a host that goes down"),
        pytest.param(-60, 11, True, id="ended by the next engine"),
        pytest.param(-60, 45, False, id="lived on under the next engine"),
        pytest.param(0, 5, False, id="began with it"),
        pytest.param(20, 25, False, id="began after it"),
    ],
)
def test_a_command_was_interrupted_when_it_began_before_a_start_and_did_not_outlive_it(
    began: float, ended: float, interrupted: bool
) -> None:
    times = (NOON + timedelta(seconds=began), NOON + timedelta(seconds=ended))
    assert was_interrupted(Exit(143, False, "", *times), NOON) is interrupted


@pytest.mark.parametrize(
    ("code", "ended", "interrupted"),
    [
        pytest.param(1, -3600, False, id="failed long before"),
        pytest.param(1, -60, True, id="failed while the host went down"),
        pytest.param(0, -3600, False, id="succeeded long before"),
        pytest.param(143, -3600, True, id="told to end by a host that stayed off"),
        pytest.param(255, -3600, True, id="found dead by the engine of a host that stayed off"),
    ],
)
def test_a_commands_own_failure_long_before_a_start_stays_its_own(
    code: int, ended: float, interrupted: bool
) -> None:
    times = (NOON - timedelta(hours=2), NOON + timedelta(seconds=ended))
    assert was_interrupted(Exit(code, False, "", *times), NOON) is interrupted


def test_an_exit_without_its_times_was_interrupted_by_nothing() -> None:
    assert not was_interrupted(Exit(143), NOON)


@pytest.mark.parametrize(("code", "may_be"), [(255, True), (143, True), (0, False), (1, False), (137, False)])
def test_codes_that_engines_leave_behind_are_asked_about(code: int, may_be: bool) -> None:
    assert may_be_interrupted(Exit(code)) is may_be


def test_the_hosts_at_fault_are_those_of_that_replicate_alone() -> None:
    def tried(replicate: int, number: int, host: str, reason: Reason) -> Attempt:
        state = CONSEQUENCES[reason].state
        return Attempt(number, 1, replicate, number, 0, state, host=host, reason=reason)

    attempts = [
        tried(0, 1, "a", Reason.LOST),
        tried(0, 2, "b", Reason.SOURCE_UNAVAILABLE),
        tried(0, 3, "c", Reason.KILLED),
        tried(1, 1, "d", Reason.DISK_FULL),
    ]
    assert failed_hosts(attempts, 0) == {"a", "c"}
    assert failed_hosts(attempts, 1) == {"d"}
    assert failed_hosts(attempts, 2) == frozenset()


def test_a_child_out_of_memory_is_a_warning_when_the_command_succeeds() -> None:
    (warning,) = warnings_of(Exit(0, oom_killed=True))
    assert "lack of memory" in warning
    assert warnings_of(Exit(137, oom_killed=True)) == ()
    assert warnings_of(Exit(0)) == ()
