from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import EmailAction
from orchestrator.domain.change import Cause, DatasetRole
from orchestrator.domain.errors import DatasetUnavailable, NotFound, SourceUnavailable
from orchestrator.domain.pipeline import DatasetSpec, SourceSpec
from orchestrator.domain.run import Reason, RunState
from orchestrator.services.detect import Detector
from tests.unit.services.worlds import World, commit_id, pipeline

WINE = DatasetSpec("wine", "/data/wine", DatasetRole.TRAIN, settle=10)


def test_the_first_sight_of_a_repository_makes_one_run_of_its_default_branch(world: World) -> None:
    world.sources.branches["release"] = commit_id("old release")
    watched = pipeline(sources=(SourceSpec("repo", "/repo", ("*",)),))
    runs = world.detector.poll_source(watched, watched.sources[0])
    assert [(r.change.cause, r.change.revision.branch) for r in runs] == [(Cause.FIRST_SIGHT, "main")]
    assert world.detector.poll_source(watched, watched.sources[0]) == []


def test_a_push_makes_exactly_one_run_pinned_to_its_commit(world: World) -> None:
    watched = pipeline()
    world.first_run(watched)
    new = world.sources.push("main", "second")
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    assert (run.change.cause, run.change.revision.commit, run.number) == (Cause.PUSH, new, 2)
    assert world.detector.poll_source(watched, watched.sources[0]) == []


def test_a_commit_that_a_person_ran_before_it_was_watched_is_not_run_again_at_first_sight(
    world: World,
) -> None:
    watched = pipeline(datasets=(WINE,))
    world.detector.run_now(watched, None, "ana")
    assert world.detector.poll_source(watched, watched.sources[0]) == []
    assert world.detector.scan_dataset(watched, WINE) == []
    world.sources.push("main", "second")
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    assert (run.number, run.change.cause) == (2, Cause.PUSH)


