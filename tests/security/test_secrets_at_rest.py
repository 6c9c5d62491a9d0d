"""Secrets in logs and at rest: a training shouts them in every form, and nothing of ours keeps one."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import docker
import pytest

from tests.security.conftest import InstallationMaker
from tests.support.installation import Installation
from tests.support.waiting import wait_until

TOKEN = f"tok/en+{uuid.uuid4().hex}=&?'\"$(id) ü"
KEY = "\n".join(
    ("-----BEGIN MADE-UP KEY-----", *(uuid.uuid4().hex + uuid.uuid4().hex for _ in range(3)), "-----END-----")
)
FROM_ENVIRONMENT = f"env-{uuid.uuid4().hex}"
STORED = f"stored-{uuid.uuid4().hex} & 'kept'"
REFERRED = f"referred-{uuid.uuid4().hex}"
CREDENTIAL = f"credential-{uuid.uuid4().hex}"
SECRETS = {
    "TOKEN": TOKEN,
    "SIGNING_KEY": KEY,
    "FROM_ENVIRONMENT": FROM_ENVIRONMENT,
    "STORED": STORED,
    "REFERRED": REFERRED,
    "CREDENTIAL": CREDENTIAL,
}
UNUSED = f"unused-{uuid.uuid4().hex}"
"""A stored secret that no run is given."""

TRAIN = """\
import base64, html, json, os, secrets, shlex, subprocess, sys, textwrap, time, urllib.parse
print("secrets file", os.path.exists("/mlci/secrets/env"), os.listdir("/mlci/secrets"))
print("of process 1", b"TOKEN=" in open("/proc/1/environ", "rb").read())
NAMES = ("TOKEN", "SIGNING_KEY", "FROM_ENVIRONMENT", "STORED", "REFERRED", "CREDENTIAL")
made = "made-" + secrets.token_hex(16)
print("::add-mask::" + made)
print("made here", made, base64.b64encode(made.encode()).decode())
with open("/tmp/made", "w") as file:
    file.write(made)
