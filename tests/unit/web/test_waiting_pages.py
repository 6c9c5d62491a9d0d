"""Runs that wait for a person, on the pages."""

from __future__ import annotations

from orchestrator.domain.change import PullRequest
from orchestrator.domain.run import RunState
from orchestrator.services.approve import Approver
from tests.unit.services.forges import WINE
from tests.unit.services.worlds import World, commit_id, pipeline
from tests.unit.web.test_pages import EVIL, Site, site

__all__ = ["site"]


def test_a_run_that_waits_says_so_and_for_whom(site: Site, world: World) -> None:
    of = pipeline(sources=(WINE,))
    world.detector.poll_source(of, WINE)
    world.sources.pulls.append(
        PullRequest(7, "main", commit_id("theirs"), "topic", "evil/wine", True, EVIL, 666, EVIL)
    )
    (run,) = world.detector.poll_source(of, WINE)
    assert run.state is RunState.AWAITING_APPROVAL
    overview = site.get("/").text
    assert '<td class="label unsure">awaiting approval</td>' in overview
    page = site.get(f"/runs/{run.id}").text
    assert f"orchestrator runs approve wine#{run.number}" in page
    assert EVIL not in overview + page
    Approver(world.store, world.clock).approve(run, EVIL)
    page = site.get(f"/runs/{run.id}").text
    assert "Approved by" in page
    assert EVIL not in page
