"""Attempts with GPUs: which they get, who else uses them, what is written down of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from orchestrator.domain.errors import EngineUnavailable
from orchestrator.domain.gpu import Gpu, GpuUse, HostGpus
from orchestrator.domain.pipeline import HELPER_IMAGE, HostSpec, NamedImage, Pipeline, Resources, RunnerSpec
from orchestrator.domain.run import Attempt, AttemptState, Exit, Reason, Run, RunState
from orchestrator.ports.engine import ContainerSpec
from orchestrator.ports.gpus import GpuAccess, GpuProcess, GpuReport, GpuSeen, GpuWay
from orchestrator.services.clean import sweep
from orchestrator.services.gpus import Gpus
from tests.support.fake_engine import Script
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, pipeline

MIB = 1 << 20
FIRST = Gpu("GPU-1", "NVIDIA H100", 81559 * MIB, "550.54.15")
SECOND = Gpu("GPU-2", "NVIDIA L4", 23034 * MIB, "550.54.15")
BY_DEVICES = GpuAccess(GpuWay.DEVICES, ("GPU-2",), ("/dev/nvidia1", "/dev/nvidiactl"), "the-driver")
SAMPLES = Script((b"GPU-2, 90, 1485", b"GPU-2, 30, 1200", b"GPU-9, 5, 5", b"nvidia-smi: odd"), None)
ENDLESS = Script((), None)


def report(**processes: str) -> GpuReport:
    """Both GPUs; by a GPU's number, a program that computes on it: ``_2="python"``."""
    seen = [
        GpuSeen(
            gpu,
            f"/dev/nvidia{number - 1}",
            processes=(GpuProcess(7, processes[f"_{number}"]),) if f"_{number}" in processes else (),
        )
        for number, gpu in ((1, FIRST), (2, SECOND))
    ]
    return GpuReport(tuple(seen), GpuWay.DEVICES, ("/dev/nvidiactl",), "the-driver")


def wanting(**wish: object) -> Pipeline:
    resources = replace(Resources(gpus=1), **wish)  # type: ignore[arg-type]
    return pipeline(runner=RunnerSpec("gpu", NamedImage("image:1"), resources))


def is_sampler(spec: ContainerSpec) -> bool:
    return spec.labels.get("mlci.role") == "sampler"


@pytest.fixture
def gpu_world(world: World) -> World:
    """A world whose host has two GPUs."""
    world.engine.gpu_report = report()
    world.engine.script(SAMPLES, is_sampler)
    return world


def only(world: World, run: Run) -> Attempt:
    (attempt,) = world.store.attempts.of_run(run.id)
    return attempt


def given(world: World, attempt: Attempt) -> GpuAccess | None:
    return world.engine.containers[attempt.container].spec.gpus


def test_an_attempt_gets_the_smallest_gpu_that_fits_and_says_how_it_was_used(gpu_world: World) -> None:
    seen: list[GpuAccess | None] = []

    def note(spec: ContainerSpec) -> bool:
        seen.append(spec.gpus)
        return False

    gpu_world.engine.script(Script(), note)
    run = gpu_world.finish(gpu_world.first_run(wanting()), gpu_world.server())
    attempt = only(gpu_world, run)
    assert run.state is RunState.PASSED
    assert attempt.gpus == (SECOND,)
    assert attempt.utilisation == (GpuUse("GPU-2", 2, (0.9 + 0.3) / 2, 0.9, 1485 * MIB),)
    # The sampler saw the same GPU, and is gone like its attempt; nobody has the GPU any more.
    assert seen.count(BY_DEVICES) == 2
    wait_until(lambda: not gpu_world.engine.guests, "both containers to be removed")
    assert gpu_world.store.attempts.gpus_leased() == {}


def test_a_run_without_gpus_gets_none_and_asks_nobody(gpu_world: World) -> None:
    run = gpu_world.finish(gpu_world.first_run(pipeline()), gpu_world.server())
    assert (only(gpu_world, run).gpus, only(gpu_world, run).utilisation) == ((), ())
    assert "gpus" not in {call for call, _ in gpu_world.engine.calls}


def test_two_runs_at_the_same_time_never_have_the_same_gpu(gpu_world: World) -> None:
    gpu_world.engine.script(ENDLESS, lambda spec: not is_sampler(spec) and spec.gpus is not None)
    gpu_world.hosts = (HostSpec("local", "unix:///x", 3),)
    server, three = gpu_world.server(), replace(wanting(), replicates=3)
    run = gpu_world.first_run(three)
    server.tick()

    def leased() -> Mapping[str, int]:
        return gpu_world.store.attempts.gpus_leased().get("local", {})

    assert set(leased()) == {"GPU-1", "GPU-2"}
    (waits,) = [a for a in gpu_world.store.attempts.of_run(run.id) if a.state is AttemptState.QUEUED]
    assert waits.id not in leased().values()
    (why,) = gpu_world.waiting(run)
    assert f"attempt {leased()['GPU-1']} has GPU-1; attempt {leased()['GPU-2']} has GPU-2" in why


