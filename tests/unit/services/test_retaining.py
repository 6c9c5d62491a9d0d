"""What has had its time goes, with its files; what is needed stays, whatever happens in between."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.adapters.files.maintenance import Maintenance
from orchestrator.adapters.files.state import LocalState
from orchestrator.adapters.git.location import Location
from orchestrator.adapters.git.upkeep import MirrorFiles
from orchestrator.domain.change import Cause, DatasetVersion, Revision
from orchestrator.domain.check import parse_check
from orchestrator.domain.errors import NotFound, ServerUnavailable
from orchestrator.domain.gate import Gate, Outcome, Verdict
from orchestrator.domain.metrics import Metric
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.retention import Kind, Limits, Policy, StateRules, Unused
from orchestrator.domain.run import AttemptState, Reason, Run, RunState, latest_tries
from orchestrator.domain.space import Reserve, Space
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.records import AttemptResult, NewRun, StoredArtifact
from orchestrator.services import naming, retain_state
from orchestrator.services.retain import Done, Retainer, Stopped
from orchestrator.services.retain_hosts import HostKeeper
from orchestrator.services.retain_releases import ReleaseKeeper
from orchestrator.services.retain_state import GRACE, StateKeeper, StatePorts
from orchestrator.services.retain_tick import RetainTick
from orchestrator.services.retain_watched import WatchedKeeper
from tests.unit.services.worlds import World, pipeline

DAY = 86_400.0
EVERYTHING = frozenset(Kind)
WINE = pipeline(
    gate=Gate((parse_check("accuracy >= 0.1"), parse_check("accuracy not worse than best by 1pp")))
)
OLD = Limits(age=timedelta(days=30), keep_last=0)
MONTH = Policy(state=StateRules(OLD, OLD, OLD))


@dataclass
class House:
    """A world with a history, and retention by some policy."""

    world: World
    policy: Policy = MONTH
    pipelines: tuple[Pipeline, ...] = (WINE,)
    sources: tuple[SourceSpec, ...] = ()
    space: Space | None = None
    interrupts: list[BaseException] = field(default_factory=list)
    progress: list[ProgressEvent] = field(default_factory=list)

    def days_ago(self, days: float) -> datetime:
        return self.world.clock.now() - timedelta(days=days)

    def run(
        self,
        days: float,
        *contents: bytes,
        accuracy: float = 0.5,
        state: RunState = RunState.PASSED,
        made_of: Pipeline = WINE,
        datasets: tuple[DatasetVersion, ...] = (),
        image: str = "",
    ) -> Run:
        """A run that ended so many days ago, and left these contents and a log."""
        store, at = self.world.store, self.days_ago(days)
        commit = f"{len(store.runs.listing(limit=1000)):040x}"
        revision = Revision("repo", "main", commit, "a subject", "Ana", "ana@example.org")
        run = store.runs.enqueue(NewRun(made_of, Cause.PUSH, revision, datasets), (), made_of.name, at)
        assert run is not None
        (attempt,) = store.attempts.of_run(run.id)
        lease = store.attempts.claim(attempt.id, "local", 99, f"c-{attempt.id}", "me", at, 1e9)
        assert lease is not None
        store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, at, image_digest=image)
        store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, at)
        files = tuple(self.artifact(f"file-{n}", content, days) for n, content in enumerate(contents))
        metrics = (Metric("accuracy", accuracy, "metrics.json", "json"),)
        result = AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=metrics, artifacts=files)
        store.attempts.finish(lease, AttemptState.COLLECTING, result, at)
        self.log(run).write_bytes(b"2026-01-01T00:00:00Z hello\n")
        self.age(self.log(run), days)
        store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, at)
        return store.runs.move(run.id, RunState.EVALUATING, state, at, verdict=Verdict(Outcome.PASS, "fine"))

    def artifact(self, path: str, content: bytes, days: float) -> StoredArtifact:
        blob = self.world.blobs.put(io.BytesIO(content), 1 << 20)
        self.age(self.blob(blob.sha256), days)
        return StoredArtifact(path, blob.size, blob.sha256)

    def blob(self, sha256: str) -> Path:
        return self.world.folder / "blobs" / sha256[:2] / sha256

    def log(self, run: Run) -> Path:
        (attempt,) = latest_tries(self.world.store.attempts.of_run(run.id))
        return self.world.folder / "logs" / f"{attempt.id}.log"

    def age(self, path: Path, days: float) -> None:
        moment = self.days_ago(days).timestamp()
        os.utime(path, (moment, moment))

    def retainer(self) -> Retainer:
        world = self.world
        ports = StatePorts(world.store, world.blobs, world.logs, world.clock, lambda: self.space)
        names = [each.name for each in self.pipelines]
        wanted = {"mlci/runner:1": "it is the image of runner cpu"}
        return Retainer(
            StateKeeper(ports, self.policy, self.pipelines),
            HostKeeper(world.store, {"local": world.engine}, names, lambda: wanted, self.policy, world.clock),
            ReleaseKeeper(world.store, world.servers, ["prod"], self.policy, world.clock),
            WatchedKeeper(
                world.store,
                MirrorFiles(world.folder / "mirrors", lambda source: Location.parse(source.location)),
                lambda: {each.name: each for each in self.pipelines},
                lambda: self.sources,
                self.policy,
                world.clock,
            ),
            LocalState(world.folder),
            world.store.instance,
        )

    def apply(self, kinds: frozenset[Kind] = EVERYTHING) -> Done:
        def interrupt() -> None:
            if self.interrupts:
                raise self.interrupts.pop(0)

        return self.retainer().apply(kinds, "me", self.progress.append, interrupt)

    def content(self, sha256: str) -> bytes:
        with self.world.blobs.open(sha256) as stream:
            return stream.read()

    def files(self) -> set[str]:
        """All contents and logs on file."""
        folders = (self.world.folder / "blobs", self.world.folder / "logs")
        return {path.name for folder in folders for path in folder.rglob("*") if path.is_file()}

    def artifacts(self, run: Run) -> list[StoredArtifact]:
        (attempt,) = self.world.store.attempts.of_run(run.id)
        return list(self.world.store.attempts.artifacts(attempt.id))


@pytest.fixture
def house(world: World) -> House:
    world.clock.advance(400 * DAY)
    return House(world)


def ids(house: House) -> list[int]:
    return [run.id for run in reversed(house.world.store.runs.listing(limit=100))]


def test_runs_go_with_their_files_and_logs_and_the_baseline_stays_with_all_it_has(house: House) -> None:
    best = house.run(200, b"best model", accuracy=0.9)
    house.run(100, b"old model")
    fresh = house.run(1, b"new model")
    done = house.apply()
    assert ids(house) == [best.id, fresh.id]
    assert done.went == {Kind.RUNS: 1, Kind.FILES: 2}
    assert done.freed == len(b"old model") + len(b"2026-01-01T00:00:00Z hello\n")
    assert [s.why for s in done.plan.staying] == ["the baseline of 'accuracy not worse than best by 1pp'"] * 3
    for run, content in ((best, b"best model"), (fresh, b"new model")):
        assert house.content(house.artifacts(run)[0].sha256) == content
        assert house.log(run).exists()


def test_a_second_pass_finds_nothing(house: House) -> None:
    for age in (200, 100, 50, 1):
        house.run(age, b"model %d" % age)
    house.apply()
    journal = house.world.store.journal.head()
    done = house.apply()
    assert (done.plan.going, dict(done.went), done.freed) == ((), {Kind.FILES: 0}, 0)
    assert house.world.store.journal.head() == journal
    assert house.retainer().plan(EVERYTHING, house.progress.append)[0].going == ()


def test_planning_changes_nothing(house: House) -> None:
    house.run(100, b"old model")
    house.run(99, b"better", accuracy=0.9)
    folder = house.world.folder
    before = (ids(house), sorted(folder.rglob("*")), house.world.store.journal.head())
    plan, problems = house.retainer().plan(EVERYTHING, house.progress.append)
    assert [(t.kind, t.title) for t in plan.going] == [(Kind.RUNS, "wine#1")]
    assert problems == ()
    assert (ids(house), sorted(folder.rglob("*")), house.world.store.journal.head()) == before


def test_artifacts_and_logs_go_and_the_run_says_so(house: House) -> None:
    house.policy = Policy(state=StateRules(artifacts=OLD, logs=OLD))
    house.run(300, b"best", accuracy=0.9)
    run = house.run(100, b"old model")
    done = house.apply()
    assert done.went == {Kind.ARTIFACTS: 1, Kind.LOGS: 1, Kind.FILES: 2}
    (artifact,) = house.artifacts(run)
    told = f"removed by retention on {house.world.clock.now():%Y-%m-%d} (older than 30d)"
    assert artifact.removed == told
    with pytest.raises(NotFound):
        house.world.blobs.open(artifact.sha256)
    (attempt,) = house.world.store.attempts.of_run(run.id)
    assert attempt.log_removed == told
    assert not house.log(run).exists()
    reasons = [entry.reason for entry in house.world.store.journal.of_run(run.id)]
    assert reasons[-2:] == [
        "1 artifact removed by retention (older than 30d), 9 B",
        "1 log removed by retention (older than 30d), 27 B",
    ]


def test_a_content_stays_as_long_as_one_run_has_it(house: House) -> None:
    house.pipelines = ()
    house.run(100, b"the same", b"its own")
    young = house.run(1, b"the same")
    house.apply()
    assert house.content(house.artifacts(young)[0].sha256) == b"the same"
    assert len([name for name in house.files() if not name.endswith(".log")]) == 1


def test_a_run_and_what_it_repeats_go_in_one_pass_however_many_it_takes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retain_state, "_RUNS", 1)
    house.pipelines = ()
    first = house.run(100)
    revision = Revision("repo", "main", "a" * 40, "a subject", "Ana", "ana@example.org")
    again = NewRun(WINE, Cause.RERUN, revision, (), rerun_of=first.id)
    second = house.world.store.runs.enqueue(again, (), "wine", house.days_ago(99))
    assert second is not None
    at = house.days_ago(99)
    house.world.store.runs.move(second.id, RunState.QUEUED, RunState.CANCELLED, at)
    assert house.apply().went[Kind.RUNS] == 2
    assert ids(house) == []


def test_a_pass_that_was_cut_off_anywhere_is_finished_by_the_next(house: House) -> None:
    house.pipelines = ()
    house.policy = replace(MONTH, state=StateRules(runs=OLD))
    for number in range(3):
        house.run(100 + number, b"model %d" % number)
    house.interrupts = [Stopped()]
    with pytest.raises(Stopped):
        house.apply()
    assert len(ids(house)) == 3
    # Between the rows and the files: as if the process was killed there.
    plan, _ = house.retainer().plan(EVERYTHING, house.progress.append)
    house.world.store.retention.remove_runs(plan.of(Kind.RUNS), "me", house.world.clock.now())
    assert len(house.files()) == 6
    plan, _ = house.retainer().plan(EVERYTHING, house.progress.append)
    assert [(t.kind, t.count) for t in plan.going] == [(Kind.FILES, 6)]
    assert house.apply().went == {Kind.FILES: 6}
    assert house.files() == set()


def test_files_without_an_owner_go_once_they_are_old_enough(house: House) -> None:
    hours = GRACE.total_seconds() / DAY
    house.artifact("x", b"of a killed collection", 2 * hours)
    fresh = house.artifact("x", b"of one that goes on", hours / 2)
    (house.world.folder / "logs" / "77.log").write_bytes(b"of a lost row")
    (house.world.folder / "logs" / "78.log").write_bytes(b"of a row to come")
    (house.world.folder / "logs" / "notes.txt").write_bytes(b"somebody's")
    house.age(house.world.folder / "logs" / "77.log", 1)
    house.age(house.world.folder / "logs" / "78.log", hours / 2)
    plan, _ = house.retainer().plan(EVERYTHING, house.progress.append)
    assert [(t.kind, t.count, t.size) for t in plan.going] == [(Kind.FILES, 2, 35)]
    assert house.apply().went == {Kind.FILES: 2}
    assert house.files() == {fresh.sha256, "78.log", "notes.txt"}
    last = house.world.store.journal.latest(1)[0]
    assert (last.subject, last.reason) == (
        "files",
        "2 files removed by retention (nothing refers to them), 35 B",
    )


def test_a_content_that_is_stored_again_at_the_last_moment_stays(house: House) -> None:
    known = house.artifact("x", b"the same", 100)
    before = datetime.now(UTC) - timedelta(days=1)
    house.world.blobs.put(io.BytesIO(b"the same"), 100)
    assert house.world.blobs.drop(known.sha256, before) is None
    os.utime(house.blob(known.sha256), (0, 0))
    assert house.world.blobs.drop(known.sha256, before) == len(b"the same")


def test_whoever_stores_a_content_while_it_is_removed_has_it_afterwards(house: House) -> None:
    def store() -> None:
        for _ in range(rounds):
            house.world.blobs.put(io.BytesIO(b"the same"), 100)
            # Stored just now: nobody who takes away what is old may have taken it.
            stored.append(house.content(known.sha256))
            os.utime(house.blob(known.sha256), (0, 0))

    rounds, stored = 60, list[bytes]()
    known = house.artifact("x", b"the same", 100)
    before, removed = datetime.now(UTC) - timedelta(days=1), 0
    thread = threading.Thread(target=store)
    thread.start()
    while thread.is_alive():
        removed += house.world.blobs.drop(known.sha256, before) is not None
    thread.join()
    assert stored == [b"the same"] * rounds
    assert removed > 0


def test_nothing_is_removed_from_the_folder_while_a_backup_is_made(house: House) -> None:
    house.pipelines = ()
    house.run(100, b"old model")
    before = house.files()
    with Maintenance(house.world.folder).copying():
        done = house.apply()
    assert (done.plan.going, dict(done.went)) == ((), {})
    assert "a backup or another retention is at work" in done.problems[0]
    assert house.files() == before
    assert house.apply().went[Kind.RUNS] == 1


def test_files_of_another_database_are_never_taken_for_leftovers(house: House) -> None:
    house.artifact("x", b"another database's", 100)
    (house.world.folder / "instance").write_text("another\n")
    house.pipelines = ()
    house.run(100, b"old model")
    plan, problems = house.retainer().plan(EVERYTHING, house.progress.append)
    assert Kind.FILES not in {thing.kind for thing in plan.going}
    assert "belong to another database" in problems[0]
    before = house.files()
    done = house.apply()
    assert done.went == {Kind.RUNS: 1}
    assert "belong to another database" in done.problems[0]
    assert house.files() == before


def test_the_gate_that_an_unfinished_run_waits_for_keeps_its_baseline(house: House) -> None:
    best = house.run(200, b"best model", accuracy=0.9)
    house.run(1, b"new")
    house.pipelines = ()
    revision = Revision("repo", "main", "b" * 40, "a subject", "Ana", "ana@example.org")
    house.world.store.runs.enqueue(NewRun(WINE, Cause.PUSH, revision, ()), (), "wine", house.days_ago(0))
    house.apply()
    assert best.id in ids(house)


def test_room_is_made_from_the_oldest_artifacts_while_the_disk_is_short(house: House) -> None:
    house.policy = Policy(
        state=StateRules(artifacts=Limits(keep_last=0), logs=Limits(keep_last=0)), min_free=Reserve(size=1000)
    )
    house.pipelines = ()
    runs = [house.run(age, b"%d" % age * 100) for age in (300, 200, 100)]
    house.space = Space(750, 10_000)
    assert house.retainer().short()

    class Filling(list[ProgressEvent]):
        def append(self, event: ProgressEvent) -> None:
            house.space = Space(1000, 10_000)

    house.progress = Filling()
    done = house.apply()
    assert done.went == {Kind.ARTIFACTS: 1, Kind.FILES: 1}
    assert [bool(house.artifacts(run)[0].removed) for run in runs] == [True, False, False]
    assert house.artifacts(runs[0])[0].removed.endswith("(the disk is short of room)")


def test_it_is_said_when_nothing_is_left_that_would_make_room(house: House) -> None:
    house.policy = Policy(min_free=Reserve(size=1000))
    house.run(300, b"x" * 100)
    house.space = Space(400, 10_000)
    done = house.apply()
    assert done.plan.going == ()
    assert done.plan.lacking == 600


def test_images_and_data_that_nobody_used_go_from_a_host(house: House) -> None:
    engine, store = house.world.engine, house.world.store
    house.policy = Policy(images=Unused(age=timedelta(days=30)), volumes=Unused(age=timedelta(days=30)))
    (house.world.folder / "Dockerfile").touch()
    for tag in ("mlci/old:1", "mlci/used:1", "mlci/base:2", "mlci/setup:1", "mlci/runner:1"):
        engine.build(house.world.folder, "Dockerfile", tag, {}, house.progress.append)
        engine.made_at[tag] = house.days_ago(90)
    engine.layers |= {"mlci/base:2": ("a",), "mlci/setup:1": ("a", "b")}
    old, used = (DatasetVersion("rows", letter * 64, 1, 1, number=1) for letter in "ef")
    for version in (old, used):
        name = naming.data_volume(store.instance, version.fingerprint)
        engine.ensure_volume(name, {})
        engine.made_at[name] = house.days_ago(90)
        store.attempts.mark_staged("local", name, house.days_ago(90))
    checkpoint = naming.checkpoint_volume(store.instance, 1, 0)
    engine.ensure_volume(checkpoint, {})
    engine.made_at[checkpoint] = house.days_ago(90)
    house.run(50, datasets=(old,), image=engine.images["mlci/old:1"], made_of=pipeline(name="beer"))
    house.run(5, datasets=(used,), image=engine.images["mlci/setup:1"], made_of=pipeline(name="beer"))
    house.run(6, image=engine.images["mlci/used:1"], made_of=pipeline(name="beer"))
    engine.volumes["of-somebody-else"] = {}
    done = house.apply()
    assert done.went == {Kind.FILES: 0, Kind.IMAGES: 1, Kind.VOLUMES: 1}
    assert done.problems == ()
    assert "mlci/old:1" not in engine.images
    assert {"mlci/used:1", "mlci/base:2", "mlci/setup:1", "mlci/runner:1"} <= engine.images.keys()
    assert set(engine.volumes) == {
        naming.data_volume(store.instance, used.fingerprint),
        checkpoint,
        "of-somebody-else",
    }
    assert not store.attempts.is_staged("local", naming.data_volume(store.instance, old.fingerprint))
    assert [entry.reason for entry in store.journal.latest(2)][::-1] == [
        f"volume {naming.data_volume(store.instance, old.fingerprint)} removed by retention (unused for 50d)",
        "image mlci/old:1 removed by retention (unused for 50d)",
    ]


def test_what_a_run_found_in_the_meantime_stays_on_the_host(house: House) -> None:
    engine, store = house.world.engine, house.world.store
    house.policy = Policy(volumes=Unused(age=timedelta(days=30)))
    version = DatasetVersion("rows", "e" * 64, 1, 1, number=1)
    name = naming.data_volume(store.instance, version.fingerprint)
    engine.ensure_volume(name, {})
    engine.made_at[name] = house.days_ago(90)
    store.attempts.mark_staged("local", name, house.days_ago(90))

    def enqueue(event: ProgressEvent) -> None:
        if event.what == "looking at hosts":
            revision = Revision("repo", "main", "b" * 40, "a subject", "Ana", "ana@example.org")
            new = NewRun(WINE, Cause.PUSH, revision, (version,))
            store.runs.enqueue(new, (), "wine", house.days_ago(0))

    done = house.retainer().apply(EVERYTHING, "me", enqueue, lambda: None)
    assert [thing.key for thing in done.plan.going] == [name]
    assert Kind.VOLUMES not in done.went
    assert name in engine.volumes


def test_a_host_that_prepares_or_does_not_answer_is_left_for_later_and_told(house: House) -> None:
    engine = house.world.engine
    house.policy = Policy(images=Unused(age=timedelta(days=30)))
    (house.world.folder / "Dockerfile").touch()
    engine.build(house.world.folder, "Dockerfile", "mlci/old:1", {}, house.progress.append)
    engine.made_at["mlci/old:1"] = house.days_ago(90)
    engine.cut()
    (problem,) = house.apply().problems
    assert problem.startswith("local: ")
    engine.restore()
    revision = Revision("repo", "main", "b" * 40, "a subject", "Ana", "ana@example.org")
    run = house.world.store.runs.enqueue(
        NewRun(WINE, Cause.PUSH, revision, ()), (), "wine", house.days_ago(0)
    )
    assert run is not None
    (attempt,) = house.world.store.attempts.of_run(run.id)
    house.world.store.attempts.claim(attempt.id, "local", 1, "c", "me", house.days_ago(0), 60)
    assert house.apply().problems == (
        f"local: mlci/old:1 stays: an attempt of {run.title} is prepared there",
    )
    assert "mlci/old:1" in engine.images


def test_old_releases_go_from_servers_and_the_current_one_stays(house: House) -> None:
    house.policy = Policy(releases=timedelta(days=30))
    target = house.world.servers.prod
    names = [f"{house.days_ago(age):%Y%m%dT%H%M%SZ}-{n}" for n, age in enumerate((99, 90, 1))]
    target.releases |= {name: {} for name in names}
    target.live = names[0]
    done = house.apply()
    assert sorted(target.releases) == sorted([names[0], names[2]])
    assert done.went[Kind.RELEASES] == 1
    assert [s.why for s in done.plan.staying] == ["it is current"]
    target.faults["verified"] = [ServerUnavailable("no route to prod")]
    assert house.apply().problems == ("prod: no route to prod",)


def test_the_server_looks_at_its_own_pace_and_at_once_when_the_disk_is_short(house: House) -> None:
    house.pipelines = ()
    house.policy = replace(MONTH, min_free=Reserve(size=10))
    stopping = threading.Event()
    tick = RetainTick(house.retainer(), timedelta(hours=1), house.world.clock, "me", stopping)
    house.run(100, b"a")
    tick()
    assert len(ids(house)) == 1
    house.world.clock.advance(60)
    tick()
    assert ids(house) == []
    house.run(100, b"b")
    house.world.clock.advance(3500)
    tick()
    assert len(ids(house)) == 1
    house.space = Space(5, 100)
    tick()
    assert ids(house) == []
    house.run(100, b"c")
    stopping.set()
    house.world.clock.advance(36_000)
    tick()
    assert len(ids(house)) == 1
