"""Containers that serve results, when several runs come to one service at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.action import Action, ActionState, Trigger
from orchestrator.domain.action_spec import ContainerAction, Contents
from orchestrator.domain.check import parse_check
from orchestrator.domain.gate import Gate
from orchestrator.domain.pipeline import NamedImage
from orchestrator.domain.run import Exit, Run
from orchestrator.domain.service import ServiceSpec
from orchestrator.observe.masking import Masker
from orchestrator.ports.engine import ContainerState
from orchestrator.ports.records import Lease
from orchestrator.services import naming
from orchestrator.services.acting.act import Acted, Waits
from orchestrator.services.acting.results import Results
from orchestrator.services.acting.service import ServicePorts, Servicer
from orchestrator.services.deploying.gather import Gatherer
from orchestrator.services.images import Images
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, pipeline

LEASE = Lease("action", 1, "me", "token", datetime(2026, 1, 1, tzinfo=UTC))
API = ServiceSpec("api", "local", NamedImage("image:1"), ("serve",))


class Serving:
    """An older and a newer run of one service, each put into it by any of two orchestrators."""

    def __init__(self, world: World, scratch: Path) -> None:
        self.world = world
        self.scratch = scratch
        self.older, self.newer = self._passed(), self._passed()
        assert self.older.change.rank < self.newer.change.rank

    def _passed(self) -> Run:
        left = {"/mlci/output/metrics.json": b'{"accuracy": 0.93}', "/mlci/output/model.bin": b"weights"}
        self.world.engine.script(Script((), Exit(0), left))
        of = pipeline(gate=Gate((parse_check("accuracy >= 0.9"),)), artifacts=("model.bin",))
        if self.world.store.runs.listing("wine", limit=1):
            self.world.sources.push("main", "more")
            (run,) = self.world.detector.poll_source(of, of.sources[0])
        else:
            run = self.world.first_run(of)
        return self.world.finish(run, self.world.server())

    def orchestrator(self) -> Servicer:
        world = self.world
        gatherer = Gatherer(world.store, world.data, world.reports, ReportRenderer(), world.progress.append)
        return Servicer(
            ServicePorts(
                world.store,
                Results(world.store, world.blobs, gatherer),
                {"api": API},
                {"local": world.engine},
                Images(world.store.instance, "me", world.clock),
                Masker([]),
                world.clock,
                self.scratch,
                world.progress.append,
            )
        )

    def serve(self, by: Servicer, run: Run, script: Script = Script(exit=None)) -> Acted | Waits:  # noqa: B008
        self.world.engine.script(script)
        spec = ContainerAction("api", Contents(("model.bin",)))
        action = Action(100 + run.id, run.id, f"key-{run.id}", Trigger.PASS, 0, spec, ActionState.RUNNING, 1)
        return by.carry_out(LEASE, run, action)

    def running(self) -> list[str]:
        owned = self.world.engine.owned().containers
        return [c.name for c in owned if c.name.find("-service-") > 0 and c.state is ContainerState.RUNNING]

    def named(self, run: Run) -> str:
        return naming.service_name(self.world.store.instance, "api", 100 + run.id)


@pytest.fixture
def serving(world: World, tmp_path: Path) -> Serving:
    return Serving(world, tmp_path)


def meanwhile(monkeypatch: pytest.MonkeyPatch, serving: Serving, what: Callable[[], None]) -> None:
    """Have something happen once, while the container that is being put in settles."""
    sleep = serving.world.clock.sleep

    def then(seconds: float) -> None:
        monkeypatch.setattr(serving.world.clock, "sleep", sleep)
        what()
        sleep(seconds)

    monkeypatch.setattr(serving.world.clock, "sleep", then)


def test_a_second_run_waits_while_one_is_put_into_the_service(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = serving.orchestrator()
    second: list[Acted | Waits] = []
    meanwhile(monkeypatch, serving, lambda: second.append(serving.serve(one, serving.newer)))
    first = serving.serve(one, serving.older)
    assert isinstance(first, Acted)
    assert first.state is ActionState.DONE
    assert second == [Waits("another run is being put into service api", 5.0)]
    after = serving.serve(one, serving.newer)
    assert isinstance(after, Acted)
    assert after.state is ActionState.DONE
    assert serving.running() == [serving.named(serving.newer)]


def test_an_older_run_takes_no_newer_one_away_that_another_orchestrator_put_in(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newer() -> None:
        acted = serving.serve(serving.orchestrator(), serving.newer)
        assert isinstance(acted, Acted)
        assert acted.state is ActionState.DONE

    meanwhile(monkeypatch, serving, newer)
    acted = serving.serve(serving.orchestrator(), serving.older)
    assert isinstance(acted, Acted)
    assert acted.state is ActionState.SKIPPED
    assert serving.running() == [serving.named(serving.newer)]
