"""Logins at GitHub go to GitHub, for the source that they are for, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from orchestrator.bootstrap.application import Application
from orchestrator.bootstrap.configured import read_configuration
from orchestrator.domain.errors import SourceError
from orchestrator.domain.pipeline import SourceSpec
from tests.support.github import GitHubStandIn


def configured(folder: Path, hub: GitHubStandIn, token: str, own: str) -> Application:
    """Two sources: acme/wine, and acme/beer with a token of its own."""
    config = folder / "config"
    (config / "runners").mkdir(parents=True)
    (config / "pipelines").mkdir()
    main = {"storage": {"path": "../var"}, "github": {"token": token, "api_url": hub.api_url}}
    sources = [{"github": "acme/wine"}, {"github": "acme/beer", "token": own}]
    pipeline = {"pipeline": "line", "sources": sources, "run": {"runner": "cpu", "command": "true"}}
    (config / "orchestrator.yaml").write_text(yaml.safe_dump(main))
    (config / "runners" / "cpu.yaml").write_text("runner: cpu\nimage: python:3.12-slim\n")
    (config / "pipelines" / "line.yaml").write_text(yaml.safe_dump(pipeline))
    return Application(read_configuration(config))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[GitHubStandIn]:
    """Somebody else's server, which writes down who asks."""
    with GitHubStandIn(tmp_path / "elsewhere") as hub:
        yield hub


def test_each_source_has_its_own_token_and_lends_it_to_nobody(github: GitHubStandIn, tmp_path: Path) -> None:
    common, own = github.token("common"), github.token("own")
    for name, reader in (("wine", "common"), ("beer", "own")):
        repository = github.repository(f"acme/{name}", private=True)
        repository.permissions[reader] = "read"
        repository.push()
    app = configured(tmp_path, github, common, own)
    wine, beer = app.pipelines["line"].sources
    for source in (wine, beer):
        commit = app.sources.refs(source).branches["main"]
        assert app.sources.fetch(source, commit, "main").commit == commit
    lying = replace(beer, github="acme/wine", location=wine.location)
    assert app.git.location(lying).password == common
    assert app.git.location(beer).password == own


def test_a_run_of_long_ago_takes_no_token_to_where_github_was_then(
    github: GitHubStandIn, elsewhere: GitHubStandIn, tmp_path: Path
) -> None:
    token = github.token("common")
    github.repository("acme/wine").push()
    elsewhere.repository("acme/wine", private=True).push()
    app = configured(tmp_path, github, token, github.token("own"))
    (now, _) = app.pipelines["line"].sources
    assert app.git.location(now).password == token
    like = github.web_url.replace("127.0.0.1", "127.0.0.1.example.org")
    for host in (elsewhere.web_url, like, "http://127.0.0.1"):
        then = replace(now, location=f"{host}/acme/wine.git")
        assert app.git.location(then).password == ""
    with pytest.raises(SourceError):
        app.git.heads(replace(now, location=f"{elsewhere.web_url}/acme/wine.git"))


def test_an_api_that_sends_us_elsewhere_gets_no_token_followed_there(
    github: GitHubStandIn, elsewhere: GitHubStandIn, tmp_path: Path
) -> None:
    app = configured(tmp_path, github, github.token("common"), github.token("own"))
    (wine, _) = app.pipelines["line"].sources
    there = elsewhere.api_url.replace("127.0.0.1", "localhost")
    for status in (301, 302, 307, 308):
        github.fault("", status, headers={"Location": f"{there}/repos/acme/wine"}, times=1)
        with pytest.raises(SourceError):
            app.sources.refs(wine)
    assert elsewhere.requests == []


def test_neither_specs_nor_locations_show_a_token(github: GitHubStandIn, tmp_path: Path) -> None:
    token = github.token("common")
    app = configured(tmp_path, github, token, github.token("own"))
    source: SourceSpec = app.pipelines["line"].sources[0]
    shown = f"{source!r} {app.git.location(source)!r} {app.github!r}"
    assert "ghp_" not in shown
