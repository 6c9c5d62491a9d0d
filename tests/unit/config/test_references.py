"""Names that one file uses and another defines."""

# ruff: noqa: E501 - a message in one piece is easier to compare than one in pieces

from __future__ import annotations

import pytest

from tests.support.configuration import MAIN, RUNNER, ConfigFolder


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            "actions: {pass: [deploy: {server: prd, report: true, files: [m]}]}",
            '4:35: there is no server "prd"; expected prod',
        ),
        (
            "actions: {pass: [deploy: {server: prod, data: [wine]}]}",
            '4:48: there is no dataset "wine"; expected a dataset of this pipeline',
        ),
        (
            "actions: {pass: [deploy: {server: prod}]}",
            "4:26: there is nothing to deploy: no files, no data, and the pipeline keeps no artifacts",
        ),
        (
            "artifacts: [m]\nactions: {fail: [deploy: {server: prod}]}",
            "5:18: deploy stands under fail, and only what passed its gate may be deployed",
        ),
        (
            "gate: {checks: [churn not worse than best]}",
            '4:17: nothing says whether a higher or a lower "churn" is better; expected metrics: {churn: {direction: higher}}, or lower',
        ),
        (
            "gate: {checks: [{metric: churn, threshold: 1}]}",
            '4:17: nothing says whether a higher or a lower "churn" is better',
        ),
        (
            "metrics: {chrun: {direction: lower}}\ngate: {checks: [churn better than best]}",
            '5:17: nothing says whether a higher or a lower "churn" is better; expected metrics: {churn: {direction: higher}}, or lower; did you mean "chrun"?',
        ),
        (
            "datasets: {a-b: {path: .}, a_b: {path: .}}",
            '4:28: "a_b" and "a-b" would both be at $MLCI_DATA_A_B',
        ),
    ],
)
def test_a_name_that_nobody_defines_is_reported_where_it_stands(
    folder: ConfigFolder, lines: str, says: str
) -> None:
    problems = folder.problems_with(lines + "\n")
    assert len(problems) == 1
    assert problems[0].startswith(says)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("{runner: cpuu, command: x}", '3:15: there is no runner "cpuu"; expected cpu'),
        (
            "{runner: cpu, command: x, secrets: [WANDB_KEY]}",
            (
                '3:42: there is no secret "WANDB_KEY"; expected WANDB_API_KEY, or '
                '`orchestrator secrets set WANDB_KEY`; did you mean "WANDB_API_KEY"?'
            ),
        ),
        (
            "{runner: cpu, command: x, secrets: [WANDB_API_KEY], env: {WANDB_API_KEY: x}}",
            "3:42: WANDB_API_KEY stands under env, too",
        ),
        (
            "{runner: cpu, command: x, env: {MLCI_SEED: '1'}}",
            "3:38: MLCI_SEED is one of the orchestrator's own variables",
        ),
    ],
)
def test_run_names_what_other_files_define(folder: ConfigFolder, run: str, says: str) -> None:
    problems = folder.problems_of_pipeline(
        f"pipeline: w\nsource: {{git: 'https://example.org/w'}}\nrun: {run}\n"
    )
    assert len(problems) == 1
    assert problems[0].startswith(says)


def test_thresholds_with_an_operator_need_no_direction(folder: ConfigFolder) -> None:
    assert folder.problems_with("gate: {checks: [churn <= 3]}\n") == []


def test_mail_needs_a_mail_server(folder: ConfigFolder) -> None:
    folder.write(
        "pipelines/wine.yaml",
        (folder.path / "pipelines/wine.yaml").read_text() + "actions: {error: [email: {to: [a@b.org]}]}\n",
    )
    folder.write("orchestrator.yaml", "storage: {path: ../var}\n")
    assert folder.problems() == [
        (
            "pipelines/wine.yaml:4:26: mail cannot be sent: orchestrator.yaml has no email:; expected "
            "email: {smtp: …, from: …} in orchestrator.yaml"
        )
    ]


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        (
            "[lokal]",
            (
                '3:9: warning: there is no host "lokal"; expected local, or a host that `orchestrator hosts add` made; '
                'did you mean "local"?'
            ),
        ),
        (
            "{labels: {gpu: h100}}",
            (
                "3:17: warning: no host has all of these labels; expected labels that one host of orchestrator.yaml has "
                "(zone: desk), or a host that `orchestrator hosts add` made"
            ),
        ),
    ],
)
def test_a_runner_is_warned_of_hosts_that_only_a_command_can_have_added(
    folder: ConfigFolder, hosts: str, says: str
) -> None:
    folder.write("runners/cpu.yaml", f"{RUNNER}hosts: {hosts}\n")
    assert folder.problems() == [f"runners/cpu.yaml:{says}"]
    assert folder.load().configuration is not None


@pytest.mark.parametrize("kind", ["runner", "pipeline"])
def test_a_name_is_given_once(folder: ConfigFolder, kind: str) -> None:
    first = "cpu" if kind == "runner" else "wine"
    folder.write(f"{kind}s/zzz.yaml", (folder.path / f"{kind}s/{first}.yaml").read_text())
    problems = folder.problems()
    assert problems == [
        (
            f'{kind}s/zzz.yaml:1:{len(kind) + 3}: there is another {kind} "{first}" in {folder.path}/{kind}s/{first}.yaml; '
            "expected a name of its own"
        )
    ]


def test_two_sources_of_one_name_are_told_apart_by_name(folder: ConfigFolder) -> None:
    problems = folder.problems_of_pipeline(
        """\
        pipeline: w
        run: {runner: cpu, command: x}
        sources:
          - {git: "https://a.org/x/wine.git"}
          - {git: "https://a.org/y/wine"}
          - {git: "https://a.org/z/wine", name: other}
        """
    )
    assert problems == ['5:5: a second source is called "wine"; expected a name: of its own']


def test_a_broken_runner_file_does_not_accuse_its_pipelines(folder: ConfigFolder) -> None:
    folder.write("runners/cpu.yaml", "runner: [\n")
    assert [problem.split(":")[0] for problem in folder.problems()] == ["runners/cpu.yaml"]


def test_a_broken_main_file_does_not_accuse_the_others(folder: ConfigFolder) -> None:
    folder.write(
        "pipelines/wine.yaml",
        (folder.path / "pipelines/wine.yaml").read_text()
        + "artifacts: [m]\nactions: {pass: [deploy: {server: prod}], error: [email: {to: [a@b.org]}]}\n",
    )
    folder.write("orchestrator.yaml", MAIN + '"')
    assert [problem.split(":")[0] for problem in folder.problems()] == ["orchestrator.yaml"]


def test_names_are_checked_although_the_file_has_other_problems(folder: ConfigFolder) -> None:
    problems = folder.problems_of_pipeline(
        "pipeline: w\nsource: {git: 'https://example.org/w', pol: 1s}\nrun: {runner: nope, command: x}\n"
    )
    assert [problem.split(":")[:2] for problem in problems] == [["2", "40"], ["3", "15"]]
