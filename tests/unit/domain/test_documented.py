"""docs/runs.md says what the domain does: the states, what may follow each, and the reasons."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from orchestrator.domain.action import ACTION_TRANSITIONS
from orchestrator.domain.deployment import DEPLOYMENT_TRANSITIONS
from orchestrator.domain.run import ATTEMPT_TRANSITIONS, CONSEQUENCES, RUN_TRANSITIONS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "runs.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table at or after a text of the page."""
    lines = PAGE[PAGE.index(heading) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| ---"))
    table = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        pytest.param("## States of a run", RUN_TRANSITIONS, id="run"),
        pytest.param("## States of an attempt", ATTEMPT_TRANSITIONS, id="attempt"),
        pytest.param("| State of an action", ACTION_TRANSITIONS, id="action"),
        pytest.param("| State of a deployment", DEPLOYMENT_TRANSITIONS, id="deployment"),
    ],
)
def test_every_state_and_what_may_follow_it_is_documented(
    heading: str, table: Mapping[StrEnum, frozenset[StrEnum]]
) -> None:
    documented = {names(state)[0]: set(names(after)) for state, _, after in rows(heading)}
    assert documented == {state.value: {s.value for s in after} for state, after in table.items()}


def test_every_reason_is_documented_with_its_consequence() -> None:
    documented = {names(row[0])[0]: (names(row[3])[0], row[4] == "yes") for row in rows("## Reasons")}
    assert documented == {r.value: (c.state.value, c.retryable) for r, c in CONSEQUENCES.items()}


def test_the_project_is_named_at_fault_exactly_where_an_attempt_fails() -> None:
    for reason, _, at_fault, state, _ in rows("## Reasons"):
        assert (at_fault == "the project") == (state == "`failed`"), reason


@pytest.mark.parametrize("page", ["runs.md", "architecture.md"])
def test_no_link_to_another_page_leads_nowhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (DOCS / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (DOCS / link).is_file()] == []


def test_the_architecture_names_every_decision() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert [adr.name for adr in sorted((DOCS / "adr").glob("*.md")) if f"(adr/{adr.name})" not in text] == []
