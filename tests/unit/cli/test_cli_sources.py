"""What is watched, and all pipelines at a glance, as commands show them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.git import GitRepository
from tests.unit.cli.conftest import Command

SILENT = "source: {git: 'http://127.0.0.1:9/prep.git'}"


@pytest.fixture
def both(folder: Path) -> Path:
    """Two pipelines of two projects: the first after the second, whose repository does not answer."""
    wine = folder / "pipelines/wine.yaml"
    still = wine.read_text().replace("../grapes}", "../grapes, settle: 0s}")
    wine.write_text(still + 'project: cellar\nschedule: ["0 3 * * 1"]\n')
    (folder / "pipelines/prep.yaml").write_text(
        f"pipeline: prep\n{SILENT}\nafter: [wine]\nrun: {{runner: cpu, command: 'true'}}\n"
    )
    return folder


def test_all_that_is_watched_is_listed_before_anybody_looked(command: Command, both: Path) -> None:
    listed = command("sources", "list", "--config", str(both))
    assert listed.code == 0
    names = [line.split("  ")[0] for line in listed.out.splitlines()[1:]]
    assert names == [
        "source prep/prep",
        "after prep",
        "source wine/remote",
        "dataset wine/grapes",
        "schedule wine",
    ]
    assert listed.out.count("never looked") == 5
    (due,) = [line for line in listed.out.splitlines() if line.startswith("schedule wine")]
    assert re.search(r"due \d{4}-\d\d-\d\d \d\d:00 [A-Z]+", due), "with the zone that the time is in"
    assert "no server is up" in listed.err


def test_a_poll_makes_the_runs_of_what_changed_and_is_seen_in_the_list(
    command: Command, both: Path, git_repository: GitRepository
) -> None:
    first = command("sources", "poll", "remote", "--config", str(both))
    assert (first.code, first.err) == (0, "source wine/remote: wine#1\n")
    again = command("sources", "poll", "source wine/remote", "--config", str(both))
    assert (again.code, again.err) == (0, "source wine/remote: nothing new\n")
    git_repository.commit({"train.py": "print('better')\n"}, "Second model")
    git_repository.push()
    third = command("sources", "poll", "wine/remote", "--json", "--config", str(both))
    assert json.loads(third.out) == [{"name": "source wine/remote", "trouble": "", "runs": ["wine#2"]}]
    (row,) = [
        row
        for row in json.loads(command("sources", "list", "--json", "--config", str(both)).out)
        if row["name"] == "source wine/remote"
    ]
    assert row["trouble"] == ""
    assert row["looked"] is not None
    assert row["changed"] is not None


def test_a_poll_says_that_a_change_has_to_wait(command: Command, both: Path) -> None:
    wine = both / "pipelines/wine.yaml"
    wine.write_text(wine.read_text().replace("settle: 0s", "settle: 1h"))
    polled = command("sources", "poll", "remote", "--config", str(both))
    assert polled.code == 0
    assert polled.err.startswith("source wine/remote: something has to wait, it is ripe in ")


def test_data_that_wait_for_their_marker_do_not_look_well(command: Command, both: Path) -> None:
    wine = both / "pipelines/wine.yaml"
    wine.write_text(wine.read_text().replace("grapes, settle: 0s}", "grapes, marker: _SUCCESS}"))
    assert "marker: _SUCCESS" in wine.read_text()
    scanned = command("datasets", "scan", "grapes", "--config", str(both))
    assert "until _SUCCESS is there" in scanned.err
    command("sources", "poll", "grapes", "--config", str(both))
    listed = json.loads(command("sources", "list", "--json", "--config", str(both)).out)
    (row,) = [row for row in listed if row["name"] == "dataset wine/grapes"]
    assert (row["waits_for"], row["being_written_since"] is None) == ("_SUCCESS", False)
    assert "being written" in command("sources", "list", "--config", str(both)).out
    status = command("status", "--config", str(both))
    assert "wine: dataset grapes: it is being written until _SUCCESS is there" in status.err


def test_trouble_is_told_with_since_when_and_until_when(command: Command, both: Path) -> None:
    polled = command("sources", "poll", "prep", "--config", str(both))
    assert polled.code == 3
    assert polled.err.count("127.0.0.1") >= 1
    assert polled.err.startswith("source prep/prep: cannot read http://127.0.0.1:9/prep.git")
    listed = command("sources", "list", "--troubled", "--config", str(both))
    assert [line.split("  ")[0] for line in listed.out.splitlines()[1:]] == ["source prep/prep"]
    assert "1 look failed" in listed.out
    status = command("status", "--config", str(both))
    assert "source prep/prep: cannot read" in status.err
    assert "next look in" in status.err


def test_a_name_that_nothing_has_is_told_with_those_there_are(command: Command, both: Path) -> None:
    told = command("sources", "poll", "wien", "--config", str(both))
    assert told.code == 2
    assert 'nothing that is called "wien" is watched' in told.err
    assert "source wine/remote" in told.err


def test_the_status_shows_each_pipeline_with_what_waits_and_why(command: Command, both: Path) -> None:
    command("sources", "poll", "remote", "--config", str(both))
    status = command("status", "--json", "--config", str(both))
    told = json.loads(status.out)
    assert told["served"] is False
    by_name = {row["pipeline"]: row for row in told["pipelines"]}
    assert list(by_name) == ["wine", "prep"], "by project, then by name"
    assert by_name["prep"]["state"] == "no run yet"
    wine = by_name["wine"]
    assert (wine["project"], wine["state"], wine["waiting"]) == ("cellar", "waiting", ["wine#1"])
    assert wine["why_waiting"].startswith("no server is up")
    assert wine["next_time"].endswith("T03:00:00+00:00")


def test_the_status_of_a_project_shows_no_other(command: Command, both: Path) -> None:
    command("sources", "poll", "prep", "--config", str(both))
    status = command("status", "--project", "cellar", "--config", str(both))
    assert [line.split()[1] for line in status.out.splitlines()[1:]] == ["wine"]
    assert "prep" not in status.err
    unknown = command("status", "--project", "celar", "--config", str(both))
    assert unknown.code == 2
    assert "cellar, default" in unknown.err


def test_a_push_that_makes_no_run_is_told_with_the_reason(
    command: Command, both: Path, git_repository: GitRepository
) -> None:
    command("sources", "poll", "remote", "--config", str(both))
    none = command("sources", "log", "remote", "--config", str(both))
    assert (none.code, none.out, none.err) == (0, "", "nothing was decided, and nothing failed\n")
    commit = git_repository.commit({"README.md": "words"}, "Words [skip ci]")
    git_repository.push()
    polled = command("sources", "poll", "remote", "--config", str(both))
    assert polled.err == "source wine/remote: nothing new\n"
    told = json.loads(command("sources", "log", "remote", "--json", "--config", str(both)).out)
    assert [(line["name"], line["text"]) for line in told] == [
        ("source wine/remote", f"main: no run: [skip ci] in the message of {commit[:8]}")
    ]