def test_a_gpu_that_somebody_else_computes_on_is_left_alone(gpu_world: World) -> None:
    gpu_world.engine.gpu_report = report(_2="python")
    run = gpu_world.finish(gpu_world.first_run(wanting()), gpu_world.server())
    assert only(gpu_world, run).gpus == (FIRST,)


def test_a_run_waits_while_others_compute_on_all_gpus_and_goes_when_they_end(gpu_world: World) -> None:
    gpu_world.engine.gpu_report = report(_1="blender", _2="python")
    server, run = gpu_world.server(), gpu_world.first_run(wanting())
    server.tick()
    assert only(gpu_world, run).state is AttemptState.QUEUED
    (why,) = gpu_world.waiting(run)
    assert "GPU-1 is used by process 7 (blender); GPU-2 is used by process 7 (python)" in why
    gpu_world.engine.gpu_report = report()
    gpu_world.clock.advance(30)
    assert gpu_world.finish(run, server).state is RunState.PASSED


def test_somebody_who_comes_between_the_choice_and_the_start_costs_a_try_and_no_container(
    gpu_world: World,
) -> None:
    server, run = gpu_world.server(), gpu_world.first_run(wanting())
    assert gpu_world.gpus.look("local").busy == {}
    gpu_world.engine.gpu_report = report(_2="python")
    assert gpu_world.finish(run, server).state is RunState.PASSED
    first, second = gpu_world.store.attempts.of_run(run.id)
    assert (first.state, first.reason) == (AttemptState.ERRORED, Reason.GPU_UNAVAILABLE)
    assert "the GPU GPU-2 (NVIDIA L4) of local is used by process 7 (python)" in first.message
    assert gpu_world.engine.starts[first.container] == 0
    assert second.gpus == (FIRST,)


def test_a_gpu_that_is_gone_by_the_start_is_told(gpu_world: World) -> None:
    server, run = gpu_world.server(), gpu_world.first_run(wanting(gpu_model="L4"))
    gpu_world.gpus.look("local")
    gpu_world.engine.gpu_report = GpuReport(report().gpus[:1], GpuWay.DEVICES)
    server.tick()
    wait_until(lambda: gpu_world.store.attempts.of_run(run.id)[0].state.final, "the first try to end")
    assert "local does not have the GPU GPU-2 (NVIDIA L4) any more" in only(gpu_world, run).message


def test_a_run_that_wants_more_than_any_host_has_is_refused_at_once(gpu_world: World) -> None:
    run = gpu_world.finish(gpu_world.first_run(wanting(gpus=3)), gpu_world.server())
    assert (run.state, run.reason) == (RunState.ERRORED, Reason.NO_SUITABLE_HOST)
    assert "3 GPUs wanted, 2 of its GPUs fit; it has: NVIDIA H100" in run.message


def test_a_host_whose_gpus_cannot_be_asked_for_makes_runs_wait_and_says_why(gpu_world: World) -> None:
    gpu_world.engine.gpu_report = GpuReport(trouble="nvidia-smi says: no driver")
    server, run = gpu_world.server(), gpu_world.first_run(wanting())
    server.tick()
    assert only(gpu_world, run).state is AttemptState.QUEUED
    assert "nvidia-smi says: no driver" in gpu_world.waiting(run)[0]


def test_only_the_gpus_that_the_administrator_names_are_given(gpu_world: World) -> None:
    gpu_world.hosts = (HostSpec("local", "unix:///x", 2, gpus=("GPU-1",)),)
    run = gpu_world.finish(gpu_world.first_run(wanting()), gpu_world.server())
    assert only(gpu_world, run).gpus == (FIRST,)


def test_a_host_that_gives_no_gpus_is_never_asked(gpu_world: World) -> None:
    gpu_world.hosts = (HostSpec("local", "unix:///x", 2, gpus=()),)
    run = gpu_world.finish(gpu_world.first_run(wanting()), gpu_world.server())
    assert run.reason is Reason.NO_SUITABLE_HOST
    assert "gpus" not in {call for call, _ in gpu_world.engine.calls}


def test_a_named_gpu_that_the_host_does_not_have_is_told(gpu_world: World) -> None:
    gpu_world.hosts = (HostSpec("local", "unix:///x", 2, gpus=("GPU-1", "GPU-9")),)
    gpu_world.server()
    found = gpu_world.gpus.look("local")
    assert found == HostGpus((FIRST,), {}, "`gpus:` of the host names GPU-9, which it does not have")


