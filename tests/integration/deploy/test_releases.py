"""Deployments to a real sshd: what arrives, what is live, what stays and what goes."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from orchestrator.adapters.sftp import ConfiguredServers, connection
from orchestrator.adapters.sftp.transfer import Transfer
from orchestrator.domain.activation import Command
from orchestrator.domain.errors import NotFound, ServerRejected, TransferCorrupted
from orchestrator.ports.progress import ProgressEvent
from tests.support.releases import Site, SiteMaker, ignore
from tests.support.waiting import wait_until

ONE, TWO, THREE, FOUR = (f"2026112{day}T054459Z-{40 + day}" for day in range(1, 5))

ODD_NAMES = {
    "model": b"one",
    "empty": b"",
    "deep/er/still/weights.bin": bytes(range(256)) * 900,
    "with space/quote ' and \" and $(id).txt": b"odd",
    "new\nline/carriage\rreturn\ttab": b"oddest",
    "-rf": b"looks like an option",
    "back\\slash": b"odd too",
    "ünï/çødé.txt": "ü".encode(),
    "x" * 180 + "/" + "y" * 200: b"long",
}


def test_a_release_arrives_whole_readable_and_live(site: Site) -> None:
    assert site.deploy(ONE, ODD_NAMES) is None
    assert site.shell("readlink current").strip() == f"releases/{ONE}"
    listed = site.shell("find -L current -type f -printf '%m %P\\0'").split("\0")
    assert sorted(line for line in listed if line) == sorted(f"644 {name}" for name in ODD_NAMES)
    assert set(site.shell("find -L current -type d -printf '%m\\n'").split()) == {"755"}
    weights = hashlib.sha512(ODD_NAMES["deep/er/still/weights.bin"]).hexdigest()
    assert site.shell("sha512sum current/deep/er/still/weights.bin").split()[0] == weights
    assert site.names(".") == ["current", "releases"]


def test_a_folder_of_many_small_files_arrives(new_site: SiteMaker) -> None:
    site = new_site()
    site.deploy(ONE, {f"part-{n % 13}/{n}.json": json.dumps(n).encode() for n in range(1200)})
    assert site.shell("find -L current -type f | wc -l").strip() == "1200"
    assert site.live("part-1/1184.json") == "1184"


def test_a_server_without_a_program_gets_files_one_by_one_and_that_is_told(
    new_site: SiteMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PROGRAMS", "sha256sum no-such-tar")
    monkeypatch.delattr(Transfer, "_send_tar")
    site, seen = new_site(), list[ProgressEvent]()
    files = site.contents.files({"deep/model": b"x" * 100_000})
    with site.target() as target:
        target.upload(ONE, files, site.contents.read, seen.append)
        target.verify(ONE, files)
        target.activate(ONE)
        said = target.run(Command(("echo", "commands run")), ONE, {}).text
    assert [event.line.partition(" has no ")[2] for event in seen if event.total is None] == [
        "no-such-tar: its files go and are compared one by one, which takes longer"
    ]
    assert (said, site.live("deep/model")) == ("commands run\n", "x" * 100_000)


def test_progress_counts_every_byte(site: Site) -> None:
    files = site.contents.files({"model": b"x" * 100_000, "notes": b"y" * 5})
    seen: list[ProgressEvent] = []
    with site.target() as target:
        target.upload(ONE, files, site.contents.read, seen.append)
    assert [event.done for event in seen] == sorted(event.done for event in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (100_005, 100_005, "bytes")


def test_activating_names_what_was_live_before_and_may_be_repeated(site: Site) -> None:
    site.deploy(ONE, {"model": b"one"})
    assert site.deploy(TWO, {"model": b"two"}) == ONE
    with site.target() as target:
        assert (target.current(), target.activate(TWO), target.current()) == (TWO, TWO, TWO)
        assert target.activate(ONE) == TWO
    assert site.live() == "one"


def test_deploying_the_live_release_again_leaves_it_alone(site: Site) -> None:
    site.deploy(ONE, {"model": b"one"})
    before = site.shell("stat -Lc '%i %y' current/model")
    assert site.deploy(ONE, {"model": b"one"}) == ONE
    assert site.shell("stat -Lc '%i %y' current/model") == before


def test_a_reader_never_sees_a_missing_or_mixed_release(new_site: SiteMaker) -> None:
    site = new_site()
    size = 200_000
    for release, letter in ((ONE, b"a"), (TWO, b"b")):
        site.deploy(release, {"model": letter * size, "version": letter})
    reader = f"""
import os, time
reads, wrong = 0, []
while not os.path.exists("stop"):
    try:
        folder = os.open("current", os.O_RDONLY)
        model = open(os.open("model", os.O_RDONLY, dir_fd=folder)).read()
        version = open(os.open("version", os.O_RDONLY, dir_fd=folder)).read()
        os.close(folder)
        through_the_link = open("current/model").read()
        if model != version * {size} or through_the_link not in ("a" * {size}, "b" * {size}):
            wrong.append("mixed")
    except OSError as error:
        wrong.append(str(error))
    reads += 1
    if reads == 1:
        open("started", "w").close()
    time.sleep(0.001)
