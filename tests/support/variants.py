"""Further pipelines and runners beside an installation's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from tests.support.installation import Installation


@dataclass
class Variant:
    """One pipeline that differs from a plain one. A runner of its own has its name."""

    command: str | Sequence[str]
    run: Mapping[str, object] = field(default_factory=dict)
    """Keys of ``run`` that are added or replaced."""
    pipeline: Mapping[str, object] = field(default_factory=dict)
    """Keys of the pipeline that are added or replaced."""
    runner: Mapping[str, object] | None = None
    """Keys of a runner of its own."""


def add(installation: Installation, variants: Mapping[str, Variant]) -> None:
    """Write their files. Each watches the installation's repository, has no data, and mails every outcome."""
    mail = [{"email": {"to": ["team@example.org"]}}]
    for name, variant in variants.items():
        if variant.runner is not None:
            runner = {
                "runner": name,
                "image": installation.image,
                "resources": {"memory": "256m", "cpus": 1},
                **variant.runner,
            }
            path = installation.config / "runners" / f"{name}.yaml"
            path.write_text(yaml.safe_dump(runner, sort_keys=False))
        content: dict[str, object] = {
            "pipeline": name,
            "source": {
                "git": installation.repository.url,
                "branches": ["main"],
                "poll": "1s",
                "settle": "0s",
            },
            "run": {
                "runner": "cpu" if variant.runner is None else name,
                "command": variant.command,
                "retry": {"infrastructure": 0},
                **variant.run,
            },
            "actions": dict.fromkeys(("pass", "fail", "failed", "error", "inconclusive"), mail),
            **variant.pipeline,
        }
        path = installation.config / "pipelines" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