def test_gpus_that_are_cut_into_parts_are_not_given(gpu_world: World) -> None:
    cut = tuple(replace(seen, partitioned=True) for seen in report().gpus)
    gpu_world.engine.gpu_report = GpuReport(cut, GpuWay.RUNTIME)
    gpu_world.server()
    found = gpu_world.gpus.look("local")
    assert (found.gpus, "MIG" in found.trouble) == ((), True)


def test_memory_in_use_counts_although_no_process_is_seen(gpu_world: World) -> None:
    seen = replace(report().gpus[0], memory_used=40000 * MIB)
    gpu_world.engine.gpu_report = GpuReport((seen,), GpuWay.RUNTIME)
    gpu_world.server()
    assert gpu_world.gpus.look("local").busy == {"GPU-1": "somebody who has 40000 MiB of its memory"}


def test_what_an_attempt_itself_computes_is_nobody_elses_use(gpu_world: World) -> None:
    gpu_world.engine.script(ENDLESS, lambda spec: not is_sampler(spec) and spec.gpus is not None)
    server, run = gpu_world.server(), gpu_world.first_run(wanting())
    server.tick()
    gpu_world.engine.wait_for_start(gpu_world.name_of(run))
    gpu_world.engine.gpu_report = report(_2="train.py")
    assert gpu_world.gpus.look("local").busy == {}


def test_a_sampler_that_cannot_be_made_costs_the_attempt_nothing(gpu_world: World) -> None:
    gpu_world.engine.fail("start", EngineUnavailable("the engine does not answer"), times=1)
    run = gpu_world.finish(gpu_world.first_run(wanting()), gpu_world.server())
    assert (run.state, only(gpu_world, run).utilisation) == (RunState.PASSED, ())


def test_a_fresh_host_gets_the_image_in_which_it_is_searched(gpu_world: World) -> None:
    del gpu_world.engine.images[HELPER_IMAGE]
    brought: list[str] = []

    def make(engine: object, progress: object) -> None:
        gpu_world.engine.images[HELPER_IMAGE] = "sha256:made"
        brought.append(HELPER_IMAGE)

    gpu_world.supply._make_base = make
    server = gpu_world.server()
    gpu_world.gpus.patient = False

    def found() -> list[str]:
        return [gpu.uuid for gpu in gpu_world.gpus.on("local").gpus]

    assert wait_until(found, "the host to be searched") == ["GPU-1", "GPU-2"]
    assert (brought, server.busy) == ([HELPER_IMAGE], 0)


def test_a_command_that_only_asks_makes_nothing_on_a_host(gpu_world: World) -> None:
    del gpu_world.engine.images[HELPER_IMAGE]
    gpu_world.server()
    found = gpu_world.gpus.on("local")
    assert (found.gpus, found.known, "there is no image" in found.trouble) == ((), False, True)
    assert HELPER_IMAGE not in gpu_world.engine.images


def test_a_look_counts_for_a_while(gpu_world: World) -> None:
    gpu_world.server()
    gpus: Gpus = gpu_world.gpus
    for _ in range(3):
        gpus.on("local")
    assert [call for call, _ in gpu_world.engine.calls].count("gpus") == 1
    assert gpus.on("local", ask=False).gpus == (FIRST, SECOND)
    gpu_world.clock.advance(21)
    gpus.on("local")
    assert [call for call, _ in gpu_world.engine.calls].count("gpus") == 2


def test_a_sampler_whose_attempt_has_ended_is_swept_up(gpu_world: World) -> None:
    gpu_world.engine.fail("remove", EngineUnavailable("the engine does not answer"), times=2)
    run = gpu_world.finish(gpu_world.first_run(wanting()), gpu_world.server())
    wait_until(lambda: run.state.final, "the run to end")
    sampler = f"{only(gpu_world, run).container}-gpus"
    assert sampler in gpu_world.engine.containers
    assert sampler in sweep(gpu_world.store, gpu_world.engines)
    assert sampler not in gpu_world.engine.containers


def test_samples_from_before_and_after_the_command_do_not_count(gpu_world: World) -> None:
    gpu_world.server()
    access = BY_DEVICES
    attempt = Attempt(1, 1, 0, 1, 7, AttemptState.COLLECTING, "local", "c-1", gpus=(SECOND,))
    gpu_world.gpus.watch(gpu_world.engine, "local", attempt, access)
    container = gpu_world.engine.containers["c-1-gpus"]
    first, second = container.lines[0].timestamp, container.lines[1].timestamp
    assert first[:19] <= second[:19]
    ended = Exit(0, started_at=None, finished_at=None)
    assert gpu_world.gpus.used(gpu_world.engine, attempt, ended)[0].samples == 2
    early = replace(ended, finished_at=gpu_world.clock.now().replace(year=2000))
    assert gpu_world.gpus.used(gpu_world.engine, attempt, early) == ()
    late = replace(ended, started_at=gpu_world.clock.now().replace(year=2100))
    assert gpu_world.gpus.used(gpu_world.engine, attempt, late) == ()
