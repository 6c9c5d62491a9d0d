"""The folder that the demo works in: a watched repository, watched data, the product's configuration."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from orchestrator.demo.errors import DemoFailed, NotReady

PIPELINE = "wine-quality"
PROJECT = Path(__file__).parent / "project"
_MARK = ".made-by-the-demo"

_ALL_COLUMNS = (
    "alcohol",
    "malic_acid",
    "ash",
    "alcalinity_of_ash",
    "magnesium",
    "total_phenols",
    "flavanoids",
    "nonflavanoid_phenols",
    "proanthocyanins",
    "color_intensity",
    "hue",
    "od280_per_od315_of_diluted_wines",
    "proline",
)
CANDIDATES = 180
"""How many models the longest training tries: enough to be killed amidst them on a slow machine, too."""


@dataclass(frozen=True)
class Commit:
    """What a person pushes: lines of train.py replaced by others, under a message."""

    message: str
    author: str
    columns: tuple[str, ...]
    strengths: str = "[1.0]"

    def script(self) -> str:
        """train.py as this commit has it."""
        text = (PROJECT / "train.py.txt").read_text()
        for name, value in (("COLUMNS", json.dumps(self.columns)), ("STRENGTHS", self.strengths)):
            lines = text.splitlines()
            place = next(i for i, line in enumerate(lines) if line.startswith(f"{name} = "))
            lines[place] = f"{name} = {value}"
            text = "\n".join(lines) + "\n"
        return text


FIRST = Commit("Tell wines apart by four measurements", "Ada", ("alcohol", "malic_acid", "hue", "proline"))
WORSE = Commit("Do without proline, it is costly to measure", "Ben", ("alcohol", "malic_acid", "hue"))
CRASHING = Commit("Look at flavonoids", "Ben", ("alcohol", "malic_acid", "hue", "flavonoids"))
BETTER = Commit("Use all thirteen measurements", "Ada", _ALL_COLUMNS)
SEARCH = Commit(
    "Search for the best regularisation",
    "Ada",
    _ALL_COLUMNS,
    f"[10 ** (-0.5 + 2.5 * i / {CANDIDATES - 1}) for i in range({CANDIDATES})]",
)


class Workshop:
    """The working folder, made afresh."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config"
        self.remote = root / "wine.git"
        self.clone = root / "wine"
        self.data = root / "data" / "wine"
        self.test_data = root / "data" / "wine-test"
        self.mails = root / "mails"
        self.state = root / "state"
        self.serve_log = root / "serve.log"
        self.engine_note = root / "on-the-engine"
        """How the names of what the product made on the Docker engine begin: a later demo removes it."""

    def clear(self) -> None:
        """Empty the folder, which must be a demo's own, or new. Raises NotReady when it is somebody's."""
        if self.root.exists():
            if not (self.root / _MARK).is_file() and any(self.root.iterdir()):
                raise NotReady(f"{self.root} holds files that no demo made; name a new folder with --dir")
            shutil.rmtree(self.root)
        self.root.mkdir(parents=True)
        (self.root / _MARK).touch()

    def write_configuration(
        self,
        *,
        engine: str,
        runner_image: Path,
        smtp_port: int,
        ssh_port: int,
        identity: Path,
        host_key: str,
        database: str | None,
    ) -> str:
        """Write the product's configuration; the URL of its web server.

        ``database`` is the address of one; without it, the product makes its own file.
        """
        web_port = _free_port()
        storage = "path: ../state" + (f", database: {json.dumps(database)}" if database else "")
        texts = {
            "orchestrator.yaml": f"""\
storage: {{{storage}}}
web: {{host: 127.0.0.1, port: {web_port}}}
email: {{smtp: "smtp://127.0.0.1:{smtp_port}", from: "ML CI <ci@example.org>"}}
hosts:
  local: {{engine: "{engine}", slots: 1}}
servers:
  prod:
    ssh: {{hostname: 127.0.0.1, port: {ssh_port}, user: deploy, identity_file: {json.dumps(str(identity))},
          host_key: {host_key}}}
    path: /srv/models
""",
            "runners/cpu.yaml": f"""\
runner: cpu
image: {{build: {json.dumps(str(runner_image))}}}
resources: {{cpus: 2, memory: 1g}}
network: none
""",
            f"pipelines/{PIPELINE}.yaml": f"""\
pipeline: {PIPELINE}
source: {{git: ../wine.git, branches: [main], poll: 2s, settle: 0s}}
datasets:
  wine: {{path: ../data/wine, role: train, poll: 2s, settle: 2s}}
  wine-test: {{path: ../data/wine-test, role: evaluation, poll: 2s, settle: 2s}}
run:
  runner: cpu
  command: python train.py
  env: {{OMP_NUM_THREADS: "1"}}         # the data are small: one thread is fastest
  timeout: 5m
collect: [metrics.json]
metrics:
  accuracy: {{direction: higher}}
  log_loss: {{direction: lower}}
artifacts: [model.joblib, predictions.csv, metrics.json]
gate:
  checks:
    - accuracy >= 0.85
    - accuracy not worse than best by 1pp
actions:
  pass:
    - deploy: {{server: prod, files: [model.joblib, metrics.json], data: [wine], report: true}}
    - email: {{to: [team@example.org, author]}}
  fail: [{{email: {{to: [team@example.org, author]}}}}]
  inconclusive: [{{email: {{to: [team@example.org]}}}}]
  failed: [{{email: {{to: [team@example.org, author]}}}}]
  error: [{{email: {{to: [team@example.org]}}}}]
""",
        }
        for name, text in texts.items():
            path = self.config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return f"http://127.0.0.1:{web_port}"

    def create_repository(self) -> None:
        """A bare repository, as a Git server has it, and a clone, as a person has it."""
        _git(self.root, "init", "--quiet", "--bare", "--initial-branch=main", str(self.remote))
        _git(self.root, "init", "--quiet", "--initial-branch=main", str(self.clone))
        _git(self.clone, "remote", "add", "origin", str(self.remote))
        for name, value in (("user.name", "You"), ("user.email", "you@example.org")):
            _git(self.clone, "config", name, value)
        shutil.copyfile(PROJECT / "README.md.txt", self.clone / "README.md")

    def push(self, commit: Commit) -> str:
        """Commit and push as the commit's author; the SHA."""
        (self.clone / "train.py").write_text(commit.script())
        _git(self.clone, "add", "--all")
        _git(self.clone, "commit", "--quiet", "--message", commit.message, author=commit.author)
        _git(self.clone, "push", "--quiet", "--set-upstream", "origin", "main")
        return _git(self.clone, "rev-parse", "HEAD").strip()


def _git(folder: Path, *arguments: str, author: str = "Ada") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    address = f"{author.lower()}@example.org"
    environment |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": author,
        "GIT_AUTHOR_EMAIL": address,
        "GIT_COMMITTER_NAME": author,
        "GIT_COMMITTER_EMAIL": address,
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise DemoFailed(f"git {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
