"""What paramiko and a server say, in the words of the domain."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paramiko
from paramiko.ssh_exception import IncompatiblePeer, NoValidConnectionsError

from orchestrator.adapters.sftp.settings import SshServer
from orchestrator.domain.errors import OrchestratorError, ServerRejected, ServerUnavailable

_PROHIBITED = 1


@contextmanager
def translated(  # noqa: C901 - one line of errors after the other, each with its words
    server: SshServer, doing: str, alive: Callable[[], bool]
) -> Iterator[None]:
    """Turn every error of the library or the server into ServerUnavailable or ServerRejected.

    ``doing`` completes "could not …". ``alive`` says whether the connection still stands: a lost one surfaces
    as almost any error, and only it may be worth another try.
    """
    failed = f"{server}: could not {doing}"
    try:
        yield
    except OrchestratorError:
        raise
    except paramiko.BadHostKeyException as error:
        raise ServerRejected(
            f"{server} shows the host key {_fingerprint(error.key)}, "
            f"and {_fingerprint(error.expected_key)} is expected; nothing was sent",
            "find out whether the server was reinstalled or somebody stands in between, "
            "and only then change the configured key",
        ) from error
    except paramiko.PasswordRequiredException as error:
        raise ServerRejected(
            f"{server}: the private key {server.identity_file} is protected by a passphrase",
            "name a secret as its passphrase, or leave identity_file out and load the key into the SSH agent",
        ) from error
    except paramiko.ChannelException as error:
        if error.code == _PROHIBITED:
            raise ServerRejected(
                f"{failed}: {server} does not let this user through",
                "set AllowTcpForwarding and PermitOpen for it in the sshd_config there",
            ) from error
        raise ServerUnavailable(f"{failed}: {error.text or 'no channel was opened'}") from error
    except paramiko.AuthenticationException as error:
        if not alive():
            raise ServerUnavailable(f"{server} ended the connection during the login") from error
        raise _denied(server) from error
    except IncompatiblePeer as error:
        raise ServerRejected(f"{failed}: no common way to encrypt ({error})", "update its sshd") from error
    except TimeoutError as error:
        raise ServerUnavailable(f"{failed}: no answer within {server.timeout:g} s") from error
    except socket.gaierror as error:
        raise ServerUnavailable(f"{failed}: the name {server.hostname} is not known") from error
    except paramiko.SFTPError as error:
        raise ServerRejected(
            f"{failed}: what answers is not SFTP ({error})",
            "let the login print nothing, and enable sftp in sshd_config",
        ) from error
    except (paramiko.SSHException, EOFError, ConnectionError) as error:
        raise ServerUnavailable(f"{failed}: {str(error) or 'the connection was lost'}") from error
    except OSError as error:
        raise _refusal(server, failed, error, alive()) from error


def _denied(server: SshServer) -> ServerRejected:
    if server.password is not None:
        return ServerRejected(
            f"{server} does not accept that password for the user {server.user}",
            "check it, and that the server lets passwords in",
        )
    login = f"the key {server.identity_file}" if server.identity_file else "the keys of the SSH agent"
    return ServerRejected(
        f"{server} does not accept {login} for the user {server.user}",
        f"add the public key to ~{server.user}/.ssh/authorized_keys on the server",
    )


def _refusal(server: SshServer, failed: str, error: OSError, alive: bool) -> OrchestratorError:
    if isinstance(error, NoValidConnectionsError) or not alive:
        return ServerUnavailable(f"{failed}: {error.strerror or error}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ServerRejected(
            f"{failed}: permission denied",
            f"give {server.path} to the user {server.user} on the server",
        )
    if error.errno == errno.ENOENT:
        return ServerRejected(f"{failed}: a file or folder is not there")
    return ServerRejected(f"{failed}: the server says {error.strerror or error}")


def _fingerprint(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"
