"""Which changes count: messages, paths, names of refs, and whose code is trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import DeployAction, EmailAction
from orchestrator.domain.change import Cause, Commit, PullRequest
from orchestrator.domain.pipeline import Execution, PullRequestRules, SourceSpec
from orchestrator.domain.trigger import (
    any_counts,
    cause_of,
    needs_approval,
    newest_wanted,
    skip_words,
    untrusted,
)
from tests.unit.domain.examples import pipeline


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("fix [skip ci]", "[skip ci]"),
        ("[ci skip] fix", "[ci skip]"),
        ("fix\n\nbody [no ci]", "[no ci]"),
        ("[Skip CI]", "[Skip CI]"),
        ("[skip-ci]", "[skip-ci]"),
        ("[skip actions]", "[skip actions]"),
        ("[actions skip]", "[actions skip]"),
        ("***NO_CI***", "***NO_CI***"),
        ("fix\n\nbody\n\nskip-checks: true", "skip-checks: true"),
        ("fix\r\n\r\nskip-checks:true\r\nSigned-off-by: Ana\r\n", "skip-checks:true"),
        ("fix\n\nskip-checks: true\n\nmore of the body", ""),
        ("fix\n\nskip-checks: false", ""),
        ("skip ci", ""),
        ("[skip circus]", ""),
        ("", ""),
    ],
)
def test_the_usual_words_ask_for_no_run(message: str, words: str) -> None:
    assert skip_words(message) == words


def test_a_long_message_is_read_in_no_time() -> None:
    assert skip_words("[skip" * 500_000) == ""


def test_the_newest_commit_that_asks_for_a_run_is_wanted() -> None:
    fix, version = Commit("a" * 40, "fix"), Commit("b" * 40, "version 2 [skip ci]")
    assert newest_wanted([version, fix]) == fix
    assert newest_wanted([version]) is None


@pytest.mark.parametrize(
    ("rules", "paths", "found"),
    [
        ((), [], True),
        ((), ["README.md"], True),
        (("**",), [], False),
        (("**", "!docs/**"), ["docs/a/b.md"], False),
        (("**", "!docs/**"), ["docs/a.md", "train.py"], True),
        (("**", "!docs/**", "docs/conf.py"), ["docs/conf.py"], True),
        (("!docs/**",), ["train.py"], True),
        (("!docs/**",), ["docs/a.md"], False),
        (("src/**",), ["README.md"], False),
        (("src",), ["src/a/b.py"], True),
        (("src/",), ["src/a/b.py"], True),
        (("src",), ["srcs/a.py"], False),
        (("*.py",), ["src/a.py"], False),
        (("**/*.py",), ["a.py", "b.md"], True),
        (("**", "!*.md"), ["README.md", "LICENSE.md"], False),
        (("**",), ["caf\udce9.py"], True),
    ],
)
def test_the_last_rule_that_fits_a_file_decides(
    rules: tuple[str, ...], paths: list[str], found: bool
) -> None:
    assert any_counts(paths, rules) is found


@pytest.mark.parametrize(
    ("branch", "is_watched"),
    [("main", True), ("release/2", True), ("release/old", False), ("side", False), ("refs/tags/v1", False)],
)
def test_branches_are_watched_by_patterns_with_exceptions(branch: str, is_watched: bool) -> None:
    source = SourceSpec("wine", "/srv/wine.git", ("main", "release/*", "!release/old"))
    assert source.watches(branch) is is_watched


def test_a_branch_that_is_called_like_a_tag_is_never_taken_for_it() -> None:
    everything = SourceSpec("wine", "/srv/wine.git", ("*",))
    assert not everything.watches("refs/tags/v1")
    assert not everything.watches("refs/pull/7/head")


def test_tags_are_watched_only_where_rules_name_them() -> None:
    assert not SourceSpec("wine", "/srv", ("*",)).watches_tag("v1")
    source = SourceSpec("wine", "/srv", tags=("v*", "!*-rc*"))
    assert source.watches_tag("v1")
    assert not source.watches_tag("v1-rc1")


def pull(**facts: object) -> PullRequest:
    return PullRequest(**({"number": 7, "base": "main", "commit": "c" * 40, "author_id": 5} | facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "facts", "is_watched"),
    [
        (None, {}, False),
        (PullRequestRules(), {}, True),
        (PullRequestRules(), {"base": "side"}, False),
        (PullRequestRules(bases=("side",)), {"base": "side"}, True),
        (PullRequestRules(bases=("side",)), {"base": "main"}, False),
        (PullRequestRules(), {"draft": True}, False),
        (PullRequestRules(drafts=True), {"draft": True}, True),
        (PullRequestRules(forks=False), {"fork": True}, False),
        (PullRequestRules(forks=False), {"fork": False}, True),
    ],
)
def test_pull_requests_are_watched_by_their_base_and_kind(
    rules: PullRequestRules | None, facts: dict[str, object], is_watched: bool
) -> None:
    source = SourceSpec("wine", "/srv", ("main",), pull_requests=rules)
    assert source.watches_pull(pull(**facts)) is is_watched


@pytest.mark.parametrize(
    ("facts", "waits"),
    [
        ({"fork": False}, False),
        ({"fork": True, "author_id": 5, "owner_id": 5}, False),
        ({"fork": True, "author_id": 6, "owner_id": 5}, True),
        ({"fork": True, "author_id": 0, "owner_id": 5}, True),
        ({"fork": True, "author_id": 5, "owner_id": 6}, True),
        ({"fork": True, "author_id": 5, "owner_id": 0}, True),
    ],
)
def test_a_fork_needs_approval_unless_its_author_and_its_owner_are_trusted_by_id(
    facts: dict[str, object], waits: bool
) -> None:
    assert needs_approval(pull(**facts), (5, 0)) is waits


def test_code_of_strangers_gets_no_secrets_no_deployment_and_chooses_no_recipient() -> None:
    mine = replace(
        pipeline(),
        execution=Execution(("true",), secrets=("TOKEN",)),
        actions=(
            (Trigger.PASS, DeployAction("prod", ("model.*",))),
            (Trigger.PASS, EmailAction(("team@example.org", "author"))),
            (Trigger.FAIL, EmailAction(("author",))),
        ),
    )
    made = untrusted(mine)
    assert made.untrusted
    assert all(source.strangers for source in made.sources)
    assert not any(source.strangers for source in mine.sources)
    assert made.execution.secrets == ()
    assert made.actions == ((Trigger.PASS, EmailAction(("team@example.org",))),)


def test_a_ref_tells_the_cause() -> None:
    refs = ("main", "refs/tags/v1", "refs/pull/7/head")
    assert [cause_of(ref) for ref in refs] == [Cause.PUSH, Cause.TAG, Cause.PULL_REQUEST]
