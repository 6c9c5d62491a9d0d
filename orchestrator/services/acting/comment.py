"""Commenting: the newest report of a pipeline, in one comment under the pull request that its commits are in.

The comment is changed and never made twice: the database knows its id, and where that was lost it is found
again by a marker in its text that nobody sees. Whoever makes it does so alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from orchestrator.domain.action import Action, ActionState, Trigger
from orchestrator.domain.action_spec import GithubAction
from orchestrator.domain.change import PULLS
from orchestrator.domain.collected import PlotKind
from orchestrator.domain.errors import (
    ActionRejected,
    ActionUnavailable,
    NotFound,
    OrchestratorError,
    RevisionGone,
    SourceUnavailable,
)
from orchestrator.domain.markdown import plain
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.report import Report, Written
from orchestrator.domain.run import Purpose, Run, latest_tries, representative
from orchestrator.ports.comments import Place, ReportComment
from orchestrator.ports.forge import Forge
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.acting.act import Acted, Waits
from orchestrator.services.report import ReportBuilder

_CLAIM: Final = 120.0
"""Seconds after which whoever was to make a comment is taken for gone."""
_BUSY: Final = 5.0
_TURNS: Final = 3
_PICTURES: Final = 4
_PICTURE: Final = 5_000_000
"""Bytes; GitHub shows no larger one."""
_PULL: Final = re.compile(rf"{PULLS}([0-9]{{1,18}})/head")


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a comment is, for the forge and for the database; ``marker`` is how its text begins."""

    source: SourceSpec
    number: int
    place: Place
    marker: str


