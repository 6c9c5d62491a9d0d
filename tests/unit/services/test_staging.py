"""Dataset versions on their way to a host, and what is there already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.domain.change import DatasetRole
from orchestrator.domain.errors import EngineUnavailable
from orchestrator.domain.pipeline import DatasetSpec, HostSpec, NamedImage, Pipeline, RunnerSpec
from orchestrator.domain.run import Reason, Run, RunState
from orchestrator.ports.engine import ContainerSpec, FolderMount
from orchestrator.services import naming
from tests.support.fake_engine import FakeContainer, Script
from tests.unit.services.worlds import World, pipeline

WINE = DatasetSpec("wine", "/data/wine", DatasetRole.TRAIN, settle=0)


def watched(**changes: object) -> Pipeline:
    return pipeline(datasets=(WINE,), **changes)


def staged(world: World) -> dict[str, bytes]:
    """The files of the one volume of data."""
    (volume,) = [name for name in world.engine.volumes if "-data-" in name]
    return world.engine.contents[volume]


def puts(world: World) -> int:
    """So many archives went into stagers."""
    return sum("-stager-" in name for call, name in world.engine.calls if call == "put")


def helpers(world: World, role: str) -> int:
    """So often a helper of that role was started."""
    return sum(f"-{role}-" in name for call, name in world.engine.calls if call == "start")


def next_run(world: World, made_of: Pipeline, word: str) -> Run:
    world.sources.push("main", word)
    (run,) = world.detector.poll_source(made_of, made_of.sources[0])
    return run


def test_large_files_travel_in_parts_and_arrive_whole(world: World) -> None:
    world.part = 10
    world.data.files |= {"large.bin": bytes(range(34)), "deep/er/other.bin": b"x" * 11}
    run = world.finish(world.first_run(watched()), world.server())
    assert run.state is RunState.PASSED
    assert staged(world) == {f"files/{name}": content for name, content in world.data.files.items()}
    # The folders, the small file, and two large ones in four and two parts.
    assert puts(world) == 1 + 1 + 4 + 2


def test_a_broken_link_costs_only_the_part_that_was_under_way(world: World) -> None:
    world.part = 10
    world.data.files = {f"{letter}.csv": letter.encode() * 10 for letter in "abcd"} | {"large": b"l" * 30}
    world.engine.fail("put", EngineUnavailable("cut off"), after=6)
    run = world.finish(world.first_run(watched()), world.server())
    assert run.state is RunState.PASSED
    assert len(world.store.attempts.of_run(run.id)) == 1, "it went on in the same attempt"
    assert staged(world) == {f"files/{name}": content for name, content in world.data.files.items()}
    # The folders, four files, a part and the one that broke; then the folders and the two that lacked.
    assert puts(world) == 1 + 4 + 1 + 1 + 1 + 2
    assert [event.done for event in world.progress if event.what.startswith("staging")][-1] == 70


def test_a_host_that_stays_away_ends_the_attempt_and_the_next_one_sends_the_rest(world: World) -> None:
    world.part = 10
    world.data.files = {f"{letter}.csv": letter.encode() * 10 for letter in "abcd"}
    world.engine.fail("put", EngineUnavailable("cut off"), after=3)
    world.engine.fail("info", EngineUnavailable("gone"), after=1, times=700)
    run = world.first_run(watched())
    ended = world.finish(run, world.server())
    assert ended.state is RunState.PASSED
    first, second = world.store.attempts.of_run(run.id)
    assert (first.reason, second.reason) == (Reason.ENGINE_UNAVAILABLE, Reason.COMPLETED)
    assert puts(world) == (1 + 2 + 1) + (1 + 2)


def test_a_link_that_lets_nothing_through_is_given_up(world: World) -> None:
    world.engine.fail("put", EngineUnavailable("cut off"), times=100)
    run = world.finish(world.first_run(watched()), world.server())
    assert (run.state, run.reason) == (RunState.ERRORED, Reason.ENGINE_UNAVAILABLE)


def test_what_arrives_damaged_is_sent_again(world: World) -> None:
    finish, damaged = world.engine.commands["finish"], list[bool]()

    def damage(container: FakeContainer, files: dict[str, bytes]) -> Script:
        if not damaged:
            damaged.append(True)
            files["files/rows.csv"] = b"1,3\n"
        return finish(container, files)

    world.engine.commands["finish"] = damage
    run = world.finish(world.first_run(watched()), world.server())
    assert run.state is RunState.PASSED
    assert damaged
    assert staged(world) == {"files/rows.csv": b"1,2\n"}


def test_no_run_gets_what_keeps_arriving_damaged(world: World) -> None:
    finish = world.engine.commands["finish"]

    def damage(container: FakeContainer, files: dict[str, bytes]) -> Script:
        files["files/rows.csv"] = b"1,3\n"
        return finish(container, files)

    world.engine.commands["finish"] = damage
    run = world.finish(world.first_run(watched()), world.server())
    assert (run.state, run.reason) == (RunState.ERRORED, Reason.ENGINE_REFUSED)
    assert "rows.csv" in run.message
    assert not [name for name in world.engine.volumes if "-data-" in name]


def test_a_file_too_many_in_a_volume_is_noticed(world: World) -> None:
    run = world.first_run(watched())
    (version,) = run.change.datasets
    volume = naming.data_volume(world.store.instance, version.fingerprint)
    world.engine.ensure_volume(volume, {})
    world.engine.contents[volume] = {"files/planted.py": b"import os"}
    ended = world.finish(run, world.server())
    assert (ended.state, ended.reason) == (RunState.ERRORED, Reason.ENGINE_REFUSED)
    assert "planted.py" in ended.message


def test_a_cancelled_run_stops_sending(world: World) -> None:
    world.part = 10
    world.data.files = {f"{letter}.csv": letter.encode() * 10 for letter in "abcd"}
    run = world.first_run(watched())
    whole = world.data.archive

    def cancelling(*args: object) -> object:
        world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
        return whole(*args)  # type: ignore[arg-type]

    world.data.archive = cancelling  # type: ignore[method-assign, assignment]
    assert world.finish(run, world.server()).state is RunState.CANCELLED
    assert puts(world) == 2, "the folders and the part that was under way"


class SharedLock:
    """A lock that another process has first: it brings the data before it lets go."""

    def __init__(self, brought: Callable[[], None]) -> None:
        self.brought = brought
        self.held = False

    def acquire(self, *, timeout: float) -> bool:
        self.brought()
        self.held = True
        return True

    def release(self) -> None:
        self.held = False


def test_a_volume_is_filled_under_the_lock_that_processes_share(world: World) -> None:
    lock, names = SharedLock(lambda: None), list[tuple[str, str]]()
    seen: list[bool] = []
    whole = world.data.archive

    def noting(*args: object) -> object:
        seen.append(lock.held)
        return whole(*args)  # type: ignore[arg-type]

    def shared(host: str, volume: str) -> SharedLock:
        names.append((host, volume))
        return lock

    world.data.archive = noting  # type: ignore[method-assign, assignment]
    world.filling = shared
    assert world.finish(world.first_run(watched()), world.server()).state is RunState.PASSED
    (volume,) = [name for name in world.engine.volumes if "-data-" in name]
    assert names == [("local", volume)]
    assert seen == [True]
    assert not lock.held


def test_what_another_process_has_brought_meanwhile_is_not_brought_again(world: World) -> None:
    run = world.first_run(watched())
    (version,) = run.change.datasets
    volume = naming.data_volume(world.store.instance, version.fingerprint)

    def bring() -> None:
        world.engine.ensure_volume(volume, {})
        world.store.attempts.mark_staged("local", volume, world.clock.now(), version.fingerprint, 4)

    world.filling = lambda host, volume: SharedLock(bring)
    assert world.finish(run, world.server()).state is RunState.PASSED
    assert puts(world) == helpers(world, "finish") == 0


def with_folder(world: World) -> HostSpec:
    """The host has a copy of the data in a folder of its own."""
    host = replace(world.hosts[0], data=(("wine", "/srv/wine"),))
    world.hosts = (host,)
    world.engine.contents["/srv/wine"] = dict(world.data.files)
    return host


def test_a_folder_that_is_the_version_is_shown_to_the_run_and_nothing_is_sent(world: World) -> None:
    with_folder(world)
    seen: list[tuple[FolderMount, ...]] = []

    def run_here(spec: ContainerSpec) -> bool:
        if spec.labels.get(naming.ROLE_LABEL) == "attempt":
            seen.append(spec.folders)
        return False

    world.engine.script(Script(), run_here)
    assert world.finish(world.first_run(watched()), world.server()).state is RunState.PASSED
    assert seen == [(FolderMount("/srv/wine", "/mlci/data/wine/files"),)]
    assert not [name for name in world.engine.volumes if "-data-" in name]
    assert puts(world) == 0


def test_a_runner_that_is_root_is_shown_no_folder_of_the_host(world: World) -> None:
    with_folder(world)
    seen: list[tuple[FolderMount, ...]] = []

    def run_here(spec: ContainerSpec) -> bool:
        seen.append(spec.folders)
        return False

    world.engine.script(Script(), run_here)
    root = RunnerSpec("r", NamedImage("image:1"), uid=0, gid=0)
    run = world.finish(world.first_run(watched(runner=root)), world.server())
    assert run.state is RunState.PASSED
    assert set(seen) == {()}, "nor is it compared"
    assert staged(world) == {"files/rows.csv": b"1,2\n"}
    assert any("user is root" in event.what for event in world.progress)


def test_a_folder_is_read_again_only_after_it_changed(world: World) -> None:
    with_folder(world)
    compared: list[bool] = []
    compare = world.engine.commands["compare"]

    def noting(container: FakeContainer, files: dict[str, bytes]) -> Script:
        script = compare(container, files)
        compared.append(script.lines[-1] != b"same")
        return script

    world.engine.commands["compare"] = noting
    made_of, server = watched(), world.server()
    assert world.finish(world.first_run(made_of), server).state is RunState.PASSED
    assert world.finish(next_run(world, made_of, "second"), server).state is RunState.PASSED
    assert compared == [True, False]
    (kept,) = world.store.attempts.staged_on("local")
    (version,) = world.store.runs.listing("wine", limit=1)[0].change.datasets
    assert (kept.volume, kept.fingerprint, kept.size) == ("/srv/wine", version.fingerprint, None)


@pytest.mark.parametrize("change", ["another content", "a file too many", "a file too few"])
def test_a_folder_that_is_not_the_version_is_left_alone_and_the_data_are_staged(
    world: World, change: str
) -> None:
    with_folder(world)
    folder = world.engine.contents["/srv/wine"]
    match change:
        case "another content":
            folder["rows.csv"] = b"9,9\n"
        case "a file too many":
            folder["secret.pem"] = b"key"
        case _:
            folder.clear()
    assert world.finish(world.first_run(watched()), world.server()).state is RunState.PASSED
    assert staged(world) == {"files/rows.csv": b"1,2\n"}
    assert any("it is staged" in event.what for event in world.progress)


def test_a_folder_whose_reading_never_ends_is_given_up_and_the_data_are_staged(world: World) -> None:
    with_folder(world)
    world.engine.commands["compare"] = lambda container, files: Script(exit=None)
    assert world.finish(world.first_run(watched()), world.server()).state is RunState.PASSED
    assert staged(world) == {"files/rows.csv": b"1,2\n"}
    assert not [name for name in world.engine.containers if "-compare-" in name]


def budgeted(world: World, budget: int) -> None:
    world.hosts = (replace(world.hosts[0], data_budget=budget),)


def versions(world: World, sizes: list[int]) -> list[str]:
    """Run once with each of so many versions of the data; the volume of each."""
    made_of, server, volumes = watched(), world.server(), []
    for number, size in enumerate(sizes):
        world.data.write("rows.csv", bytes([number]) * size)
        world.clock.advance(3600)
        world.detector.scan_dataset(made_of, made_of.datasets[0])
        run = world.first_run(made_of) if number == 0 else world.store.runs.listing("wine", limit=1)[0]
        assert world.finish(run, server).state is RunState.PASSED
        (version,) = run.change.datasets
        volumes.append(naming.data_volume(world.store.instance, version.fingerprint))
    return volumes


def test_data_unused_for_longest_make_room_under_the_budget(world: World) -> None:
    budgeted(world, 25)
    first, second, third = versions(world, [10, 11, 12])
    assert [v in world.engine.volumes for v in (first, second, third)] == [False, True, True]
    assert not world.store.attempts.is_staged("local", first)
    notes = [entry.reason for entry in world.store.journal.latest() if entry.subject == "host local"]
    assert any(first in note and "made room for" in note for note in notes)


def test_data_larger_than_the_budget_are_refused_with_its_name(world: World) -> None:
    budgeted(world, 3)
    run = world.finish(world.first_run(watched()), world.server())
    assert (run.state, run.reason) == (RunState.ERRORED, Reason.ENGINE_REFUSED)
    assert "hosts.local.data_budget" in run.message
    assert not [name for name in world.engine.volumes if "-data-" in name and world.engine.contents.get(name)]


def test_what_an_unfinished_run_needs_stays_although_the_budget_is_exceeded(world: World) -> None:
    budgeted(world, 15)
    (first,) = versions(world, [10])
    made_of = watched()
    waiting = next_run(world, made_of, "waits for its turn")
    (version,) = waiting.change.datasets
    assert naming.data_volume(world.store.instance, version.fingerprint) == first
    world.data.write("rows.csv", b"z" * 10)
    world.clock.advance(3600)
    world.detector.scan_dataset(made_of, made_of.datasets[0])
    newest = world.store.runs.listing("wine", limit=1)[0]
    assert newest.id != waiting.id
    server = world.server(wants=lambda run_id: run_id == newest.id)
    assert world.finish(newest, server).state is RunState.PASSED
    assert first in world.engine.volumes


def test_the_hash_of_a_staged_file_is_that_of_the_manifest(world: World) -> None:
    run = world.finish(world.first_run(watched()), world.server())
    (version,) = run.change.datasets
    (entry,) = world.store.detection.manifest(WINE, version.fingerprint)
    assert entry.sha256 == hashlib.sha256(staged(world)["files/rows.csv"]).hexdigest()


def test_a_host_that_never_ends_its_answer_is_not_heard_out(world: World) -> None:
    script = Script([b"A" * 1000] * 2000)
    world.engine.commands["finish"] = lambda container, files: script
    run = world.finish(world.first_run(watched()), world.server())
    assert (run.state, run.reason) == (RunState.ERRORED, Reason.ENGINE_REFUSED)
    assert "was not heard out" in run.message


def test_data_that_lie_elsewhere_are_fetched_and_proven_like_all_others(world: World) -> None:
    world.data.elsewhere = True
    world.part = 10
    world.data.files["large.bin"] = bytes(range(34))
    run = world.finish(world.first_run(watched()), world.server())
    assert run.state is RunState.PASSED
    assert staged(world) == {f"files/{name}": content for name, content in world.data.files.items()}


def test_data_that_moved_on_elsewhere_before_they_were_fetched_fail_the_run_and_say_so(world: World) -> None:
    world.data.elsewhere = True
    run = world.first_run(watched())
    world.data.files["rows.csv"] = b"3,4\n"
    run = world.finish(run, world.server())
    assert run.state is RunState.ERRORED
    assert "no longer what it was when this run was enqueued: rows.csv changed" in run.message
