"""Marks on commits: statuses with a token, check runs with an App."""

from __future__ import annotations

from typing import Final

from orchestrator.adapters.github.client import Client
from orchestrator.adapters.github.reading import Json, at, items_of, number_at
from orchestrator.adapters.github.trouble import reaching
from orchestrator.domain.markdown import cut
from orchestrator.ports.forge import CommitStatus, Mark

DESCRIPTION_LENGTH: Final = 140
DETAILS_LENGTH: Final = 65_535
# What is neither a pass nor the commit's fault must not open a branch that this mark protects: a check run
# that is neutral or skipped would.
_STATES: Final = {
    Mark.PENDING: "pending",
    Mark.RUNNING: "pending",
    Mark.SUCCESS: "success",
    Mark.FAILURE: "failure",
    Mark.ERROR: "error",
    Mark.NEUTRAL: "error",
}
_UNFINISHED: Final = {Mark.PENDING: "queued", Mark.RUNNING: "in_progress"}
_CONCLUSIONS: Final = {
    Mark.SUCCESS: "success",
    Mark.FAILURE: "failure",
    Mark.ERROR: "cancelled",
    Mark.NEUTRAL: "cancelled",
}


def set_status(client: Client, what: str, repository: str, status: CommitStatus) -> str:
    """Set a commit status; its id. The newest of a context is the one that counts."""
    content: dict[str, Json] = {
        "state": _STATES[status.mark],
        "context": status.context,
        "description": cut(status.text, DESCRIPTION_LENGTH),
    }
    if status.url:
        content["target_url"] = status.url
    made = client.post(what, f"{repository}/statuses/{status.commit}", content).body
    with reaching(client.host, what):
        return str(number_at(made, "id"))


def set_check(client: Client, what: str, repository: str, status: CommitStatus, app: str) -> str:
    """Make or change a check run of the App with that ID or client ID; its id.

    One that is completed is never opened again: who waits for it has seen it end. A new one takes its place.
    """
    content: dict[str, Json] = {
        "name": status.context,
        "output": {
            "title": cut(status.text, DESCRIPTION_LENGTH) or status.mark.value,
            "summary": cut(status.details or status.text or status.mark.value, DETAILS_LENGTH),
        },
    }
    if status.url:
        content["details_url"] = status.url
    if status.mark in _UNFINISHED:
        content["status"] = _UNFINISHED[status.mark]
    else:
        content |= {"status": "completed", "conclusion": _CONCLUSIONS[status.mark]}
    present, completed = _present(client, what, repository, status, app)
    if present and not (completed and status.mark in _UNFINISHED):
        changed = client.patch(what, f"{repository}/check-runs/{present}", content, allowed=(404,))
        if changed.status != 404:
            return present
    made = client.post(what, f"{repository}/check-runs", {**content, "head_sha": status.commit}).body
    with reaching(client.host, what):
        return str(number_at(made, "id"))


def _present(client: Client, what: str, repository: str, status: CommitStatus, app: str) -> tuple[str, bool]:
    """The App's check run of that name which is there already, also one of a try that was cut off; and
    whether it is completed.
    """
    path = f"{repository}/commits/{status.commit}/check-runs"
    answer = client.get(what, path, check_name=status.context, filter="latest")
    with reaching(client.host, what):
        runs = items_of(at(answer.body, "check_runs"))
        ours = [r for r in runs if app in (str(at(r, "app", "id")), at(r, "app", "client_id"))]
        ours = [run for run in ours if str(number_at(run, "id")) == status.external_id] or ours
        if not ours:
            return "", False
        return str(number_at(ours[0], "id")), at(ours[0], "status") == "completed"
