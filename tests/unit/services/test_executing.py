"""One attempt from claim to result, on an engine in memory and a real database."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.contextvars import get_contextvars

from orchestrator.domain.change import DatasetRole, PullRequest
from orchestrator.domain.errors import EngineError, EngineUnavailable, SourceUnavailable
from orchestrator.domain.pipeline import (
    DatasetSpec,
    Execution,
    FolderImage,
    HostSpec,
    MetricSpec,
    NamedImage,
    Network,
    PullRequestRules,
    RepositoryImage,
    Resources,
    RunnerSpec,
    Setup,
    SourceSpec,
)
from orchestrator.domain.run import Attempt, AttemptState, Exit, Reason, Run, RunState
from orchestrator.ports.engine import Container, ContainerSpec, Sandbox
from orchestrator.services import execute
from orchestrator.services.dispatch import Dispatcher
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, pipeline

LOST_AFTER = HostSpec("local", "").lost_after
TRAIN = ("python", "train.py")
METRICS = b'{"accuracy": 0.93}'
GOOD = Script((b"epoch 1", b"done"), Exit(0), {"/mlci/output/metrics.json": METRICS})
ENDLESS = Script((b"epoch 1",), None)


def only(world: World, run: Run) -> Attempt:
    (attempt,) = world.store.attempts.of_run(run.id)
    return attempt


def log_of(world: World, attempt: Attempt) -> list[bytes]:
    return [line.text for _, line in world.logs.lines(attempt.id)]


def is_attempt(spec: ContainerSpec) -> bool:
    return spec.labels.get("mlci.role") == "attempt"


def is_setup(spec: ContainerSpec) -> bool:
    return spec.labels.get("mlci.role") == "setup"


def test_a_run_goes_from_its_change_to_its_result(world: World) -> None:
    world.engine.script(GOOD)
    run = world.finish(world.first_run(pipeline(collect=("metrics.json",))), world.server())
    attempt = only(world, run)
    assert (run.state, attempt.state, attempt.reason) == (
        RunState.PASSED,
        AttemptState.SUCCEEDED,
        Reason.COMPLETED,
    )
    assert [(m.name, m.value) for m in world.store.runs.metrics(run.id)[0]] == [("accuracy", 0.93)]
    assert [a.path for a in world.store.attempts.artifacts(attempt.id)] == ["metrics.json"]
    assert log_of(world, attempt) == [b"epoch 1", b"done"]
    assert attempt.image_digest == world.engine.images["image:1"]


def test_what_is_logged_about_an_attempt_names_it_and_its_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []
    monkeypatch.setattr(world, "_progress_for", lambda attempt: lambda event: seen.append(get_contextvars()))
    run = world.finish(world.first_run(pipeline()), world.server())
    assert seen
    assert {(values["run"], values["attempt"]) for values in seen} == {(run.id, only(world, run).id)}


def test_nothing_of_an_ended_attempt_stays_on_the_host_but_its_checkpoint(world: World) -> None:
    server = world.server()
    run = world.finish(world.first_run(pipeline()), server)
    wait_until(lambda: not world.engine.guests, "the container to go")
    assert list(world.engine.volumes) == [f"mlci-{world.store.instance[:8]}-checkpoint-{run.id}-0"]


def test_a_container_sees_its_code_data_and_environment(world: World) -> None:
    wine = DatasetSpec("wine-test", "/data/wine", DatasetRole.TRAIN, settle=0)
    execution = Execution(TRAIN, env=(("EPOCHS", "3"), ("MLFLOW_TRACKING_URI", "mine"), ("MLCI_SEED", "1")))
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline(datasets=(wine,), execution=execution))
    world.server().tick()
    name = world.name_of(run)
    world.engine.wait_for_start(name)
    container = world.engine.containers[name]
    spec = container.spec
    assert (spec.command, spec.user, spec.workdir) == (TRAIN, "1000:1000", "/workspace")
    assert spec.env["EPOCHS"] == "3"
    assert spec.env["MLFLOW_TRACKING_URI"] == "mine"
    assert "_MLFLOW_SERVER_ARTIFACT_ROOT" not in spec.env
    assert spec.env["MLCI_SEED"] == str(only(world, run).seed)
    assert spec.env["MLCI_COMMIT"] == run.change.revision.commit
    assert spec.env["MLCI_DATA_WINE_TEST"] == "/mlci/data/wine-test/files"
    assert container.files["/workspace/train.py"].content == b"print('hello')\n"
    assert (container.files["/workspace/train.py"].uid, container.files["/mlci/output"].uid) == (1000, 1000)
    assert container.files["/mlci"].uid == 0
    assert isinstance(spec.network, Sandbox)
    assert spec.network.id in world.engine.sandboxes
    assert [m.target for m in spec.mounts if m.read_only] == ["/mlci/data/wine-test"]


def test_a_runner_without_a_network_gets_none(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline(runner=RunnerSpec("cpu", NamedImage("image:1"), network=Network.NONE)))
    world.server().tick()
    world.engine.wait_for_start(world.name_of(run))
    assert world.engine.containers[world.name_of(run)].spec.network is None
    assert world.engine.networks == {}


def test_secrets_reach_the_command_by_a_file_and_nothing_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter2-hunter2"
    world.secrets.values["TOKEN"] = secret
    caplog.set_level(logging.DEBUG)
    world.engine.script(Script((b"login with hunter2-hunter2",), None))
    run = world.first_run(pipeline(execution=Execution(TRAIN, secrets=("TOKEN",))))
    server = world.server()
    server.tick()
    name = world.name_of(run)
    world.engine.wait_for_start(name)
    container = world.engine.containers[name]
    file = container.files["/mlci/secrets/env"]
    assert (file.content, file.mode, file.uid) == (b"TOKEN='hunter2-hunter2'\n", 0o400, 1000)
    assert container.files["/mlci/secrets"].mode == 0o700
    assert container.spec.command[-2:] == TRAIN
    assert "/mlci/secrets/env" in container.spec.command[2]
    assert secret not in repr((container.spec, container.labels))
    world.engine.finish(name)
    world.finish(run, server)
    assert log_of(world, only(world, run)) == [b"login with ***"]
    assert secret not in caplog.text
    for path in world.folder.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def taken_over_without_a_secret(world: World) -> tuple[Run, Dispatcher, str]:
    """A run whose first server let go, and whose second one no longer finds one of its secrets."""
    world.secrets.values |= {"TOKEN": "hunter2-hunter2", "OTHER": "correct-horse"}
    world.engine.script(ENDLESS)
    execution = Execution(TRAIN, secrets=("OTHER", "TOKEN"))
    run = world.first_run(pipeline(execution=execution, metrics=(MetricSpec("accuracy"),)))
    first = world.server()
    first.tick()
    name = world.name_of(run)
    world.engine.wait_for_start(name)
    wait_until(lambda: log_of(world, only(world, run)), "the first line")
    assert first.drain(10)
    del world.secrets.values["OTHER"]
    world.engine.say(name, b"login with correct-horse or hunter2-hunter2")
    second = world.server()
    second.tick()
    wait_until(lambda: len(log_of(world, only(world, run))) > 1, "the log to say why it does not go on")
    return run, second, name


NOTICE = b"[orchestrator] what follows is left out while it cannot be masked: no value for OTHER"


def test_a_log_that_cannot_be_masked_waits_until_it_can(world: World) -> None:
    run, server, name = taken_over_without_a_secret(world)
    assert log_of(world, only(world, run)) == [b"epoch 1", NOTICE]
    world.secrets.values["OTHER"] = "correct-horse"
    wait_until(lambda: len(log_of(world, only(world, run))) > 2, "the log to go on")
    world.engine.say(name, b"bye, correct-horse")
    world.engine.finish(name, files={"/mlci/output/metrics.json": METRICS})
    ended = world.finish(run, server)
    assert (ended.state, only(world, run).warnings) == (RunState.PASSED, ())
    assert log_of(world, only(world, run)) == [b"epoch 1", NOTICE, b"login with *** or ***", b"bye, ***"]


def test_what_can_never_be_masked_is_left_out(world: World) -> None:
    run, server, name = taken_over_without_a_secret(world)
    files = {
        "/mlci/output/metrics.json": b'{"accuracy": 0.93, "correct-horse": 1}',
        "/mlci/output/correct-horse": b"",
    }
    world.engine.finish(name, files=files)
    ended = world.finish(run, server)
    attempt = only(world, run)
    assert ended.state is RunState.PASSED
    assert log_of(world, attempt) == [b"epoch 1", NOTICE]
    assert [m.name for m in world.store.runs.metrics(run.id)[0]] == ["accuracy"]
    assert [a.path for a in world.store.attempts.artifacts(attempt.id)] == ["metrics.json"]
    assert len(attempt.warnings) == 2
    assert all(warning.endswith("no value for OTHER") for warning in attempt.warnings)
    nowhere(world, "correct-horse")


def nowhere(world: World, secret: str) -> None:
    """No file of the installation has the secret."""
    for path in world.folder.rglob("*"):
        if path.is_file() and path.parent.parent != world.folder / "blobs":
            assert secret.encode() not in path.read_bytes(), path


def test_names_that_a_training_makes_of_its_secrets_are_masked(world: World) -> None:
    secret = "hunter2-hunter2"
    world.secrets.values["TOKEN"] = secret
    files = {
        f"/mlci/output/{secret}.txt": b"",
        f"/mlci/output/{secret}/metrics.xyz": b"",
        "/mlci/output/metrics.json": b'{"hunter2-hunter2": 1, "a": {"hunter2-hunter2": 2}, "b": 3}',
    }
    world.engine.script(Script((), Exit(127, error=f"exec {secret} failed"), files))
    execution = Execution(TRAIN, secrets=("TOKEN",))
    run = world.finish(world.first_run(pipeline(execution=execution)), world.server())
    assert run.message == "the command could not be started: exec *** failed"
    attempt = only(world, run)
    assert [a.path for a in world.store.attempts.artifacts(attempt.id)] == [
        "***.txt",
        "***/metrics.xyz",
        "metrics.json",
    ]
    assert [m.name for m in world.store.runs.metrics(run.id)[0]] == ["***", "b"]
    nowhere(world, secret)


def test_a_secret_without_a_value_ends_the_attempt_before_a_container_is_made(world: World) -> None:
    run = world.first_run(pipeline(execution=Execution(TRAIN, secrets=("TOKEN",))))
    ended = world.finish(run, world.server())
    assert (ended.state, ended.reason) == (RunState.ERRORED, Reason.SECRET_MISSING)
    assert "create" not in [call for call, _ in world.engine.calls]


@pytest.mark.parametrize(
    ("ending", "state", "reason", "says"),
    [
        (Exit(3), RunState.FAILED, Reason.EXIT_CODE, "exit code 3"),
        (Exit(137, oom_killed=True), RunState.FAILED, Reason.OUT_OF_MEMORY, "ran out of memory"),
        (Exit(127, error="no such file"), RunState.FAILED, Reason.START, "no such file"),
        (Exit(128, error="no device"), RunState.ERRORED, Reason.ENGINE_REFUSED, "128"),
    ],
)
def test_each_end_of_a_container_has_its_class(
    world: World, ending: Exit, state: RunState, reason: Reason, says: str
) -> None:
    world.engine.script(Script(exit=ending))
    run = world.finish(world.first_run(pipeline()), world.server())
    assert (run.state, run.reason) == (state, reason)
    assert says in run.message


def test_a_failed_command_keeps_its_log_and_its_partial_metrics(world: World) -> None:
    world.engine.script(Script((b"epoch 1", b"boom"), Exit(1), {"/mlci/output/metrics.json": METRICS}))
    run = world.finish(world.first_run(pipeline()), world.server())
    assert run.state is RunState.FAILED
    assert log_of(world, only(world, run)) == [b"epoch 1", b"boom"]
    assert [m.value for m in world.store.runs.metrics(run.id)[0]] == [0.93]


def test_a_container_killed_from_outside_is_tried_again_up_to_its_retries(world: World) -> None:
    world.engine.script(Script(exit=Exit(137)))
    run = world.finish(world.first_run(pipeline()), world.server())
    tries = world.store.attempts.of_run(run.id)
    assert (run.state, run.reason) == (RunState.ERRORED, Reason.KILLED)
    assert [(a.number, a.reason) for a in tries] == [(n, Reason.KILLED) for n in (1, 2, 3)]
    assert len({a.seed for a in tries}) == 1
    waits = [(a.not_before - tries[0].created_at) for a in tries if a.not_before and tries[0].created_at]
    assert waits[1] - waits[0] >= timedelta(seconds=10)


def test_an_engine_that_tells_late_that_memory_ran_out_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, collected = world.engine.find, threading.Event()

    def late(name: str) -> Container | None:
        container = find(name)
        if container is None or container.exit is None or not collected.is_set():
            return container
        return replace(container, exit=replace(container.exit, oom_killed=True))

    def sleep(seconds: float) -> None:
        if seconds == execute._TOLD_LATE:
            collected.set()
        world.clock.advance(seconds)

    monkeypatch.setattr(world.engine, "find", late)
    monkeypatch.setattr(world.clock, "sleep", sleep)
    world.engine.script(Script(exit=Exit(137)))
    run = world.finish(world.first_run(pipeline()), world.server())
    assert (run.state, run.reason) == (RunState.FAILED, Reason.OUT_OF_MEMORY)
    assert len(world.store.attempts.of_run(run.id)) == 1


def test_a_second_try_that_succeeds_makes_the_run_pass(world: World) -> None:
    world.engine.fail("create", EngineUnavailable("the engine restarts"))
    run = world.finish(world.first_run(pipeline()), world.server())
    assert run.state is RunState.PASSED
    assert [a.reason for a in world.store.attempts.of_run(run.id)] == [
        Reason.ENGINE_UNAVAILABLE,
        Reason.COMPLETED,
    ]


def test_an_image_that_nobody_has_is_an_error_and_not_tried_again(world: World) -> None:
    run = world.first_run(pipeline(runner=RunnerSpec("cpu", NamedImage("nowhere:1"))))
    ended = world.finish(run, world.server())
    assert (ended.state, ended.reason) == (RunState.ERRORED, Reason.IMAGE_NOT_FOUND)
    assert len(world.store.attempts.of_run(run.id)) == 1


def test_an_image_that_cannot_be_built_is_the_projects_fault_and_shows_the_output(world: World) -> None:
    world.sources.files["Dockerfile"] = b"FROM image:1\nRUN false\n"
    world.engine.build_fails = "RUN false returned 1"
    world.engine.build_output = ("Step 2/2 : RUN false",)
    run = world.first_run(pipeline(runner=RunnerSpec("cpu", RepositoryImage())))
    ended = world.finish(run, world.server())
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.IMAGE_BUILD)
    assert "Step 2/2 : RUN false" in ended.message


def test_a_repositorys_dockerfile_is_built_within_the_runners_limits_and_network(world: World) -> None:
    world.sources.files["Dockerfile"] = b"FROM image:1\n"
    limits = Resources(memory=1 << 28, cpus=1.5)
    runner = RunnerSpec("repo", RepositoryImage(), limits, network=Network.NONE)
    run = world.finish(world.first_run(pipeline(runner=runner)), world.server())
    assert run.state is RunState.PASSED
    assert list(world.engine.build_limits.values()) == [(limits, False)]
    assert list(world.engine.build_credentials.values()) == [False]


def test_the_administrators_own_folder_is_built_without_limits_and_with_credentials(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM image:1\n")
    runner = RunnerSpec("cpu", FolderImage(str(tmp_path)), Resources(memory=1 << 28))
    run = world.finish(world.first_run(pipeline(runner=runner)), world.server())
    assert run.state is RunState.PASSED
    assert list(world.engine.build_limits.values()) == [(None, True)]
    assert list(world.engine.build_credentials.values()) == [True]


def test_a_run_that_is_asked_to_end_ends_a_build_that_never_would(world: World) -> None:
    world.sources.files["Dockerfile"] = b"FROM image:1\nRUN yes\n"
    world.engine.build_hangs = True
    run = world.first_run(pipeline(runner=RunnerSpec("repo", RepositoryImage())))
    server = world.server()
    server.tick()
    assert world.engine.building.wait(5)
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    assert world.finish(run, server).state is RunState.CANCELLED


def test_a_repositorys_build_that_takes_longer_than_the_runs_timeout_is_stopped(world: World) -> None:
    world.sources.files["Dockerfile"] = b"FROM image:1\nRUN yes\n"
    world.engine.build_hangs, world.engine.build_output = True, ("y",)
    watched = pipeline(runner=RunnerSpec("repo", RepositoryImage()), execution=Execution(TRAIN, timeout=60))
    run = world.first_run(watched)
    server = world.server()
    server.tick()
    assert world.engine.building.wait(5)
    world.clock.advance(61)
    ended = world.finish(run, server)
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.IMAGE_BUILD)
    assert "was stopped after 60 s, the run's timeout\ny" in ended.message


def test_two_attempts_of_one_run_build_their_image_once(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "cpu-image"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM image:1\n")
    run = world.first_run(pipeline(runner=RunnerSpec("cpu", FolderImage(str(folder))), replicates=2))
    assert world.finish(run, world.server()).state is RunState.PASSED
    assert len([call for call, _ in world.engine.calls if call == "build"]) == 1
    assert len({a.image_digest for a in world.store.attempts.of_run(run.id)}) == 1


SETUP = Execution(TRAIN, Setup(("sh", "-c", "pip install -r requirements.txt"), ("requirements.txt",)))


def test_the_setup_layer_is_made_once_for_the_same_key_files(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    watched = pipeline(execution=SETUP)
    server = world.server()
    first = world.finish(world.first_run(watched), server)
    world.sources.files["train.py"] = b"print('other')\n"
    world.sources.push("main", "second")
    (second,) = world.detector.poll_source(watched, watched.sources[0])
    second = world.finish(second, server)
    assert (first.state, second.state) == (RunState.PASSED, RunState.PASSED)
    assert len([c for c, _ in world.engine.calls if c == "commit"]) == 1
    digests = {only(world, run).image_digest for run in (first, second)}
    assert digests == {world.engine.images[n] for n in world.engine.images if n.startswith("mlci/setup:")}
    world.sources.files["requirements.txt"] = b"numpy\nscipy\n"
    world.sources.push("main", "third")
    (third,) = world.detector.poll_source(watched, watched.sources[0])
    world.finish(third, server)
    assert len([c for c, _ in world.engine.calls if c == "commit"]) == 2


def test_what_a_stranger_installed_is_for_nobody_else(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    trusting = PullRequestRules(trusted=(7, 8))
    source = SourceSpec("repo", "/repo", pull_requests=trusting)
    watched = pipeline(sources=(source,), execution=SETUP)
    server = world.server()
    world.finish(world.first_run(watched), server)
    for number, author in ((1, 7), (2, 8)):
        commit = world.sources.push(f"try-{number}", f"theirs {number}")
        world.sources.pulls.append(PullRequest(number, "main", commit, author_id=author, owner_id=author))
    runs = world.detector.poll_source(watched, source)
    assert [world.finish(run, server).state for run in runs] == [RunState.PASSED, RunState.PASSED]
    assert len([c for c, _ in world.engine.calls if c == "commit"]) == 3
    again = world.finish(world.detector.run_now(watched, "main", "ana"), server)
    assert again.state is RunState.PASSED
    assert len([c for c, _ in world.engine.calls if c == "commit"]) == 3


def test_a_strangers_dockerfile_is_built_without_the_layers_of_others(world: World) -> None:
    world.sources.files["Dockerfile"] = b"FROM image:1\n"
    source = SourceSpec("repo", "/repo", pull_requests=PullRequestRules(trusted=(7,)))
    watched = pipeline(sources=(source,), runner=RunnerSpec("repo", RepositoryImage()))
    server = world.server()
    world.finish(world.first_run(watched), server)
    assert list(world.engine.build_cached.values()) == [True]
    commit = world.sources.push("try", "theirs")
    world.sources.pulls.append(PullRequest(1, "main", commit, author_id=7, owner_id=7))
    (run,) = world.detector.poll_source(watched, source)
    assert world.finish(run, server).state is RunState.PASSED
    assert list(world.engine.build_cached.values()) == [True, False]


def test_setup_sees_the_key_files_alone_and_no_secret(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.secrets.values["TOKEN"] = "hunter2-hunter2"
    world.engine.script(ENDLESS, is_setup)
    run = world.first_run(pipeline(execution=replace(SETUP, secrets=("TOKEN",))))
    world.server().tick()
    (name,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    container = world.engine.containers[name]
    files = {path for path, file in container.files.items() if file.content is not None}
    assert files == {"/workspace/requirements.txt"}
    assert "TOKEN" not in container.spec.env
    world.engine.finish(name)
    world.engine.wait_for_start(world.name_of(run))


def test_a_failing_setup_is_the_projects_fault_and_shows_its_last_lines(world: World) -> None:
    world.sources.files["requirements.txt"] = b"nonsense\n"
    world.engine.script(Script((b"no matching distribution",), Exit(1)), is_setup)
    run = world.finish(world.first_run(pipeline(execution=SETUP)), world.server())
    assert (run.state, run.reason) == (RunState.FAILED, Reason.SETUP)
    assert "exit code 1" in run.message
    assert "no matching distribution" in run.message
    assert world.engine.guests == {}


def test_a_failing_setup_with_endless_lines_stores_but_their_beginnings(world: World) -> None:
    world.sources.files["requirements.txt"] = b"nonsense\n"
    world.engine.script(Script((b"x" * (1 << 20),) * 3, Exit(1)), is_setup)
    run = world.finish(world.first_run(pipeline(execution=SETUP)), world.server())
    assert (run.state, run.reason) == (RunState.FAILED, Reason.SETUP)
    assert "x" * 1000 in run.message
    assert len(run.message) < 4000


def test_a_setup_whose_key_files_are_missing_says_which(world: World) -> None:
    run = world.finish(world.first_run(pipeline(execution=SETUP)), world.server())
    assert (run.state, run.reason) == (RunState.FAILED, Reason.SETUP)
    assert "requirements.txt" in run.message


def test_a_setup_container_that_cannot_be_removed_changes_no_result(world: World) -> None:
    world.sources.files["requirements.txt"] = b"nonsense\n"
    world.engine.script(Script((b"no matching distribution",), Exit(1)), is_setup)
    world.engine.fail("remove", EngineError("busy"), after=1)
    run = world.finish(world.first_run(pipeline(execution=SETUP)), world.server())
    assert (run.state, run.reason) == (RunState.FAILED, Reason.SETUP)


def test_a_setup_container_removed_by_somebody_else_is_tried_again(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(ENDLESS, is_setup)
    run = world.first_run(pipeline(execution=SETUP))
    server = world.server()
    server.tick()
    (name,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    world.engine.script(Script(), is_setup)
    world.engine.vanish(name)
    assert world.finish(run, server).state is RunState.PASSED
    assert [a.reason for a in world.store.attempts.of_run(run.id)] == [Reason.LOST, Reason.COMPLETED]


def test_data_that_moved_since_the_change_end_the_attempt_and_are_not_marked_as_staged(world: World) -> None:
    wine = DatasetSpec("wine", "/data/wine", DatasetRole.TRAIN, settle=0)
    run = world.first_run(pipeline(datasets=(wine,)))
    world.data.write("rows.csv", b"other\n")
    ended = world.finish(run, world.server())
    assert (ended.state, ended.reason) == (RunState.ERRORED, Reason.DATA_MOVED)
    (volume,) = [v for v in world.engine.volumes if "-data-" in v]
    assert not world.store.attempts.is_staged("local", volume)
    assert world.engine.guests == {}


def test_a_stager_that_cannot_be_removed_hides_nothing(world: World) -> None:
    wine = DatasetSpec("wine", "/data/wine", DatasetRole.TRAIN, settle=0)
    run = world.first_run(pipeline(datasets=(wine,)))
    world.data.write("rows.csv", b"other\n")
    world.engine.fail("remove", EngineError("busy"), after=1)
    assert world.finish(run, world.server()).reason is Reason.DATA_MOVED


def test_data_are_staged_once_a_host(world: World) -> None:
    wine = DatasetSpec("wine", "/data/wine", DatasetRole.TRAIN, settle=0)
    run = world.first_run(pipeline(datasets=(wine,), replicates=2))
    assert world.finish(run, world.server()).state is RunState.PASSED
    stagers = [name for call, name in world.engine.calls if call == "create" and "-stager-" in name]
    assert len(stagers) == 1


def test_a_removed_volume_whose_filling_is_cut_off_is_filled_again(world: World) -> None:
    wine = DatasetSpec("wine", "/data/wine", DatasetRole.TRAIN, settle=0)
    watched = pipeline(datasets=(wine,))
    server = world.server()
    world.finish(world.first_run(watched), server)
    (volume,) = [name for name in world.engine.volumes if "-data-" in name]
    del world.engine.volumes[volume], world.engine.contents[volume]
    world.engine.fail("put", EngineUnavailable("cut off"))
    world.sources.push("main", "second")
    (second,) = world.detector.poll_source(watched, watched.sources[0])
    assert world.finish(second, server).state is RunState.PASSED
    stagers = [name for call, name in world.engine.calls if call == "create" and "-stager-" in name]
    assert len(stagers) == 3, "filled, cut off, filled again"


def test_a_source_that_does_not_answer_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = world.sources.checkout
    faults = [SourceUnavailable("the remote does not answer")]

    def checkout(*args: object) -> None:
        if faults:
            raise faults.pop()
        whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.sources, "checkout", checkout)
    run = world.finish(world.first_run(pipeline()), world.server())
    assert run.state is RunState.PASSED
    assert len(world.store.attempts.of_run(run.id)) == 2


def test_a_timeout_stops_the_container_and_keeps_what_it_left(world: World) -> None:
    world.engine.script(replace(GOOD, exit=None))
    run = world.first_run(pipeline(execution=Execution(TRAIN, timeout=60)))
    server = world.server()
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    wait_until(lambda: only(world, run).state is AttemptState.RUNNING, "the attempt to run")
    world.clock.advance(61)
    ended = world.finish(run, server)
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.TIMEOUT)
    assert "60 s" in ended.message
    assert [m.value for m in world.store.runs.metrics(run.id)[0]] == [0.93]


def test_too_much_log_stops_the_container(world: World) -> None:
    world.engine.script(Script((b"x" * 99, b"y" * 99), None))
    run = world.first_run(pipeline(execution=Execution(TRAIN, log_limit=100)))
    ended = world.finish(run, world.server())
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.LOG_LIMIT)


def test_empty_lines_count_against_the_limit_of_a_log_with_what_they_take_on_disk(world: World) -> None:
    world.engine.script(Script((b"",) * 10, None))
    run = world.first_run(pipeline(execution=Execution(TRAIN, log_limit=200)))
    ended = world.finish(run, world.server())
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.LOG_LIMIT)


@pytest.mark.parametrize("reason", [Reason.CANCELLED_BY_PERSON, Reason.SUPERSEDED])
def test_a_run_that_is_asked_to_end_is_stopped_and_cancelled(world: World, reason: Reason) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline(cancel_grace=45))
    server = world.server()
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    world.store.runs.request_cancel(run.id, "ana", reason, world.clock.now())
    ended = world.finish(run, server)
    assert (ended.state, ended.reason) == (RunState.CANCELLED, reason)
    assert world.engine.graces == [45], "it was not given its time to write a checkpoint"
    assert log_of(world, only(world, run)) == [b"epoch 1"]


def test_a_stop_that_gets_lost_is_repeated(world: World) -> None:
    world.engine.script(ENDLESS)
    world.engine.fail("stop", EngineUnavailable("the link is down"), times=2)
    run = world.first_run(pipeline())
    server = world.server()
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    assert world.finish(run, server).state is RunState.CANCELLED


def test_a_run_cancelled_while_it_is_prepared_never_starts(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(ENDLESS, is_setup)
    run = world.first_run(pipeline(execution=SETUP))
    server = world.server()
    server.tick()
    (setup,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    world.engine.finish(setup)
    assert world.finish(run, server).state is RunState.CANCELLED
    assert not [name for name in world.engine.starts if "attempt" in name]
    wait_until(lambda: not world.engine.guests, "the container to go")


def test_a_run_that_is_asked_to_end_ends_a_setup_that_never_would(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(ENDLESS, is_setup)
    run = world.first_run(pipeline(execution=SETUP))
    server = world.server()
    server.tick()
    wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    world.store.runs.request_cancel(run.id, "ana", Reason.CANCELLED_BY_PERSON, world.clock.now())
    assert world.finish(run, server).state is RunState.CANCELLED
    assert world.engine.guests == {}


def test_a_setup_that_takes_longer_than_the_runs_timeout_is_stopped(world: World) -> None:
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(Script((b"downloading the world",), None), is_setup)
    run = world.first_run(pipeline(execution=replace(SETUP, timeout=60)))
    server = world.server()
    server.tick()
    (setup,) = wait_until(lambda: [n for n in world.engine.starts if "setup" in n], "setup to start")
    wait_until(lambda: any(e.line for e in world.progress), "its output to come")
    world.clock.advance(61)
    ended = world.finish(run, server)
    assert (ended.state, ended.reason) == (RunState.FAILED, Reason.SETUP)
    assert "stopped after 60 s" in ended.message
    assert "downloading the world" in ended.message
    assert setup not in world.engine.containers


def test_a_key_file_may_have_any_name_that_a_repository_can_hold(world: World) -> None:
    world.sources.files["caf\udce9.txt"] = b"numpy\n"
    execution = Execution(TRAIN, Setup(("true",), ("*.txt",)))
    run = world.finish(world.first_run(pipeline(execution=execution)), world.server())
    assert run.state is RunState.PASSED, run.message


def test_a_container_removed_behind_our_back_is_lost_and_tried_again(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    server.tick()
    name = world.name_of(run)
    world.engine.wait_for_start(name)
    wait_until(lambda: only(world, run).state is AttemptState.RUNNING, "the attempt to run")
    world.engine.script(GOOD)
    world.engine.vanish(name)
    assert world.finish(run, server).state is RunState.PASSED
    assert [a.reason for a in world.store.attempts.of_run(run.id)] == [Reason.LOST, Reason.COMPLETED]


def test_a_host_out_of_reach_for_a_while_loses_nothing(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    server.tick()
    name = world.name_of(run)
    world.engine.wait_for_start(name)
    wait_until(lambda: log_of(world, only(world, run)), "the first line")
    world.engine.cut()
    failed = len(world.engine.calls)
    world.engine.say(name, b"said in the dark")
    wait_until(lambda: ("find", name) in world.engine.calls[failed:], "somebody to look in vain")
    world.clock.advance(LOST_AFTER - 1)
    world.engine.restore()
    world.engine.say(name, b"said in the light")
    world.engine.finish(name)
    ended = world.finish(run, server)
    assert ended.state is RunState.PASSED
    assert log_of(world, only(world, run)) == [b"epoch 1", b"said in the dark", b"said in the light"]
    assert world.engine.double_starts == []


def test_a_host_out_of_reach_for_too_long_loses_the_attempt_and_another_is_tried(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    server.tick()
    name = world.name_of(run)
    world.engine.wait_for_start(name)
    wait_until(lambda: only(world, run).state is AttemptState.RUNNING, "the attempt to run")
    world.engine.cut()
    failed = len(world.engine.calls)
    wait_until(lambda: ("find", name) in world.engine.calls[failed:], "somebody to look in vain")

    def lost() -> bool:
        world.clock.advance(LOST_AFTER)
        server.keep_alive()
        return world.store.attempts.of_run(run.id)[0].state.final

    wait_until(lost, "the attempt to be given up")
    first = world.store.attempts.of_run(run.id)[0]
    assert (first.state, first.reason) == (AttemptState.ERRORED, Reason.LOST)
    world.engine.restore()
    world.engine.script(GOOD)
    assert world.finish(run, server).state is RunState.PASSED
    assert world.engine.starts[name] == 1
    assert name not in world.engine.containers, "its orphan was ended before the next try began"


def test_an_engine_that_refuses_to_look_is_asked_again(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline())
    server = world.server()
    server.tick()
    name = world.name_of(run)
    world.engine.wait_for_start(name)
    wait_until(lambda: only(world, run).state is AttemptState.RUNNING, "the attempt to run")
    world.engine.fail("find", EngineError("internal server error"))
    world.engine.finish(name)
    assert world.finish(run, server).state is RunState.PASSED
    assert len(world.store.attempts.of_run(run.id)) == 1


def test_outputs_wait_for_a_host_that_goes_away_before_they_are_fetched(world: World) -> None:
    world.engine.script(GOOD)
    world.engine.fail("get", EngineUnavailable("the link is down"), times=2)
    run = world.finish(world.first_run(pipeline(collect=("metrics.json",))), world.server())
    assert run.state is RunState.PASSED
    assert only(world, run).reason is Reason.COMPLETED


def test_outputs_of_a_host_that_stays_away_are_lost(world: World) -> None:
    world.engine.script(GOOD)
    world.engine.fail("get", EngineUnavailable("the link is down"), times=100)
    run = world.first_run(pipeline(execution=Execution(TRAIN, infrastructure_retries=0)))
    server = world.server()
    server.tick()
    wait_until(lambda: "get" in [c for c, _ in world.engine.calls], "outputs to be asked for")

    def step() -> bool:
        world.clock.advance(LOST_AFTER / 2)
        server.tick()
        world.evaluator.tick()
        return world.store.runs.get(run.id).state.final

    wait_until(step, "the run to end")
    assert world.store.runs.get(run.id).reason is Reason.LOST


def test_a_container_that_cannot_be_removed_changes_no_result(world: World) -> None:
    world.engine.script(GOOD)
    world.engine.fail("remove", EngineError("device or resource busy"))
    run = world.finish(world.first_run(pipeline()), world.server())
    assert run.state is RunState.PASSED
    assert only(world, run).state is AttemptState.SUCCEEDED


def test_a_full_disk_under_the_log_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.domain.errors import StoreUnavailable

    whole = world.logs.writer
    faults = [StoreUnavailable("no space left")]

    def writer(*args: object) -> object:
        if faults:
            raise faults.pop()
        return whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.logs, "writer", writer)
    world.engine.script(GOOD)
    run = world.finish(world.first_run(pipeline()), world.server())
    assert run.state is RunState.PASSED
    assert log_of(world, only(world, run)) == [b"epoch 1", b"done"]


def test_a_run_whose_pipeline_is_no_longer_configured_runs_as_it_was_frozen(world: World) -> None:
    run = world.first_run(pipeline(collect=("metrics.json",)))
    world.engine.script(GOOD)
    # Nothing but the database knows the pipeline: neither the dispatcher nor the evaluator is given one.
    assert world.finish(run, world.server()).state is RunState.PASSED


def test_no_more_attempts_run_on_a_host_than_it_has_slots(world: World) -> None:
    world.engine.script(ENDLESS)
    run = world.first_run(pipeline(replicates=3))
    server = world.server()
    server.tick()
    for replicate in (0, 1):
        world.engine.wait_for_start(world.name_of(run, replicate))
    server.tick()
    third = world.store.attempts.of_run(run.id)[2]
    assert third.state is AttemptState.QUEUED
    assert world.waiting(run) == ["replicate 2 waits for a free slot: local (2 of 2 taken)"]
    world.engine.script(GOOD)
    for replicate in (0, 1):
        world.engine.finish(world.name_of(run, replicate))
    world.finish(run, server)
    assert world.waiting(run) == []


def test_a_full_host_is_not_asked_for_a_slot_at_every_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.engine.script(ENDLESS)
    world.hosts = (HostSpec("local", "unix:///x", 1),)
    run = world.first_run(pipeline(replicates=2))
    server = world.server()
    server.tick()
    world.engine.wait_for_start(world.name_of(run))
    asked: list[object] = []
    monkeypatch.setattr(world.store.attempts, "claim", lambda *args: asked.append(args))
    server.tick()
    assert asked == []


def test_a_run_that_no_host_fits_errs_and_says_what_was_asked_for(world: World) -> None:
    runner = RunnerSpec("gpu", NamedImage("image:1"), host_labels=(("gpu", "yes"),))
    server, made = world.server(), world.first_run(pipeline(runner=runner))
    (why,) = world.waiting(made)
    assert why.startswith("it cannot start: no host of the configuration fits"), "nothing is waited for"
    run = world.finish(made, server)
    assert (run.state, run.reason) == (RunState.ERRORED, Reason.HOST_UNKNOWN)
    assert "gpu" in run.message


def test_an_attempt_is_not_spent_on_a_host_that_does_not_answer(world: World) -> None:
    run = world.first_run(pipeline(execution=Execution(("true",), infrastructure_retries=0)))
    server = world.server()
    world.engine.cut()
    server.tick()
    (attempt,) = world.store.attempts.of_run(run.id)
    assert attempt.state is AttemptState.QUEUED
    assert world.waiting(run)[0].startswith("it waits for a host: local does not answer: ")
    world.engine.restore()
    server.tick()
    assert world.store.attempts.get(attempt.id).state is AttemptState.QUEUED
    world.clock.advance(5)
    assert world.finish(run, server).state is RunState.PASSED


def test_a_log_that_was_read_to_its_end_is_not_read_again(world: World) -> None:
    world.engine.script(GOOD)
    run = world.finish(world.first_run(pipeline()), world.server())
    assert run.state is RunState.PASSED
    assert [call for call, _ in world.engine.calls].count("logs") == 1
