"""Runs that programs ask for, wired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.services.asked import AskedRuns

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application
    from orchestrator.web.trigger import Triggers


def triggers_of(app: Application) -> Triggers | None:
    """What starts runs by the API; None when the configuration has no token for it."""
    from orchestrator.web.trigger import Triggers

    token = app.config.orchestrator.web.trigger_token
    if token is None:
        return None
    asked = AskedRuns(app.pipelines, app.detector, app.clock, app.masker.mask_text)
    return Triggers(
        lambda: app.secrets.value(token),
        asked.start,
        lambda run: f"{app.url}/runs/{run.id}" if app.url else "",
        app.masker.mask_text,
    )
