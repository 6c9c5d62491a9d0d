"""The error rate at which each question is decided: the gate's own, cut by the hold-out budget and Holm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.gate.model import Gate, Holdout, HoldoutMode, Require
from orchestrator.domain.gate.questions import Answer, Question, level_of
from orchestrator.domain.metrics import format_value
from orchestrator.domain.statistics.holdout import Release, alpha_of_use
from orchestrator.domain.statistics.holm import holm_level


@dataclass(frozen=True, slots=True)
class Level:
    """An error rate, and in words what made it smaller than was asked for."""

    alpha: float
    correction: str = ""

    def cut(self, alpha: float, why: str) -> Level:
        """A smaller one."""
        return Level(alpha, ", ".join(part for part in (self.correction, why) if part))


def asked(gate: Gate, question: Question) -> Level:
    """The level of a question by itself."""
    level = Level(level_of(question.check, gate.alpha))
    budget = gate.holdout
    if budget is None or budget.mode is HoldoutMode.OFF:
        return level
    alpha = alpha_of_use(level.alpha, budget.delta, budget.max_uses, Release(budget.mode.value))
    return level.cut(alpha, f"hold-out {format_value(budget.delta)} over {_uses(budget)}")


def _uses(budget: Holdout) -> str:
    return f"2^{budget.max_uses} outcomes" if budget.mode is HoldoutMode.FULL else f"{budget.max_uses} uses"


def family(gate: Gate, questions: Sequence[Question]) -> list[list[int]]:
    """The places of questions that are corrected together: guards, and claims of which any is enough.

    What is decided by plain values alone has no error rate that could be corrected.
    """
    if not gate.holm:
        return []
    tested = [i for i, question in enumerate(questions) if not question.by_points]
    guards = [i for i in tested if questions[i].guard]
    claims = [i for i in tested if not questions[i].guard] if gate.require is Require.ANY else []
    return [members for members in (guards, claims) if len(members) > 1]


def even(levels: Sequence[Level], members: Sequence[int], what: str) -> dict[int, Level]:
    """Each level over the number of members: what sequential looks go by, which cannot step down."""
    count = len(members)
    return {i: levels[i].cut(levels[i].alpha / count, f"alpha/{count} for {what}") for i in members}


def stepped_down(
    levels: Sequence[Level],
    members: Sequence[int],
    questions: Sequence[Question],
    answers: Sequence[Answer | None],
) -> dict[int, Level]:
    """Holm's: the level at which each member's turn came. Members without any noise are not counted."""
    pvalues: dict[int, float] = {}
    for i in members:
        answer = answers[i]
        if answer is not None and not answer.is_point:
            pvalues[i] = answer.p_below if questions[i].guard else answer.p_above
    if len(pvalues) < 2:
        return {}
    ordered, what = list(pvalues.values()), f"Holm over {len(pvalues)}"
    return {
        i: levels[i].cut(holm_level(levels[i].alpha, ordered, place), what) for place, i in enumerate(pvalues)
    }
