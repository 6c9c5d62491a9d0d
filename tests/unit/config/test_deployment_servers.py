"""How deployment servers are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.bootstrap.servers import server_of
from orchestrator.config.models.servers import Server

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBfbwmeR/uVwyKEmnCxyVxQbIcS8G3eK7PsW1ESel5us"
SSH: dict[str, object] = {"hostname": "prod.example.org", "user": "deploy", "host_key": KEY}
BASTION: dict[str, object] = {**SSH, "hostname": "bastion.example.org", "user": "jump", "port": 2222}


def server(**changes: object) -> Server:
    return Server.model_validate({"ssh": SSH, "path": "/srv/models", **changes})


def test_every_setting_of_a_server_reaches_the_connection() -> None:
    ssh = {**SSH, "proxy_jump": [BASTION], "timeout": "5s", "keepalive": "3s"}
    made = server_of(
        "prod",
        server(ssh=ssh, shared=["logs", "var/cache"], rate="10MiB", concurrency=2, keep=9),
    )
    assert (made.timeout, made.keepalive, made.rate) == (5.0, 3, 10 * 1024 * 1024)
    assert (made.shared, made.concurrency, made.keep) == (("logs", "var/cache"), 2, 9)
    (hop,) = made.jumps
    assert (hop.hostname, hop.port, hop.user, hop.host_key, hop.timeout) == (
        "bastion.example.org",
        2222,
        "jump",
        KEY,
        5.0,
    )
    assert str(hop).startswith("on the way to prod: bastion.example.org")


def test_a_jump_host_needs_a_pinned_key_of_its_own() -> None:
    hop = {key: value for key, value in BASTION.items() if key != "host_key"}
    with pytest.raises(ValidationError, match="neither host_key nor known_hosts is"):
        server(ssh={**SSH, "proxy_jump": [hop]})


def test_a_passphrase_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="passphrase is given without the key"):
        server(ssh={**SSH, "passphrase": "${{ env.PHRASE }}"})


@pytest.mark.parametrize("path", ["/logs", "../logs", "a//b", "a/./b", ""])
def test_a_shared_path_stays_inside_the_release(path: str) -> None:
    with pytest.raises(ValidationError, match="is no path inside a release"):
        server(shared=[path])
