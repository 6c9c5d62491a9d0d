"""Where pipelines deploy to: servers that two would share, ways round an environment, wrong orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.config.models.actions import Deploy, DeployAction
from orchestrator.config.models.environment import Environment
from orchestrator.config.models.pipeline import PipelineFile
from orchestrator.config.problems import Problem
from orchestrator.config.yaml_loader import Document


def servers_of(deploy: Deploy, environments: Mapping[str, Environment]) -> tuple[str, ...]:
    """The servers that it puts releases on; an environment that is not known stands for itself."""
    place = deploy.environment or deploy.server or ""
    found = environments.get(place) if deploy.environment else None
    return (place,) if found is None else tuple(found.servers)


def holder_of(server: str, environments: Mapping[str, Environment]) -> str:
    """The environment that has the server, or nothing."""
    return next((name for name, each in environments.items() if server in each.servers), "")


def deploys_of(model: PipelineFile) -> list[tuple[int, str, Deploy]]:
    """What a pipeline deploys: its place in the list, the key that says where, and what is written."""
    return [
        (index, "environment" if action.deploy.environment else "server", action.deploy)
        for index, action in enumerate(model.actions.on_pass)
        if isinstance(action, DeployAction)
    ]


def check_shared(
    document: Document, model: PipelineFile, environments: Mapping[str, Environment], first: dict[str, str]
) -> Iterator[Problem]:
    """Servers that ``first`` says another deployment has, and servers of environments that are named alone.

    A server's folder has one `current`: what two deployments put there would replace each other. ``first`` is
    completed with the servers of this pipeline.
    """
    for index, key, deploy in deploys_of(model):
        servers = servers_of(deploy, environments)
        holder = holder_of(deploy.server, environments) if deploy.server else ""
        taken = next((server for server in servers if server in first), None)
        path = ("actions", "pass", index, "deploy", key)
        if taken is not None:
            whose = "this pipeline" if first[taken] == model.pipeline else f'the pipeline "{first[taken]}"'
            message = f'{whose} deploys to "{taken}" already, and each release would replace the other\'s'
            expected = "a server of its own in orchestrator.yaml (the same machine with another path will do)"
            yield document.problem(path, message, expected)
        elif holder:
            message = (
                f'"{deploy.server}" is a server of the environment "{holder}", whose rules would not hold'
            )
            yield document.problem(path, message, f"environment: {holder}")
        first.update({server: first.get(server, model.pipeline) for server in servers})


def check_order(
    document: Document, model: PipelineFile, environments: Mapping[str, Environment]
) -> Iterator[Problem]:
    """Environments that stand before the one which they come after: both would wait without end."""
    named = [(index, deploy.environment) for index, _, deploy in deploys_of(model) if deploy.environment]
    for place, (index, name) in enumerate(named):
        after = environments[name].after if name in environments else None
        if after is not None and after in [other for _, other in named[place + 1 :]]:
            message = f'"{name}" comes after "{after}", which is deployed to later in this list'
            path = ("actions", "pass", index, "deploy", "environment")
            yield document.problem(path, message, f"the deployment to {after} above this one")
