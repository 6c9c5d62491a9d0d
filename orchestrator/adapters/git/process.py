"""Running git: what it may reach, what it inherits, and what of its words may be shown."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from orchestrator.adapters.git.listening import Endless, listen
from orchestrator.adapters.git.location import Location
from orchestrator.adapters.git.trouble import Trouble, fit_to_show, trouble_of
from orchestrator.adapters.ssh.keys import trusted_by
from orchestrator.adapters.ssh.settings import configuration
from orchestrator.domain.errors import DiskFull, SourceUnavailable
from orchestrator.domain.report import format_size
from orchestrator.domain.space import NO_ROOM

log = logging.getLogger(__name__)

# What a user may have set to reach repositories. Other GIT_* variables name repositories or switch on traces.
_INHERITED = frozenset(
    {
        "GIT_ASKPASS",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_EXEC_PATH",
        "GIT_PROXY_COMMAND",
        "GIT_PROXY_SSL_CAINFO",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
    }
)
_SAFE: Final = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.logAllRefUpdates=false"),
    *("-c", "submodule.recurse=false"),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "gc.auto=0"),
    *("-c", "fetch.unpackLimit=1"),
    *("-c", "http.lowSpeedLimit=1"),
    *("-c", "http.lowSpeedTime=60"),
)
_REDIRECTED: Final = re.compile(rb"^warning: redirecting to (\S+)", re.MULTILINE)
_NOWHERE: Final = "/nonexistent"
_LOGINS: Final = ("GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_SSL_CERT", "GIT_SSL_KEY", "XDG_CONFIG_HOME")
_PROXY: Final = ("proxy", "proxyauthmethod")
_CERTIFICATES: Final = ("sslcainfo", "sslcapath", "sslverify", "sslversion")
_WAYS_OUT: Final = frozenset(f"http.{name}" for name in (*_PROXY, *_CERTIFICATES))
_SHORTLY: Final = 10.0
_BLOCK: Final = 512
"""What POSIX has ``ulimit -f`` count in."""

MOST_HEARD: Final = 64 << 20
"""So many bytes may git print of what a server says."""
MOST_MEMORY: Final = 4 << 30
"""So many bytes of memory each of git's processes may take while it speaks with a server."""
_MOST_READ: Final = 512 << 20
"""So many it may print of what is here: the names of a million files are some hundred MiB."""


class GitFailed(Exception):
    """Git ended with another code than 0.

    ``said``: the end of its messages, fit to be shown; ``trouble``: what is wrong with the remote, where that
    is what they tell.
    """

    def __init__(self, code: int, said: str, trouble: Trouble | None = None) -> None:
        super().__init__(f"git ended with {code}: {said}")
        self.code = code
        self.said = said
        self.trouble = trouble


_FULL = ("no space left on device", "disk quota exceeded")
"""What git says in the C library's words, after "remote:" where it is not our disk."""


class GitTimeout(Exception):
    """Git did not end in time and was killed, with all its children."""


class GitEndless(Exception):
    """Git printed more than anybody has use for, and was killed, with all its children."""


def run_git(
    arguments: Sequence[str],
    *,
    timeout: float,
    location: Location | None = None,
    told: bytes | None = None,
    errors: str = "replace",
    largest: int | None = None,
) -> str:
    """Run git and return what it printed; ``told`` is what it reads, ``errors`` what becomes of bytes that
    are not UTF-8. No file that it writes gets larger than ``largest`` bytes: then it is killed.

    Raises GitFailed, GitTimeout, GitEndless, or DiskFull when our own disk is full.

    With a ``location`` git reaches it as REMOTE and reads the user's configuration (proxies, certificates).
    Without one it works on our own files, where that configuration would only let the attributes of
    a repository start the user's programs.
    """
    raw = run_git_raw(arguments, timeout=timeout, location=location, told=told, largest=largest)
    return raw.decode("utf-8", errors)


