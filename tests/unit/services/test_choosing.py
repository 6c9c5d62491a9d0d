"""What is known of queue and hosts, put together for the choice; and what is asked for it, how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.domain.errors import EngineUnavailable
from orchestrator.domain.gpu import Gpu, HostGpus
from orchestrator.domain.host import HostRecord, HostState
from orchestrator.domain.pipeline import (
    DatasetSpec,
    FolderImage,
    HostSpec,
    NamedImage,
    Pipeline,
    RepositoryImage,
    Resources,
    RunnerSpec,
)
from orchestrator.domain.placement import Decision, Placed, Refused, Waits
from orchestrator.domain.run import AttemptState, Reason, Run, RunState
from orchestrator.ports.engine import EngineInfo
from orchestrator.ports.records import AttemptResult
from orchestrator.services.choose import Chooser, HostLooks
from orchestrator.services.holdings import Holdings
from orchestrator.services.images import built_tag
from tests.support.fake_engine import FakeEngine
from tests.unit.services.worlds import ManualClock, World, pipeline

ONE, TWO = HostSpec("one", "unix:///1.sock", 2), HostSpec("two", "unix:///2.sock", 2)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()


def chooser(
    world: World, looks: HostLooks | None = None, hosts: tuple[HostSpec, ...] = (ONE, TWO)
) -> Chooser:
    return Chooser(world.store, hosts, world.clock, looks or HostLooks())


def decided(world: World, by: Chooser) -> list[Decision]:
    queue = world.store.queue
    return list(by.decide(queue.waiting(world.clock.now()), queue.taken()))


def run_of(world: World, made_of: Pipeline) -> Run:
    run = world.detector.run_now(made_of, None, "ann")
    assert run is not None
    return run


def only(world: World, by: Chooser) -> Decision:
    (decision,) = decided(world, by)
    return decision


def host_of(decision: Decision) -> str:
    assert isinstance(decision, Placed), decision
    return decision.host.name


def test_a_host_that_has_all_of_a_runs_data_is_chosen(world: World) -> None:
    run = run_of(world, pipeline(datasets=(DatasetSpec("rows", "/rows", settle=0),)))
    by = chooser(world)
    (version,) = run.change.datasets
    assert host_of(only(world, by)) == "one"
    world.store.attempts.mark_staged("two", "v", world.clock.now(), version.fingerprint, 10)
    assert host_of(only(world, by)) == "two"


def test_a_host_that_has_the_image_is_chosen(world: World) -> None:
    world.first_run(pipeline())
    by = chooser(world, HostLooks(has_image=lambda runner, hosts: {"two"} & set(hosts)))
    assert host_of(only(world, by)) == "two"


def test_where_there_is_no_choice_nobody_is_asked_for_images(world: World) -> None:
    def refuse(*_: object) -> frozenset[str]:
        raise AssertionError("there is only one host")

    world.first_run(pipeline(runner=RunnerSpec("r", NamedImage("image:1"), host_names=("one",))))
    assert host_of(only(world, chooser(world, HostLooks(has_image=refuse)))) == "one"


def test_hosts_that_nobody_waits_for_are_asked_nothing(world: World) -> None:
    asked: list[str] = []

    def silent(host: str) -> str | None:
        asked.append(host)
        return None

    world.first_run(pipeline(runner=RunnerSpec("r", NamedImage("image:1"), host_names=("two",))))
    decided(world, chooser(world, HostLooks(why_silent=silent)))
    assert asked == ["two"]


def test_a_drained_host_is_not_asked_whether_it_answers(world: World) -> None:
    def silent(host: str) -> str | None:
        assert host != "one"
        return None

    drained = HostRecord("one", HostState.DRAINING, changed_by="ann")
    looks = HostLooks(record=lambda n: drained if n == "one" else HostRecord(n), why_silent=silent)
    world.first_run(pipeline())
    assert host_of(only(world, chooser(world, looks))) == "two"


def test_an_engine_that_has_two_names_gives_its_gpus_under_the_first_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = Gpu("GPU-1", "H100", 80 << 30)
    same = EngineInfo("id", "29", 4, 16 << 30, "Debian", name="lab")
    wish = RunnerSpec("r", NamedImage("image:1"), host_names=("two",), resources=Resources(gpus=1))
    world.first_run(pipeline(runner=wish))

    def with_info(info: Callable[[str], EngineInfo | None]) -> Chooser:
        return chooser(world, HostLooks(info=info, gpus=lambda host, ask: HostGpus((gpu,))))

    by = with_info(lambda host: same)
    decided(world, by)
    decision = only(world, by)
    assert isinstance(decision, Refused | Waits), decision
    assert "it is the same engine as one" in decision.why
    assert caplog.text.count("host two: it is the same engine as one") == 1
    others = {"one": same, "two": replace(same, name="lab2")}
    assert host_of(only(world, with_info(others.get))) == "two", "a copied machine"
    assert host_of(only(world, with_info(lambda host: replace(same, id="")))) == "two"


def test_a_new_try_goes_elsewhere_when_its_host_was_at_fault(world: World) -> None:
    run = world.first_run(pipeline())
    (attempt,) = world.store.attempts.of_run(run.id)
    now = world.clock.now()
    lease = world.store.attempts.claim(attempt.id, "one", 2, "box", "me", now, 60)
    assert lease is not None
    lost = AttemptResult(AttemptState.ERRORED, Reason.LOST)
    world.store.attempts.finish(lease, AttemptState.PREPARING, lost, now)
    world.store.runs.add_try(run.id, 0, 2, now, now)
    by = chooser(world)
    assert host_of(only(world, by)) == "two"
    alone = chooser(world, hosts=(ONE,))
    assert host_of(only(world, alone)) == "one"


def test_gpus_are_asked_for_only_where_somebody_wants_some(world: World) -> None:
    asked: list[tuple[str, bool]] = []
    gpu = Gpu("GPU-1", "H100", 80 << 30)

    def gpus(host: str, ask: bool) -> HostGpus:
        asked.append((host, ask))
        return HostGpus((gpu,)) if host == "two" else HostGpus()

    by = chooser(world, HostLooks(gpus=gpus))
    world.first_run(pipeline())
    assert host_of(only(world, by)) == "one"
    assert asked == [("one", False), ("two", False)]
    asked.clear()
    wish = RunnerSpec("gpu", NamedImage("image:1"), resources=Resources(gpus=1))
    run_of(world, replace(pipeline(), name="deep", runner=wish))
    placed = [d for d in decided(world, by) if isinstance(d, Placed)]
    assert [(d.host.name, d.gpus) for d in placed] == [("one", ()), ("two", (gpu,))]
    assert ("two", True) in asked


def test_what_does_not_change_of_a_waiting_attempt_is_read_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.first_run(pipeline())
    by = chooser(world)
    decided(world, by)

    def refuse(*_: object) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(world.store.runs, "definition", refuse)
    monkeypatch.setattr(world.store.queue, "describe", refuse)
    assert host_of(only(world, by)) == "one"


def test_limits_are_part_of_the_terms_until_the_run_has_begun(world: World) -> None:
    world.first_run(pipeline(concurrency=2, replicates=2))
    by = Chooser(world.store, (ONE,), world.clock, HostLooks(), {"default": 3})
    first, second = decided(world, by)
    assert isinstance(first, Placed)
    assert isinstance(second, Placed)
    terms = by.terms(first)
    assert (terms.pipeline_limit, terms.project_limit) == (2, 3)
    begun = replace(first, attempt=replace(first.attempt, begun=True))
    terms = by.terms(begun)
    assert (terms.pipeline_limit, terms.project_limit) == (None, None)


@pytest.mark.parametrize(
    ("hosts", "kind"), [((ONE,), Placed), ((replace(ONE, cpus=1.0),), Waits), ((), Refused)]
)
def test_what_would_become_of_a_run_is_told_before_there_is_one(
    world: World, hosts: tuple[HostSpec, ...], kind: type[Decision]
) -> None:
    wish = RunnerSpec("r", NamedImage("image:1"), resources=Resources(cpus=1.0))
    if kind is Waits:
        run_of(world, pipeline(runner=wish))
    by = chooser(world, hosts=hosts)
    tried = by.try_out(pipeline(runner=wish), world.clock.now())
    assert isinstance(tried, kind)
    if isinstance(tried, Waits):
        assert tried.why == "a host: one has 1 of 1 cores taken, 1 wanted"


def test_a_pipelines_runs_take_their_turns_through_the_dispatcher(world: World) -> None:
    made_of = pipeline(concurrency=1)
    first, second = run_of(world, made_of), run_of(world, made_of)
    server = world.server()
    server.tick()
    assert world.store.runs.get(first.id).state is RunState.RUNNING
    assert world.store.runs.get(second.id).state is RunState.QUEUED
    assert world.waiting(second) == [
        f"it waits for its turn: 1 run goes at a time of {made_of.name}, now {made_of.name}#1"
    ]
    assert world.finish(first, server).state is RunState.PASSED
    assert world.finish(second, server).state is RunState.PASSED


Look = Callable[[], None]


class Shelf:
    """Two engines and what is remembered of their images; what is asked aside is asked by ``catch_up``."""

    def __init__(self) -> None:
        self.engines = {"one": FakeEngine("a" * 32), "two": FakeEngine("a" * 32)}
        self.clock = ManualClock()
        self.aside: list[Look] = []
        self.holdings = Holdings(self.engines, self.clock, self.aside.append)

    def has(self, runner: RunnerSpec) -> set[str]:
        return set(self.holdings.image(runner, ["one", "two"]))

    def catch_up(self) -> int:
        looks, self.aside[:] = self.aside[:], []
        for look in looks:
            look()
        return len(looks)


def test_images_are_looked_for_aside_and_remembered_for_a_while() -> None:
    shelf = Shelf()
    runner = RunnerSpec("r", NamedImage("image:2"))
    shelf.engines["two"].images["image:2"] = "sha256:2"
    assert shelf.has(runner) == set()
    assert shelf.has(runner) == set()
    assert shelf.catch_up() == 2
    assert shelf.has(runner) == {"two"}
    assert shelf.catch_up() == 0
    shelf.clock.advance(60)
    assert shelf.has(runner) == {"two"}, "what was known counts until it is known better"
    del shelf.engines["two"].images["image:2"]
    assert shelf.catch_up() == 2
    assert shelf.has(runner) == set()


def test_an_image_built_from_a_folder_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    shelf = Shelf()
    runner = RunnerSpec("r", FolderImage(str(tmp_path)))
    shelf.engines["one"].images[built_tag(tmp_path, "Dockerfile", tmp_path.name)] = "sha256:3"
    shelf.has(runner)
    shelf.catch_up()
    assert shelf.has(runner) == {"one"}


def test_a_host_that_does_not_answer_has_no_image_and_a_repositorys_own_is_not_looked_for() -> None:
    shelf = Shelf()
    shelf.engines["one"].cut()
    with pytest.raises(EngineUnavailable):
        shelf.engines["one"].find_image("image:1")
    assert shelf.has(RunnerSpec("r", NamedImage("image:1"))) == set()
    shelf.catch_up()
    assert "one" not in shelf.has(RunnerSpec("r", NamedImage("image:1")))
    shelf.catch_up()
    assert shelf.has(RunnerSpec("r", RepositoryImage())) == set()
    assert shelf.catch_up() == 0


def test_a_host_whose_look_fails_keeps_no_run_from_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def gpus(host: str, ask: bool) -> HostGpus:
        if host == "one":
            raise TypeError("a count that is none")
        return HostGpus()

    run_of(world, pipeline())
    by = chooser(world, HostLooks(gpus=gpus))
    for _ in range(3):
        assert host_of(only(world, by)) == "two"
    assert caplog.text.count("host one: defect") == 1
    told = only(world, chooser(world, HostLooks(gpus=gpus), (ONE,)))
    assert isinstance(told, Waits)
    assert "one cannot be looked at: TypeError('a count that is none')" in told.why
