"""Comments under pull requests that ask for something: ``/mlci run``, ``/mlci approve``, ``/mlci reject``.

A webhook only says that there is a comment. Who wrote it, what it says and whether that person may write to
the repository is asked from the forge. Of a stranger's fork nothing runs by a comment that may have been
written before its commits were there: it lets go what waited when it was written, or a commit that it names.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from orchestrator.domain.change import PullRequest, Revision
from orchestrator.domain.errors import (
    DatasetError,
    NotFound,
    OrchestratorError,
    RevisionGone,
    SourceUnavailable,
)
from orchestrator.domain.markdown import plain
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.run import Purpose, Run, RunState, backoff
from orchestrator.domain.text import clean
from orchestrator.domain.trigger import needs_approval
from orchestrator.ports.forge import Comment, Forge
from orchestrator.ports.hooks import CommentSeen
from orchestrator.ports.records import CommentMove, Move
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.approve import Approver

log = logging.getLogger(__name__)

USAGE = (
    "`/mlci run [PIPELINE or COMMIT]` runs this pull request, `/mlci approve [COMMIT]` lets it run, "
    "`/mlci reject [COMMIT]` ends what waits."
)
_CLAIM = timedelta(minutes=5)
_OBEYED_FOR = timedelta(hours=24)
"""An older comment is not obeyed: what it was written about has gone on."""
_LONGEST_PAUSE = timedelta(minutes=15)
_MOST_TRIES = 100
_LINE = re.compile(
    r"^/mlci(?:[ \t]+(?P<verb>[a-z]+)(?:[ \t]+(?P<argument>\S{1,200}))?)?[ \t]*\r?$", re.MULTILINE
)
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


class RunsPulls(Protocol):
    """What makes runs of pull requests."""

    def run_pull(
        self,
        pipeline: Pipeline,
        source: SourceSpec,
        pull: PullRequest,
        who: str,
        note: str = "",
        moves: Sequence[Move] = (),
    ) -> Run | None:
        """A run of a pull request, because somebody who may let it go wants one.

        None when what ``moves`` record had its run before. Raises SourceError or DatasetError.
        """


@dataclass(frozen=True, slots=True)
class _Asked:
    """A comment of somebody who may write, and those that watch its repository."""

    comment: Comment
    pull: PullRequest
    argument: str
    watching: Sequence[tuple[Pipeline, SourceSpec]]
    known: Sequence[Run]
    """All runs of the pull request, of those that watch it."""

    @property
    def who(self) -> str:
        return f"github:{self.comment.author}"

    def names(self, commit: str) -> bool:
        """Whether the comment names that commit: in full, or by a beginning that could mean no other one.

        Two commits with one beginning are soon made. So it counts only of a commit that had a run when the
        comment was written, and while no other one with that beginning was ever seen here.
        """
        if not _COMMIT.fullmatch(self.argument):
            return False
        if self.argument == commit:
            return True
        alike = [run for run in self.known if run.change.revision.commit.startswith(self.argument)]
        return {run.change.revision.commit for run in alike} == {commit} and any(
            run.created_at <= self.comment.written_at for run in alike
        )


class Comments:
    """Obeys comments. One thread.

    ``watching`` are the pipelines of a repository with their sources; others may be among them. ``define``
    says what a pipeline is at a revision, where that depends on the repository's own file, or why it is none.
    """

    def __init__(
        self,
        store: Store,
        forge: Forge,
        runner: RunsPulls,
        watching: Callable[[str], Iterable[tuple[Pipeline, SourceSpec]]],
        clock: Clock,
        url: str,
        stopping: threading.Event,
        define: Callable[[Pipeline, Revision], Pipeline | str] = lambda pipeline, revision: pipeline,
    ) -> None:
        self._store = store
        self._forge = forge
        self._runner = runner
        self._watching = watching
        self._approver = Approver(store, clock)
        self._clock = clock
        self._url = url.rstrip("/")
        self._stopping = stopping
        self._define = define
        self._tries: dict[int, int] = {}

    def tick(self) -> int:
        """Obey the comments that are due; how many that were."""
        now = self._clock.now()
        done = 0
        for seen in self._store.deliveries.comments(now):
            if self._stopping.is_set():
                break
            claimed = self._store.deliveries.claim(seen, now + _CLAIM)
            if claimed is not None:
                self._heed(claimed)
                done += 1
        return done

    def _heed(self, seen: CommentSeen) -> None:
        wanted = seen.repository.casefold()
        try:
            watching = [
                each for each in self._watching(seen.repository) if each[1].github.casefold() == wanted
            ]
            if watching:
                self._obey(seen, watching)
        except (SourceUnavailable, DatasetError) as error:
            if self._put_off(seen, error):
                return
        except (NotFound, RevisionGone) as error:
            log.info("%s: comment %d: %s", seen.repository, seen.id, error)
        self._tries.pop(seen.id, None)
        self._store.deliveries.dealt_with(seen.id)

    def _put_off(self, seen: CommentSeen, error: OrchestratorError) -> bool:
        tries = self._tries[seen.id] = self._tries.get(seen.id, 0) + 1
        told = f"a comment cannot be obeyed: {error}"
        if tries == 1 or tries > _MOST_TRIES:
            log.warning("%s: comment %d: %s", seen.repository, seen.id, told)
            self._note(seen.repository, told)
        if tries > _MOST_TRIES:
            return False
        wanted = error.retry_after if isinstance(error, SourceUnavailable) else None
        pause = min(max(backoff(tries), timedelta(seconds=wanted or 0)), _LONGEST_PAUSE)
        self._store.deliveries.claim(seen, self._clock.now() + pause)
        return True

    def _obey(self, seen: CommentSeen, watching: Sequence[tuple[Pipeline, SourceSpec]]) -> None:
        source = watching[0][1]
        comment = self._forge.read_comment(source, seen.id)
        line = _LINE.search(comment.text)
        if line is None or self._clock.now() - comment.written_at > _OBEYED_FOR:
            return
        if not self._forge.may_write(source, comment.author, comment.author_id):
            # No answer: whoever may comment could make us write as much as they like.
            self._note(seen.repository, f"{clean(comment.author)} may not write, and asked: {clean(line[0])}")
            return
        pull = self._forge.pull(source, comment.number)
        known = [run for pipeline, _ in watching for run in self._runs(source, pull, pipeline)]
        asked = _Asked(comment, pull, line["argument"] or "", watching, known)
        match line["verb"]:
            case "run":
                answers = self._run(asked)
            case "approve":
                answers = self._decide(asked, self._approver.approve, "goes")
            case "reject":
                answers = self._decide(asked, self._approver.reject, "has ended")
            case _:
                answers = [USAGE]
        if answers:
            self._answer(source, comment, answers)

    def _run(self, asked: _Asked) -> list[str]:
        named = _COMMIT.fullmatch(asked.argument) and asked.pull.commit.startswith(asked.argument)
        meant = [
            (pipeline, source)
            for pipeline, source in asked.watching
            if source.pull_requests is not None and (named or asked.argument in ("", pipeline.name))
        ]
        if not meant:
            called = f"called {plain(asked.argument)} " if asked.argument else ""
            return [f"No pipeline {called}runs pull requests of this repository."]
        found = [(pipeline, source) for pipeline, source in meant if source.watches_pull(asked.pull)]
        if not found:
            return [f"This pull request does not run: {why_not_watched(meant[0][1], asked.pull)}."]
        return [answer for pipeline, source in found for answer in self._run_in(asked, pipeline, source)]

    def _run_in(self, asked: _Asked, pipeline: Pipeline, source: SourceSpec) -> list[str]:
        pull = asked.pull
        before = [run for run in asked.known if run.pipeline == pipeline.name and _judges(run, pull.commit)]
        open_ones = [run for run in before if not run.state.final]
        if open_ones:
            return [self._open(run) for run in open_ones if not _asked_by(run, asked)]
        trusted = source.pull_requests.trusted if source.pull_requests else ()
        # What went once was let go by somebody, or needed nobody.
        went = any(run.started_at is not None for run in before)
        if needs_approval(pull, trusted) and not went and not asked.names(pull.commit):
            short = pull.commit[:8]
            wanted = f"`/mlci run {pull.commit}`"
            return [f"Commit {short} comes from a fork, and nobody has let it run yet: {wanted}"]
        defined = self._define(pipeline, Revision(source.name, pull.ref, pull.commit, pull=pull))
        if isinstance(defined, str):
            return [f"{plain(pipeline.name)} does not run: {plain(defined)}"]
        run = self._runner.run_pull(
            defined,
            source,
            pull,
            asked.who,
            f"asked for under pull request {asked.comment.number}",
            (CommentMove(asked.comment.id),),
        )
        return [] if run is None else [self._open(run)]

    def _runs(self, source: SourceSpec, pull: PullRequest, pipeline: Pipeline) -> list[Run]:
        wanted = source.github.casefold()
        found = []
        for run in self._store.runs.listing(pipeline.name, branch=pull.ref):
            # The same name may have stood for another repository when it was enqueued.
            its = self._store.runs.definition(run.id).source_named(run.change.revision.source)
            if its is not None and its.github.casefold() == wanted:
                found.append(run)
        return found

    def _open(self, run: Run) -> str:
        if run.state is RunState.AWAITING_APPROVAL:
            return f"{self._named(run)} waits for approval: `/mlci approve {run.change.revision.commit}`"
        return f"{self._named(run)} is {run.state.value}: commit {run.change.revision.short}"

    def _decide(self, asked: _Asked, decide: Callable[[Run, str], Run | None], became: str) -> list[str]:
        if asked.argument and not _COMMIT.fullmatch(asked.argument):
            return [f"{plain(asked.argument)} is not a commit: its hash is expected."]
        waiting = [run for run in asked.known if run.state is RunState.AWAITING_APPROVAL]
        answers = []
        for run in waiting:
            commit = run.change.revision.commit
            early = run.created_at <= asked.comment.written_at
            meant = asked.names(commit) if asked.argument else early
            if meant and decide(run, asked.who) is not None:
                answers.append(f"{self._named(run)} {became}: commit {run.change.revision.short}")
            elif not meant and commit.startswith(asked.argument):
                why = "was not the only one that" if asked.argument else "came after what"
                answers.append(f"{self._named(run)} {why} that comment may mean: `/mlci approve {commit}`")
        return answers or ["No run of this pull request waits for approval."]

    def _named(self, run: Run) -> str:
        name = f"`{run.pipeline}#{run.number}`"
        return f"[{name}]({self._url}/runs/{run.id})" if self._url else name

    def _answer(self, source: SourceSpec, comment: Comment, answers: Sequence[str]) -> None:
        text = answers[0] if len(answers) == 1 else "\n".join(f"- {answer}" for answer in answers)
        try:
            self._forge.comment(source, comment.number, text)
        except (SourceUnavailable, NotFound) as error:
            # What was asked for was done, and shows on the commit.
            log.warning("%s: comment %d was obeyed, but not answered: %s", source.github, comment.id, error)

    def _note(self, repository: str, told: str) -> None:
        self._store.journal.note("", f"repository {repository}", told, self._clock.now())


def why_not_watched(source: SourceSpec, pull: PullRequest) -> str:
    """Why a source that runs pull requests does not run this one."""
    rules = source.pull_requests
    if pull.fork and rules is not None and not rules.forks:
        return "it comes from a fork, and forks do not run here"
    if pull.draft and rules is not None and not rules.drafts:
        return "it is a draft, and drafts do not run here"
    return f"those that are to be merged into {plain(pull.base)} do not run here"


def _judges(run: Run, commit: str) -> bool:
    return run.change.revision.commit == commit and run.purpose is Purpose.TRAIN


def _asked_by(run: Run, asked: _Asked) -> bool:
    """Whether this very comment has made that run, before we were interrupted."""
    return run.change.key.partition(" + ")[0] == f"comment {asked.comment.id}"