class Commenter:
    """Carries out github actions: an Act. ``written`` puts a report into Markdown.

    ``public`` is where anybody reaches the pages; empty where not everybody does, and no picture is shown.
    """

    def __init__(
        self,
        store: Store,
        forge: Forge | None,
        reports: ReportBuilder,
        clock: Clock,
        written: Callable[[Report], Written],
        public: str = "",
    ) -> None:
        self._store = store
        self._forge = forge
        self._reports = reports
        self._clock = clock
        self._written = written
        self._public = public.rstrip("/")

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted | Waits:
        """Have the comment tell of this run, unless it tells of a newer one."""
        spec = action.spec
        if not isinstance(spec, GithubAction):
            raise TypeError(f"{action.key} is no comment")
        source = self._store.runs.definition(run.id).source_named(run.change.revision.source)
        why = _why_not(run, spec, source, self._forge)
        if why or source is None or self._forge is None:
            return Acted(ActionState.SKIPPED, why)
        try:
            numbers = self._pulls(self._forge, source, run)
            if not numbers:
                return Acted(ActionState.SKIPPED, "no open pull request has this commit as its newest")
            told = []
            for number in numbers:
                spot = self._spot(source, number, run)
                said = self._tell(self._forge, spot, run, spec, action.trigger)
                if isinstance(said, Waits):
                    return said
                told.append(said)
        except RevisionGone as error:
            raise ActionRejected(error.message, error.remedy) from error
        except SourceUnavailable as error:
            if error.retry_after:
                return Waits(str(error), error.retry_after)
            raise ActionUnavailable(error.message, error.remedy) from error
        state = ActionState.DONE if any(each.state is ActionState.DONE for each in told) else told[0].state
        return Acted(state, "; ".join(each.message for each in told))

    def give_up(self, lease: Lease, error: str) -> None:
        """Nothing was begun that has to be told as failed."""

    def _pulls(self, forge: Forge, source: SourceSpec, run: Run) -> Sequence[int]:
        found = _PULL.fullmatch(run.change.revision.branch)
        return (int(found[1]),) if found else forge.pulls_of(source, run.change.revision.commit)

    def _spot(self, source: SourceSpec, number: int, run: Run) -> _Spot:
        place = Place(source.github.casefold(), f"pull/{number}", run.pipeline)
        return _Spot(source, number, place, f"<!-- mlci report {self._store.instance} {run.pipeline} -->")

    def _tell(
        self, forge: Forge, spot: _Spot, run: Run, spec: GithubAction, trigger: Trigger
    ) -> Acted | Waits:
        where = f"{spot.source.github}#{spot.number}"
        known = self._store.comments.claim(spot.place, run.id, self._clock.now(), _CLAIM)
        if known is None:
            return Waits(f"another report is being written under {where}", _BUSY)
        if known.run_id > run.id:
            return Acted(ActionState.SKIPPED, f"under {where} a newer run is told of already")
        report = self._reports.build(run, trigger=trigger)
        if spec.comment == "changed" and known.external_id and known.word == report.word.value:
            return Acted(ActionState.SKIPPED, f"nothing changed under {where}: still {known.word}")
        for _ in range(_TURNS):
            text, trouble = self._text(spot, report)
            told = f"{report.word.value.replace(' ', '_')} {sha256(text.encode()).hexdigest()}"
            if told == known.told and known.external_id and report.run.id == run.id:
                return Acted(ActionState.DONE, f"the comment under {where} says so already")
            try:
                comment = self._put(forge, spot, known, text)
            except NotFound as error:
                self._store.comments.release(spot.place, self._clock.now())
                return Acted(ActionState.SKIPPED, str(error))
            except OrchestratorError:
                self._store.comments.release(spot.place, self._clock.now())
                raise
            now = self._clock.now()
            if comment is None:
                return Waits(f"another report is being written under {where}", _BUSY)
            if self._store.comments.told(spot.place, report.run.id, comment, told, now):
                done = f"commented under {where}: {report.subject}"
                return Acted(ActionState.DONE, f"{done}; {trouble}" if trouble else done)
            # A newer run was told of meanwhile, over which this one has just been written.
            newer = self._store.comments.at(spot.place)
            if newer is None:
                break
            known = ReportComment(newer.external_id, newer.run_id, "")
            later = self._store.runs.get(newer.run_id)
            report = self._reports.build(later, trigger=None if later.state.final else Trigger.START)
        return Waits(f"newer runs are being told of under {where}", _BUSY)

    def _put(self, forge: Forge, spot: _Spot, known: ReportComment, text: str) -> str | None:
        """Have the comment say that; its id, or None when somebody else makes it anew just now."""
        if known.external_id:
            if forge.change_comment(spot.source, known.external_id, text):
                return known.external_id
            if not self._store.comments.missing(spot.place, known.external_id, self._clock.now()):
                return None
        found = forge.own_comment(spot.source, spot.number, spot.marker)
        if found and forge.change_comment(spot.source, found, text):
            return found
        return forge.comment(spot.source, spot.number, text)

    def _text(self, spot: _Spot, report: Report) -> tuple[str, str]:
        """The comment, and what was wrong with its template."""
        run = report.run
        title = f"### {plain(run.title)}: {plain(report.label)}"
        news = plain(report.key_metric) if report.key_metric else ""
        where = f"of commit {run.change.revision.commit}"
        link = f"[The whole report]({report.url}) {where}" if report.url else f"Report {where}"
        body = self._written(report)
        parts = (spot.marker, title, news, body.text, *self._pictures(report), link)
        return "\n\n".join(part for part in parts if part), body.trouble

    def _pictures(self, report: Report) -> list[str]:
        """The pictures that the run left, by their addresses on our own server."""
        chosen = representative(latest_tries(self._store.attempts.of_run(report.run.id)))
        if not self._public or chosen is None:
            return []
        kept = {file.path for file in report.artifacts if not file.removed and file.size <= _PICTURE}
        folder = f"{self._public}/runs/{report.run.id}/plots/{chosen.replicate}"
        shown = [
            f"![{plain(plot.title or plot.path)}]({folder}/{position})"
            for position, plot in enumerate(report.plots)
            if plot.kind is PlotKind.IMAGE and plot.path in kept
        ]
        return shown[:_PICTURES]


def _why_not(run: Run, spec: GithubAction, source: SourceSpec | None, forge: Forge | None) -> str:
    if spec.comment == "never":
        return "no comment is wished"
    if source is None or not source.github:
        return "the repository is not on GitHub (source: github:)"
    if forge is None:
        return "nobody is logged in at GitHub (github: in orchestrator.yaml)"
    if run.purpose is not Purpose.TRAIN:
        return "this run judges no commit"
    return ""
