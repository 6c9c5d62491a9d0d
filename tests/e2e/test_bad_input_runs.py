"""Trainings and settings that go wrong, a pipeline each, on one server: whose fault it is, what is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import pytest

from tests.support.engine import remove_instance
from tests.support.git import GitRepository
from tests.support.installation import Installation, closing
from tests.support.smtp import ReceivedMail, SmtpServer
from tests.support.variants import Variant, add
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("bad-input-runs")

COLLECT = {"collect": ["metrics.json"]}
CHECKED = {**COLLECT, "gate": {"checks": ["accuracy >= 0.5"]}}
NUMBERS = "import json; json.dump({f'm{i}': i for i in range(20_000)}, open('metrics.json', 'w'))"
VARIANTS = {
    "exit-three": Variant("echo 'no such column: age' >&2; exit 3"),
    "no-program": Variant(["no-such-program", "--fast"]),
    "no-program-in-shell": Variant("no-such-program --fast"),
    "memory": Variant(["python3", "-c", "x = bytearray(1 << 30); print(len(x))"]),
    "too-long": Variant("echo begun; exec sleep 300", {"timeout": "1s"}),
    "chatty": Variant("while :; do echo again and again and again; done", {"log_limit": "10k"}),
    "no-metrics": Variant(
        "mkdir -p other && touch other/metrics.json $MLCI_OUTPUT_DIR/result.csv", {}, COLLECT
    ),
    "empty-metrics": Variant(": > metrics.json", {}, COLLECT),
    "nan": Variant("echo '{\"accuracy\": NaN}' > metrics.json", {}, CHECKED),
    "infinite": Variant("echo '{\"accuracy\": Infinity}' > metrics.json", {}, CHECKED),
    "not-json": Variant("printf '{\\n  accuracy: 0.9}' > metrics.json", {}, COLLECT),
    "list": Variant("echo '[0.9, 0.8]' > metrics.json", {}, COLLECT),
    "many-numbers": Variant(["python3", "-c", NUMBERS], {}, COLLECT),
    "large-metrics": Variant("head -c 20000000 /dev/zero | tr '\\0' ' ' > metrics.json", {}, COLLECT),
    "stale": Variant("true", {}, {"collect": ["stale/metrics.json"]}),
    "undeclared": Variant(
        "echo '{\"acuracy\": 0.9}' > metrics.json", {}, {**COLLECT, "metrics": {"accuracy": {}}}
    ),
    "setup": Variant(
        "true",
        {"setup": {"run": "echo resolving; echo 'no such package: sklaern' >&2; exit 4", "key": ["*.txt"]}},
    ),
    "dockerfile": Variant("true", runner={"image": {"dockerfile": "broken/Dockerfile"}}),
    "no-image": Variant("true", runner={"image": "mlci-test/nowhere:1"}),
    "no-secret": Variant("true", {"secrets": ["WANDB_API_KEY", "OTHER_KEY"]}),
    "good": Variant("echo '{\"accuracy\": 0.9}' > metrics.json", {}, CHECKED),
}


@dataclass(frozen=True)
class Outcome:
    """What became of the one run of a pipeline."""

    shown: dict[str, Any]
    log: str
    mail: ReceivedMail


@dataclass(frozen=True)
class Outcomes:
    """What became of all of them."""

    installation: Installation
    by_pipeline: dict[str, Outcome]

    def __getitem__(self, name: str) -> Outcome:
        return self.by_pipeline[name]


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory, docker_engine: docker.DockerClient, base_image: str
) -> Iterator[Outcomes]:
    """All variants, run once by one server."""
    folder = tmp_path_factory.mktemp("bad-input-runs")
    (folder / "git").mkdir()
    smtp = SmtpServer()
    smtp.start()
    made = Installation(folder, GitRepository.create(folder / "git"), smtp, None, base_image)
    made.main = {
        "hosts": {"local": {"slots": 4}},
        "secrets": {"WANDB_API_KEY": "${{ env.MLCI_TEST_UNSET }}", "OTHER_KEY": "${{ file:./gone }}"},
    }
    try:
        with closing(made):
            add(made, VARIANTS)
            (made.config / "pipelines" / "line.yaml").unlink()
            broken = f"FROM {base_image}\nRUN true\nRUN echo compiling && false\n"
            made.commit(0.9, {"broken/Dockerfile": broken, "stale/metrics.json": '{"accuracy": 1}'})
            made.serve()
            wait_until(lambda: len(smtp.messages) >= len(VARIANTS), "a mail of each run", 180)
            yield Outcomes(made, {name: outcome(made, name) for name in VARIANTS})
    finally:
        smtp.stop()
        if (instance := made.instance()) is not None:
            remove_instance(docker_engine, instance)


def outcome(installation: Installation, name: str) -> Outcome:
    (mail,) = (m for m in installation.smtp.messages if m.subject.startswith(f"[{name}]"))
    shown = installation.json("runs", "show", f"{name}#1")
    return Outcome(shown, installation.orchestrator("runs", "logs", f"{name}#1"), mail)


@pytest.mark.parametrize(
    ("name", "state", "reason", "says"),
    [
        ("exit-three", "failed", "exit_code", ["exit code 3"]),
        ("no-program", "failed", "start", ["could not be started", "no-such-program", "No such file"]),
        ("no-program-in-shell", "failed", "exit_code", ["exit code 127"]),
        ("memory", "failed", "out_of_memory", ["ran out of memory", "limit 256 MiB"]),
        ("too-long", "failed", "timeout", ["stopped after 1 s", "timeout"]),
        ("chatty", "failed", "log_limit", ["more than 10240 bytes of log"]),
        ("no-metrics", "failed", "missing_metrics", ["metrics.json was declared", "holds: result.csv"]),
        (
            "empty-metrics",
            "failed",
            "invalid_metrics",
            ["metrics.json: the file is empty", "expected an obj"],
        ),
        ("not-json", "failed", "invalid_metrics", ["metrics.json:2:3: not JSON", "expected an object"]),
        ("list", "failed", "invalid_metrics", ["metrics.json: this is a list", "expected an object"]),
        ("many-numbers", "failed", "invalid_metrics", ["holds 20000 numbers", "one file may have 10000"]),
        ("large-metrics", "failed", "invalid_metrics", ["metrics.json was not read: 20000000 bytes"]),
        (
            "stale",
            "failed",
            "missing_metrics",
            ["stale/metrics.json", "repository's own", "did not write it"],
        ),
        ("undeclared", "failed", "missing_metrics", ["metric accuracy was declared", "metrics are: acuracy"]),
        ("setup", "failed", "setup", ["setup failed with exit code 4", "no such package: sklaern"]),
        ("dockerfile", "failed", "image_build", ["echo compiling && false", "Step 3/6", "compiling"]),
        ("no-image", "errored", "image_not_found", ["mlci-test/nowhere:1", "put the image on the host"]),
        ("no-secret", "errored", "secret_missing", ["WANDB_API_KEY", "MLCI_TEST_UNSET", "OTHER_KEY", "gone"]),
    ],
)
def test_whose_fault_it_is_and_what_was_wrong_are_said(
    outcomes: Outcomes, name: str, state: str, reason: str, says: list[str]
) -> None:
    outcome = outcomes[name]
    assert (outcome.shown["state"], outcome.shown["reason"]) == (state, reason)
    assert [text for text in says if text not in outcome.shown["sentence"]] == []
    assert outcome.mail.subject.startswith(f"[{name}] {state}: ")
    # The mail wraps its sentences.
    body = " ".join(outcome.mail.body("plain").split())
    assert [text for text in says if " ".join(text.split()) not in body] == []


@pytest.mark.parametrize(("name", "said"), [("nan", "NaN"), ("infinite", "infinity")])
def test_a_number_that_is_none_meets_no_limit(outcomes: Outcomes, name: str, said: str) -> None:
    outcome = outcomes[name]
    assert outcome.shown["state"] == "rejected"
    assert f"accuracy is {said}" in outcome.shown["sentence"]
    assert outcome.mail.subject == f"[{name}] rejected: accuracy {said}"


def test_a_good_one_beside_them_passes(outcomes: Outcomes) -> None:
    assert outcomes["good"].shown["state"] == "passed"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("exit-three", "no such column: age"),
        ("no-program-in-shell", "not found"),
        ("too-long", "begun"),
        ("chatty", "again and again"),
    ],
)
def test_what_a_failed_command_wrote_is_kept_and_mailed(outcomes: Outcomes, name: str, line: str) -> None:
    assert line in outcomes[name].log
    assert line in outcomes[name].mail.body("plain")


def test_the_projects_own_failures_are_tried_once(outcomes: Outcomes) -> None:
    tries = {name: [a["number"] for a in o.shown["attempts"]] for name, o in outcomes.by_pipeline.items()}
    assert tries == {name: [1] for name in VARIANTS}


def test_nothing_is_left_on_the_engine(outcomes: Outcomes, docker_engine: docker.DockerClient) -> None:
    mine: dict[str, str | list[str] | bool] = {"label": f"mlci.instance={outcomes.installation.instance()}"}
    assert wait_until(lambda: not docker_engine.containers.list(all=True, filters=mine), "no containers", 30)
    assert wait_until(lambda: not docker_engine.networks.list(filters=mine), "no networks", 30)
