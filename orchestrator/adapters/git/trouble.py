"""Why git did not get what was asked for: the one place where its words become ours.

git ends with 128 for nearly everything and tells the rest in words, which are fixed in the language that it
is told to use. What is not known here is shown as it is, and counts as a repository that does not answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.adapters.git.location import USER_INFO, Location, printable
from orchestrator.adapters.ssh.trouble import trouble_of as trouble_of_ssh
from orchestrator.config.private_keys import has_passphrase
from orchestrator.domain.errors import SourceRefused, SourceUnavailable

Trusted = Callable[[str], tuple[str, ...]]

_NOT_THIS: Final = ("couldn't find remote ref", "not our ref", "unadvertised object")
"""It answers, and does not have what was asked for."""
_STATUS: Final = re.compile(r"requested URL returned error: (\d{3})")
_GONE: Final = re.compile(
    r"^fatal: repository '.*' not found|(?:repository|project)\b.{0,60}\bnot (?:be )?found"
    r"|does not appear to be a git repository|^fatal: not a git repository",
    re.IGNORECASE | re.MULTILINE,
)
_CERTIFICATE: Final = re.compile(
    r"certificate (?:problem|verification failed|verify failed)|alternative certificate|certificate subject"
    r"|SSL: certificate|unable to get local issuer|no peer certificate",
    re.IGNORECASE,
)
_DENIED: Final = "Permission denied ("
_NETWORK: Final = (
    "unable to access",
    "Could not read from remote repository",
    "the remote end hung up",
    "early EOF",
    "RPC failed",
    "unexpected disconnect",
    "protocol error",
    "invalid server response",
)
_SHUT: Final = {401: "wants a login", 403: "forbids it", 407: "is behind a proxy that wants a login"}
_MISSING: Final = (404, 410, 451)
_TOO_MANY: Final = 429
_SERVERS_FAULT: Final = 500


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is nothing to be had. ``refused``: it will not be otherwise until a person acts."""

    told: str
    remedy: str = ""
    refused: bool = False

    def error(self, location: Location) -> SourceUnavailable:
        """What who needs the repository gets to see."""
        kind = SourceRefused if self.refused else SourceUnavailable
        return kind(f"cannot read {location.shown}: {self.told}", self.remedy)


def trouble_of(said: str, location: Location, trusted: Trusted = lambda name: ()) -> Trouble | None:
    """What the words mean that git wrote to standard error; None when the remote is not what they are about.

    ``trusted`` tells the fingerprints trusted of a machine that is reached over SSH.
    """
    if any(words in said for words in _NOT_THIS):
        return None
    if any(line.startswith("fatal: Out of memory") for line in said.splitlines()):
        return Trouble("git has not the memory for all that it sends", "see what answers at this address")
    if "dubious ownership" in said:
        return Trouble(
            "it belongs to another user, so git does not read it",
            f"git config --global --add safe.directory {location.shown}",
            refused=True,
        )
    if "transport '" in said and "not allowed" in said:
        return Trouble(fit_to_show(said, location), "take another address", refused=True)
    if _GONE.search(said):
        return _gone(location)
    if location.ssh is not None:
        return _over_ssh(said, location, trusted)
    return _over_the_web(said, location)


def _gone(location: Location) -> Trouble:
    look = "see whether it was renamed, moved or deleted"
    if location.scheme != "file":
        look += ", and that the login may read it: servers hide what one may not"
    return Trouble("there is no such repository", look, refused=True)


def _over_ssh(said: str, location: Location, trusted: Trusted) -> Trouble | None:
    spec = location.ssh
    if spec is None or not any(words in said for words in _NETWORK):
        return None
    accept = f"orchestrator sources trust {location.source or 'NAME'}"
    found = trouble_of_ssh(location.source, spec, said, trusted, accept)
    remedy = found.remedy
    locked = spec.identity_file is not None and has_passphrase(Path(spec.identity_file))
    if _DENIED in said and not locked:
        key = f"{spec.identity_file}.pub" if spec.identity_file else "a public key of the orchestrator's user"
        remedy = f"add {key} to the deploy keys of the repository, or to an account that may read it"
    if remedy.startswith("try: "):
        remedy = ""
    return Trouble(found.told, remedy, found.refused)


def _over_the_web(said: str, location: Location) -> Trouble | None:
    status = _STATUS.search(said)
    code = int(status[1]) if status else 0
    if "Authentication failed for" in said or (code == 401 and location.password):
        return Trouble(
            "the login is not accepted",
            "see whether the token or password is revoked, expired, or of somebody who may not read it",
            refused=True,
        )
    if "could not read Username" in said or "could not read Password" in said or code == 401:
        return Trouble(
            "it wants a login",
            "token:, or username: and password:, beside the address of the source",
            refused=True,
        )
    if code in _MISSING:
        return _gone(location)
    if code in _SHUT:
        return Trouble(
            f"the server {_SHUT[code]} ({code})", "see that the login may read the repository", refused=True
        )
    if code == _TOO_MANY:
        return Trouble("the server was asked too often (429)", "it is asked less often by itself")
    if code >= _SERVERS_FAULT:
        return Trouble(f"the server is out of order ({code})", "it is tried again by itself")
    if _CERTIFICATE.search(said):
        return Trouble(
            f"the server's certificate is not trusted: {fit_to_show(said, location)}",
            "if an authority of your own signed it, name that in GIT_SSL_CAINFO, or in http.sslCAInfo of the"
            " orchestrator's user's git configuration",
            refused=True,
        )
    if any(words in said for words in _NETWORK):
        return Trouble(fit_to_show(said, location), "it is tried again by itself")
    return None


def fit_to_show(said: str, location: Location | None) -> str:
    """The last words of git without credentials, control characters and advice."""
    text = USER_INFO.sub(r"\1***@", said)
    if location and location.password:
        text = text.replace(location.password, "***")
    lines = [printable(line).strip() for line in text.splitlines()]
    useful = [line for line in lines if line and not line.startswith("hint:")]
    shown = "; ".join(useful[-3:])
    return shown if len(shown) <= 400 else f"...{shown[-397:]}"
