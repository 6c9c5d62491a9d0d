"""Why OpenSSH gave up, for people: the one place where its errors become ours.

ssh ends with 255 whatever the reason, and tells it in words alone. They are fixed, in English, and read here
and nowhere else; words that are not known are shown as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.config.private_keys import has_passphrase, passphrase_remedy, passphrase_told
from orchestrator.domain.errors import EngineUnavailable, HostRefused
from orchestrator.domain.pipeline import SshSpec

Trusted = Callable[[str], tuple[str, ...]]
_LONGEST: Final = 300
_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_CHANGED: Final = re.compile(r"Host key for (\S+) has changed")
_UNKNOWN: Final = re.compile(r"host key is known for (\S+) and you have requested strict checking")
_DENIED: Final = re.compile(r"(\S+): Permission denied \(")
_REFUSED: Final = re.compile(r"connect to host (\S+) port (\d+): Connection refused")
_ENDED: Final = re.compile(r"^Connection to \S+ closed by remote host", re.MULTILINE)
_NO_WAY: Final = ("timed out", "No route to host", "Network is unreachable")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_RIGHTS: Final = re.compile(r"(s[-rwxsStT]{9}) ([A-Za-z0-9_][A-Za-z0-9._-]{0,63})")
_NOBODYS: Final = ("root", "UNKNOWN")
"""Groups that no user is to be put into."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no connection. ``refused``: it will not be otherwise until a person acts."""

    told: str
    remedy: str = ""
    refused: bool = False

    def error(self, host: str) -> EngineUnavailable:
        """What who needs the connection gets to see."""
        kind = HostRefused if self.refused else EngineUnavailable
        return kind(f"host {host}: {self.told}", self.remedy)


def trouble_of(
    host: str, spec: SshSpec, said: str, trusted: Trusted = lambda name: (), accept: str = ""
) -> Trouble:
    """What ssh's words mean.

    ``said`` is what it wrote to standard error; ``trusted`` tells the fingerprints trusted of a machine;
    ``accept`` is the command that trusts its key, where it is not a host's.
    """
    where = str(spec)
    if "Host key verification failed" in said:
        return _key_trouble(said, spec, accept or f"orchestrator hosts trust {host}", trusted)
    if "UNPROTECTED PRIVATE KEY FILE" in said:
        key = spec.identity_file or "the private key"
        return Trouble(f"others may read {key}, so ssh does not use it", f"chmod 600 {key}", refused=True)
    if denied := _DENIED.search(said):
        if spec.identity_file is not None and has_passphrase(own := Path(spec.identity_file)):
            told = f"{denied[1]} is not let in: {passphrase_told(own)}"
            return Trouble(told, f"take {passphrase_remedy(own)}", refused=True)
        return Trouble(
            f"{denied[1]} is not let in with {spec.identity_file or 'a key of the SSH agent or of ~/.ssh'}",
            f"append that key's .pub to ~/.ssh/authorized_keys there; try it with: ssh {_words(spec)}",
            refused=True,
        )
    if "Bad configuration option" in said or ": terminating, " in said:
        file = spec.config or "the ssh_config"
        return Trouble(f"ssh does not understand its configuration: {_last(said)}", f"correct {file}", True)
    if "Could not resolve hostname" in said:
        return Trouble(f"no machine of that name is known: {_last(said)}", "see that the name is right")
    if refused := _REFUSED.search(said):
        told = f"{refused[1]} refuses connections at port {refused[2]}"
        return Trouble(told, "see that sshd runs there, at that port")
    if "stdio forwarding failed" in said:
        told = f"{where} cannot be reached from {spec.proxy_jump or 'the machine before it'}"
        return Trouble(told, "see that it is switched on and that sshd runs there, at that port")
    if any(words in said for words in _NO_WAY):
        return Trouble(
            f"{where} cannot be reached", "see that it is switched on and the network lets us there"
        )
    if not said.strip() or _ENDED.search(said):
        return Trouble(f"the connection to {where} broke", "it is made anew by itself")
    return Trouble(f"no connection to {where}: {_last(said)}", f"try: ssh {_words(spec)}")


