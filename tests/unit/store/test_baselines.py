"""What runs were measured with and compared with, and where baselines begin anew."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from orchestrator.domain.baseline import Rebase
from orchestrator.domain.errors import LeaseLost, NotFound
from orchestrator.domain.metrics import Metric
from orchestrator.domain.pipeline import Looks
from orchestrator.domain.retention import Going, Kind
from orchestrator.domain.run import AttemptState, Purpose, Reason, Run, RunState
from orchestrator.ports.baselines import ComparedWith, Frozen, Keys, NewUse, PastRun, Uses
from orchestrator.ports.records import AttemptResult
from orchestrator.store import SqlStore
from orchestrator.store.passed_runs import PassedRuns
from tests.unit.store.support import (
    AT,
    claim,
    claimed,
    enqueue,
    later,
    new_run,
    passed,
    pipeline,
    succeed,
)

KEYS = Keys("test data", "collect", "a CPU", "a recipe")
FROZEN = Frozen(
    (
        ComparedWith("accuracy not worse than best", 1, runs=(1, 2)),
        ComparedWith("loss not worse than best", None, "no eligible baseline yet"),
    ),
    (4, 3),
)


def replicated(
    store: SqlStore, keys: Keys = KEYS, state: RunState = RunState.PASSED, *, paired: bool = False
) -> int:
    run = enqueue(store, new_run(replace(pipeline(replicates=2), looks=Looks(pair_seeds=paired))))
    for attempt in store.attempts.of_run(run.id):
        lease = claim(store, attempt)
        assert lease is not None
        succeed(store, lease)
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, AT)
    store.runs.move(run.id, RunState.EVALUATING, state, AT)
    store.baselines.note(run.id, keys)
    return run.id


def test_what_a_run_was_measured_with_is_written_down_and_replaced(store: SqlStore) -> None:
    run = enqueue(store)
    assert store.baselines.keys(run.id) is None
    store.baselines.note(run.id, KEYS)
    other = Keys("test data", "collect", "another CPU", "a recipe")
    store.baselines.note(run.id, other)
    assert store.baselines.keys(run.id) == other
    with pytest.raises(NotFound):
        store.baselines.note(run.id + 1, KEYS)


def test_what_a_run_is_compared_with_comes_back_as_it_was(store: SqlStore) -> None:
    run = enqueue(store)
    with pytest.raises(NotFound, match="how run"):
        store.baselines.freeze(run.id, FROZEN)
    store.baselines.note(run.id, KEYS)
    assert store.baselines.frozen(run.id) is None
    store.baselines.freeze(run.id, FROZEN)
    store.baselines.note(run.id, KEYS)
    assert store.baselines.frozen(run.id) == FROZEN


def test_replicated_runs_with_the_same_keys_come_newest_first(store: SqlStore) -> None:
    first, second = replicated(store), replicated(store, state=RunState.REJECTED)
    third = replicated(store, state=RunState.INCONCLUSIVE)
    another_recipe = replicated(store, Keys("test data", "collect", "a CPU", "another recipe"))
    newest = replicated(store)
    assert store.baselines.replicated(newest, 10) == [another_recipe, third, second, first]
    assert store.baselines.replicated(newest, 2) == [another_recipe, third]


@pytest.mark.parametrize(
    "keys",
    [
        Keys("other data", "collect", "a CPU", "a recipe"),
        Keys("test data", "compute", "a CPU", "a recipe"),
        Keys("test data", "collect", "a GPU", "a recipe"),
    ],
)
def test_runs_with_other_keys_do_not_vary_alike(store: SqlStore, keys: Keys) -> None:
    replicated(store, keys)
    assert store.baselines.replicated(replicated(store), 10) == []


def test_of_runs_that_drew_the_same_seeds_one_tells_the_noise(store: SqlStore) -> None:
    first, second, third = (replicated(store, paired=True) for _ in range(3))
    other = replicated(store, Keys("test data", "collect", "a CPU", "another recipe"), paired=True)
    newest = replicated(store)
    assert store.baselines.replicated(newest, 10) == [other, third]
    assert store.baselines.replicated(newest, 10, compared={first}) == [other, first]
    assert store.baselines.replicated(newest, 10, compared={first, second}) == [other]
    assert store.baselines.replicated(third, 10) == [newest, other]


def test_runs_that_drew_the_same_seeds_do_not_hide_the_noise_of_older_ones(store: SqlStore) -> None:
    oldest = replicated(store)
    repeated = [replicated(store, paired=True) for _ in range(4)]
    assert store.baselines.replicated(replicated(store), 2) == [repeated[-1], oldest]


def test_runs_on_unknown_hardware_vary_like_no_other(store: SqlStore) -> None:
    unknown = Keys("test data", "collect", "", "a recipe")
    replicated(store, unknown)
    assert store.baselines.replicated(replicated(store, unknown), 10) == []


def test_single_failed_unknown_and_reproduced_runs_are_not_replicated(store: SqlStore) -> None:
    single = passed(store)
    store.baselines.note(single.id, KEYS)
    replicated(store, state=RunState.FAILED)
    again = enqueue(store, new_run(pipeline(replicates=2), purpose=Purpose.REPRODUCE, rerun_of=single.id))
    for attempt in store.attempts.of_run(again.id):
        lease = claim(store, attempt)
        assert lease is not None
        succeed(store, lease)
    store.runs.move(again.id, RunState.RUNNING, RunState.EVALUATING, AT)
    store.runs.move(again.id, RunState.EVALUATING, RunState.PASSED, AT)
    store.baselines.note(again.id, KEYS)
    assert store.baselines.replicated(replicated(store), 10) == []
    assert store.baselines.replicated(enqueue(store).id, 10) == []


def test_a_replicate_that_failed_beside_others_has_no_part_in_the_history(store: SqlStore) -> None:
    run = enqueue(store, new_run(pipeline(replicates=2)))
    good, bad = (claim(store, attempt) for attempt in store.attempts.of_run(run.id))
    assert good is not None
    assert bad is not None
    metric = Metric("accuracy", 0.9, "metrics.json", "json")
    succeed(store, good, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=(metric,)))
    store.attempts.advance(bad, AttemptState.PREPARING, AttemptState.RUNNING, AT)
    store.attempts.advance(bad, AttemptState.RUNNING, AttemptState.COLLECTING, AT)
    failed = AttemptResult(AttemptState.FAILED, Reason.EXIT_CODE)
    store.attempts.finish(bad, AttemptState.COLLECTING, failed, AT)
    store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, AT)
    store.runs.move(run.id, RunState.EVALUATING, RunState.PASSED, AT)
    (past,) = store.baselines.history("wine", {"accuracy"})
    assert [metric.value for metric in past.metrics[0]] == [0.9]
    assert set(past.metrics) == {0}


def test_each_run_of_the_history_is_read_once(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []
    whole = PassedRuns._read

    def counted(self: PassedRuns, name: str, metrics: Collection[str], ids: Sequence[int]) -> list[PastRun]:
        read.append(list(ids))
        return whole(self, name, metrics, ids)

    monkeypatch.setattr(PassedRuns, "_read", counted)
    runs = [replicated(store) for _ in range(3)]
    first = store.baselines.history("wine", {"accuracy"})
    assert read == [runs]
    newer = replicated(store)
    replicated(store, state=RunState.REJECTED)
    again = store.baselines.history("wine", {"accuracy"})
    assert read == [runs, [newer]]
    assert [run.id for run in again] == [*runs, newer]
    assert again[:3] == first
    assert [run.id for run in store.baselines.history("wine", {"loss"})] == [*runs, newer]
    assert read[2:] == [[*runs, newer]]


def test_a_run_is_read_again_until_it_is_known_what_it_made(store: SqlStore) -> None:
    run = passed(store)
    (before,) = store.baselines.history("wine", {"accuracy"})
    store.baselines.note(run.id, KEYS)
    (after,) = store.baselines.history("wine", {"accuracy"})
    assert (before.recipe, after.recipe) == ("", "a recipe")


def test_a_run_that_was_removed_is_in_the_history_no_more(store: SqlStore) -> None:
    gone, kept = passed(store), passed(store)
    for each in (gone, kept):
        store.baselines.note(each.id, KEYS)
    assert len(store.baselines.history("wine", {"accuracy"})) == 2
    assert store.retention.remove_runs([Going(Kind.RUNS, gone.id, gone.title, "old")], "me", later(1)) == 1
    assert [run.id for run in store.baselines.history("wine", {"accuracy"})] == [kept.id]


def test_the_history_tells_recipes_and_the_order_of_changes(store: SqlStore) -> None:
    first, second = passed(store), passed(store)
    store.baselines.note(second.id, KEYS)
    past = store.baselines.history("wine", {"accuracy"})
    assert [(run.id, run.recipe, run.rank) for run in past] == [
        (first.id, "", first.change.rank),
        (second.id, "a recipe", second.change.rank),
    ]


def test_the_newest_rebase_counts_until_it_is_taken_back(store: SqlStore) -> None:
    first, second = passed(store), passed(store)
    assert store.baselines.rebased("wine") is None
    store.baselines.rebase("wine", first.id, "ana", "a new metric", AT)
    store.baselines.rebase("wine", second.id, "bob", "another one", later(1))
    assert store.baselines.rebased("wine") == Rebase(second.id, "bob", "another one", later(1))
    assert store.baselines.rebased("beer") is None
    undone = store.baselines.undo_rebase("wine", "ana", "it was none", later(2))
    assert undone.run_id == second.id
    assert store.baselines.rebased("wine") == Rebase(first.id, "ana", "a new metric", AT)
    store.baselines.undo_rebase("wine", "ana", "nor this", later(3))
    with pytest.raises(NotFound, match="never begun anew"):
        store.baselines.undo_rebase("wine", "ana", "again", later(4))


def test_rebases_stand_in_the_journal_with_who_and_why(store: SqlStore) -> None:
    run = passed(store)
    store.baselines.rebase("wine", run.id, "ana", "a new metric", AT)
    store.baselines.undo_rebase("wine", "bob", "it was none", later(1))
    told = [(entry.who, entry.reason) for entry in store.journal.of_run(run.id)][-2:]
    assert told == [
        ("ana", "the baselines of wine begin anew with it: a new metric"),
        ("bob", "the baselines of wine no longer begin with it: it was none"),
    ]


def test_a_run_of_another_pipeline_begins_no_baselines(store: SqlStore) -> None:
    run = passed(store, new_run(pipeline("beer")))
    with pytest.raises(NotFound, match="has no run"):
        store.baselines.rebase("wine", run.id, "ana", "why not", AT)


def test_a_run_with_which_baselines_begin_is_not_removed(store: SqlStore) -> None:
    run, other = passed(store), passed(store)
    for each in (run, other):
        store.baselines.note(each.id, KEYS)
    store.baselines.rebase("wine", run.id, "ana", "a new metric", AT)
    going = [Going(Kind.RUNS, each.id, each.title, "old") for each in (run, other)]
    assert store.retention.remove_runs(going, "me", later(1)) == 1
    assert store.runs.get(run.id).id == run.id
    assert store.retention.needed()[run.id] == "the baselines of wine begin, or began, with it"
    with pytest.raises(NotFound):
        store.runs.get(other.id)
    assert store.baselines.keys(other.id) is None


def test_what_an_attempt_computes_on_is_kept(store: SqlStore) -> None:
    lease = claimed(store)
    store.attempts.advance(
        lease, AttemptState.PREPARING, AttemptState.RUNNING, AT, image_digest="sha256:1", hardware="a CPU"
    )
    store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, AT)
    assert store.attempts.get(lease.id).hardware == "a CPU"


def judged(store: SqlStore, *uses: NewUse, name: str = "wine", state: RunState = RunState.PASSED) -> Run:
    """A run that was judged with evaluation data."""
    run = enqueue(store, new_run(pipeline(name)))
    store.runs.move(run.id, RunState.QUEUED, RunState.RUNNING, AT)
    return store.runs.move(run.id, RunState.RUNNING, state, AT, through=RunState.EVALUATING, uses=uses)


def test_uses_are_counted_by_the_data_whichever_pipelines_they_are(store: SqlStore) -> None:
    first = judged(store, NewUse("sealed", "pass", 0), NewUse("other", "pass"))
    judged(store, NewUse("sealed", "inconclusive", 1), name="tea", state=RunState.INCONCLUSIVE)
    judged(store, NewUse("sealed", "fail"), state=RunState.REJECTED)
    assert store.baselines.uses("sealed") == Uses(3, "tea #1")
    assert store.baselines.uses("sealed", first.id) == Uses(0)
    assert store.baselines.uses("other") == Uses(1)
    assert store.baselines.uses("nothing") == Uses(0)


def test_a_run_that_is_not_judged_yet_comes_after_all_uses(store: SqlStore) -> None:
    waiting = enqueue(store)
    judged(store, NewUse("sealed", "pass"))
    assert store.baselines.uses("sealed", waiting.id) == Uses(1)


def test_a_look_is_a_use_and_its_verdict_the_same_one(store: SqlStore) -> None:
    run = enqueue(store)
    store.runs.move(run.id, RunState.QUEUED, RunState.RUNNING, AT)
    store.runs.begin_look(run.id, RunState.RUNNING, 2, AT, uses=[NewUse("sealed", "", 0)])
    assert store.baselines.uses("sealed") == Uses(1)
    judged(store, NewUse("sealed", "pass", 1))
    assert store.baselines.uses("sealed", run.id) == Uses(0)
    use = NewUse("sealed", "fail", 0)
    way = RunState.EVALUATING
    store.runs.move(run.id, RunState.RUNNING, RunState.REJECTED, AT, through=way, uses=[use])
    assert store.baselines.uses("sealed") == Uses(2, run.title)


def test_of_two_verdicts_that_saw_the_same_uses_one_is_made_anew(store: SqlStore) -> None:
    judged(store, NewUse("sealed", "pass", 0))
    with pytest.raises(LeaseLost, match="meanwhile"):
        judged(store, NewUse("sealed", "pass", 0))
    assert store.baselines.uses("sealed") == Uses(1)
    assert store.runs.listing()[0].state is RunState.RUNNING


def test_a_use_stays_when_its_run_is_removed(store: SqlStore) -> None:
    run = judged(store, NewUse("sealed", "fail"), state=RunState.REJECTED)
    going = [Going(Kind.RUNS, run.id, run.title, "old")]
    assert store.retention.remove_runs(going, "me", later(1)) == 1
    assert store.baselines.uses("sealed") == Uses(1, run.title)
