"""Watched repositories and data that vanish, change under the reader's hands, or were rewritten."""

from __future__ import annotations

import json
import shutil

import httpx

from tests.support.installation import Installation, Server
from tests.support.waiting import wait_until

PATIENCE = 90.0


def problems(server: Server) -> dict[str, str]:
    found: dict[str, str] = json.loads(httpx.get(f"{server.url}/readyz", timeout=30).text)["problems"]
    return found


def test_repositories_come_and_go_and_no_change_is_lost(installation: Installation) -> None:
    installation.pipeline = {
        "source": {
            "git": installation.repository.url,
            "branches": ["main", "try/*"],
            "poll": "1s",
            "settle": "0s",
        },
        "deploy_branches": ["main"],
    }
    installation.write()
    first = installation.commit(0.8)
    server = installation.serve()
    installation.smtp.wait_for(1, PATIENCE)

    remote = installation.repository.remote
    hidden = remote.with_name("hidden.git")
    remote.rename(hidden)
    said = wait_until(lambda: problems(server).get("source line/remote"), "the loss to be noticed", 30)
    assert str(remote) in said
    installation.repository.git("remote", "set-url", "origin", str(hidden))
    unseen = installation.commit(0.81)
    hidden.rename(remote)
    installation.repository.git("remote", "set-url", "origin", str(remote))
    installation.smtp.wait_for(2, PATIENCE)
    wait_until(lambda: problems(server) == {}, "the next look at the data to find them well", 60)
    log = server.log.read_text()
    assert log.count(" error   source line/remote: ") == 1
    assert log.count("source line/remote: answers again") == 1

    installation.repository.switch("try/one")
    installation.commit(0.82)
    installation.smtp.wait_for(3, PATIENCE)
    installation.repository.switch("main")
    installation.repository.git("reset", "--quiet", "--hard", first)
    rewritten = installation.repository.rewrite("Take it all back")
    installation.smtp.wait_for(4, PATIENCE)
    installation.repository.delete_branch("try/one")
    wait_until(
        lambda: "source line/remote: try/one is gone" in server.log.read_text(), "the branch to be missed", 30
    )
    last = installation.commit(0.83)
    installation.smtp.wait_for(5, PATIENCE)

    runs = installation.json("runs", "list")[::-1]
    assert [(r["branch"], r["state"]) for r in runs] == [
        ("main", "passed"),
        ("main", "passed"),
        ("try/one", "passed"),
        ("main", "passed"),
        ("main", "passed"),
    ]
    assert [runs[n]["commit"] for n in (0, 1, 3, 4)] == [first, unseen, rewritten, last]
    note = installation.json("runs", "show", str(runs[3]["id"]))["change"]["note"]
    assert note == "the history of main was rewritten"


def test_a_commit_that_is_gone_when_its_run_begins_is_not_the_projects_fault(
    installation: Installation,
) -> None:
    gone = installation.commit(0.8)
    made = json.loads(installation.orchestrator("--json", "run", "line", "--no-wait"))
    assert made["commit"] == gone
    installation.repository.rewrite()
    shutil.rmtree(installation.folder / "var" / "mirrors")
    run_git_gc(installation)
    ended = json.loads(installation.orchestrator("--json", "runs", "resume", "1", expect=3))
    assert (ended["state"], ended["reason"]) == ("errored", "revision_gone")
    assert gone[:8] in ended["sentence"]
    assert installation.smtp.messages[0].subject.startswith("[line] errored: ")


def run_git_gc(installation: Installation) -> None:
    """Forget, at the remote, the commits that no branch holds."""
    from tests.support.git import run_git

    run_git(installation.repository.remote, "reflog", "expire", "--expire=now", "--all")
    run_git(installation.repository.remote, "gc", "--quiet", "--prune=now")


def test_data_that_move_on_before_they_are_staged_end_the_run_and_make_one_of_their_own(
    installation: Installation,
) -> None:
    rows = installation.data / "a.csv"
    installation.commit(0.8)
    made = json.loads(installation.orchestrator("--json", "run", "line", "--no-wait"))
    assert made["datasets"] == {"rows": 1}
    rows.write_text("1\n2\n3\n")
    installation.serve()
    installation.smtp.wait_for(2, PATIENCE)
    first, second = installation.json("runs", "list")[::-1]
    assert (first["state"], first["reason"]) == ("errored", "data_moved")
    assert "rows v1 is no longer what it was" in first["sentence"]
    assert "their new version makes a run of its own" in first["sentence"]
    assert (second["state"], second["datasets"]) == ("passed", {"rows": 2})
    assert second["key_metric"].startswith("accuracy 0.8")


def test_data_that_vanish_or_cannot_be_read_wait_and_are_said(
    installation: Installation,
) -> None:
    installation.commit(0.8)
    server = installation.serve()
    installation.smtp.wait_for(1, PATIENCE)
    hidden = installation.data.with_name("hidden")
    installation.data.rename(hidden)
    said = wait_until(lambda: problems(server).get("dataset line/rows"), "the loss to be noticed", 30)
    assert str(installation.data) in said
    installation.commit(0.81)
    waits = "line: what was pushed waits for its data"
    wait_until(lambda: waits in server.log.read_text(), "the push to wait for its data", 30)
    assert list(problems(server)) == ["dataset line/rows"], "nothing is wrong with the repository"
    hidden.rename(installation.data)
    installation.smtp.wait_for(2, PATIENCE)
    wait_until(lambda: problems(server) == {}, "the next look at the data to find them well", 60)

    odd = installation.data / "odd\nna\udcffme.csv"
    odd.write_text("7\n")
    said = wait_until(lambda: problems(server).get("dataset line/rows"), "the name to be refused", 30)
    assert "odd\\nna\\udcffme.csv cannot be used: its name has control characters" in said
    assert "rename it, or exclude it" in said
    odd.unlink()
    (installation.data / "a.csv").rename(installation.folder / "kept")
    said = wait_until(lambda: of_an_empty_folder(server), "the empty folder to be noticed", 30)
    assert f"no file in {installation.data} counts; expected files that match **" in said
    (installation.data / "b.csv").write_text("1\n2\n3\n")
    installation.smtp.wait_for(3, PATIENCE)
    wait_until(lambda: problems(server) == {}, "the next look at the data to find them well", 60)
    assert [(r["cause"], r["datasets"], r["state"]) for r in installation.json("runs", "list")[::-1]] == [
        ("first_sight", {"rows": 1}, "passed"),
        ("push", {"rows": 1}, "passed"),
        ("data", {"rows": 2}, "passed"),
    ]


def of_an_empty_folder(server: Server) -> str | None:
    found = problems(server).get("dataset line/rows", "")
    return found if "no file in" in found else None