for name in NAMES:
    value = os.environ[name]
    raw = value.encode()
    print("plain", value)
    print("within", f"https://user:{value}@example.org/x?key={urllib.parse.quote(value)}&y=1")
    print("quoted", urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value))
    for before in range(3):
        print("base64", base64.b64encode(b"x" * before + raw + b"rest").decode())
    print("safe", base64.urlsafe_b64encode(raw).decode())
    print("json", json.dumps({"value": value}))
    print("hex", raw.hex(), raw.hex().upper(), repr(raw), repr(value))
    print("markup", html.escape(value), shlex.quote(value))
    print("wrapped")
    print("\\n".join(textwrap.wrap(base64.b64encode(raw).decode(), 24)))
    print("bars", value.replace("\\n", "\\r"), end="\\r\\n")
    print("long", "x" * (16384 - 10) + value + "y" * 20000)
    for stream in (sys.stdout, sys.stderr):
        stream.write("in two " + value[: len(value) // 2])
        stream.flush()
        time.sleep(0.3)
        stream.write(value[len(value) // 2 :] + "\\n")
        stream.flush()
    subprocess.run(["sh", "-c", 'echo "from a child $1"; env', "sh", value], check=True)
print("cut", "z" * ((1 << 20) - 20) + os.environ["STORED"] + "z" * 50)
print("all said", flush=True)
while not os.path.exists("/tmp/go"):
    time.sleep(0.05)
raise SystemExit(f"it failed with {os.environ['TOKEN']} and {made}")
"""
SETUP = "env; ls -laR /mlci /workspace; cat /mlci/secrets/* /proc/*/environ 2>/dev/null; true"


@dataclass
class Evidence:
    """What the run left everywhere, and what could be seen while it ran."""

    installation: Installation
    log: str
    inspected: str
    containers_top: str
    images: str
    pages: dict[str, str]
    mails: list[str]
    server_log: str
    told: str
    made: str
    """What the training made up and asked to mask."""

    def everything(self) -> dict[str, bytes]:
        """All texts outside the state folder, by name, and all files in it."""
        texts = {
            "docker inspect": self.inspected,
            "docker top": self.containers_top,
            "images and their history": self.images,
            "server log": self.server_log,
            "commands": self.told,
            **{f"page {path}": page for path, page in self.pages.items()},
            **{f"mail {number}": mail for number, mail in enumerate(self.mails)},
        }
        state = self.installation.folder / "var"
        files = {str(p.relative_to(state)): p.read_bytes() for p in state.rglob("*") if p.is_file()}
        return {name: text.encode() for name, text in texts.items()} | files


def inspected(client: docker.DockerClient, installation: Installation) -> str:
    """All that the engine tells of the containers, networks and volumes of an installation."""
    mine: dict[str, str | list[str] | bool] = {"label": f"mlci.instance={installation.instance()}"}
    return json.dumps(
        [
            *(c.attrs for c in client.containers.list(all=True, filters=mine, ignore_removed=True)),
            *(n.attrs for n in client.networks.list(filters=mine)),
            *(v.attrs for v in client.volumes.list(filters=mine)),
        ],
        ensure_ascii=False,
    )


@pytest.fixture(scope="module")
def evidence(
    shared_installation: InstallationMaker,
    docker_engine: docker.DockerClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> Evidence:
    vault = tmp_path_factory.mktemp("vault")
    credentials = tmp_path_factory.mktemp("credentials")
    (credentials / "wandb").write_text(CREDENTIAL)
    for name in ("TOKEN", "SIGNING_KEY"):
        (vault / name).write_text(SECRETS[name])
    installation = shared_installation()
    installation.main = {
        "secrets": {
            **{name: f"${{{{ file:{vault / name} }}}}" for name in ("TOKEN", "SIGNING_KEY")},
            "FROM_ENVIRONMENT": "${{ env.MLCI_TEST_SECRET }}",
            "REFERRED": "${{ secrets.ANOTHER_NAME }}",
            "CREDENTIAL": "${{ credential:wandb }}",
        }
    }
    installation.pipeline = {
        "run": {
            "runner": "cpu",
            "command": "python3 train.py",
            "secrets": list(SECRETS),
            "setup": {"run": SETUP, "key": ["key.txt"]},
            "timeout": "2m",
        },
    }
    installation.write()
    files = {"train.py": TRAIN, "key.txt": uuid.uuid4().hex, "accuracy.txt": "0.8"}
    installation.repository.commit(files, f"Use {UNUSED} by mistake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLCI_TEST_SECRET", FROM_ENVIRONMENT)
        patch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
        told = ""
        for name, value in (("STORED", STORED), ("ANOTHER_NAME", REFERRED), ("UNUSED", UNUSED)):
            (vault / "new").write_text(value)
            told += installation.orchestrator("secrets", "set", name, "--from-file", str(vault / "new"))
        server = installation.serve()
        installation.wait_for_line("all said", 90)
        running = inspected(docker_engine, installation)
        role = [f"mlci.instance={installation.instance()}", "mlci.role=attempt"]
        (container,) = docker_engine.containers.list(filters={"label": role}, ignore_removed=True)
        top = json.dumps(container.top(ps_args="-eo pid,args"))
        made = container.exec_run(["cat", "/tmp/made"]).output
        assert isinstance(made, bytes)
        assert container.exec_run(["touch", "/tmp/go"]).exit_code == 0
        installation.wait_for_mails(1)
        told += "".join(
            installation.orchestrator(*command, expect=None)
            for command in (
                ("runs", "show", "1"),
                ("--json", "runs", "show", "1"),
                ("runs", "logs", "1"),
                ("plan", "line"),
                ("doctor",),
                ("secrets", "list"),
                ("--json", "secrets", "list"),
                ("secrets", "check"),
                ("--verbose", "secrets", "rotate"),
                ("secrets", "rotate", "--retire"),
                ("secrets", "list"),
            )
        )
        pages = {path: server.get(path) for path in ("/", "/runs/1", "/runs/1/log", "/readyz")}
        server.terminate()
    images = docker_engine.images.list(filters={"label": f"mlci.instance={installation.instance()}"})
    assert len(images) == 1, "the setup layer, and nothing else"
    return Evidence(
        installation=installation,
        log=(installation.folder / "var" / "logs" / "1.log").read_text(),
        inspected=running,
        containers_top=top,
        images=json.dumps([[i.attrs, i.history()] for i in images], ensure_ascii=False),
        pages=pages,
        mails=[part for m in installation.smtp.messages for part in (m.subject, m.body(), m.body("plain"))],
        server_log=server.log.read_text(),
        told=told,
        made=made.decode(),
    )


def forms(value: str) -> dict[str, bytes]:
    """What gives a value away: itself, each of its lines, and what it becomes when it is encoded."""
    raw = value.encode()
    found = {
        "plain": raw,
        "percent": quote(value, safe="").encode(),
        "percent, slashes kept": quote(value).encode(),
        "form": quote_plus(value).encode(),
        "base64": base64.b64encode(raw).rstrip(b"="),
        "base64 for addresses": base64.urlsafe_b64encode(raw).rstrip(b"="),
        "json": json.dumps(value)[1:-1].encode(),
        "hexadecimal": raw.hex().encode(),
        "hexadecimal, capitals": raw.hex().upper().encode(),
        "first half": raw[: len(raw) // 2],
    }
    for before in (1, 2):
        found[f"base64 after {before}"] = base64.b64encode(b"x" * before + raw)[4:-4]
    found |= {f"line {number}": line.encode() for number, line in enumerate(value.splitlines())}
    encoded = base64.b64encode(raw)
    for start in range(0, len(encoded) - 24, 24):
        found[f"base64, wrapped, from {start}"] = encoded[start : start + 24]
    return found


@pytest.mark.parametrize("name", list(SECRETS))
def test_a_printed_secret_is_in_the_clear_nowhere(evidence: Evidence, name: str) -> None:
    everything = evidence.everything()
    assert {"orchestrator.db", "logs/1.log", "secret.key"} <= set(everything)
    assert leaks(everything, SECRETS[name]) == []


def leaks(everything: dict[str, bytes], value: str) -> list[str]:
    return [
        f"{place}: {form}"
        for place, content in everything.items()
        for form, text in forms(value).items()
        if text in content
    ]


def test_a_value_that_the_training_asks_to_mask_is_in_the_clear_nowhere(evidence: Evidence) -> None:
    assert len(evidence.made) == 37
    assert leaks(evidence.everything(), evidence.made) == []
    assert " ::add-mask::***\n" in evidence.log
    assert " made here *** ***\n" in evidence.log


def test_a_stored_secret_that_no_run_was_given_is_in_the_clear_nowhere_either(evidence: Evidence) -> None:
    everything = evidence.everything()
    assert leaks(everything, UNUSED) == []
    assert b"Use *** by mistake" in everything["page /runs/1"]
    assert b"UNUSED" in everything["commands"]


def test_a_secret_on_the_cut_of_a_very_long_line_is_masked(evidence: Evidence) -> None:
    lines = [line for line in evidence.log.splitlines() if "z" * 50 in line]
    assert len(lines) == 2
    assert "".join(line.partition(" ")[2] for line in lines) == f"cut {'z' * ((1 << 20) - 20)}***{'z' * 50}"


def test_what_was_printed_beside_the_secret_is_still_there(evidence: Evidence) -> None:
    lines = evidence.log.splitlines()
    words = ("plain", "within", "quoted", "base64", "safe", "json", "hex", "bars", "in two", "from a child")
    for word in words:
        assert any(f" {word} " in line and "***" in line for line in lines), word
    assert any(line.endswith("y" * 20000) and "x" * 16000 in line for line in lines)
    assert "it failed with ***" in evidence.log
    assert "it failed with ***" in "".join(evidence.mails)


def test_the_secrets_file_is_gone_when_the_command_runs(evidence: Evidence) -> None:
    assert " secrets file False []\n" in evidence.log


def test_secrets_are_in_no_environment_that_inspect_or_a_neighbour_shows(evidence: Evidence) -> None:
    assert " of process 1 False\n" in evidence.log
    assert "TOKEN=" not in evidence.inspected
    assert '"mlci.role": "attempt"' in evidence.inspected, "or nothing was inspected"


def test_setup_never_sees_a_secret(evidence: Evidence) -> None:
    assert all(name not in evidence.images for name in SECRETS)
    assert "mlci.role" in evidence.images


def test_nothing_of_the_orchestrators_own_environment_reaches_the_run(evidence: Evidence) -> None:
    assert "MLCI_TEST_SECRET" not in evidence.log
    assert "MLCI_TEST_SECRET" not in evidence.inspected


def test_the_container_with_its_unmasked_log_is_removed(
    evidence: Evidence, docker_engine: docker.DockerClient
) -> None:
    label = f"mlci.instance={evidence.installation.instance()}"

    def gone() -> bool:
        return not docker_engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)

    wait_until(gone, "the containers to be removed")


def test_no_checkout_or_archive_is_left_in_the_state_folder(evidence: Evidence) -> None:
    scratch = evidence.installation.folder / "var" / "scratch"
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_a_configuration_that_prints_itself_shows_references_only(evidence: Evidence, tmp_path: Path) -> None:
    shown = evidence.installation.orchestrator("validate", expect=None)
    assert FROM_ENVIRONMENT not in shown
    assert TOKEN not in shown