def _key_trouble(said: str, spec: SshSpec, trust: str, trusted: Trusted) -> Trouble:
    named = _CHANGED.search(said) or _UNKNOWN.search(said)
    name = named[1] if named else spec.hostname
    known = trusted(name)
    if _CHANGED.search(said) or known:
        shown = f" ({found[0]})" if (found := _FINGERPRINT.search(said)) else ""
        before = f" ({', '.join(known)})" if known else ""
        act = trust if spec.known_hosts is None else f"correct {spec.known_hosts}"
        remedy = f"ask its administrator whether the new key is right, and only then: {act}"
        return Trouble(
            f"{name} shows another host key{shown} than the trusted one{before}, so nothing was sent to it:"
            " it was set up anew, or somebody else answers in its place",
            remedy,
            refused=True,
        )
    remedy = (
        f"compare and accept it: {trust}" if spec.known_hosts is None else f"add it to {spec.known_hosts}"
    )
    return Trouble(
        f"the host key of {name} is not known yet, so nothing was sent to it", remedy, refused=True
    )


def _words(spec: SshSpec) -> str:
    parts = ["-i", spec.identity_file] if spec.identity_file else []
    parts += ["-J", spec.proxy_jump] if spec.proxy_jump else []
    parts += ["-p", str(spec.port)] if spec.port else []
    return " ".join((*parts, f"{spec.user}@{spec.hostname}" if spec.user else spec.hostname))


def _last(said: str) -> str:
    """The last line that says something; the far side had a hand in it, so it is made harmless."""
    lines = [line for raw in said.splitlines() if (line := _CONTROL.sub(" ", raw).strip())]
    return lines[-1][:_LONGEST] if lines else "it said nothing"


LOOK: Final = """\
if [ ! -e "$1" ]; then echo absent
elif [ ! -S "$1" ]; then echo other
elif [ ! -r "$1" ] || [ ! -w "$1" ]; then echo denied; id -un
  echo "groups $(id -Gn)"; echo "rights $(stat -L -c '%A %G' "$1" 2>/dev/null)"
else echo there; fi
"""
"""What is asked on a host whose engine does not answer; its first argument is the socket's path."""


def engine_trouble(spec: SshSpec, looked: str) -> Trouble:
    """Why the engine on a host that lets us in does not answer; ``looked`` is what LOOK printed, or empty."""
    where, socket = str(spec), spec.socket
    answer, *more = looked.strip().splitlines() or [""]
    match answer:
        case "absent":
            return Trouble(
                f"{where} has no {socket}",
                "install Docker there and start it, or write where its socket is: ssh: {socket: …}",
            )
        case "other":
            return Trouble(
                f"{socket} on {where} is no socket", "write where the engine's is: ssh: {socket: …}"
            )
        case "denied":
            return _denied(spec, more)
        case "there":
            return Trouble(
                f"nobody answers at {socket} on {where}",
                "start Docker there: systemctl start docker; sshd has to allow AllowStreamLocalForwarding",
            )
        case _:
            return Trouble(
                f"no engine answers at {socket} on {where}",
                "see that Docker runs there, that the user may use its socket, that sshd forwards it",
            )


def _denied(spec: SshSpec, more: Sequence[str]) -> Trouble:
    """Why the user may not use the socket, as its rights tell; ``more`` is what LOOK printed of both."""
    who = (_CONTROL.sub(" ", more[0])[:64] if more else "") or spec.user or "the user"
    told = f"{who} may not use {spec.socket} on {spec}"
    facts = dict(line.partition(" ")[::2] for line in more[1:])
    rights = _RIGHTS.fullmatch(facts.get("rights", "").strip())
    steps, group = [], "docker"
    if rights is not None:
        told += f" ({rights[1]}, group {rights[2]})"
        if rights[2] in _NOBODYS:
            steps.append(f"chgrp {group} {spec.socket}")
        else:
            group = rights[2]
        if rights[1][4:6] != "rw":
            steps.append(f"chmod g+rw {spec.socket}")
    if group not in facts.get("groups", "").split():
        steps.append(f"usermod -aG {group} {who}")
    if not steps:
        return Trouble(told, "these rights do not forbid it: look at an ACL, AppArmor or SELinux there")
    return Trouble(told, f"there, as root: {'; '.join(steps)}; or use an engine of that user's own")
