"""Retention, wired: its rules from the configuration, its services with their ports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.adapters.files.disk import LocalDisk
from orchestrator.adapters.files.logs import FolderLogs
from orchestrator.adapters.files.state import LocalState
from orchestrator.config.models import retention as models
from orchestrator.domain.pipeline import FolderImage, NamedImage
from orchestrator.domain.retention import Limits, Policy, StateRules, Unused
from orchestrator.services.images import built_tag
from orchestrator.services.retain import Retainer
from orchestrator.services.retain_hosts import HostKeeper, ReleaseKeeper
from orchestrator.services.retain_state import StateKeeper, StatePorts

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def retainer_of(app: Application) -> Retainer:
    """Retention for one configuration."""
    policy = policy_of(app.config.orchestrator.retention)
    disk = LocalDisk()
    ports = StatePorts(
        store=app.store,
        blobs=app.blobs,
        logs=FolderLogs(app.state / "logs"),
        clock=app.clock,
        space=lambda: disk.space(app.state),
    )
    servers = app.config.orchestrator.servers
    return Retainer(
        StateKeeper(ports, policy, app.pipelines.values()),
        HostKeeper(app.store, app.engines, app.pipelines, lambda: runner_tags(app), policy, app.clock),
        ReleaseKeeper(app.store, app.deployment_servers, servers, policy, app.clock),
        LocalState(app.state),
        app.store.instance,
    )


def runner_tags(app: Application) -> Mapping[str, str]:
    """The names of the images that runners have, with whose they are."""
    found: dict[str, str] = {}
    for name, runner in app.runners.items():
        why = f"it is the image of runner {name}"
        match runner.image:
            case NamedImage(image):
                found[image] = why
            case FolderImage(path) if (Path(path) / "Dockerfile").is_file():
                found[built_tag(Path(path), "Dockerfile", Path(path).name)] = why
            case _:
                # Each commit has its own.
                pass
    return found


def policy_of(file: models.Retention) -> Policy:
    """The rules as the services see them."""
    general = StateRules(_limits(file.runs), _limits(file.artifacts), _limits(file.logs))
    return Policy(
        state=general,
        pipelines={name: _own(rules, general) for name, rules in file.pipelines.items()},
        images=_unused(file.images),
        volumes=_unused(file.volumes),
        releases=_age(file.releases),
        journal=_age(file.journal),
        min_free=file.disk.min_free,
        every=file.every,
    )


def _own(rules: models.PipelineRetention, general: StateRules) -> StateRules:
    return StateRules(
        general.runs if rules.runs is None else _limits(rules.runs),
        general.artifacts if rules.artifacts is None else _limits(rules.artifacts),
        general.logs if rules.logs is None else _limits(rules.logs),
    )


def _limits(rule: models.LimitsRule) -> Limits:
    match rule:
        case models.Limits():
            return Limits(rule.age, rule.count, rule.per_branch, rule.keep_last, rule.keep_passed)
        case timedelta():
            return Limits(age=rule)
        case _:
            return Limits()


def _unused(rule: models.HostRule) -> Unused:
    match rule:
        case models.UnusedRule():
            return Unused(rule.unused, rule.budget)
        case timedelta():
            return Unused(age=rule)
        case _:
            return Unused()


def _age(rule: models.ServerRule) -> timedelta | None:
    match rule:
        case models.ReleaseRule():
            return rule.age
        case timedelta():
            return rule
        case _:
            return None