open("seen.new", "w").write(f"{{reads}} {{wrong}}")
os.rename("seen.new", "seen")
"""
    site.machine.container.exec_run(
        ["python3", "-c", reader], user="root", workdir=site.server.path, detach=True
    )
    wait_until(lambda: "started" in site.names("."), "the reader")
    with site.target() as target:
        switched = [target.activate(release) for _ in range(20) for release in (ONE, TWO)]
    site.shell("touch stop")
    wait_until(lambda: "seen" in site.names("."), "what the reader saw")
    reads, _, wrong = site.shell("cat seen").partition(" ")
    assert wrong == "[]"
    assert switched[1:] == [ONE, TWO] * 19 + [ONE]
    assert int(reads) > 20


def test_pruning_keeps_the_newest_and_the_current_release_and_touches_nothing_else(site: Site) -> None:
    for release in (ONE, TWO, THREE, FOUR):
        site.deploy(release, {"model": release.encode(), "sub/x": b"x"})
    user = site.server.user
    site.shell(
        f"cd releases && mkdir handmade 20261101T000000Z-7.bak && touch 20261101T000000Z-8 notes && "
        f"ln -s /etc 20261101T000000Z-9 && install -d -m 700 -o {user} 20261201T000000Z-99"
    )
    with site.target() as target:
        target.activate(TWO)
        removed = target.prune(1)
        again = target.prune(1)
    assert (sorted(removed), again) == (sorted([ONE, THREE, "20261201T000000Z-99"]), ())
    assert site.names() == sorted(
        [TWO, FOUR, "handmade", "20261101T000000Z-7.bak", "20261101T000000Z-8", "20261101T000000Z-9", "notes"]
    )
    assert site.live() == TWO
    assert "passwd" in site.machine.run("ls", "/etc")


def test_releases_are_as_old_as_their_names_say(site: Site) -> None:
    ninth, tenth = "20261121T054459Z-9", "20261121T054459Z-10"
    for release in (tenth, ninth):
        site.deploy(release, {"model": b"x"})
    site.deploy(TWO, {"model": b"x"})
    with site.target() as target:
        assert target.verified() == (ninth, tenth, TWO)
        assert target.prune(2) == (ninth,)


def test_discarding_removes_a_release_but_never_the_live_one(site: Site) -> None:
    site.deploy(ONE, {"model": b"one"})
    with site.target() as target:
        target.upload(TWO, site.contents.files({"sub/model": b"two"}), site.contents.read, ignore)
        target.discard(TWO)
        target.discard(TWO)
        with pytest.raises(ServerRejected, match="is current and stays"):
            target.discard(ONE)
    assert (site.names(), site.live()) == ([ONE], "one")


def test_what_the_far_side_changed_is_named_file_by_file(site: Site) -> None:
    files = site.contents.files(
        {"same": b"s", "other": b"abc", "short": b"abc", "gone/x": b"g", "link": b"l"}
    )
    with site.target() as target:
        target.upload(ONE, files, site.contents.read, ignore)
        site.shell(
            f"cd releases/{ONE} && printf xyz >other && printf ab >short && rm -r gone && "
            "rm link && ln -s same link && mkdir extra && touch extra/file"
        )
        with pytest.raises(TransferCorrupted) as caught:
            target.verify(ONE, files)
        with pytest.raises(ServerRejected, match="never verified"):
            target.activate(ONE)
    problems = caught.value.message.partition("not what was sent: ")[2].split(", ")
    assert sorted(problems) == [
        "extra/ should not be there",
        "extra/file should not be there",
        "gone/x is missing",
        "link is no regular file",
        "other has other content",
        "short has 2 bytes instead of 3",
    ]


def test_a_release_is_nobodys_to_read_before_it_is_verified(site: Site) -> None:
    files = site.contents.files({"model": b"one"})
    with site.target() as target:
        target.upload(ONE, files, site.contents.read, ignore)
        assert site.shell(f"stat -c %a releases/{ONE}").strip() == "700"
        target.verify(ONE, files)
        assert site.shell(f"stat -c %a releases/{ONE}").strip() == "755"


def test_a_folder_that_is_not_there_is_made_when_its_parent_is(new_site: SiteMaker) -> None:
    site = new_site()
    inside = site.with_settings(path=site.path("wine"))
    inside.deploy(ONE, {"model": b"one"})
    assert inside.live() == "one"
    with (
        pytest.raises(ServerRejected, match=re.escape(f"there is no folder {site.path('no')}")),
        site.with_settings(path=site.path("no/wine")).target(),
    ):
        pass


def test_activating_a_release_that_is_not_there_is_refused(site: Site) -> None:
    site.deploy(ONE, {"model": b"one"})
    with site.target() as target, pytest.raises(ServerRejected, match=f"there is no release {TWO}"):
        target.activate(TWO)
    assert site.live() == "one"


def test_a_server_that_is_not_configured_is_named(new_site: SiteMaker) -> None:
    server = new_site().server
    servers = ConfiguredServers({"prod": server})
    assert servers.keep("prod") == server.keep
    with servers.target("prod") as target:
        assert target.current() is None
    with pytest.raises(NotFound, match=r"no deployment server 'staging'; .* has prod"):
        servers.target("staging")
