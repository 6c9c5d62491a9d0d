"""Which of the changes that were seen count: what messages and paths say, and whose code is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from orchestrator.domain.action_spec import EmailAction
from orchestrator.domain.change import PULLS, TAGS, Cause, Commit, PullRequest
from orchestrator.domain.globs import last_decides, matches
from orchestrator.domain.pipeline import Pipeline

SKIPPING: Final = re.compile(
    r"\[(?:skip[ _-]ci|ci[ _-]skip|no[ _-]ci|skip[ _-]actions|actions[ _-]skip)\]|\*\*\*NO_CI\*\*\*",
    re.IGNORECASE,
)
_TRAILER = re.compile(r"skip-checks:[ \t]*true[ \t]*", re.IGNORECASE)
_LONGEST = 65_536
_WILD = frozenset("*?[")


def skip_words(message: str) -> str:
    """The words of a commit's message that ask for no run, such as ``[skip ci]``; empty when there are none.

    ``skip-checks: true`` counts in the last paragraph alone, where trailers stand.
    """
    text = message[:_LONGEST]
    if found := SKIPPING.search(text):
        return found[0]
    last = text.replace("\r\n", "\n").strip().rpartition("\n\n")[2]
    return next((line.strip() for line in last.split("\n") if _TRAILER.fullmatch(line)), "")


def newest_wanted(commits: Sequence[Commit]) -> Commit | None:
    """The first of some commits, newest first, whose message asks for a run; None when none does."""
    return next((commit for commit in commits if not skip_words(commit.message)), None)


def counts(path: str, rules: Sequence[str]) -> bool:
    """Whether a change of a file matters.

    The last rule that fits decides; where none does, a file counts only if the rules begin with what does not
    count. A rule without wildcards stands also for all that is below it.
    """
    return last_decides(rules, lambda pattern: matches(path, _with_below(pattern)))


def any_counts(paths: Iterable[str], rules: Sequence[str]) -> bool:
    """Whether one of the files matters; without rules, every change does, also one of no file."""
    return not rules or any(counts(path, rules) for path in paths)


def _with_below(pattern: str) -> tuple[str, ...]:
    plain = pattern.rstrip("/")
    return (pattern,) if _WILD & set(pattern) else (plain, f"{plain}/**")


def cause_of(ref: str) -> Cause:
    """Why a run of a ref that moved exists."""
    if ref.startswith(TAGS):
        return Cause.TAG
    return Cause.PULL_REQUEST if ref.startswith(PULLS) else Cause.PUSH


def needs_approval(pull: PullRequest, trusted: Sequence[int]) -> bool:
    """Whether a person must look at a pull request before its code runs: it is from a fork, by a stranger or
    in a stranger's, who may let others push to it under the author's name.
    """
    return pull.fork and not all(who and who in trusted for who in (pull.author_id, pull.owner_id))


def may_be_strangers(ref: str) -> bool:
    """Whether strangers may have written what was seen on a ref, where nobody knows who proposed it.

    A forge keeps proposals under refs of its own, and gives whoever names one the commits of all forks: what
    is on no branch of the repository may be anybody's.
    """
    return not ref or (ref.startswith("refs/") and not ref.startswith(TAGS))


def pipeline_for(pipeline: Pipeline, pull: PullRequest | None) -> Pipeline:
    """The pipeline as it runs the code of a pull request, or of none."""
    return untrusted(pipeline) if pull is not None and pull.fork else pipeline


def untrusted(pipeline: Pipeline) -> Pipeline:
    """The pipeline for code by people who are not to be trusted.

    It has no secrets, does nothing but mail, mails nobody whose address the code's author chose, and gets no
    submodule that takes a login.
    """
    actions = []
    for trigger, action in pipeline.actions:
        if not isinstance(action, EmailAction):
            continue
        action = replace(action, to=tuple(to for to in action.to if to != "author"))
        if action.to:
            actions.append((trigger, action))
    return replace(
        pipeline,
        untrusted=True,
        sources=tuple(replace(source, strangers=True) for source in pipeline.sources),
        execution=replace(pipeline.execution, secrets=()),
        actions=tuple(actions),
    )
