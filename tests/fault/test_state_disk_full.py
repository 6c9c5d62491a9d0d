"""The orchestrator's own disk runs full (fault 14): said with what to do, and nothing is lost."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator

import pytest

from tests.support.installation import TRAIN, Installation, Server
from tests.support.smalldisk import SmallDisk, mounted
from tests.support.waiting import wait_until

PATIENCE = 120.0
LINES = 60
MIB = 1 << 20
LARGE = f"python3 train.py && head -c {2 * MIB} /dev/urandom > model.bin"


@pytest.fixture
def state_disk(plain: Installation) -> Iterator[SmallDisk]:
    """The state folder as a disk of 12 MB."""
    plain.environment = {"LINES": str(LINES), "PAUSE": "0.1"}
    plain.write()
    with mounted(plain.folder / "var", "12m") as disk:
        yield disk
        plain.close()


def says(server: Server, *words: str) -> bool:
    """Whether the server has complained in a line with these words."""
    lines = [line for line in server.log.read_text().splitlines() if " error " in line or " warning " in line]
    return any(all(word in line for word in words) for line in lines)


def assert_nothing_lost(installation: Installation, server: Server) -> None:
    """One try, the whole log, one mail; every row and every stored file whole."""
    run = installation.json("runs", "show", "1")
    assert (run["state"], len(run["attempts"])) == ("passed", 1)
    lines = installation.orchestrator("runs", "logs", "1").splitlines()
    assert [line.split(" x")[0] for line in lines] == [f"line {n}" for n in range(LINES)]
    assert len(installation.smtp.messages) == 1
    assert "Traceback" not in server.log.read_text()
    state = installation.folder / "var"
    with sqlite3.connect(state / "orchestrator.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    stored = [path for path in (state / "blobs").glob("[0-9a-f][0-9a-f]/*") if path.is_file()]
    assert stored
    assert [path.name for path in stored] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in stored
    ]
    assert list((state / "blobs" / "incoming").iterdir()) == []


def test_a_disk_that_is_full_from_the_middle_of_a_run_to_after_its_end_loses_no_line_and_no_mail(
    plain: Installation, state_disk: SmallDisk
) -> None:
    # Long lines: what little is left in the file's last block must not hold them all.
    plain.commit(
        0.8, {"train.py": TRAIN.replace('print("line", number)', 'print("line", number, "x" * 999)')}
    )
    server = plain.serve()
    plain.wait_for_line(f"line 5 {'x' * 999}")
    state_disk.fill()
    wait_until(lambda: says(server, "cannot store a log in", "free space on its disk"), "the log's disk", 60)
    wait_until(lambda: says(server, "attempt 1", "No space left"), "the attempt to be given up for now", 90)
    assert plain.smtp.messages == []
    assert server.process.poll() is None
    state_disk.empty()
    plain.wait_for_mails(1, PATIENCE)
    assert_nothing_lost(plain, server)


def test_artifacts_that_do_not_fit_are_collected_once_there_is_room(
    plain: Installation, state_disk: SmallDisk
) -> None:
    plain.command = f"sh -c '{LARGE}'"
    plain.write()
    plain.commit(0.8)
    server = plain.serve()
    plain.wait_for_line("line 5")
    state_disk.fill(leave=MIB)
    wait_until(lambda: says(server, "cannot store a file in", "free space on its disk"), "the artifact", 90)
    (attempt,) = plain.json("runs", "show", "1")["attempts"]
    assert (attempt["state"], attempt["artifacts"]) == ("collecting", [])
    state_disk.empty()
    plain.wait_for_mails(1, PATIENCE)
    assert_nothing_lost(plain, server)
    (attempt,) = plain.json("runs", "show", "1")["attempts"]
    assert {a["path"]: a["size"] for a in attempt["artifacts"]}["model.bin"] == 2 * MIB


def test_a_fetch_that_does_not_fit_names_our_disk_and_not_the_repositorys_address(
    plain: Installation, state_disk: SmallDisk
) -> None:
    plain.environment, plain.state_free = {}, "2m"
    plain.write()
    plain.commit(0.8)
    server = plain.serve()
    plain.wait_for_mails(1)
    state_disk.fill(leave=MIB // 4)
    noise = "".join(hashlib.sha256(bytes([a, b])).hexdigest() for a in range(256) for b in range(80))
    plain.commit(0.81, {"noise.txt": noise})
    wait_until(lambda: says(server, "cannot store what git brings", "free space on the disk"), "git", 60)
    assert "check the address" not in server.log.read_text()
    state_disk.empty()
    plain.wait_for_mails(2, PATIENCE)
    assert [r["state"] for r in plain.json("runs", "list")] == ["passed", "passed"]


def test_a_mail_that_is_owed_when_the_disk_runs_full_goes_once_afterwards(
    plain: Installation, state_disk: SmallDisk
) -> None:
    plain.smtp.stop()
    plain.commit(0.8)
    server = plain.serve()
    wait_until(lambda: says(server, "mail"), "the mail server to be missed", PATIENCE)
    state_disk.fill()
    plain.smtp.start()
    wait_until(lambda: says(server, "No space left") or says(server, "full"), "the disk to be said full", 60)
    state_disk.empty()
    plain.wait_for_mails(1, PATIENCE)
    assert_nothing_lost(plain, server)


def test_with_little_room_a_run_waits_and_every_place_says_why(
    plain: Installation, state_disk: SmallDisk
) -> None:
    plain.environment, plain.state_free = {"LINES": str(LINES), "PAUSE": "0"}, "2m"
    plain.write()
    plain.commit(0.8)
    server = plain.serve()
    plain.wait_for_mails(1)
    state_disk.fill(leave=MIB)
    plain.commit(0.81)
    (why,) = wait_until(
        lambda: len(plain.json("runs", "list")) > 1 and plain.json("runs", "show", "2")["waiting"],
        "run 2 to wait",
        60,
    )
    said = f"free at {plain.folder}/var, and 2.0 MiB are to stay free (storage.min_free); free some there"
    assert why.startswith("it waits for room: ")
    assert said in why
    (attempt,) = plain.json("runs", "show", "2")["attempts"]
    assert attempt["state"] == "queued"
    assert said in " ".join(plain.orchestrator("plan", "line").split())
    assert "storage.min_free" in plain.orchestrator("doctor", expect=3)
    assert said in server.get("/runs/2")
    assert server.log.read_text().count("runs wait for room") == 1
    state_disk.empty()
    plain.wait_for_mails(2, PATIENCE)
    assert plain.json("runs", "show", "2")["state"] == "passed"
