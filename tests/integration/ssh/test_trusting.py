"""``orchestrator hosts trust``, with real machines and a real terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from orchestrator.adapters.ssh.keys import KnownHosts, fingerprint
from tests.support.hosts import Host
from tests.support.installation import COMMAND

Hosts = tuple[Host, Host]


@pytest.fixture
def folder(hosts: Hosts, tmp_path: Path) -> Path:
    """A configuration with one host, which is behind the other one."""
    bastion, inner = hosts
    made = tmp_path / "config"
    made.mkdir()
    ssh = inner.ssh | {"proxy_jump": f"{bastion.user}@{bastion.address}"}
    (made / "orchestrator.yaml").write_text(
        json.dumps({"storage": {"path": str(tmp_path / "var")}, "hosts": {"lab": {"ssh": ssh}, "local": {}}})
    )
    return made


def trust(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "--config", str(folder), "hosts", "trust", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def on_a_terminal(folder: Path, answers: str) -> tuple[int, str]:
    """The exit code and what the command said, where a person types answers."""
    near, far = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "--config", str(folder), "hosts", "trust", "lab"],
        stdin=far,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        os.close(far)
        os.write(near, answers.encode())
        said, _ = process.communicate(timeout=60)
    os.close(near)
    return process.returncode, said


def shown(host: Host) -> str:
    return fingerprint(host.host_key.split()[1])


def trusted(folder: Path, host: Host) -> tuple[str, ...]:
    return KnownHosts(folder.parent / "var" / "ssh" / "known_hosts").fingerprints(host.address)


def test_a_person_sees_each_fingerprint_on_the_way_before_it_is_trusted(hosts: Hosts, folder: Path) -> None:
    bastion, inner = hosts
    code, said = on_a_terminal(folder, "y\nn\n")
    assert code != 0
    assert shown(bastion) in said
    assert shown(inner) in said
    assert trusted(folder, bastion) == (shown(bastion),)
    assert trusted(folder, inner) == (), "no was not heard"
    code, said = on_a_terminal(folder, "y\n")
    assert (code, trusted(folder, inner)) == (0, (shown(inner),)), said


def test_a_script_trusts_the_fingerprints_that_it_knows_and_no_other(hosts: Hosts, folder: Path) -> None:
    bastion, inner = hosts
    nobody = trust(folder, "lab")
    assert nobody.returncode == 2
    assert "--fingerprint with what the machine's administrator reads out" in nobody.stderr
    assert f"--fingerprint {shown(bastion)}" not in nobody.stderr
    wrong = trust(folder, "lab", "--fingerprint", shown(bastion))
    assert wrong.returncode == 1
    assert trusted(folder, inner) == ()
    right = trust(folder, "lab", "--fingerprint", shown(inner), "--json")
    assert right.returncode == 0, right.stderr
    assert [(key["machine"], key["new"]) for key in json.loads(right.stdout)] == [
        (bastion.address, False),
        (inner.address, True),
    ]


def test_a_swapped_key_is_shown_beside_the_old_one_and_replaces_it_once_agreed(
    hosts: Hosts, folder: Path
) -> None:
    bastion, inner = hosts
    old = shown(inner)
    assert trust(folder, "lab", "--fingerprint", shown(bastion), "--fingerprint", old).returncode == 0
    inner.swap_host_key()
    code, said = on_a_terminal(folder, "n\n")
    assert code != 0
    assert old in said
    assert shown(inner) in said
    assert "not the key trusted so far" in said
    assert trusted(folder, inner) == (old,)
    code, said = on_a_terminal(folder, "y\n")
    assert code == 0
    assert trusted(folder, inner) == (shown(inner),)


def test_a_host_on_this_machine_has_no_key_and_an_unknown_one_is_an_error(folder: Path) -> None:
    assert "no key to trust" in trust(folder, "local").stderr
    unknown = trust(folder, "nowhere")
    assert unknown.returncode != 0
    assert 'there is no host "nowhere"' in unknown.stderr