def run_git_raw(
    arguments: Sequence[str],
    *,
    timeout: float,
    location: Location | None = None,
    told: bytes | None = None,
    largest: int | None = None,
) -> bytes:
    """As ``run_git``, for what is no text."""
    with ExitStack() as stack:
        environment = _environment(location)
        if location is not None and location.ssh is not None:
            environment |= stack.enter_context(_ssh(location))
        process = subprocess.Popen(
            [*_limited(largest, location), "git", *_SAFE, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL if told is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            most = MOST_HEARD if location else _MOST_READ
            out, err = listen(process, told, timeout, most)
        except subprocess.TimeoutExpired:
            raise GitTimeout(f"git did not end within {timeout:g} s") from None
        except Endless:
            raise GitEndless(f"it sent more than {format_size(most)} of names or messages") from None
        finally:
            _end(process)
    if process.returncode != 0:
        raise _failed(process.returncode, err.decode("utf-8", "replace"), location)
    if location is not None and (moved := _REDIRECTED.search(err)):
        _tell_moved(location.shown, fit_to_show(moved[1].decode("utf-8", "replace"), location))
    return out


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what has not ended, with all its children, and let go of its pipes."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()


def _limited(largest: int | None, location: Location | None) -> Sequence[str]:
    """What has a command begin with limits for it and all that it starts; the shell reads fixed text.

    Git keeps in memory what a server lists before it prints any of it.
    """
    limits = []
    if largest is not None:
        limits.append(f"ulimit -f {max(largest // _BLOCK, 1)} &&")
    if location is not None and location.scheme != "file":
        # One that is lower already stays.
        limits.append(f"{{ ulimit -d {MOST_MEMORY >> 10} 2>/dev/null || true; }} &&")
    return ("sh", "-c", f'{" ".join(limits)} exec "$@"', "sh") if limits else ()


@lru_cache(maxsize=1024)
def _tell_moved(shown: str, to: str) -> None:
    """Say once that a server answers under another address; what it says is followed."""
    if to.rstrip("/").removesuffix(".git") == shown.rstrip("/").removesuffix(".git"):
        return
    log.warning(
        "%s has moved to %s: change its address before the old one is given to somebody else", shown, to
    )


def _failed(code: int, said: str, location: Location | None) -> GitFailed | DiskFull:
    shown = fit_to_show(said, location)
    if any(full in line.lower() for line in said.splitlines() for full in _FULL if _is_ours(line)):
        return _no_room(shown)
    trouble = None
    if location is not None:
        known = trusted_by(location.ssh, Path(location.keys)) if location.ssh else None
        trouble = trouble_of(said, location, known.fingerprints if known else lambda _: ())
    return GitFailed(code, shown, trouble)


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Turn what goes wrong with git into SourceUnavailable or SourceRefused, or DiskFull where our disk
    is."""
    try:
        yield
    except GitFailed as error:
        if error.trouble is not None:
            raise error.trouble.error(location) from None
        raise SourceUnavailable(
            f"cannot read {location.shown}: {error.said or f'git ended with {error.code}'}",
            "check the address, and that the user who runs the orchestrator may read it",
        ) from None
    except GitTimeout as error:
        raise SourceUnavailable(f"cannot read {location.shown}: {error}", "check the network") from None
    except GitEndless as error:
        raise SourceUnavailable(
            f"cannot read {location.shown}: {error}", "see what answers at this address"
        ) from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _no_room(str(error)) from None
        raise SourceUnavailable(
            f"cannot run git: {error.strerror or error}", "check that git is installed"
        ) from None


def _is_ours(line: str) -> bool:
    return not line.startswith("remote:")


def _no_room(said: str) -> DiskFull:
    return DiskFull(
        f"cannot store what git brings: {said}", "free space on the disk of storage.path in orchestrator.yaml"
    )


@contextmanager
def _ssh(location: Location) -> Iterator[Mapping[str, str]]:
    """The variables that have git use ssh with our own words before the user's, for a location over SSH."""
    assert location.ssh is not None  # noqa: S101 - for the type checker
    with tempfile.NamedTemporaryFile("w", prefix="mlci-git-", suffix=".conf") as file:
        file.write(configuration(location.ssh, Path(location.keys)))
        file.flush()
        # Forwards of the user's ssh_config are for their own logins, and one that fails would end ours.
        command = f"ssh -F {shlex.quote(file.name)} -o ClearAllForwardings=yes"
        yield {"GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh"}


def _environment(location: Location | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or (location and k in _INHERITED)}
    kept.pop("SSH_ASKPASS", None)  # a desktop sets it, and git would open a window on it
    kept |= {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GCM_INTERACTIVE": "never",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_ALLOW_PROTOCOL": ":".join(location.allowed) if location else "file",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    if location is None:
        return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_NO_LAZY_FETCH": "1"}
    settings = list(location.settings)
    if location.anonymous:
        # Before ours, of which the last counts.
        settings = [*_way_out(location, kept), *settings]
        kept = _without_logins(kept)
    for index, (key, value) in enumerate(settings):
        kept |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    kept["GIT_CONFIG_COUNT"] = str(len(settings))
    if location.password:
        kept |= {"MLCI_GIT_USER": location.user, "MLCI_GIT_PASSWORD": location.password}
    return kept


def _way_out(location: Location, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the user says of proxies and certificates for an address, and nothing else that they say.

    The rest may open doors: another address with a token in it, cookies, headers, certificates of their own.
    """
    if location.scheme not in ("http", "https"):
        return []
    try:
        found = subprocess.run(
            ["git", "config", "-z", "--type=path", "--get-urlmatch", "http", location.url],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SHORTLY,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GitTimeout(f"git did not tell its settings within {_SHORTLY:g} s") from None
    entries = (entry.partition("\n") for entry in found.stdout.decode("utf-8", "replace").split("\0"))
    return [(key, value) for key, _, value in entries if key in _WAYS_OUT]


def _without_logins(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which git finds nothing of the user's: no settings, no ``.netrc``, no helpers."""
    kept = {k: v for k, v in environment.items() if k not in _LOGINS}
    return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": _NOWHERE}
