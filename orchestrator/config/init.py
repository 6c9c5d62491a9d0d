"""A commented configuration for somebody's repository: `orchestrator init`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from orchestrator.domain.errors import InvalidInput

_PLACE = re.compile(r"@([a-zA-Z_]+)@")
_BLOCK = re.compile(r"^#\[(\w+)\]$")
_WORD: Final = r"[A-Za-z0-9_./][A-Za-z0-9_./~+=@:-]*(?<!:)"
_PLAIN = re.compile(rf"{_WORD}( -{{0,2}}{_WORD})*")
_NOT_TEXT: Final = re.compile(
    r"true|false|null|~|-|[-+]?[0-9.]+([eE][-+]?[0-9]+)?|\.(inf|nan)", re.IGNORECASE
)


@dataclass(frozen=True)
class EmailAnswers:
    """A mail server (smtp://, smtp+starttls:// or smtps:// URL), the sender, and who gets reports."""

    smtp: str
    sender: str
    to: tuple[str, ...]


@dataclass(frozen=True)
class ServerAnswers:
    """A deployment server. `host_key` is `TYPE KEY`, `path` an absolute folder on it."""

    name: str
    hostname: str
    user: str
    host_key: str
    path: str = "/srv/models"


@dataclass(frozen=True)
class Answers:
    """What `init` needs to know. Relative paths count from the written folder; None leaves a part out."""

    pipeline: str = "training"
    source: str = ".."
    branch: str = "main"
    image: str = "python:3.12-slim"
    image_folder: str | None = None
    """A folder with a Dockerfile to build the image from, in place of ``image``."""
    command: str = "python train.py"
    setup: str | None = None
    setup_key: str = "requirements.txt"
    dataset: str | None = None
    dataset_path: str = "../data"
    metrics_file: str = "metrics.json"
    metric: str = "accuracy"
    direction: str = "higher"
    artifacts: tuple[str, ...] = ("model.*",)
    slots: int = 1
    email: EmailAnswers | None = None
    server: ServerAnswers | None = None


def write_example(target: Path, answers: Answers | None = None) -> list[Path]:
    """Write a commented configuration into the folder `target`, and return the files made.

    Parts that the answers leave out stand there as comments. Nothing is ever overwritten: raises
    InvalidInput, before anything is written, if one of the files exists already, and OSError if the folder
    cannot be written.
    """
    answers = answers or Answers()
    texts = {
        target / "orchestrator.yaml": render("orchestrator.yaml", answers),
        target / "runners" / "cpu.yaml": render("runner.yaml", answers),
        target / "pipelines" / f"{_file_name(answers.pipeline)}.yaml": render("pipeline.yaml", answers),
    }
    if existing := [str(path) for path in texts if path.exists() or path.is_symlink()]:
        raise InvalidInput(
            f"{', '.join(existing)} exists already, and nothing is overwritten",
            "choose another folder, or remove it",
        )
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    return list(texts)


def _file_name(pipeline: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", pipeline).strip("-.") or "pipeline"


def render(template: str, answers: Answers) -> str:
    """The text of one template for these answers."""
    raw = resources.files("orchestrator.config").joinpath("templates", template).read_text(encoding="utf-8")
    values = _values(answers)
    return _PLACE.sub(lambda found: values[found.group(1)], _choose_blocks(raw, _blocks(answers)))


def _blocks(answers: Answers) -> Mapping[str, bool]:
    email, server = answers.email is not None, answers.server is not None
    return {
        "email": email,
        "mail": email,
        "server": server,
        "deploy": server,
        "dataset": answers.dataset is not None,
        "setup": answers.setup is not None,
        "actions": email or server,
    }


def _choose_blocks(text: str, wanted: Mapping[str, bool]) -> str:
    """Keep the lines of the wanted blocks, and turn those of the others into comments."""
    lines: list[str] = []
    inside: list[bool] = []
    for line in text.splitlines():
        if found := _BLOCK.match(line):
            if found.group(1) == "end":
                inside.pop()
            else:
                inside.append(wanted[found.group(1)])
        elif all(inside) or not line.strip():
            lines.append(line)
        else:
            lines.append(f"# {line}")
    return "\n".join(lines) + "\n"


def _values(answers: Answers) -> Mapping[str, str]:
    email = answers.email or EmailAnswers(
        "smtp://localhost:25", "ML CI <ci@example.org>", ("team@example.org",)
    )
    server = answers.server or ServerAnswers("prod", "prod.example.org", "deploy", "ssh-ed25519 AAAA…")
    dataset = answers.dataset or "train"
    return {
        "pipeline": _quoted(answers.pipeline),
        "source": _quoted(answers.source),
        "branch": _quoted(answers.branch),
        "image": f"{{build: {_quoted(answers.image_folder)}}}"
        if answers.image_folder
        else _quoted(answers.image),
        "command": _quoted(answers.command),
        "setup": _quoted(answers.setup or "pip install -r requirements.txt"),
        "setup_key": _quoted(answers.setup_key),
        "dataset": _quoted(dataset),
        "DATASET": "".join(c if c.isalnum() else "_" for c in dataset.upper()),
        "dataset_path": _quoted(answers.dataset_path),
        "metrics_file": _quoted(answers.metrics_file),
        "metric": _quoted(answers.metric),
        "threshold": _quoted(f"{answers.metric} >= 0.90"),
        "comparison": _quoted(f"{answers.metric} not worse than best by 0.5pp"),
        "direction": _quoted(answers.direction),
        "artifacts": ", ".join(_quoted(pattern) for pattern in answers.artifacts),
        "slots": str(answers.slots),
        "smtp": _quoted(email.smtp),
        "sender": _quoted(email.sender),
        "to": ", ".join(_quoted(address) for address in email.to),
        "server": _quoted(server.name),
        "hostname": _quoted(server.hostname),
        "user": _quoted(server.user),
        "host_key": _quoted(server.host_key),
        "server_path": _quoted(server.path),
    }


def _quoted(text: str) -> str:
    """A YAML scalar: bare where that is safe, else in double quotes, whose escapes are JSON's."""
    bare = _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text)
    return text if bare else json.dumps(text, ensure_ascii=False)
