"""Hooks and programs, wired: one Act for each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from orchestrator.adapters.programs import Executable, LocalPrograms
from orchestrator.adapters.webhooks import Target, WebHooks
from orchestrator.bootstrap.masked import MaskedChats
from orchestrator.config.models.messengers import Hook, Program
from orchestrator.services.acting.act import Act
from orchestrator.services.acting.comment import Commenter
from orchestrator.services.acting.program import ProgramStarter
from orchestrator.services.acting.webhook import WebhookCaller

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def telling_acts(app: Application) -> dict[str, Act]:
    """The kinds of actions that tell others of a run."""
    main = app.config.orchestrator
    public = (main.web.url or "") if main.web.public else ""
    hooks = {name: partial(_target, app, hook) for name, hook in main.hooks.items()}
    programs = {name: partial(_executable, app, program) for name, program in main.programs.items()}
    return {
        "webhook": WebhookCaller(
            app.store,
            WebHooks(hooks, app.masker.mask_text),
            app.url,
            app.reports,
            MaskedChats(app.masker, app.secrets),
            {name: hook.format for name, hook in main.hooks.items() if hook.format != "json"},
        ),
        "github": Commenter(app.store, app.forge, app.reports, app.clock, app.renderer.comment, public),
        "exec": ProgramStarter(app.store, LocalPrograms(programs, app.masker.mask_bytes), app.clock, app.url),
    }


def _target(app: Application, hook: Hook) -> Target:
    value = app.secrets.value
    return Target(
        value(hook.url),
        "" if hook.secret is None else value(hook.secret),
        {name: value(text) for name, text in hook.headers.items()},
        hook.timeout.total_seconds(),
        hook.allow_private,
        None if hook.ca_file is None else str(hook.ca_file),
    )


def _executable(app: Application, program: Program) -> Executable:
    env = {name: app.secrets.value(text) for name, text in program.env.items()}
    return Executable(str(program.path), program.timeout.total_seconds(), env)
