"""All pipelines at a glance."""

from __future__ import annotations

from orchestrator.domain.pipeline import Pipeline
from orchestrator.services.overview import Overview, overview
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


def test_pipelines_of_repositories_are_known_by_their_runs(world: World) -> None:
    world.first_run(pipeline(name="acme.wine", project="acme"))
    world.first_run(pipeline(name="gone"))
    found = glance(world, pipeline(), repositories=("acme",))
    assert [(view.name, view.project) for view in found.pipelines] == [
        ("acme.wine", "acme"),
        ("wine", "default"),
    ]
