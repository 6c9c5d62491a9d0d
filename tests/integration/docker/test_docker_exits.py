"""How containers end on the real engine, and what our process knows of it after a restart."""

from __future__ import annotations

from dataclasses import replace

import docker
import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.domain.errors import ContainerGone
from orchestrator.domain.run import Reason, classify, warnings_of
from tests.support.containers import SOCKET, Bench

HOG = "x = bytearray(1 << 30)"


def test_a_command_out_of_memory_is_told_from_one_that_was_killed(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    hungry = replace(bench.spec(""), command=("python3", "-c", HOG))
    ending = bench.run(hungry)
    assert (ending.code, ending.oom_killed) == (137, True)
    assert classify(ending, None) is Reason.OUT_OF_MEMORY

    killed = bench.spec("exec sleep 600", what="killed")
    bench.engine.create(killed)
    bench.engine.start(killed.name)
    docker_engine.containers.get(killed.name).kill()
    ending = bench.ended(killed.name)
    assert (ending.code, ending.oom_killed) == (137, False)
    assert classify(ending, None) is Reason.KILLED


def test_a_child_out_of_memory_under_a_command_that_goes_on_is_a_success_with_a_warning(bench: Bench) -> None:
    ending, _ = bench.shell(f"python3 -c '{HOG}'; exit 0")
    assert (ending.code, ending.oom_killed) == (0, True)
    assert classify(ending, None) is Reason.COMPLETED
    assert warnings_of(ending)


@pytest.mark.parametrize(
    ("command", "code"),
    [("/no/such/command", 127), ("/etc/passwd", 126)],
    ids=["not found", "not executable"],
)
def test_a_command_that_cannot_be_started_is_known_as_such_after_a_restart_of_ours(
    bench: Bench, command: str, code: int
) -> None:
    spec = replace(bench.spec(""), command=(command,))
    seen = bench.run(spec)
    assert (seen.code, classify(seen, None)) == (code, Reason.START)
    assert command in seen.error
    after_restart = DockerEngine(SOCKET, bench.prefix)
    found = after_restart.find(spec.name)
    after_restart.close()
    assert found is not None
    assert found.exit == seen


def test_a_shell_that_does_not_find_a_command_has_simply_failed(bench: Bench) -> None:
    ending, _ = bench.shell("no-such-command")
    assert (ending.code, ending.error) == (127, "")
    assert classify(ending, None) is Reason.EXIT_CODE


def test_a_container_that_ignores_the_request_to_end_is_killed_after_the_grace(bench: Bench) -> None:
    spec = bench.spec("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    assert next(bench.engine.logs(spec.name, None)).text == b"ready"
    bench.engine.stop(spec.name, 0.5)
    assert bench.ended(spec.name).code == 137


def test_a_container_that_ends_when_asked_keeps_its_own_exit_code(bench: Bench) -> None:
    spec = bench.spec("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    assert next(bench.engine.logs(spec.name, None)).text == b"ready"
    bench.engine.stop(spec.name, 30)
    assert bench.ended(spec.name).code == 7


def test_the_command_runs_as_written_whatever_entrypoint_the_image_has(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    holder = docker_engine.containers.create(bench.image, ["true"])
    tag = f"{bench.prefix}:entry"
    holder.commit(tag.split(":")[0], "entry", changes='ENTRYPOINT ["echo", "entrypoint"]')
    holder.remove()
    try:
        _, lines = bench.shell("echo mine", image=tag)
        assert [line.text for line in lines] == [b"mine"]
    finally:
        bench.engine.remove(bench.name())
        docker_engine.images.remove(tag)


def test_a_name_that_another_container_of_ours_has_now_means_that_one(
    bench: Bench, engine: DockerEngine
) -> None:
    spec = bench.spec("exit 5")
    first = engine.create(spec)
    other = DockerEngine(SOCKET, bench.prefix)
    other.remove(first.name)
    second = other.create(spec)
    other.close()
    with pytest.raises(ContainerGone):
        engine.start(spec.name)
    engine.start(spec.name)
    assert bench.ended(spec.name).code == 5
    engine.remove(spec.name)
    assert second.id != first.id
    assert engine.find(spec.name) is None
