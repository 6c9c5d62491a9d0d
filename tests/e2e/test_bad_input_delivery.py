"""Mail and deployment servers that are down, refuse or are somebody else's: the run stands, all is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.installation import Installation
from tests.support.sshd import SshServer
from tests.support.waiting import wait_until

PATIENCE = 90.0
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@pytest.fixture
def deploying(installation: Installation, sshd_server: Callable[[], SshServer]) -> Installation:
    """An installation with a server to deploy to, on which one release is live."""
    installation.production = sshd_server()
    installation.write()
    installation.commit(0.8)
    return installation


def run_line(installation: Installation, expect: int | None = 0) -> dict[str, Any]:
    """Run the pipeline in a process of its own, to its end."""
    shown: dict[str, Any] = json.loads(installation.orchestrator("--json", "run", "line", expect=expect))
    return shown


def live(installation: Installation) -> str:
    assert installation.production is not None
    return installation.production.run("cat", "/srv/models/current/model.txt")


def releases(installation: Installation) -> list[str]:
    assert installation.production is not None
    return installation.production.run("ls", "/srv/models/releases").split()


def test_a_mail_server_that_was_down_all_along_gets_the_mail_once(installation: Installation) -> None:
    installation.smtp.stop()
    installation.commit(0.8)
    installation.serve()
    wait_until(lambda: mails(installation), "a try to send", PATIENCE)
    (owed,) = mails(installation)
    assert owed["state"] == "pending"
    assert "cannot be reached" in owed["last_error"]
    assert installation.json("runs", "show", "1")["state"] == "passed"
    installation.smtp.start()
    installation.smtp.wait_for(1, PATIENCE)
    installation.wait_for_mails(1)
    (delivered,) = mails(installation)
    assert (delivered["state"], delivered["tries"] >= 2) == ("delivered", True)
    assert [m.subject for m in installation.smtp.messages] == ["[line] passed: accuracy 0.8"]


def mails(installation: Installation) -> list[dict[str, Any]]:
    """The mails of the first run that were tried."""
    if not installation.json("runs", "list"):
        return []
    found = installation.json("runs", "show", "1")["mails"]
    return [mail for mail in found if mail["tries"]]


def test_a_recipient_that_is_refused_for_good_is_given_up_and_said(installation: Installation) -> None:
    installation.smtp.refuse_with("550 no such user here")
    installation.commit(0.8)
    run = run_line(installation, expect=None)
    assert run["state"] == "passed"
    (mail,) = run["mails"]
    assert (mail["state"], mail["tries"]) == ("given_up", 1)
    assert "550 no such user here" in mail["last_error"]
    assert installation.smtp.messages == []
    assert "550 no such user here" in installation.orchestrator("runs", "show", "1")


def test_bad_deployments_leave_the_old_release_live_and_say_why(deploying: Installation) -> None:
    production = deploying.production
    assert production is not None
    first = run_line(deploying)
    assert [d["state"] for d in first["deployments"]] == ["active"]
    before = releases(deploying)

    deploying.commit(0.81)
    good_actions = deploying.pipeline
    mail = {"email": {"to": ["team@example.org"]}}
    deploying.pipeline = {"actions": {"pass": [{"deploy": {"server": "prod", "files": ["*.onnx"]}}, mail]}}
    deploying.write()
    nothing = run_line(deploying, expect=None)
    check_refusal(deploying, nothing, "no artifact matches '*.onnx'; the run left: metrics.json, model.txt")
    deploying.pipeline = good_actions

    production.run("chmod", "0555", "/srv/models/releases")
    production.run("chown", "root:root", "/srv/models/releases")
    deploying.write()
    readonly = run_line(deploying, expect=None)
    check_refusal(deploying, readonly, "permission denied; give /srv/models to the user deploy")
    production.run("chown", "deploy:deploy", "/srv/models/releases")
    production.run("chmod", "0755", "/srv/models/releases")

    production.run(
        "sh", "-c", f"mv {HOST_KEY} /tmp/key; ssh-keygen -qt ed25519 -N '' -f {HOST_KEY}; kill -HUP 1"
    )
    production.wait_until_it_answers()
    swapped = run_line(deploying, expect=None)
    check_refusal(deploying, swapped, "is expected; nothing was sent; find out whether the server was")
    production.run("sh", "-c", f"mv /tmp/key {HOST_KEY}; kill -HUP 1")
    production.wait_until_it_answers()

    assert live(deploying) == "model 0.8\n"
    assert releases(deploying) == before
    last = run_line(deploying)
    assert [d["state"] for d in last["deployments"]] == ["active"]
    assert live(deploying) == "model 0.81\n"


def check_refusal(installation: Installation, run: dict[str, Any], says: str) -> None:
    assert run["state"] == "passed"
    assert [d["state"] for d in run["deployments"]] == ["failed"]
    assert says in run["deployments"][0]["message"]
    mail = installation.smtp.messages[-1]
    assert "not deployed" in mail.subject
    assert says in " ".join(mail.body("plain").split())


def test_a_deployment_server_that_was_down_gets_the_release_once_it_is_up(deploying: Installation) -> None:
    production = deploying.production
    assert production is not None
    production.container.stop(timeout=1)
    deploying.serve()
    wait_until(lambda: "next try at" in deploying.servers[0].log.read_text(), "a try to deploy", PATIENCE)
    assert deploying.smtp.messages == []
    production.container.start()
    production.wait_until_it_answers()
    deploying.smtp.wait_for(1, PATIENCE)
    assert [m.subject for m in deploying.smtp.messages] == ["[line] passed: accuracy 0.8, deployed to prod"]
    assert live(deploying) == "model 0.8\n"
    assert len(releases(deploying)) == 1
