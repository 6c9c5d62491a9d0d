"""What `source:` says: which repository, how it is reached, which changes count."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.bootstrap.configured import source_of
from orchestrator.config.models.source import Source
from orchestrator.domain.pipeline import PullRequestRules, SourceSpec
from tests.support.configuration import ConfigFolder

REST = "\nrun: {runner: cpu, command: x}\n"


def read(folder: ConfigFolder, source: str) -> Source:
    folder.write("pipelines/wine.yaml", f"pipeline: w\nsource: {source}{REST}")
    result = folder.load()
    assert result.configuration is not None, result.problems
    return result.configuration.pipelines["w"].all_sources[0]


def test_all_that_counts_reaches_the_services(folder: ConfigFolder) -> None:
    source = read(
        folder,
        "{github: acme/wine, branches: [main, '!x/*'], tags: ['v*'], paths: ['**', '!docs/**'], poll: 30s,"
        " pull_requests: {bases: [main], forks: false, drafts: true, trusted: [583231]}, settle: 5s,"
        " min_interval: 1h, submodules: true, lfs: true, token: '${{ env.WANDB_API_KEY }}'}",
    )
    assert source_of(source) == SourceSpec(
        "wine",
        "https://github.com/acme/wine.git",
        ("main", "!x/*"),
        30.0,
        github="acme/wine",
        tags=("v*",),
        pull_requests=PullRequestRules(("main",), False, True, (583231,)),
        paths=("**", "!docs/**"),
        settle=5.0,
        min_interval=3600.0,
        submodules=True,
        lfs=True,
    )


def test_pull_requests_are_off_unless_wanted(folder: ConfigFolder) -> None:
    assert read(folder, "{github: acme/wine}").pulls is None
    assert read(folder, "{github: acme/wine, pull_requests: false}").pulls is None
    on = read(folder, "{github: acme/wine, pull_requests: true, token: '${{ env.WANDB_API_KEY }}'}").pulls
    assert on is not None
    assert on.forks


def test_a_burst_is_one_run_unless_told(folder: ConfigFolder) -> None:
    assert read(folder, "{git: 'https://example.org/w'}").settle == timedelta(seconds=10)
    assert read(folder, "{git: 'https://example.org/w', settle: 0s}").settle == timedelta(0)


def test_no_login_is_part_of_what_the_services_see(folder: ConfigFolder) -> None:
    source = read(
        folder, "{git: 'https://example.org/w', username: robot, password: '${{ env.WANDB_API_KEY }}'}"
    )
    assert "robot" not in repr(source_of(source))
    assert "WANDB" not in repr(source_of(source))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{branches: [main]}", "2:9: nothing says which repository; expected git: URL or path, or github:"),
        ("{git: 'https://e.org/w', github: a/b}", "2:34: both git and github are given"),
        (
            "{github: 'https://github.com/acme/wine.git'}",
            '2:18: "https://github.com/acme/wine.git" is not the name of a repository on GitHub',
        ),
        (
            "{git: 'https://github.com/acme/wine', pull_requests: true}",
            "2:47: pull requests are known to a forge, not to Git; expected github: OWNER/NAME in place of",
        ),
        ("{github: a/b, paths: ['/docs']}", '2:31: "/docs" fits no file of a repository'),
        ("{github: a/b, paths: ['!../x']}", '2:31: "!../x" fits no file of a repository'),
        ("{github: a/b, tags: [refs/tags/v1]}", '2:30: "refs/tags/v1" is the full name of a ref'),
        ("{github: a/b, every_commit: true, min_interval: 1h}", "2:43: every commit is to run"),
        ("{git: 'https://e.org/w', username: ci}", "2:34: username stands without password"),
        ("{git: 'https://e.org/w', username: ci, token: x}", "2:48: there are a token and a user"),
        ("{git: 'http://e.org/w', token: x}", "2:33: token is for repositories over https: it would cross"),
        ("{git: 'git@e.org:w', token: x}", "2:30: token is for repositories over https: nobody asks for it"),
        ("{git: 'https://e.org/w', ssh: {}}", "2:34: the repository is not reached over SSH"),
    ],
)
def test_what_does_not_fit_together_is_reported_where_it_stands(
    folder: ConfigFolder, source: str, says: str
) -> None:
    problems = folder.problems_of_pipeline(f"pipeline: w\nsource: {source}{REST}")
    assert any(problem.startswith(says) for problem in problems), problems


def test_a_token_in_the_file_is_warned_of(folder: ConfigFolder) -> None:
    folder.write("pipelines/wine.yaml", f"pipeline: w\nsource: {{github: a/b, token: abc123}}{REST}")
    (problem,) = folder.load().problems
    assert problem.severity == "warning"
    assert "the token is written in the file" in problem.message
    assert "abc123" not in str(problem)
