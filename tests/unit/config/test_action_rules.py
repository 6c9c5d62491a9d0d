"""What stands beside an action's kind, and what actions may say of each other."""

# ruff: noqa: E501 - a message in one piece is easier to compare than one in pieces

from __future__ import annotations

import pytest

from orchestrator.bootstrap.configured import pipeline_of
from orchestrator.domain.action_spec import DeployAction, Rule
from tests.support.configuration import PIPELINE, ConfigFolder

DEPLOY = "deploy: {server: prod, files: [m]}"


def test_an_action_has_a_name_needs_tries_and_a_time_of_its_own(folder: ConfigFolder) -> None:
    folder.write(
        "pipelines/wine.yaml",
        PIPELINE
        + f"""actions:
  pass:
    - {{{DEPLOY}, name: live, retry: {{tries: 2, pause: 30s}}}}
    - {{command: {{run: smoke}}, timeout: 5m}}
    - {{email: {{to: [a@b.org]}}, needs: [live]}}
""",
    )
    configuration = folder.load().configuration
    assert configuration is not None
    (_, deploy), (_, command), (_, mail) = pipeline_of(configuration, configuration.pipelines["wine"]).actions
    assert isinstance(deploy, DeployAction)
    assert deploy.rule == Rule(name="live", tries=2, pause=30)
    assert command.rule == Rule(timeout=300)
    assert mail.rule == Rule(needs=("live",))


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        (
            f"{{pass: [{{{DEPLOY}, needs: [stagin]}}]}}",
            '4:63: no action before this one under pass is called "stagin": it is the name of none; expected name: NAME at an action before it',
        ),
        (
            f"{{pass: [{{{DEPLOY}, name: live, needs: [live]}}]}}",
            '4:75: no action before this one under pass is called "live": it comes later, or is this one',
        ),
        (
            f"{{pass: [{{email: {{to: [a@b.org]}}, name: news}}, {{{DEPLOY}, needs: [news]}}]}}",
            '4:101: "news" is a report, and reports leave last; expected the name of an action that is no report',
        ),
        (
            "{fail: [{email: {to: [a@b.org]}, name: x}, {email: {to: [a@b.org]}, name: x}]}",
            '4:84: a second action is called "x"; expected other names',
        ),
        (
            "{fail: [{email: {to: [a@b.org]}, every: 5m}]}",
            "4:43: what stands under fail happens once; expected every under actions: progress: alone",
        ),
        (
            "{fail: [{webhook: chat, timeout: 25h}]}",
            "4:34: this is longer than a day",
        ),
        (
            "{fail: [{email: {to: [a@b.org]}, timeout: 5m}]}",
            "4:43: this action takes no timeout; expected timeout beside webhook, exec or command",
        ),
        (
            f"{{pass: [{{{DEPLOY}, timeout: 5m}}]}}",
            "4:55: this action takes no timeout",
        ),
        (
            "{fail: [{email: {to: [a@b.org]}, retry: {tries: 0}}]}",
            "4:58: 0 is too small; expected at least 1",
        ),
        (
            "{fail: [{email: {to: [a@b.org]}, tmeout: 5m}]}",
            '4:43: unknown key "tmeout"',
        ),
        (
            "{pass: [deploy: {server: prod, environment: prod, files: [m]}]}",
            "4:41: both server and environment are given; expected one of the two",
        ),
        (
            "{pass: [deploy: {files: [m]}]}",
            "4:26: nothing says where to deploy; expected server: NAME, or environment: NAME",
        ),
        (
            "{pass: [deploy: {environment: prod, files: [m]}]}",
            '4:40: there is no environment "prod"; expected environments: {prod: …} in orchestrator.yaml',
        ),
        (
            "{progress: [{email: {to: [a@b.org]}}]}",
            "4:22: nothing says how often this happens; expected every: 30m beside the action",
        ),
        (
            "{progress: [{email: {to: [a@b.org]}, every: 5s}]}",
            "4:47: this is more often than each minute",
        ),
        (
            "{start: [upload: {store: s3}]}",
            "4:19: upload stands under start, when a run has left nothing yet",
        ),
    ],
)
def test_a_wrong_rule_is_reported_where_it_stands(folder: ConfigFolder, actions: str, says: str) -> None:
    problems = folder.problems_with(f"actions: {actions}\n")
    assert any(problem.startswith(says) for problem in problems), problems
