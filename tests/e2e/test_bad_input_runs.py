"""Trainings and settings that go wrong, a pipeline each, on one server: whose fault it is, what is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.git import GitRepository
from tests.support.installation import Installation, Server, removed_afterwards
from tests.support.registry import Registry
from tests.support.smtp import ReceivedMail, SmtpServer
from tests.support.variants import Variant, add
from tests.support.waiting import wait_until

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
    "large-metrics": Variant("head -c 40000000 /dev/zero | tr '\\0' ' ' > metrics.json", {}, COLLECT),
    "stale": Variant("true", {}, {"collect": ["stale/metrics.json"]}),
    "undeclared": Variant(
        "echo '{\"acuracy\": 0.9}' > metrics.json", {}, {**COLLECT, "metrics": {"accuracy": {}}}
    ),
    "setup": Variant(
        "true",
        {"setup": {"run": "echo resolving; echo 'no such package: sklaern' >&2; exit 4", "key": ["*.txt"]}},
    ),
    "dockerfile": Variant("true", runner={"image": {"dockerfile": "broken/Dockerfile"}}),
    # In the fixture: it is looked for at a registry that answers.
    "no-image": Variant("true"),
    "no-secret": Variant("true", {"secrets": ["WANDB_API_KEY", "OTHER_KEY"]}),
    "good": Variant("echo '{\"accuracy\": 0.9}' > metrics.json", {}, CHECKED),
}

EXPECTED = [
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
    ("many-numbers", "failed", "invalid_metrics", ["metrics.json: it holds more than 10000 numbers"]),
    (
        "large-metrics",
        "failed",
        "invalid_metrics",
        ["metrics.json: it has 40000000 bytes", "a file of this kind may have"],
    ),
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
]
"""Pipeline, state, reason, and what its message and mail must say."""

WRITTEN = {
    "exit-three": "no such column: age",
    "no-program-in-shell": "not found",
    "too-long": "begun",
    "chatty": "again and again",
}
"""Pipelines whose command wrote something before it failed."""


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


@pytest.fixture
def outcomes(tmp_path: Path, docker_engine: docker.DockerClient, base_image: str) -> Iterator[Outcomes]:
    """All variants, run once by one server."""
    (tmp_path / "git").mkdir()
    smtp = SmtpServer()
    smtp.start()
    made = Installation(tmp_path, GitRepository.create(tmp_path / "git"), smtp, None, base_image)
    made.main = {
        "hosts": {"local": {"slots": 4}},
        "secrets": {"WANDB_API_KEY": "${{ env.MLCI_TEST_UNSET }}", "OTHER_KEY": "${{ file:./gone }}"},
    }
    try:
        with Registry() as registry, removed_afterwards(made, docker_engine):
            nowhere = Variant("true", runner={"image": f"{registry.host}/mlci-test/nowhere:1"})
            add(made, {**VARIANTS, "no-image": nowhere})
            (made.config / "pipelines" / "line.yaml").unlink()
            broken = f"FROM {base_image}\nRUN true\nRUN echo compiling && false\n"
            made.commit(0.9, {"broken/Dockerfile": broken, "stale/metrics.json": '{"accuracy": 1}'})
            server = made.serve()
            wait_until(lambda: len(smtp.messages) >= len(VARIANTS), "a mail of each run", 180)
            yield Outcomes(made, outcomes_of(made, server))
    finally:
        smtp.stop()


def outcomes_of(installation: Installation, server: Server) -> dict[str, Outcome]:
    found = {}
    for run in installation.json("runs", "list", "--limit", "100"):
        name = run["pipeline"]
        (mail,) = (m for m in installation.smtp.messages if m.subject.startswith(f"[{name}]"))
        found[name] = Outcome(run, server.get(f"/runs/{run['id']}/log"), mail)
    return found


def test_every_mistake_ends_its_run_with_the_right_fault_and_a_clear_message(
    outcomes: Outcomes, docker_engine: docker.DockerClient, subtests: pytest.Subtests
) -> None:
    for name, state, reason, says in EXPECTED:
        with subtests.test(name):
            check_failure(outcomes[name], name, state, reason, says)
    for name, said in (("nan", "NaN"), ("infinite", "infinity")):
        with subtests.test(name):
            outcome = outcomes[name]
            assert outcome.shown["state"] == "rejected"
            assert f"accuracy is {said}" in outcome.shown["sentence"]
            assert outcome.mail.subject == f"[{name}] rejected: accuracy {said}"
    with subtests.test("a good one beside them"):
        assert outcomes["good"].shown["state"] == "passed"
    with subtests.test("the project's own failures are tried once"):
        log = outcomes.installation.servers[0].log.read_text()
        assert max(int(number) for number in re.findall(r" attempt (\d+)", log)) == len(VARIANTS)
    for name, line in WRITTEN.items():
        with subtests.test(f"{name}: what it wrote"):
            assert line in outcomes[name].log
            assert line in outcomes[name].mail.body("plain")
    with subtests.test("nothing is left on the engine"):
        mine: dict[str, str | list[str] | bool] = {
            "label": f"mlci.instance={outcomes.installation.instance()}"
        }

        def left() -> list[str]:
            containers = docker_engine.containers.list(all=True, filters=mine, ignore_removed=True)
            networks = docker_engine.networks.list(filters=mine)
            names = [*(str(c.name) for c in containers), *(str(n.name) for n in networks)]
            # Those of the host's slots stay while the server is up.
            return [name for name in names if "-slot-" not in name]

        wait_until(lambda: not left(), "containers and networks to go", 30)


def check_failure(outcome: Outcome, name: str, state: str, reason: str, says: list[str]) -> None:
    assert (outcome.shown["state"], outcome.shown["reason"]) == (state, reason)
    assert [text for text in says if text not in outcome.shown["sentence"]] == []
    assert outcome.mail.subject.startswith(f"[{name}] {state}: ")
    # The mail wraps its sentences.
    body = " ".join(outcome.mail.body("plain").split())
    assert [text for text in says if " ".join(text.split()) not in body] == []
