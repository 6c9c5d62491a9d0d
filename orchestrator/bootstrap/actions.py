"""From the configuration's actions to domain values."""

from __future__ import annotations

from orchestrator.config.models import actions as written
from orchestrator.domain.action_spec import (
    ActionSpec,
    CommandAction,
    ContainerAction,
    DeployAction,
    EmailAction,
    ExecAction,
    GitAction,
    GithubAction,
    UploadAction,
    WebhookAction,
)


def action_of(action: written.ActionModel, artifacts: tuple[str, ...]) -> ActionSpec:
    """An action as the services see it, of a pipeline that keeps these artifacts."""
    rule = action.rule
    match action:
        case written.DeployAction():
            deploy, taken = action.deploy, action.deploy.contents(artifacts)
            return DeployAction(
                server=deploy.server or "",
                files=taken.files,
                data=taken.data,
                report=taken.report,
                environment=deploy.environment or "",
                metrics=taken.metrics,
                code=taken.code,
                templates=taken.templates,
                rule=rule,
            )
        case written.EmailAction():
            return EmailAction(tuple(action.email.to), rule=rule)
        case written.WebhookAction():
            return WebhookAction(action.webhook, rule=rule)
        case written.GithubAction():
            return GithubAction(action.github.status, action.github.comment, rule=rule)
        case written.ExecAction():
            return ExecAction(action.exec, rule=rule)
        case written.GitAction():
            git = action.git
            return GitAction(
                source=git.source,
                branch=git.branch or "",
                tag=git.tag or "",
                folder=git.folder or "",
                message=git.message or "",
                contents=git.contents(artifacts),
                rule=rule,
            )
        case written.UploadAction():
            upload = action.upload
            return UploadAction(upload.store, upload.prefix or "", upload.contents(artifacts), rule=rule)
        case written.ContainerAction():
            return ContainerAction(action.container.service, action.container.contents(artifacts), rule=rule)
        case written.CommandAction():
            command = action.command
            return CommandAction(
                command=command.run,
                runner=command.runner or "",
                contents=command.contents(artifacts),
                env=tuple(command.env.items()),
                secrets=tuple(command.secrets),
                rule=rule,
            )