def test_a_run_by_hand_on_other_data_leaves_the_first_sight_its_run(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.detector.run_now(watched, None, "ana")
    world.data.write("more.csv", b"3,4\n")
    world.clock.advance(11)
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    assert run.change.cause is Cause.FIRST_SIGHT


def test_branches_that_no_pattern_names_are_not_run(world: World) -> None:
    watched = pipeline()
    world.first_run(watched)
    world.sources.push("experiment", "wild")
    assert world.detector.poll_source(watched, watched.sources[0]) == []


def test_each_branch_that_moved_makes_a_run(world: World) -> None:
    watched = pipeline(sources=(SourceSpec("repo", "/repo", ("main", "release/*")),))
    world.first_run(watched)
    world.sources.push("main", "a")
    world.sources.push("release/1", "b")
    runs = world.detector.poll_source(watched, watched.sources[0])
    assert sorted(r.change.revision.branch for r in runs) == ["main", "release/1"]


def test_a_branch_that_goes_back_and_forth_makes_a_run_each_time(world: World) -> None:
    watched = pipeline()
    first = world.first_run(watched)
    world.sources.push("main", "second")
    world.detector.poll_source(watched, watched.sources[0])
    world.sources.branches["main"] = first.change.revision.commit
    (back,) = world.detector.poll_source(watched, watched.sources[0])
    assert back.change.revision.commit == first.change.revision.commit
    assert back.number == 3


def test_a_rewritten_branch_makes_a_run_that_says_so(world: World) -> None:
    watched = pipeline()
    world.first_run(watched)
    world.sources.push("main", "other history", rewrite=True)
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    assert run.change.note == "the history of main was rewritten"


def test_a_deleted_branch_makes_no_run_and_may_come_back(world: World) -> None:
    watched = pipeline(sources=(SourceSpec("repo", "/repo", ("*",)),))
    world.sources.branches["side"] = commit_id("side")
    world.first_run(watched)
    gone = world.sources.branches.pop("side")
    assert world.detector.poll_source(watched, watched.sources[0]) == []
    world.sources.branches["side"] = gone
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    assert run.change.revision.branch == "side"


def test_a_look_that_shows_no_branch_at_all_is_not_believed_at_once(world: World) -> None:
    watched = pipeline(sources=(SourceSpec("repo", "/repo", ("*",)),))
    source = watched.sources[0]
    world.sources.branches["side"] = commit_id("side")
    world.first_run(watched)
    there, world.sources.branches = world.sources.branches, {}
    with pytest.raises(SourceUnavailable, match="/repo shows no branch any more"):
        world.detector.poll_source(watched, source)
    world.sources.branches = there
    pushed = world.sources.push("side", "while it was moved")
    (run,) = world.detector.poll_source(watched, source)
    assert run.change.revision.commit == pushed
    world.sources.branches = {}
    with pytest.raises(SourceUnavailable, match="no branch"):
        world.detector.poll_source(watched, source)


def test_a_repository_that_stays_without_branches_is_believed(world: World) -> None:
    watched = pipeline()
    world.first_run(watched)
    world.sources.branches = {}
    with pytest.raises(SourceUnavailable):
        world.detector.poll_source(watched, watched.sources[0])
    assert world.detector.poll_source(watched, watched.sources[0]) == []
    assert world.store.detection.heads("wine", "repo") == {}
    assert world.detector.poll_source(watched, watched.sources[0]) == []


def test_a_repository_that_never_had_a_branch_is_empty(world: World) -> None:
    world.sources.branches = {}
    watched = pipeline()
    assert world.detector.poll_source(watched, watched.sources[0]) == []


def test_a_repository_that_does_not_answer_loses_nothing(world: World) -> None:
    watched = pipeline()
    world.first_run(watched)
    world.sources.push("main", "second")
    world.sources.down = True
    with pytest.raises(SourceUnavailable):
        world.detector.poll_source(watched, watched.sources[0])
    world.sources.down = False
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    assert run.number == 2


def test_a_commit_that_is_force_pushed_away_while_it_is_fetched_waits_for_the_next_poll(world: World) -> None:
    watched = pipeline()
    world.first_run(watched)
    gone = world.sources.push("main", "gone")
    world.sources.vanished.add(gone)
    assert world.detector.poll_source(watched, watched.sources[0]) == []
    new = world.sources.push("main", "newer", rewrite=True)
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    assert run.change.revision.commit == new


def test_two_servers_that_see_the_same_push_make_one_run(world: World) -> None:
    watched = pipeline()
    world.first_run(watched)
    world.sources.push("main", "second")
    others = [Detector(world.store, world.sources, world.data, world.clock) for _ in range(8)]
    start = threading.Barrier(len(others))
    found: list[int] = []

    def poll(detector: Detector) -> None:
        start.wait()
        found.extend(run.id for run in detector.poll_source(watched, watched.sources[0]))

    threads = [threading.Thread(target=poll, args=(d,)) for d in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert len(world.store.runs.listing()) == 2


def test_a_dataset_change_makes_one_run_of_the_deployed_branch_with_the_new_version(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    first = world.first_run(watched)
    world.data.write("more.csv", b"3,4\n")
    world.clock.advance(11)
    (run,) = world.detector.scan_dataset(watched, WINE)
    assert run.change.cause is Cause.DATA
    assert run.change.revision.commit == first.change.revision.commit
    assert [v.number for v in run.change.datasets] == [2]
    assert world.detector.scan_dataset(watched, WINE) == []


def test_a_dataset_that_is_being_written_is_not_a_version_until_it_is_still(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.first_run(watched)
    for part in range(3):
        world.data.write("big.csv", b"x" * (part + 1))
        world.clock.advance(5)
        assert world.detector.scan_dataset(watched, WINE) == []
    world.clock.advance(10)
    assert len(world.detector.scan_dataset(watched, WINE)) == 1


def test_files_dated_in_the_future_settle_by_being_seen_unchanged(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.first_run(watched)
    world.data.write("clock.csv", b"x")
    world.data.changed_at = world.clock.now().replace(year=2030)
    assert world.detector.scan_dataset(watched, WINE) == []
    world.clock.advance(11)
    assert len(world.detector.scan_dataset(watched, WINE)) == 1


def test_a_touched_dataset_with_the_same_content_makes_no_run(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.first_run(watched)
    world.data.files["rows.csv"] = bytes(bytearray(b"1,2\n"))
    world.data.changed_at = world.clock.now()
    world.clock.advance(11)
    assert world.detector.scan_dataset(watched, WINE) == []


def test_a_push_waits_for_a_dataset_to_settle_and_is_not_lost(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.first_run(watched)
    world.data.write("more.csv", b"3,4\n")
    world.sources.push("main", "second")
    assert world.detector.poll_source(watched, watched.sources[0]) == []
    world.clock.advance(11)
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    assert (run.change.cause, run.change.datasets[0].number) == (Cause.PUSH, 2)
    assert world.detector.scan_dataset(watched, WINE) == []


def test_missing_data_are_their_own_trouble_alone_and_lose_no_push(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    source = watched.sources[0]
    for word in ("first", "second"):
        world.sources.push("main", word)
        world.data.missing = True
        assert world.detector.poll_source(watched, source) == []
        assert world.detector.again(watched, source) == source.poll / 4
        with pytest.raises(DatasetUnavailable):
            world.detector.scan_dataset(watched, WINE)
        world.data.missing = False
        (run,) = world.detector.poll_source(watched, source)
        assert run.change.revision.commit == commit_id(word)


def test_a_newer_change_asks_older_runs_of_its_branch_to_end_when_told_to(world: World) -> None:
    watched = pipeline(cancel_in_progress=True)
    first = world.first_run(watched)
    world.sources.push("main", "second")
    world.detector.poll_source(watched, watched.sources[0])
    assert world.store.runs.cancel_reason(first.id) is Reason.SUPERSEDED
    world.evaluator.tick()
    assert world.store.runs.get(first.id).state is RunState.CANCELLED


def test_without_that_older_runs_go_on(world: World) -> None:
    watched = pipeline()
    first = world.first_run(watched)
    world.sources.push("main", "second")
    world.detector.poll_source(watched, watched.sources[0])
    assert world.store.runs.cancel_reason(first.id) is None


def test_a_person_gets_a_run_of_the_ref_that_was_named(world: World) -> None:
    watched = pipeline()
    run = world.detector.run_now(watched, "main", "ana@desk")
    assert (run.change.cause, run.change.requested_by) == (Cause.MANUAL, "ana@desk")


def test_a_person_is_told_which_branches_there_are_when_none_is_watched(world: World) -> None:
    watched = pipeline(sources=(SourceSpec("repo", "/repo", ("trunk",)),), deploy_branches=("trunk",))
    with pytest.raises(NotFound, match="its branches are: main"):
        world.detector.run_now(watched, None, "ana")


def test_a_person_does_not_wait_for_data_to_settle(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.data.write("fresh.csv", b"1\n")
    run = world.detector.run_now(watched, None, "ana")
    assert run.change.datasets[0].files == 2


def test_a_run_owes_its_start_mail_from_the_moment_it_is_enqueued(world: World) -> None:
    mail = EmailAction(("team@example.org",))
    run = world.first_run(pipeline(actions=((Trigger.START, mail), (Trigger.PASS, mail))))
    assert [a.trigger for a in world.store.actions.of_run(run.id)] == [Trigger.START]


def test_nobody_gets_a_run_on_data_that_a_marker_says_are_not_whole(world: World) -> None:
    dataset = replace(WINE, marker="_SUCCESS")
    watched = pipeline(datasets=(dataset,))
    world.data.whole = False
    with pytest.raises(DatasetUnavailable, match="is still being written: _SUCCESS is not there"):
        world.detector.run_now(watched, None, "ana")
    assert world.store.runs.listing() == []
    world.data.whole = True
    assert world.detector.run_now(watched, None, "ana").number == 1


def test_new_data_that_somebody_ran_by_hand_are_not_run_again(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    world.first_run(watched)
    world.data.write("more.csv", b"3,4\n")
    by_hand = world.detector.run_now(watched, None, "ana")
    world.clock.advance(11)
    assert world.detector.scan_dataset(watched, WINE) == []
    assert world.store.detection.data_heads("wine") == {"wine": by_hand.change.datasets[0].fingerprint}
    world.data.write("more.csv", b"5,6\n")
    world.clock.advance(11)
    (run,) = world.detector.scan_dataset(watched, WINE)
    assert run.change.cause is Cause.DATA


def test_data_that_come_back_are_run_again(world: World) -> None:
    watched = pipeline(datasets=(WINE,))
    first = world.first_run(watched)
    before = world.data.files["rows.csv"]
    for content in (b"other\n", before):
        world.data.write("rows.csv", content)
        world.clock.advance(11)
        (run,) = world.detector.scan_dataset(watched, WINE)
    assert run.change.datasets == first.change.datasets
