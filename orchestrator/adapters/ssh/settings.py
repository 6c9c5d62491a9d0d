"""What OpenSSH is told: a configuration of ours before the user's, and argument lists. Pure.

ssh takes the first value that it finds for a word, so what stands here counts, and the user's own
configuration adds users, ports, keys and machines to jump over. It is a file, and not options, because ssh
itself starts the ssh that reaches a machine to jump over, and hands on the file alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.pipeline import SshSpec

CONNECT: Final = 10
"""Seconds for a connection, greeting and keys included."""
KEEPALIVE: Final = 5
MISSED: Final = 3
"""A host that leaves so many questions unanswered, which are asked every so many seconds, is cut off."""
USERS_OWN: Final = ("~/.ssh/config", "/etc/ssh/ssh_config")

# Before all others: OpenSSH before 8.7 knows two of our words not, and the first such list is the only one
# that counts, so what macOS adds to people's configurations is in it.
_ALWAYS: Final = f"""\
IgnoreUnknown KnownHostsCommand,ForkAfterAuthentication,UseKeychain
BatchMode yes
StrictHostKeyChecking yes
GlobalKnownHostsFile /dev/null
KnownHostsCommand none
VerifyHostKeyDNS no
NoHostAuthenticationForLocalhost no
UpdateHostKeys no
HashKnownHosts no
CheckHostIP no
PasswordAuthentication no
KbdInteractiveAuthentication no
GSSAPIDelegateCredentials no
AddKeysToAgent no
ForwardAgent no
ForwardX11 no
Tunnel no
GatewayPorts no
PermitLocalCommand no
RemoteCommand none
RequestTTY no
EscapeChar none
ForkAfterAuthentication no
ControlMaster no
ControlPath none
ControlPersist no
ConnectionAttempts 1
ConnectTimeout {CONNECT}
ServerAliveInterval {KEEPALIVE}
ServerAliveCountMax {MISSED}
ExitOnForwardFailure yes
StreamLocalBindUnlink yes
StreamLocalBindMask 0177
LogLevel ERROR
"""

_HANDED_ON: Final = (
    "HOME",
    "LOGNAME",
    "PATH",
    "SSH_AUTH_SOCK",
    "TMPDIR",
    "USER",
    "XDG_RUNTIME_DIR",
)


def configuration(spec: SshSpec, known_hosts: Path) -> str:
    """The ssh_config of a host, for the machines that are jumped over as well."""
    lines = [_ALWAYS, f"UserKnownHostsFile {_quoted(spec.known_hosts or str(known_hosts))}\n"]
    if spec.identity_file is not None:
        lines.append(f"IdentityFile {_quoted(spec.identity_file)}\nIdentitiesOnly yes\n")
    # Not of the user's home where a file is named; nobody's words count beside it.
    included = USERS_OWN if spec.config is None else (_quoted(spec.config),)
    lines += [f"Include {path}\n" for path in included]
    return "".join(lines)


def _quoted(path: str) -> str:
    """A path as a word of ssh_config. InvalidInput when it cannot be one."""
    if '"' in path or "\n" in path or "$" in path:
        raise InvalidInput(
            f"OpenSSH cannot be told the path {path!r}", "use one without quotes, $ and line ends"
        )
    return '"' + path.replace("%", "%%") + '"'


def tunnel(spec: SshSpec, config: Path, socket: Path) -> list[str]:
    """The command that forwards the engine's socket to ``socket`` until it is ended."""
    return _ssh(spec, config, "-N", "-T", "-L", f"{socket}:{spec.socket}")


def remote(spec: SshSpec, config: Path, command: Sequence[str]) -> list[str]:
    """The command that runs another one on the host."""
    return [*_ssh(spec, config, "-T", "-o", "ClearAllForwardings=yes"), shlex.join(command)]


def question(spec: SshSpec, config: Path) -> list[str]:
    """The command that tells what ssh makes of all settings, without connecting."""
    return _ssh(spec, config, "-G")


def greeting(spec: SshSpec, config: Path, known_hosts: Path) -> list[str]:
    """The command that writes the key of a machine into ``known_hosts``, and goes without a login."""
    options = (
        "StrictHostKeyChecking=accept-new",
        f"UserKnownHostsFile={_quoted(str(known_hosts))}",
        "PreferredAuthentications=none",
        "PubkeyAuthentication=no",
        "HostbasedAuthentication=no",
        "GSSAPIAuthentication=no",
        "ClearAllForwardings=yes",
    )
    return _ssh(spec, config, "-N", "-T", *(word for option in options for word in ("-o", option)))


def _ssh(spec: SshSpec, config: Path, *options: str) -> list[str]:
    login = ["-l", spec.user] if spec.user else []
    if spec.port:
        login += ["-p", str(spec.port)]
    if spec.proxy_jump:
        login += ["-o", f"ProxyJump={spec.proxy_jump}"]
    return ["ssh", "-F", str(config), *options, *login, "--", spec.hostname]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What ssh may see of this process's environment, which holds secrets. Its messages are in English."""
    return {name: environ[name] for name in _HANDED_ON if name in environ} | {"LC_ALL": "C"}
