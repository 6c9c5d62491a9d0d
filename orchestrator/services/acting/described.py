"""A run as JSON, for hooks and programs: one form for all of them, told in docs/actions.md."""

from __future__ import annotations

import json
from collections.abc import Mapping

from orchestrator.domain.action import Action
from orchestrator.domain.codec import to_plain
from orchestrator.domain.run import Run, representative
from orchestrator.ports.store import Store

VERSION = 1
"""Raised when a key changes its meaning or goes; new keys may come without it."""


def described(store: Store, run: Run, action: Action, url: str) -> bytes:
    """The run as an action finds it, in UTF-8. ``url`` is where its page is, empty when there is none."""
    attempt = representative(store.attempts.of_run(run.id))
    metrics = store.runs.metrics(run.id).get(attempt.replicate, ()) if attempt else ()
    artifacts = store.attempts.artifacts(attempt.id) if attempt else ()
    revision = run.change.revision
    document = {
        "version": VERSION,
        "event": action.trigger,
        "key": action.key,
        "run": {
            "id": run.id,
            "number": run.number,
            "pipeline": run.pipeline,
            "project": run.project,
            "state": run.state,
            "reason": run.reason,
            "message": run.message,
            "url": url,
            "created_at": run.created_at,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
        },
        "change": {
            "cause": run.change.cause,
            "source": revision.source,
            "branch": revision.branch,
            "commit": revision.commit,
            "subject": revision.subject,
            "author": revision.author,
            "data": {
                v.dataset: {"version": v.number, "fingerprint": v.fingerprint} for v in run.change.datasets
            },
        },
        "verdict": None
        if run.verdict is None
        else {
            "outcome": run.verdict.outcome,
            "sentence": run.verdict.sentence,
            "checks": [to_plain(check) for check in run.verdict.checks],
        },
        "metrics": {metric.name: metric.value for metric in metrics},
        "artifacts": [
            {"path": a.path, "size": a.size, "sha256": a.sha256} for a in artifacts if not a.removed
        ],
        "deployments": [
            {
                "server": deployment.server,
                "environment": deployment.environment,
                "release": deployment.release,
                "state": deployment.state,
            }
            for deployment in store.deployments.of_run(run.id)
        ],
    }
    return json.dumps(to_plain(document), indent=2).encode() + b"\n"


def variables_of(run: Run, action: Action) -> Mapping[str, str]:
    """What a program finds in its environment."""
    return {
        "MLCI_RUN_ID": str(run.id),
        "MLCI_PIPELINE": run.pipeline,
        "MLCI_COMMIT": run.change.revision.commit,
        "MLCI_BRANCH": run.change.revision.branch,
        "MLCI_EVENT": action.trigger.value,
        "MLCI_ACTION_KEY": action.key,
    }
