"""Retention, wired: its rules from the configuration, its services with their ports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.adapters.files.disk import LocalDisk
from orchestrator.adapters.files.logs import FolderLogs
from orchestrator.adapters.files.state import LocalState
from orchestrator.bootstrap.repositories import known_pipelines
from orchestrator.config.models import retention as models
from orchestrator.domain.retention import Limits, Policy, StateRules, Unused
from orchestrator.services.images import tag_of
from orchestrator.services.retain import Retainer
from orchestrator.services.retain_hosts import HostKeeper, HostSpace
from orchestrator.services.retain_releases import ReleaseKeeper
from orchestrator.services.retain_state import StateKeeper, StatePorts
from orchestrator.services.retain_watched import WatchedKeeper

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
        host_keeper_of(app, policy),
        ReleaseKeeper(app.store, app.deployment_servers, servers, policy, app.clock),
        _watched(app, policy),
        LocalState(app.state),
        app.store.instance,
    )


def _watched(app: Application, policy: Policy) -> WatchedKeeper:
    from orchestrator.adapters.git.upkeep import MirrorFiles

    return WatchedKeeper(
        app.store,
        MirrorFiles(app.state / "mirrors", app.git.location),
        partial(known_pipelines, app),
        lambda: [repository.source for repository in app.repositories.values()],
        policy,
        app.clock,
    )


def host_keeper_of(app: Application, policy: Policy, *, to_the_last: bool = False) -> HostKeeper:
    """What removes from hosts what nothing needs, by these rules; ``to_the_last``: see there."""
    space = HostSpace(
        lambda host: app.room.is_short(host, policy.host_free),
        lambda host: app.room.lacking(host, policy.host_free),
    )
    return HostKeeper(
        app.store,
        app.engines,
        app.pipelines,
        lambda: runner_tags(app),
        policy,
        app.clock,
        lambda: bool(app.live_servers()),
        space,
        to_the_last=to_the_last,
    )


def runner_tags(app: Application) -> Mapping[str, str]:
    """The names of the images that runners have, with whose they are."""
    tags = {name: tag_of(runner.image) for name, runner in app.runners.items()}
    return {tag: f"it is the image of runner {name}" for name, tag in tags.items() if tag}


def policy_of(file: models.Retention) -> Policy:
    """The rules as the services see them."""
    general = StateRules(_limits(file.runs), _limits(file.artifacts), _limits(file.logs))
    return Policy(
        state=general,
        pipelines={name: _own(rules, general) for name, rules in file.pipelines.items()},
        images=_unused(file.images),
        volumes=_unused(file.volumes),
        leftovers=_age(file.leftovers),
        releases=_age(file.releases),
        journal=_age(file.journal),
        versions=general.runs.age if file.versions is None else _age(file.versions),
        mirrors=_age(file.mirrors),
        gone=_age(file.gone),
        min_free=file.disk.min_free,
        host_free=file.disk.hosts_min_free,
        every=file.every,
    )


def _own(rules: models.PipelineRetention, general: StateRules) -> StateRules:
    return StateRules(
        _own_limits(rules.runs, general.runs),
        _own_limits(rules.artifacts, general.artifacts),
        _own_limits(rules.logs, general.logs),
    )


def _own_limits(rule: models.LimitsRule | None, general: Limits) -> Limits:
    if rule is None:
        return general
    # What somebody wrote down to be kept of this pipeline yields to no disk, unlike what no rule is about.
    return Limits(keep_all=True) if rule == "keep" else _limits(rule)


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
