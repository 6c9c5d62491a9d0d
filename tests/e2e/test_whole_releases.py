"""A release with all that can be put into one: from YAML, by the command line, to a real sshd."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest

from tests.support.installation import Installation
from tests.support.sshd import SshServer

TEMPLATE = """\
[model]
release = {{ release }}
run = {{ pipeline }} {{ run.number }} at {{ run.commit }}
accuracy = {{ metrics.accuracy }}
data = {{ data.rows }}
{% if server == "prod" %}workers = 4{% endif %}

"""


@pytest.fixture
def releasing(installation: Installation, sshd_server: Callable[[], SshServer]) -> Installation:
    installation.production = sshd_server()
    contents = {"files": ["model.txt"], "data": ["rows"], "report": True, "metrics": True, "code": True}
    installation.pipeline = {
        "actions": {"pass": [{"deploy": {"server": "prod", **contents, "templates": ["serve/conf.ini"]}}]}
    }
    installation.write()
    return installation


def test_a_release_holds_artifacts_data_code_metrics_and_filled_templates(releasing: Installation) -> None:
    commit = releasing.commit(0.9, {"serve/conf.ini": TEMPLATE, "serve/it's a\tfile": "odd\n"})
    releasing.orchestrator("run", "line", "--follow")
    server = releasing.production
    assert server is not None
    current = f"{server.models_path}/current"

    def content(path: str) -> str:
        return server.run("cat", f"{current}/{path}")

    found = set(server.run("sh", "-c", f"cd {current}/ && find . -type f").splitlines())
    assert {path.removeprefix("./") for path in found} == {
        "model.txt",
        "data/rows/a.csv",
        "report.html",
        "metrics.json",
        "release.json",
        "serve/conf.ini",
        "code/train.py",
        "code/accuracy.txt",
        "code/serve/conf.ini",
        "code/serve/it's a\tfile",
    }
    assert content("model.txt") == "model 0.9\n"
    assert content("data/rows/a.csv") == "1\n2\n"
    assert content("code/serve/it's a\tfile") == "odd\n"
    assert json.loads(content("metrics.json"))["accuracy"] == 0.9
    release = server.run("readlink", current).strip().removeprefix("releases/")
    written = content("serve/conf.ini").splitlines()
    assert written[:4] == [
        "[model]",
        f"release = {release}",
        f"run = line 1 at {commit}",
        "accuracy = 0.9",
    ]
    assert written[5] == "workers = 4"
    facts = json.loads(content("release.json"))
    assert facts["commit"] == commit
    listed = {path: file["sha256"] for path, file in facts["files"].items()}
    assert listed["serve/conf.ini"] == hashlib.sha256(content("serve/conf.ini").encode()).hexdigest()
    assert set(listed) == {path.removeprefix("./") for path in found} - {"release.json"}


def test_a_template_that_reaches_for_more_is_refused_and_nothing_goes_live(releasing: Installation) -> None:
    releasing.commit(0.9, {"serve/conf.ini": "{{ run.__class__.__mro__ }}\n"})
    releasing.orchestrator("run", "line", "--follow", expect=None)
    (action,) = releasing.json("runs", "show", "1")["actions"]
    assert action["state"] == "failed"
    assert "serve/conf.ini" in action["message"]
    server = releasing.production
    assert server is not None
    assert "current" not in server.run("ls", server.models_path).split()
