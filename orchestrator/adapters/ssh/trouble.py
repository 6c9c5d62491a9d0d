"""Why OpenSSH gave up, for people: the one place where its errors become ours.

ssh ends with 255 whatever the reason, and tells it in words alone. They are fixed, in English, and read here
and nowhere else; words that are not known are shown as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from orchestrator.domain.errors import EngineUnavailable, HostRefused
from orchestrator.domain.pipeline import SshSpec

_LONGEST: Final = 300
_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_CHANGED: Final = re.compile(r"Host key for (\S+) has changed")
_UNKNOWN: Final = re.compile(r"host key is known for (\S+) and you have requested strict checking")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


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


def trouble_of(host: str, spec: SshSpec, said: str) -> Trouble:
    """What ssh's words mean; ``said`` is what it wrote to standard error."""
    where = str(spec)
    trust = f"orchestrator hosts trust {host}"
    if "Host key verification failed" in said:
        return _key_trouble(said, spec, trust)
    if "Permission denied (" in said:
        key = spec.identity_file or "a key of the SSH agent or of ~/.ssh"
        return Trouble(
            f"{where} lets nobody in with {key}",
            f"append that key's .pub to ~/.ssh/authorized_keys there; try it with: ssh {_words(spec)}",
            refused=True,
        )
    if "UNPROTECTED PRIVATE KEY FILE" in said:
        told = f"others may read {spec.identity_file or 'the private key'}, so ssh does not use it"
        return Trouble(told, f"chmod 600 {spec.identity_file or 'KEY'}", refused=True)
    if "Bad configuration option" in said or "terminating," in said:
        return Trouble(
            f"ssh does not understand its configuration: {_last(said)}", "correct that file", refused=True
        )
    if "Could not resolve hostname" in said:
        return Trouble(f"there is no machine of the name {spec.hostname}", "see that the name is right")
    if "Connection refused" in said:
        return Trouble(f"{where} refuses connections", "see that sshd runs there, at that port")
    if "timed out" in said or "No route to host" in said or "Network is unreachable" in said:
        return Trouble(
            f"{where} cannot be reached", "see that it is switched on and the network lets us there"
        )
    if not said.strip():
        return Trouble(f"the connection to {where} broke", "it is tried again by itself")
    return Trouble(f"no connection to {where}: {_last(said)}", f"try: ssh {_words(spec)}")


def _key_trouble(said: str, spec: SshSpec, trust: str) -> Trouble:
    shown = f" ({found[0]})" if (found := _FINGERPRINT.search(said)) else ""
    if changed := _CHANGED.search(said):
        remedy = f"ask its administrator for the right fingerprint, and only if it is this one: {trust}"
        if spec.known_hosts is not None:
            remedy = f"if its administrator says that it is right, correct {spec.known_hosts}"
        return Trouble(
            f"{changed[1]} shows another host key{shown} than the one that is trusted: it was installed"
            " anew, or somebody else answers in its place; nothing was sent to it",
            remedy,
            refused=True,
        )
    unknown = _UNKNOWN.search(said)
    remedy = f"compare and accept it: {trust}"
    if spec.known_hosts is not None:
        remedy = f"add it to {spec.known_hosts}"
    name = unknown[1] if unknown else spec.hostname
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
else echo there; fi
"""
"""What is asked on a host whose engine does not answer; its first argument is the socket's path."""


def engine_trouble(spec: SshSpec, looked: str) -> Trouble:
    """Why the engine on a host that lets us in does not answer; ``looked`` is what LOOK printed, or empty."""
    where, socket = str(spec), spec.socket
    answer, _, user = looked.strip().partition("\n")
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
            who = _CONTROL.sub(" ", user)[:64] or spec.user or "the user"
            return Trouble(
                f"{who} may not use {socket} on {where}",
                f"there, as root: usermod -aG docker {who}; or use an engine of that user's own",
            )
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
