"""Marks on commits: each run's, in the end the right one, and none that says more than is known."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.change import Cause, Revision
from orchestrator.domain.errors import RevisionGone, SourceRefused, SourceUnavailable
from orchestrator.domain.gate import Outcome, Verdict
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.run import Purpose, Reason, Run, RunState
from orchestrator.ports.forge import Mark
from orchestrator.ports.records import NewRun
from orchestrator.services.statuses import StatusTeller
from tests.unit.services.forges import WINE, FakeForge
from tests.unit.services.worlds import World, commit_id, pipeline


class Teller(StatusTeller):
    def told(self) -> int:
        """One turn of a server that goes on."""
        return self.tick(threading.Event())


@pytest.fixture
def forge() -> FakeForge:
    return FakeForge()


@pytest.fixture
def teller(world: World, forge: FakeForge) -> Teller:
    return another(world, forge)


def another(world: World, forge: FakeForge) -> Teller:
    return Teller(
        world.store,
        forge,
        world.reports,
        world.clock,
        "http://ci.example.org",
        ReportRenderer().comment,
    )


def watched(name: str = "wine", source: SourceSpec = WINE) -> Pipeline:
    return pipeline(name=name, sources=(source,))


def enqueued(world: World, word: str = "first", of: Pipeline | None = None, **facts: object) -> Run:
    of = of or watched()
    new = NewRun(of, Cause.PUSH, Revision("wine", "main", commit_id(word)), ())
    run = world.store.runs.enqueue(replace(new, **facts), (), of.name, world.clock.now())  # type: ignore[arg-type]
    assert run is not None
    return run


def moved(world: World, run: Run, *states: RunState, verdict: Verdict | None = None) -> None:
    before = run.state
    for state in states:
        reason = Reason.EXIT_CODE if state is RunState.FAILED else None
        judged = verdict if state.final else None
        world.store.runs.move(run.id, before, state, world.clock.now(), reason, "it ended", verdict=judged)
        before = state


def told(forge: FakeForge) -> list[tuple[str, Mark, str]]:
    return [(mark.commit, mark.mark, mark.text) for mark in forge.marks]


def test_a_run_is_pending_then_running_then_judged(world: World, forge: FakeForge, teller: Teller) -> None:
    run = enqueued(world)
    assert teller.told() == 1
    moved(world, run, RunState.RUNNING)
    teller.told()
    run = world.store.runs.get(run.id)
    moved(world, run, RunState.EVALUATING)
    assert teller.told() == 0, "that the gate judges is no news"
    run = world.store.runs.get(run.id)
    moved(world, run, RunState.PASSED, verdict=Verdict(Outcome.PASS, "all checks hold"))
    teller.told()
    commit = commit_id("first")
    assert told(forge) == [
        (commit, Mark.PENDING, "wine #1 waits for its turn"),
        (commit, Mark.RUNNING, "wine #1 runs"),
        (commit, Mark.SUCCESS, "passed: all checks hold"),
    ]
    assert {mark.url for mark in forge.marks} == {f"http://ci.example.org/runs/{run.id}"}
    assert teller.told() == 0
    assert not world.store.statuses.any_owed()


@pytest.mark.parametrize(
    ("states", "mark"),
    [
        ((RunState.RUNNING, RunState.FAILED), Mark.FAILURE),
        ((RunState.RUNNING, RunState.EVALUATING, RunState.REJECTED), Mark.FAILURE),
        ((RunState.RUNNING, RunState.ERRORED), Mark.ERROR),
        ((RunState.RUNNING, RunState.EVALUATING, RunState.INCONCLUSIVE), Mark.NEUTRAL),
        ((RunState.CANCELLED,), Mark.NEUTRAL),
    ],
)
def test_only_the_commits_own_fault_is_a_failure(
    world: World, forge: FakeForge, teller: Teller, states: tuple[RunState, ...], mark: Mark
) -> None:
    moved(world, enqueued(world), *states)
    teller.told()
    assert [each.mark for each in forge.marks] == [mark]


def test_each_pipeline_has_a_mark_of_its_own_on_a_commit(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    enqueued(world)
    enqueued(world, of=watched("beer"))
    teller.told()
    assert {mark.context for mark in forge.marks} == {"mlci/wine", "mlci/beer"}


def test_runs_that_judge_no_commit_of_a_forge_owe_nothing(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    enqueued(world, purpose=Purpose.BASELINE)
    enqueued(world, of=watched(source=replace(WINE, github="")))
    assert not world.store.statuses.any_owed()
    assert teller.told() == 0
    assert forge.calls == []


def test_an_older_run_never_overwrites_what_a_newer_one_says_of_the_same_commit(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    first = enqueued(world)
    teller.told()
    enqueued(world)
    teller.told()
    moved(world, first, RunState.RUNNING, RunState.FAILED)
    teller.told()
    assert [mark.mark for mark in forge.marks] == [Mark.PENDING, Mark.PENDING]
    assert not world.store.statuses.any_owed()


def test_a_mark_is_told_with_what_the_forge_called_it(world: World, forge: FakeForge, teller: Teller) -> None:
    run = enqueued(world)
    teller.told()
    moved(world, run, RunState.RUNNING)
    teller.told()
    assert [mark.external_id for mark in forge.marks] == ["", "mark 1"]


def test_a_newer_run_of_another_commit_silences_nobody(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    first = enqueued(world)
    enqueued(world, "second")
    moved(world, first, RunState.RUNNING, RunState.FAILED)
    teller.told()
    assert {(mark.commit, mark.mark) for mark in forge.marks} == {
        (commit_id("first"), Mark.FAILURE),
        (commit_id("second"), Mark.PENDING),
    }


def test_a_forge_that_does_not_answer_is_asked_again_later_and_hears_the_newest(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    run = enqueued(world)
    forge.faults["set_status"] = [SourceUnavailable("github.com does not answer")]
    teller.told()
    assert teller.told() == 0, "not at once"
    assert world.store.statuses.of_run(run.id)[0].last_error == "github.com does not answer"
    moved(world, run, RunState.RUNNING, RunState.FAILED)
    world.clock.advance(6)
    teller.told()
    assert [mark.mark for mark in forge.marks] == [Mark.FAILURE]
    assert world.store.statuses.of_run(run.id)[0].last_error == ""


def test_a_forge_is_left_alone_for_as_long_as_it_says(world: World, forge: FakeForge, teller: Teller) -> None:
    enqueued(world)
    forge.faults["set_status"] = [SourceUnavailable("the quota is used up", retry_after=1800.0)]
    teller.told()
    world.clock.advance(1790)
    assert teller.told() == 0
    world.clock.advance(20)
    assert teller.told() == 1


def test_one_refusal_keeps_the_other_runs_of_that_repository_from_asking_and_is_told_once(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    for word in ("first", "second", "third"):
        enqueued(world, word)
    forge.faults["set_status"] = [SourceRefused("the token was revoked") for _ in range(3)]
    teller.told()
    world.clock.advance(400)
    teller.told()
    assert forge.calls == ["set_status"] * 2
    notes = [
        entry.reason for entry in world.store.journal.latest() if entry.subject == "repository acme/wine"
    ]
    assert notes == ["statuses cannot be set: the token was revoked"]


def test_other_repositories_are_told_while_one_is_in_trouble(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    enqueued(world)
    enqueued(world, of=watched("beer", replace(WINE, github="acme/beer")))
    forge.faults["set_status"] = [SourceRefused("the token was revoked")]
    teller.told()
    assert [mark.context for mark in forge.marks] == ["mlci/beer"]


def test_a_mark_that_failed_holds_up_no_other(world: World, forge: FakeForge, teller: Teller) -> None:
    for word in ("first", "second", "third"):
        enqueued(world, word)
    forge.faults["set_status"] = [SourceUnavailable("it cannot be told of this one")]
    teller.told()
    world.clock.advance(6)
    teller.told()
    assert [mark.commit for mark in forge.marks] == [commit_id(w) for w in ("second", "third", "first")]


def test_a_commit_that_is_gone_is_given_up_and_holds_up_no_other(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    gone = enqueued(world)
    enqueued(world, "second")
    forge.faults["set_status"] = [RevisionGone("there is no such commit")]
    teller.told()
    assert [mark.commit for mark in forge.marks] == [commit_id("second")]
    assert "given up" in world.store.journal.of_run(gone.id)[-1].reason
    assert not world.store.statuses.any_owed()


def test_a_result_that_nobody_takes_for_two_days_is_given_up(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    run = enqueued(world)
    moved(world, run, RunState.CANCELLED)
    forge.faults["set_status"] = [SourceRefused("the token was revoked") for _ in range(2)]
    teller.told()
    assert world.store.statuses.any_owed()
    world.clock.advance(timedelta(days=2, minutes=1).total_seconds())
    teller.told()
    assert not world.store.statuses.any_owed()
    assert "given up" in world.store.journal.of_run(run.id)[-1].reason


def test_runs_of_a_repository_that_is_left_alone_are_not_read_again_and_again(
    world: World, forge: FakeForge, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in ("first", "second", "third"):
        enqueued(world, word)
    forge.faults["set_status"] = [SourceRefused("the token was revoked")]
    teller.told()
    read: list[int] = []
    get = world.store.runs.get

    def counted(run_id: int) -> Run:
        read.append(run_id)
        return get(run_id)

    monkeypatch.setattr(world.store.runs, "get", counted)
    world.clock.advance(5)
    teller.told()
    first = list(read)
    world.clock.advance(5)
    teller.told()
    assert read == first
    world.clock.advance(600)
    assert teller.told() == 3


def test_two_servers_tell_a_state_once(world: World, forge: FakeForge) -> None:
    enqueued(world)
    owed = world.store.statuses.due(world.clock.now())
    now = world.clock.now()
    first = world.store.statuses.claim(owed[0], now, now + timedelta(minutes=3))
    assert first is not None
    assert world.store.statuses.claim(owed[0], now, now + timedelta(minutes=3)) is None
    assert another(world, forge).told() == 0
    assert forge.calls == []


def test_a_server_that_died_while_it_told_is_followed_by_another(world: World, forge: FakeForge) -> None:
    enqueued(world)
    (owed,) = world.store.statuses.due(world.clock.now())
    world.store.statuses.claim(owed, world.clock.now(), world.clock.now() + timedelta(minutes=3))
    world.clock.advance(181)
    assert another(world, forge).told() == 1


def test_who_comes_too_late_with_an_older_state_changes_nothing(world: World, forge: FakeForge) -> None:
    run = enqueued(world)
    (owed,) = world.store.statuses.due(world.clock.now())
    late = world.store.statuses.claim(owed, world.clock.now(), world.clock.now() + timedelta(minutes=3))
    assert late is not None
    world.clock.advance(181)
    moved(world, run, RunState.RUNNING, RunState.FAILED)
    another(world, forge).told()
    world.store.statuses.told(late, "queued", "")
    assert world.store.statuses.of_run(run.id)[0].sent == "failed"


def test_a_run_that_waits_says_on_its_commit_how_it_is_approved(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    enqueued(world, needs_approval=True)
    teller.told()
    commit = commit_id("first")
    assert told(forge)[0][1:] == (Mark.PENDING, f"waits for approval: /mlci approve {commit}")
    assert f"`/mlci approve {commit}`" in forge.marks[0].details


def test_mistakes_in_a_repositorys_own_configuration_show_on_the_commit_once(
    forge: FakeForge, teller: Teller
) -> None:
    problems = [".mlci.yaml:3:5: there is no key `comand`", ".mlci.yaml:9:1: @ana <img src=x>"]
    for _ in range(3):
        teller.tell_configuration(WINE, "a" * 40, problems)
        teller.told()
    (mark,) = forge.marks
    assert (mark.context, mark.mark) == ("mlci/configuration", Mark.FAILURE)
    assert mark.text == "2 mistakes: .mlci.yaml:3:5: there is no key `comand`"
    assert "<img" not in mark.details
    assert "@ana" not in mark.details
    assert not teller.has_noted


def test_a_commit_whose_configuration_has_become_right_says_so(forge: FakeForge, teller: Teller) -> None:
    for problems in ([], [".mlci.yaml:1:1: the runner gpu is not granted"], []):
        teller.tell_configuration(WINE, "a" * 40, problems)
        teller.told()
    assert [mark.mark for mark in forge.marks] == [Mark.FAILURE, Mark.SUCCESS]


def test_a_configuration_that_could_not_be_told_is_told_later(
    world: World, forge: FakeForge, teller: Teller
) -> None:
    forge.faults["set_status"] = [SourceUnavailable("github.com does not answer")]
    teller.tell_configuration(WINE, "a" * 40, ["a mistake"])
    teller.told()
    assert teller.told() == 0
    assert teller.has_noted
    world.clock.advance(6)
    teller.told()
    assert [mark.mark for mark in forge.marks] == [Mark.FAILURE]


def test_a_repository_without_a_forge_is_told_nothing(forge: FakeForge, teller: Teller) -> None:
    teller.tell_configuration(replace(WINE, github=""), "a" * 40, ["a mistake"])
    assert teller.told() == 0
    assert forge.calls == []


def test_a_server_that_is_to_stop_tells_no_more(world: World, forge: FakeForge, teller: Teller) -> None:
    enqueued(world)
    stopping = threading.Event()
    stopping.set()
    assert teller.tick(stopping) == 0
    assert world.store.statuses.any_owed()
