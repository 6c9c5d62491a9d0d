"""The contract of the Engine port, kept by the fake engine of the unit tests and by the real one alike."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.domain.errors import ContainerGone, EngineError, ImageNotFound, RegistryUnavailable
from orchestrator.domain.pipeline import HELPER_IMAGE
from orchestrator.domain.run import Exit
from orchestrator.ports.engine import ContainerState, LogLine, Sandbox, SandboxSpec, VolumeMount
from tests.support.containers import HOME, Bench, files_in, tar_of
from tests.support.fake_engine import NOBODYS_REGISTRY, Script

FOREVER = "exec sleep 600"
RUNNING = Script(exit=None)


def test_a_created_container_is_found_with_its_labels_and_has_not_started(either: Bench) -> None:
    made = either.engine.create(either.spec("true"))
    found = either.engine.find(either.name())
    assert found == made
    assert (found.name, found.state, found.exit) == (either.name(), ContainerState.CREATED, None)
    assert found.labels["mlci.test"] == "container"
    assert found.labels["mlci.instance"] == either.prefix
    assert found.image == either.engine.find_image(either.image)


def test_creating_again_adopts_the_container_that_is_there(either: Bench) -> None:
    first = either.engine.create(either.spec(FOREVER, RUNNING))
    either.engine.start(first.name)
    again = either.engine.create(either.spec("echo another"))
    assert (again.id, again.state) == (first.id, ContainerState.RUNNING)


def test_a_container_is_found_by_its_id_too(either: Bench) -> None:
    made = either.engine.create(either.spec("true"))
    assert either.engine.find(made.id) == made


def test_an_unknown_container_is_none_to_find_and_gone_to_everything_that_needs_it(either: Bench) -> None:
    name = either.name("absent")
    assert either.engine.find(name) is None
    with pytest.raises(ContainerGone, match=name):
        either.engine.start(name)
    with pytest.raises(ContainerGone, match=name):
        either.engine.logs(name, None)
    with pytest.raises(ContainerGone, match=name):
        either.engine.get(name, "/")
    with pytest.raises(ContainerGone, match=name):
        either.engine.put(name, "/", tar_of({"a": b""}))
    with pytest.raises(ContainerGone, match=name):
        either.engine.commit(name, f"{either.prefix}:x", {}, ())


def test_what_is_gone_may_be_stopped_and_removed_again(either: Bench) -> None:
    name = either.name("absent")
    either.engine.stop(name, 1)
    either.engine.remove(name)
    either.engine.remove_network(name)
    either.engine.remove_volume(name)
    either.engine.remove_image(f"{name}:1")


def test_the_exit_code_and_the_times_are_those_of_the_command(either: Bench) -> None:
    ending = either.run(either.spec("exit 3", Script(exit=Exit(3))))
    assert (ending.code, ending.oom_killed, ending.error) == (3, False, "")
    assert ending.started_at is not None
    assert ending.finished_at is not None
    assert ending.started_at.utcoffset() == ending.finished_at.utcoffset() is not None


def test_starting_a_running_container_leaves_it_as_it_is(either: Bench) -> None:
    spec = either.spec(FOREVER, RUNNING)
    either.engine.create(spec)
    either.engine.start(spec.name)
    either.engine.start(spec.name)
    found = either.engine.find(spec.name)
    assert found is not None
    assert found.state is ContainerState.RUNNING


def test_a_command_that_cannot_be_started_becomes_an_exit_with_an_error(either: Bench) -> None:
    spec = either.spec("", Script(exit=Exit(127, error="exec /no/such/command failed: No such file")))
    spec = replace(spec, command=("/no/such/command",))
    ending = either.run(spec)
    assert ending.code == 127
    assert "/no/such/command" in ending.error


def test_an_unknown_image_is_said_at_create(either: Bench) -> None:
    with pytest.raises(ImageNotFound, match="mlci-no-such-image"):
        either.engine.create(replace(either.spec("true"), image="mlci-no-such-image:1"))
    assert either.engine.find_image("mlci-no-such-image:1") is None


def test_an_image_of_a_registry_that_is_not_there_cannot_be_pulled(either: Bench) -> None:
    with pytest.raises(RegistryUnavailable, match="mlci-no-such-image"):
        either.engine.pull(f"{NOBODYS_REGISTRY}mlci-no-such-image:1", lambda event: None)


def test_lines_come_in_order_with_timestamps_in_nanoseconds(either: Bench) -> None:
    lines = [b"one", b"t\rw\ro", b"", "drü".encode()]
    spec = either.spec(r"printf 'one\nt\rw\ro\n\ndrü\n'", Script(lines=lines))
    either.run(spec)
    seen = list(either.engine.logs(spec.name, None))
    assert [line.text for line in seen] == lines
    stamps = [line.timestamp for line in seen]
    assert stamps == sorted(stamps)
    assert all(len(stamp) == len("2026-01-01T00:00:00.000000000Z") and stamp[-1] == "Z" for stamp in stamps)


def test_resuming_a_log_brings_the_line_of_that_time_and_what_came_after(either: Bench) -> None:
    lines = [b"one", b"two", b"three"]
    spec = either.spec("for i in one two three; do echo $i; sleep 0.01; done", Script(lines=lines))
    either.run(spec)
    seen = list(either.engine.logs(spec.name, None))
    assert list(either.engine.logs(spec.name, seen[1].timestamp)) == seen[1:]


def test_a_log_follows_a_running_container_to_its_end(either: Bench) -> None:
    spec = either.spec("echo here; exec sleep 600", Script(lines=[b"here"], exit=None))
    either.engine.create(spec)
    either.engine.start(spec.name)
    log = either.engine.logs(spec.name, None)
    assert next(log).text == b"here"
    threading.Timer(0.1, either.engine.stop, (spec.name, 0)).start()
    assert list(log) == []


def test_closing_a_log_wakes_the_thread_that_waits_for_a_line(either: Bench) -> None:
    spec = either.spec(FOREVER, RUNNING)
    either.engine.create(spec)
    either.engine.start(spec.name)
    log = either.engine.logs(spec.name, None)
    seen: list[list[LogLine]] = []
    reader = threading.Thread(target=lambda: seen.append(list(log)))
    reader.start()
    reader.join(0.3)
    assert reader.is_alive(), "the log ended although the container runs"
    log.close()
    reader.join(5)
    assert seen == [[]]
    log.close()
    assert list(log) == []


def test_a_container_that_never_started_has_an_empty_log(either: Bench) -> None:
    either.engine.create(either.spec("true"))
    assert list(either.engine.logs(either.name(), None)) == []


def test_a_stopped_container_has_ended_and_may_be_stopped_again(either: Bench) -> None:
    spec = either.spec(FOREVER, RUNNING)
    either.engine.create(spec)
    either.engine.start(spec.name)
    either.engine.stop(spec.name, 5)
    ending = either.ended(spec.name)
    assert ending.code in {137, 143}
    either.engine.stop(spec.name, 5)
    assert either.ended(spec.name) == ending


def test_files_put_in_before_the_start_come_out_again(either: Bench) -> None:
    spec = either.spec("true", Script())
    either.engine.create(spec)
    either.engine.put(spec.name, HOME, tar_of({"in/a.txt": b"a", "in/b.bin": bytes(300_000)}))
    either.engine.start(spec.name)
    either.ended(spec.name)
    assert files_in(either.engine, spec.name, f"{HOME}/in") == {"in/a.txt": b"a", "in/b.bin": bytes(300_000)}
    assert files_in(either.engine, spec.name, f"{HOME}/in/a.txt") == {"a.txt": b"a"}


def test_what_a_command_wrote_can_be_fetched_after_its_end(either: Bench) -> None:
    script = Script(files={f"{HOME}/out/m.json": b"{}"})
    spec = either.spec(f"mkdir {HOME}/out && printf '{{}}' > {HOME}/out/m.json", script)
    either.run(spec)
    assert files_in(either.engine, spec.name, f"{HOME}/out") == {"out/m.json": b"{}"}


def test_a_folder_tells_whether_something_was_made_in_it(either: Bench) -> None:
    put_at = datetime(1999, 1, 2, 3, 4, 5, tzinfo=UTC)
    spec = either.spec(f"touch {HOME}/b/file", Script(files={f"{HOME}/b/file": b""}))
    either.engine.create(spec)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("a", "b"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o777, int(put_at.timestamp())
            tar.addfile(folder)
    packed.seek(0)
    either.engine.put(spec.name, HOME, packed)
    either.engine.start(spec.name)
    either.ended(spec.name)
    assert either.engine.modified(spec.name, f"{HOME}/a") == put_at
    assert either.engine.modified(spec.name, f"{HOME}/b") not in (None, put_at)
    assert either.engine.modified(spec.name, f"{HOME}/c") is None
    with pytest.raises(ContainerGone):
        either.engine.modified(either.name("absent"), "/")


def test_a_log_read_to_the_end_of_its_container_shows_how_that_ended(either: Bench) -> None:
    spec = either.spec("echo here; exit 3", Script(lines=[b"here"], exit=Exit(3)))
    either.run(spec)
    log = either.engine.logs(spec.name, None)
    assert [line.text for line in log] == [b"here"]
    assert log.ended == either.engine.find(spec.name)


def test_a_log_that_was_closed_shows_no_end(either: Bench) -> None:
    spec = either.spec("echo here; exec sleep 600", Script(lines=[b"here"], exit=None))
    either.engine.create(spec)
    either.engine.start(spec.name)
    log = either.engine.logs(spec.name, None)
    next(log)
    log.close()
    assert log.ended is None


def test_a_path_that_is_not_there_is_none_to_get(either: Bench) -> None:
    either.engine.create(either.spec("true"))
    assert either.engine.get(either.name(), "/no/such/path") is None


def test_a_compressed_archive_is_refused(either: Bench) -> None:
    either.engine.create(either.spec("true"))
    with pytest.raises(EngineError, match="not a plain tar"):
        either.engine.put(either.name(), HOME, io.BytesIO(gzip.compress(tar_of({"a": b"a"}).read())))


def test_a_running_container_takes_no_files_and_becomes_no_image(either: Bench) -> None:
    spec = either.spec(FOREVER, RUNNING)
    either.engine.create(spec)
    either.engine.start(spec.name)
    with pytest.raises(EngineError, match="is running"):
        either.engine.put(spec.name, HOME, tar_of({"a": b"a"}))
    with pytest.raises(EngineError, match="is running"):
        either.engine.commit(spec.name, f"{either.prefix}:x", {}, ())


def test_a_running_container_can_be_removed(either: Bench) -> None:
    spec = either.spec(FOREVER, RUNNING)
    either.engine.create(spec)
    either.engine.start(spec.name)
    either.engine.remove(spec.name)
    assert either.engine.find(spec.name) is None


def test_a_committed_container_is_an_image_of_ours_until_it_is_removed(either: Bench) -> None:
    tag = f"{either.prefix}:setup"
    spec = either.spec("true", Script())
    either.run(spec)
    made = either.engine.commit(spec.name, tag, {"mlci.test": "image"}, ("HOME",))
    assert either.engine.find_image(tag) == made
    assert either.engine.owned().images == (tag,)
    either.engine.remove_image(tag)
    assert either.engine.find_image(tag) is None
    assert either.engine.owned().images == ()


def test_an_image_that_is_not_ours_stays(either: Bench) -> None:
    with pytest.raises(EngineError):
        either.engine.remove_image(either.image)
    assert either.engine.find_image(either.image) is not None


def test_a_network_may_be_asked_for_and_removed_twice(either: Bench) -> None:
    name = either.name("net")
    either.engine.ensure_network(name, {})
    either.engine.ensure_network(name, {})
    assert either.engine.owned().networks == (name,)
    either.engine.remove_network(name)
    either.engine.remove_network(name)
    assert either.engine.owned().networks == ()


def sandbox_spec(either: Bench, *prohibited: str, **changes: object) -> SandboxSpec:
    spec = SandboxSpec(
        either.name("slot"), HELPER_IMAGE, {"mlci.role": "sandbox"}, prohibited or ("10.1.2.3",)
    )
    return replace(spec, **changes)  # type: ignore[arg-type]  # any field of the spec


def test_a_sandbox_is_made_once_and_joined_by_containers(either: Bench) -> None:
    spec = sandbox_spec(either)
    sandbox = either.engine.ensure_sandbox(spec)
    assert either.engine.ensure_sandbox(replace(spec, prohibited=("10.9.9.9", "10.1.2.3"))) == sandbox
    held = either.engine.find(sandbox.name)
    assert held is not None
    assert (held.id, held.state) == (sandbox.id, ContainerState.RUNNING)
    assert either.engine.owned().networks == (sandbox.name,)
    ending = either.run(replace(either.spec("true"), network=sandbox))
    assert ending.code == 0
    either.engine.prohibit(sandbox.name, ["10.9.9.8", "10.8.0.0/16"])


def test_a_sandbox_is_made_anew_when_it_was_stopped_or_should_be_another(either: Bench) -> None:
    first = either.engine.ensure_sandbox(sandbox_spec(either))
    either.engine.stop(first.name, 0)
    with pytest.raises(ContainerGone):
        either.engine.prohibit(first.name, ["10.9.9.8"])
    second = either.engine.ensure_sandbox(sandbox_spec(either))
    assert second.id != first.id
    third = either.engine.ensure_sandbox(sandbox_spec(either, reachable=("10.1.2.0/24",)))
    assert third.id != second.id
    assert third.name == first.name


def test_a_container_does_not_start_without_its_sandbox(either: Bench) -> None:
    sandbox = either.engine.ensure_sandbox(sandbox_spec(either))
    either.engine.create(replace(either.spec("true"), network=sandbox))
    either.engine.remove(sandbox.name)
    with pytest.raises(EngineError):
        either.engine.start(either.name())
    with pytest.raises(EngineError, match="no sandbox"):
        either.engine.create(replace(either.spec("true", what="d"), network=Sandbox("0" * 64, "gone")))


def test_a_sandbox_wants_an_image_and_its_network_goes_with_it(either: Bench) -> None:
    with pytest.raises(ImageNotFound):
        either.engine.ensure_sandbox(sandbox_spec(either, image="mlci/none-such:1"))
    with pytest.raises(ImageNotFound):
        either.engine.host_addresses("mlci/none-such:1")
    sandbox = either.engine.ensure_sandbox(sandbox_spec(either))
    either.engine.remove(sandbox.name)
    either.engine.remove_network(sandbox.name)
    assert either.engine.owned().networks == ()


def test_a_host_tells_when_it_and_its_engine_were_started(either: Bench) -> None:
    first, second = either.engine.boot(HELPER_IMAGE), either.engine.boot(HELPER_IMAGE)
    assert first == second
    assert first.at <= first.last < datetime.now(UTC)
    assert first.cpu
    with pytest.raises(ImageNotFound):
        either.engine.boot("mlci/none-such:1")


def test_the_addresses_of_the_host_and_the_ranges_of_its_networks_are_known(either: Bench) -> None:
    assert either.engine.host_addresses(HELPER_IMAGE)
    before = set(either.engine.network_ranges())
    either.engine.ensure_network(either.name("net"), {})
    assert set(either.engine.network_ranges()) - before


def test_a_container_wants_a_network_and_volumes_that_are_there(either: Bench) -> None:
    with pytest.raises(EngineError, match="no network"):
        either.engine.create(replace(either.spec("true"), network=either.name("net")))
    mount = VolumeMount(either.name("vol"), "/data")
    with pytest.raises(EngineError, match="no volume"):
        either.engine.create(replace(either.spec("true"), mounts=(mount,)))
    assert either.engine.owned().volumes == ()


def test_a_volume_is_made_once_and_stays_while_a_container_has_it(either: Bench) -> None:
    name = either.name("vol")
    assert either.engine.ensure_volume(name, {"mlci.test": "volume"}) is True
    assert either.engine.ensure_volume(name, {}) is False
    spec = replace(either.spec("true"), mounts=(VolumeMount(name, "/data"),))
    either.engine.create(spec)
    with pytest.raises(EngineError):
        either.engine.remove_volume(name)
    assert either.engine.owned().volumes == (name,)
    either.engine.remove(spec.name)
    either.engine.remove_volume(name)
    assert either.engine.owned().volumes == ()


def test_owned_lists_each_container_with_its_exit(either: Bench) -> None:
    spec = either.spec("exit 4", Script(exit=Exit(4)))
    either.run(spec)
    other = either.engine.create(either.spec("true", what="d"))
    ended, waiting = either.engine.owned().containers
    assert ended.exit is not None
    assert (ended.name, ended.exit.code) == (spec.name, 4)
    assert waiting == other


def test_an_engine_says_who_it_is(either: Bench) -> None:
    info = either.engine.info()
    assert info.id
    assert info.cpus > 0
    assert info.memory > 1 << 28
