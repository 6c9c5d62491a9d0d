"""Deployments that go wrong: the old release stays live, the error says what to do, another try succeeds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.adapters.sftp import lock
from orchestrator.adapters.sftp.connection import Connection
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import ServerRejected, ServerUnavailable, TransferCorrupted
from orchestrator.ports.progress import ProgressEvent
from tests.support.network import free_port
from tests.support.releases import Site, SiteMaker, ignore, settings
from tests.support.sshd import FEW_FILES, SshServer, make_key

OLD, NEW = "20261121T054459Z-41", "20261122T054459Z-42"
BIG = {"a-first": b"1" * 1000, "model": b"2" * 3_000_000, "z-last": b"3" * 1000}


@pytest.fixture
def live(site: Site) -> Site:
    """A site with an old release live."""
    site.deploy(OLD, {"model": b"old"})
    return site


def assert_old_release_is_live(site: Site) -> None:
    assert site.shell("readlink current").strip() == f"releases/{OLD}"
    assert site.live() == "old"


def once(act: Callable[[], object]) -> Callable[[ProgressEvent], None]:
    """A progress sink that does something in the middle of an upload."""
    done = threading.Event()

    def sink(event: ProgressEvent) -> None:
        if event.total and event.done > event.total // 2 and not done.is_set():
            done.set()
            act()

    return sink


@pytest.mark.parametrize("site", ["deploy"], ids=["with a shell"], indirect=True)
def test_a_command_that_is_killed_on_the_server_is_no_answer_of_it(live: Site) -> None:
    with (
        closing(Connection(live.server)) as connection,
        pytest.raises(ServerUnavailable, match="was killed"),
        connection.errors("measure"),
    ):
        connection.run("kill -KILL $$")


def test_an_upload_cut_off_in_the_middle_is_tried_again_under_the_same_name(live: Site) -> None:
    files = live.contents.files(BIG)
    cut = once(lambda: live.machine.run("pkill", "-KILL", "-u", live.server.user))
    with pytest.raises(ServerUnavailable, match=f"could not upload release {NEW}"), live.target() as target:
        target.upload(NEW, files, live.contents.read, cut)
    assert_old_release_is_live(live)
    assert NEW in live.names()
    assert live.deploy(NEW, BIG) == OLD
    assert live.live("z-last") == "3" * 1000
    assert live.names(".") == ["current", "releases"]


def test_stored_content_that_has_rotted_never_leaves_for_the_server_unnoticed(live: Site) -> None:
    files = live.contents.files(BIG)
    live.contents.blobs[files[1].sha256] = b"2" * 2_999_999 + b"!"
    with (
        pytest.raises(TransferCorrupted, match="the stored model is not what was kept"),
        live.target() as target,
    ):
        target.upload(NEW, files, live.contents.read, ignore)
    assert_old_release_is_live(live)


@pytest.mark.parametrize("content", [b"2" * 10, b""])
def test_stored_content_that_is_too_short_is_named(live: Site, content: bytes) -> None:
    files = live.contents.files(BIG)
    live.contents.blobs[files[1].sha256] = content
    with (
        pytest.raises(TransferCorrupted, match="the stored model is not what was kept"),
        live.target() as target,
    ):
        target.upload(NEW, files, live.contents.read, ignore)
    assert_old_release_is_live(live)


def test_stored_content_that_cannot_be_read_is_no_fault_of_the_server(live: Site) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    def read(file: ReleaseFile) -> BinaryIO:
        return Broken()

    with (
        pytest.raises(TransferCorrupted, match="cannot be read: Input/output error"),
        live.target() as target,
    ):
        target.upload(NEW, live.contents.files(BIG), read, ignore)
    assert_old_release_is_live(live)


def test_what_was_damaged_on_the_way_never_goes_live(live: Site) -> None:
    files = live.contents.files(BIG)
    with live.target() as target:
        target.upload(NEW, files, live.contents.read, ignore)
        live.shell(f"cd releases/{NEW} && printf X | dd of=model bs=1 seek=5 conv=notrunc 2>/dev/null")
        with pytest.raises(TransferCorrupted, match="model has other content"):
            target.verify(NEW, files)
        with pytest.raises(ServerRejected, match="never verified"):
            target.activate(NEW)
        target.discard(NEW)
    assert_old_release_is_live(live)
    assert live.names() == [OLD]


def test_a_connection_lost_before_the_switch_leaves_the_old_release(live: Site) -> None:
    files = live.contents.files(BIG)
    with live.target() as target:
        target.upload(NEW, files, live.contents.read, ignore)
        target.verify(NEW, files)
        live.machine.run("pkill", "-KILL", "-u", live.server.user)
        with pytest.raises(ServerUnavailable, match=f"could not activate release {NEW}"):
            target.activate(NEW)
    assert_old_release_is_live(live)
    with live.target() as target:
        assert target.activate(NEW) == OLD


def test_a_folder_named_current_is_not_replaced_and_the_remedy_is_said(site: Site) -> None:
    site.shell("mkdir current && touch current/precious")
    with pytest.raises(
        ServerRejected, match=r"no symbolic link, and is not replaced; on the server: mv .*current"
    ):
        site.deploy(NEW, {"model": b"new"})
    assert site.names("current") == ["precious"]


def test_a_release_that_does_not_fit_is_refused_with_figures_before_anything_is_sent(
    machine: SshServer,
) -> None:
    machine.run("install", "-d", "-o", "deploy", "/dev/shm/models")
    site = Site(machine, settings(machine, "/dev/shm/models"))
    huge = [ReleaseFile("model", 10**12, "0" * 64)]

    def read(file: ReleaseFile) -> BinaryIO:
        raise AssertionError("nothing may be read")

    with (
        pytest.raises(ServerRejected, match=r"needs 931 GiB in /dev/shm/models, and .* are free; make room"),
        site.target() as target,
    ):
        target.upload(NEW, huge, read, ignore)
    assert site.names() == []


@pytest.mark.parametrize("user", ["deploy", "files"])
def test_a_disk_that_runs_full_on_the_way_is_named(machine: SshServer, user: str) -> None:
    machine.run("install", "-d", "-o", user, f"/dev/shm/full-{user}")
    site = Site(machine, settings(machine, f"/dev/shm/full-{user}", user))
    ballast = f"/dev/shm/ballast-{user}"
    site.deploy(OLD, {"model": b"old"})
    fill = once(lambda: machine.run("sh", "-c", f"dd if=/dev/zero of={ballast} bs=1M 2>/dev/null || true"))
    try:
        files = site.contents.files({"model": os.urandom(20_000_000)})
        with site.target() as target, pytest.raises(ServerRejected, match=r"ran full .*; make room"):
            target.upload(NEW, files, site.contents.read, fill)
        assert_old_release_is_live(site)
    finally:
        machine.run("rm", ballast)
    site.deploy(NEW, {"model": b"new"})
    assert site.live() == "new"


@pytest.mark.parametrize("user", ["deploy", "files"])
def test_more_files_than_the_file_system_takes_are_refused_before_anything_is_sent(
    machine: SshServer, user: str
) -> None:
    folder = f"{FEW_FILES}/{user}"
    machine.run("install", "-d", "-o", user, folder)
    site = Site(machine, settings(machine, folder, user))
    site.deploy(OLD, {"model": b"old"})
    files = site.contents.files({f"parts/{number}": b"" for number in range(40)})
    with (
        site.target() as target,
        pytest.raises(ServerRejected, match=rf"42 files and folders, and the file system of {folder} takes"),
    ):
        target.upload(NEW, files, site.contents.read, ignore)
    assert site.names() == [OLD]
    assert_old_release_is_live(site)
    machine.run("rm", "-r", folder)


def test_a_folder_without_the_right_to_write_is_refused_with_a_remedy(site: Site) -> None:
    site.shell("chown root:root . && chmod 755 .")
    with (
        pytest.raises(ServerRejected, match=r"permission denied; give /srv/models/\w+ to the user"),
        site.target(),
    ):
        pass


def test_a_key_that_the_server_does_not_know_is_refused_with_a_remedy(
    new_site: SiteMaker, tmp_path: Path
) -> None:
    site = new_site()
    stranger = replace(site.server, identity_file=make_key(tmp_path / "stranger"))
    with pytest.raises(ServerRejected, match=r"does not accept the key .*stranger .*authorized_keys"):
        Site(site.machine, stranger).target().__enter__()


def test_a_key_with_a_passphrase_and_a_file_that_is_no_key_are_told_apart(
    new_site: SiteMaker, tmp_path: Path
) -> None:
    site = new_site()
    locked, junk = make_key(tmp_path / "locked"), tmp_path / "junk"
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret phrase", "-f", str(locked)], check=True)
    junk.write_text("no key")
    for path, message in (
        (locked, "is protected by a passphrase"),
        (junk, "is no private key"),
        (tmp_path / "absent", "cannot read the private key"),
    ):
        with pytest.raises(ServerRejected, match=message):
            Site(site.machine, replace(site.server, identity_file=path)).target().__enter__()


def test_a_server_that_is_down_or_unknown_is_unavailable_not_refused(new_site: SiteMaker) -> None:
    site = new_site()
    for changes in ({"port": free_port()}, {"hostname": "no-such-host.invalid"}):
        with pytest.raises(ServerUnavailable, match="could not connect"):
            Site(site.machine, replace(site.server, **changes)).target().__enter__()


def test_a_frozen_server_is_given_up_after_its_timeout(sshd_server: Callable[[], SshServer]) -> None:
    machine = sshd_server()
    site = Site(machine, replace(settings(machine, "/srv/models"), timeout=1.0))
    with site.target() as target:
        machine.container.pause()
        try:
            with pytest.raises(ServerUnavailable, match="no answer within 1 s"):
                target.current()
        finally:
            machine.container.unpause()


def test_only_one_deployment_at_a_time_touches_a_folder(site: Site) -> None:
    with site.target(owner="first"):
        with pytest.raises(ServerUnavailable, match=r"'first' is deploying to /srv/models/\w+, since 20"):
            site.target(owner="second").__enter__()
        assert lock.LOCK in site.names(".")
    with site.target(owner="second") as target:
        assert target.current() is None
    assert site.names(".") == ["releases"]


def test_a_deployment_waits_for_the_one_before_it(site: Site) -> None:
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with site.target(owner="first"):
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(20)
    threading.Timer(0.5, leave.set).start()
    with site.target(owner="second", patience=20):
        assert leave.is_set()
    thread.join(20)


def note(site: Site, **holder: str) -> None:
    """Leave a lock as another process would."""
    content = json.dumps(
        {"owner": "tests", "machine": "m", "process": "1@1", "token": "t", "since": "then"} | holder
    )
    user = site.server.user
    site.shell(f"mkdir -p {lock.LOCK} && printf %s '{content}' >{lock.LOCK}/holder.t && chown -R {user} .")


def test_the_lock_of_a_killed_process_is_taken_over_at_once(live: Site) -> None:
    script = (
        "import os, sys; from orchestrator.adapters.sftp.target import SftpTarget; "
        "from orchestrator.adapters.sftp import SshServer; from pathlib import Path; "
        "host, port, user, path, key, host_key = sys.argv[1:]; "
        "server = SshServer('prod', host, user, path, int(port), Path(key), host_key); "
        "SftpTarget(server, 'tests').__enter__(); "
        "os._exit(9)"
    )
    server = live.server
    arguments = [server.hostname, str(server.port), server.user, server.path, str(server.identity_file)]
    killed = subprocess.run([sys.executable, "-c", script, *arguments, str(server.host_key)], check=False)
    assert killed.returncode == 9
    assert lock.LOCK in live.names(".")
    assert live.deploy(NEW, {"model": b"new"}) == OLD
    assert live.names(".") == ["current", "releases"]


@pytest.mark.parametrize(
    ("owner", "minutes", "taken_over"),
    [("tests", 1, False), ("tests", 3, True), ("others", 3, False), ("others", 16, True)],
)
def test_a_silent_lock_of_another_machine_runs_out(
    new_site: SiteMaker, owner: str, minutes: int, taken_over: bool
) -> None:
    site = new_site()
    note(site, owner=owner, machine="another")
    site.shell(f"touch -d '{minutes} minutes ago' {lock.LOCK}/holder.t")
    if taken_over:
        with site.target() as target:
            assert target.current() is None
    else:
        with pytest.raises(ServerUnavailable, match=f"'{owner}' is deploying"):
            site.target().__enter__()


def test_a_deployment_whose_lock_was_taken_over_does_not_switch(live: Site) -> None:
    files = live.contents.files({"model": b"new"})
    with live.target() as target:
        target.upload(NEW, files, live.contents.read, ignore)
        target.verify(NEW, files)
        live.shell(f"rm -r {lock.LOCK}")
        note(live, owner="others", machine="another")
        with pytest.raises(ServerUnavailable, match="took over the lock"):
            target.activate(NEW)
    assert_old_release_is_live(live)
    assert "others" in live.shell(f"cat {lock.LOCK}/holder.t")
