"""Deployments that wait for a person, on the command line: the user of this machine is who decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.settings import Settings, user, who
from orchestrator.domain.action_spec import DeployAction
from orchestrator.domain.change import Cause, Revision
from orchestrator.domain.deployment import DeploymentState
from orchestrator.ports.hooks import Decision
from orchestrator.ports.records import NewRun
from tests.unit.cli.conftest import Command


def waits(folder: Path, approver: str) -> int:
    """The number of an action that waits for that person."""
    main = folder / "orchestrator.yaml"
    main.write_text(
        f"{main.read_text()}environments: {{web: {{servers: [prod], approval: {{by: ['{approver}']}}}}}}\n"
    )
    pipeline = folder / "pipelines" / "wine.yaml"
    pipeline.write_text(pipeline.read_text().replace("server: prod", "environment: web"))
    with Settings(config=str(folder)).application() as app:
        wine, now = app.pipeline("wine"), app.clock.now()
        revision = Revision(wine.sources[0].name, "main", "a" * 40, "Fewer trees", "Ann", "a@example.org")
        run = app.store.runs.enqueue(NewRun(wine, Cause.PUSH, revision, ()), (), "wine", now)
        assert run is not None
        spec = DeployAction(files=("model.bin",), environment="web")
        action = app.store.actions.owe(run.id, spec, "ana", "", now)
        lease = app.store.actions.claim(action.id, "test", now, 60)
        assert lease is not None
        row = app.store.deployments.begin(lease, run, "prod", "20261123T000000Z-1", now, "web")
        app.store.deployments.move(lease, row, DeploymentState.AWAITING_APPROVAL, now)
        app.store.actions.wait(lease, now, "waits for approval", now)
    return action.id


def decision(folder: Path, action: int) -> Decision | None:
    with Settings(config=str(folder)).application() as app:
        return app.store.deployments.decision(action)


def test_a_listed_user_of_this_machine_decides_on_the_command_line(command: Command, folder: Path) -> None:
    action = waits(folder, user())
    ended = command("deployments", "reject", "wine#1", "--reason", "too slow")
    assert ended.code == 0, ended.err
    said = decision(folder, action)
    assert said is not None
    assert (said.who, said.reason) == (who(), "too slow")


def test_no_variable_makes_somebody_a_listed_approver(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = waits(folder, "ana")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ana")
    ended = command("deployments", "approve", "wine#1", "--no-wait")
    assert ended.code == 2
    assert f"{user()} may not decide on web: ana may" in ended.err
    assert decision(folder, action) is None
