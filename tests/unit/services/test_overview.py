"""All pipelines at a glance."""

from __future__ import annotations

from orchestrator.domain.pipeline import DatasetSpec, Pipeline
from orchestrator.services.overview import Overview, overview
from orchestrator.services.pinning import Unsettled
from tests.unit.services.worlds import World, commit_id, pipeline


def glance(world: World, *pipelines: Pipeline, repositories: tuple[str, ...] = ()) -> Overview:
    now = world.clock.now()
    return overview(
        world.store, pipelines, lambda run: ["why"], lambda of: None, now, repositories=repositories
    )


def test_what_runs_counts_more_than_what_waits_and_that_more_than_how_the_last_ended(world: World) -> None:
    (view,) = glance(world, pipeline()).pipelines
    assert (view.state, view.well) == ("no run yet", True)
    world.finish(world.first_run(pipeline()), world.server())
    (view,) = glance(world, pipeline()).pipelines
    assert (view.state, view.well, view.why) == ("passed", True, "")
    world.sources.branches["main"] = commit_id("second")
    run = world.first_run(pipeline())
    (view,) = glance(world, pipeline()).pipelines
    assert (view.state, view.waiting, view.why) == ("waiting", (run,), "why")
    attempt = world.store.attempts.of_run(run.id)[0]
    world.store.attempts.claim(attempt.id, "local", 2, "c", "me", world.clock.now(), 30.0)
    (view,) = glance(world, pipeline()).pipelines
    assert (view.state, len(view.running), view.waiting) == ("running", 1, ())


def test_trouble_of_a_dataset_belongs_to_its_pipeline_alone(world: World) -> None:
    now = world.clock.now()
    world.store.watches.troubled("source prep/repo", "away", 1, now, now)
    wine, prep = glance(world, pipeline(), pipeline(name="prep", project="z")).pipelines
    assert (wine.well, prep.well) == (True, False)
    assert [seen.trouble for seen in prep.troubles] == ["away"]


def test_data_that_are_being_written_are_told_with_what_they_wait_for(world: World) -> None:
    marked = DatasetSpec("rows", "/data/rows", marker="_SUCCESS")
    world.data.whole = False
    assert world.detector.scan_dataset(pipeline(datasets=(marked,)), marked) == []
    world.clock.advance(60)
    (view,) = glance(world, pipeline(datasets=(marked,))).pipelines
    (told,) = view.waits
    assert told.startswith("dataset rows: it is being written until _SUCCESS is there, newer than the rest")
    assert told.endswith("it last changed 1 m ago")
    world.data.whole = True
    world.detector.scan_dataset(pipeline(datasets=(marked,)), marked)
    (view,) = glance(world, pipeline(datasets=(marked,))).pipelines
    assert view.waits == ()


def test_data_whose_change_was_taken_back_are_not_being_written_any_more(world: World) -> None:
    rows = DatasetSpec("rows", "/data/rows", settle=10)
    world.detector.refresh(rows)
    world.data.write("more.csv", b"3,4\n")
    assert isinstance(world.detector.refresh(rows), Unsettled)
    assert glance(world, pipeline(datasets=(rows,))).pipelines[0].waits != ()
    del world.data.files["more.csv"]
    world.detector.refresh(rows)
    assert glance(world, pipeline(datasets=(rows,))).pipelines[0].waits == ()


def test_pipelines_of_repositories_are_known_by_their_runs(world: World) -> None:
    world.first_run(pipeline(name="acme.wine", project="acme"))
    world.first_run(pipeline(name="gone"))
    found = glance(world, pipeline(), repositories=("acme",))
    assert [(view.name, view.project) for view in found.pipelines] == [
        ("acme.wine", "acme"),
        ("wine", "default"),
    ]
