"""One SSH connection: the pinned host key, SFTP bounded in time, and commands where there is a shell."""

from __future__ import annotations

import base64
import binascii
import errno
import logging
import posixpath
import secrets
import shlex
import socket
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import paramiko

from orchestrator.adapters.sftp.client import Sftp
from orchestrator.adapters.sftp.errors import translated
from orchestrator.adapters.sftp.settings import SshServer
from orchestrator.domain.errors import ServerRejected, ServerUnavailable

_HEARTBEAT = 10.0
_OUTPUT_LIMIT = 16 * 1024 * 1024
_ERROR_LIMIT = 4096
_PROGRAMS = "tar sha256sum xargs"

# Without a handler Python prints the library's tracebacks; each of its errors reaches us as an exception.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Output:
    """How a command on the server ended. ``errors`` is what it complained about, cut short."""

    status: int
    text: bytes
    errors: str


class _Pinned(paramiko.RejectPolicy):
    """Refuses a server that the known_hosts file does not name."""

    def __init__(self, server: SshServer) -> None:
        self._server = server

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # type: ignore[override]
        raise ServerRejected(
            f"{self._server} shows the host key {key.get_name()} {key.fingerprint}, "
            f"and {self._server.known_hosts} has none for {hostname}; nothing was sent",
            "compare the fingerprint on the server itself, then add its line to that file",
        )


def _fast_ciphers_first(
    sock: paramiko.transport._SocketLike,
    /,
    *,
    gss_kex: bool = False,
    gss_deleg_creds: bool = False,
    disabled_algorithms: Mapping[str, Iterable[str]] | None = None,
) -> paramiko.Transport:
    """A transport that asks for AES-GCM before all else: it moves half as many bytes again per second."""
    transport = paramiko.Transport(sock, disabled_algorithms=disabled_algorithms)
    options = transport.get_security_options()
    options.ciphers = sorted(options.ciphers, key=lambda name: "gcm" not in name)
    return transport


class Connection:
    """A logged-in connection. Not for several threads. Close it, whatever happens."""

    def __init__(self, server: SshServer, *, ask_for_shell: bool = True) -> None:
        """Connect. Raises ServerUnavailable or ServerRejected; an unknown server gets nothing from us."""
        self.server = server
        self.finds = False
        """Whether its ``find`` knows ``-printf``; known once ``shell`` is."""
        self.lacks: tuple[str, ...] = ()
        """Programs that sending by one stream takes, and that are not there; known once ``shell`` is."""
        self.beat: Callable[[], None] = lambda: None
        """Called now and then while a command is silent."""
        self._client = paramiko.SSHClient()
        self._hops: list[paramiko.SSHClient] = []
        self._shell: Future[bool] = Future()
        self._spare: Future[paramiko.Channel] | None = None
        try:
            self._connect()
            with self.errors("connect"):
                # Asked while SFTP is opened and the lock is taken: each answer takes a round trip or more.
                if ask_for_shell:
                    threading.Thread(target=self._ask_for_shell, daemon=True).start()
                else:
                    self._shell.set_result(False)
                self.sftp = self._open_sftp()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it still stands, as far as that shows itself."""
        return self._alive()

    @property
    def shell(self) -> bool:
        """Whether commands run there. Raises as connecting does."""
        return self._shell.result()

    @property
    def streams(self) -> bool:
        """Whether commands run there, with all the programs that a release takes. Raises as ``shell``."""
        return self.shell and not self.lacks

    def close(self) -> None:
        """End the connection, and then those that it went through."""
        for client in (self._client, *reversed(self._hops)):
            client.close()

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Translate errors; see :func:`translated`."""
        with translated(self.server, doing, self._alive):
            yield

    def lstat(self, path: str) -> paramiko.SFTPAttributes | None:
        """What lies at a path, links not followed; None when nothing does."""
        try:
            return self.sftp.lstat(path)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def run(
        self, script: str, feed: Callable[[paramiko.Channel], None] | None = None, patient: bool = True
    ) -> Output:
        """Run a fixed POSIX shell script; whatever varies in it has to be quoted. ``feed`` writes its input.

        A script that is silent for long is no error while the server answers over SFTP, unless ``patient``
        is False.
        """
        channel = self.session()
        try:
            self.start(channel, script)
            channel.settimeout(self.server.timeout)
            if feed is not None:
                self._feed(channel, feed)
            end_input(channel)
            self._open_spare()
            text, errors = self._listen(channel, patient)
            if not channel.status_event.wait(self.server.timeout):
                raise TimeoutError
            if channel.exit_status < 0:
                raise ConnectionError("the command was killed, or the connection lost, before it ended")
            return Output(channel.exit_status, text, errors.decode("utf-8", "replace").strip())
        finally:
            channel.close()

    def session(self) -> paramiko.Channel:
        """A channel for one command, to be started by :meth:`start`. The caller closes it."""
        spare, self._spare = self._spare, None
        if spare is not None:
            try:
                return spare.result()
            except (paramiko.SSHException, OSError, EOFError):
                # A server that allows few sessions may well refuse one that nobody needed yet.
                pass
        return self._transport.open_session(timeout=self.server.timeout)

    def start(self, channel: paramiko.Channel, script: str) -> None:
        """Start a POSIX shell script on a channel; whatever varies in it has to be quoted."""
        with self._limit():
            channel.exec_command(f"exec /bin/sh -c {shlex.quote(script)}")

    def tunnel(self, host: str, port: int, timeout: float) -> paramiko.Channel:
        """A connection that the server opens to an address as it sees it. The caller closes it."""
        return self._transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout)

    def remove_tree(self, path: str) -> None:
        """Remove a folder with all that is in it, following no link."""
        if self.shell:
            done = self.run(f"rm -rf -- {shlex.quote(path)}")
            if done.status:
                raise ServerRejected(f"{self.server}: could not remove {path}: {done.errors}")
            return
        for entry in self.sftp.listdir_attr(path):
            inside = posixpath.join(path, entry.filename)
            if stat.S_ISDIR(entry.st_mode or 0):
                self.remove_tree(inside)
            else:
                self.sftp.remove(inside)
        self.sftp.rmdir(path)

    def _connect(self) -> None:
        """Log in, through each hop with a pinned key and a login of its own."""
        through: paramiko.Transport | None = None
        for server in (*self.server.jumps, self.server):
            client = self._client
            if server is not self.server:
                client = paramiko.SSHClient()
                self._hops.append(client)
            sock: socket.socket | paramiko.Channel | None = None
            try:
                with translated(server, "connect", lambda client=client: _is_active(client)):  # type: ignore[misc]
                    sock = self._way_to(server, through)
                    _log_in(client, server, sock)
            except BaseException:
                # Only now: a refused login is told from a lost connection by whether it still stands.
                if sock is not None:
                    sock.close()
                raise
            through = client.get_transport()

    def _way_to(
        self, server: SshServer, through: paramiko.Transport | None
    ) -> socket.socket | paramiko.Channel:
        if through is None:
            sock = socket.create_connection((server.hostname, server.port), server.timeout)
            # Small requests wait for the answers of earlier ones otherwise.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        return through.open_channel(
            "direct-tcpip", (server.hostname, server.port), ("127.0.0.1", 0), timeout=server.timeout
        )

    def _open_sftp(self) -> Sftp:
        channel = self._transport.open_session(timeout=self.server.timeout)
        channel.settimeout(self.server.timeout)
        with self._limit():
            channel.invoke_subsystem("sftp")
        return Sftp(channel)

    def _open_spare(self) -> None:
        """Have the next session opened while this one works: that takes a round trip."""
        spare: Future[paramiko.Channel] = Future()
        transport = self._transport

        def opened() -> None:
            try:
                spare.set_result(transport.open_session(timeout=self.server.timeout))
            except (paramiko.SSHException, OSError, EOFError) as error:
                spare.set_exception(error)

        self._spare = spare
        threading.Thread(target=opened, daemon=True).start()

    def _has_shell(self) -> bool:
        """Whether commands run: accounts for files only answer with silence, a message or another program."""
        token = f"mlci-{secrets.token_hex(8)}"
        try:
            with self.errors("ask for a shell"):
                done = self.run(
                    f"echo {token}; "
                    f"for i in {_PROGRAMS}; do command -v $i >/dev/null || echo lacks-$i; done; "
                    "find / -maxdepth 0 -printf 'finds' 2>/dev/null",
                    patient=False,
                )
        except (ServerUnavailable, ServerRejected):
            if self._alive():
                return False
            raise
        words = done.text.decode("ascii", "replace").split()
        self.finds = "finds" in words
        self.lacks = tuple(name for name in _PROGRAMS.split() if f"lacks-{name}" in words)
        return token in words

    def _ask_for_shell(self) -> None:
        try:
            self._shell.set_result(self._has_shell())
        except (ServerUnavailable, ServerRejected) as error:
            self._shell.set_exception(error)

    def _feed(self, channel: paramiko.Channel, feed: Callable[[paramiko.Channel], None]) -> None:
        try:
            feed(channel)
        except TimeoutError:
            raise
        except OSError:
            # A command that ended early closes its input; what it said about that comes with its exit status.
            if not channel.status_event.wait(self.server.timeout) or not self._alive():
                raise

    def _listen(self, channel: paramiko.Channel, patient: bool) -> tuple[bytes, bytes]:
        text, errors = bytearray(), bytearray()
        channel.settimeout(_HEARTBEAT)
        while True:
            try:
                data: bytes | None = channel.recv(65536)
            except TimeoutError:
                if not patient:
                    raise
                self.sftp.stat(".")
                self.beat()
                data = None
            while channel.recv_stderr_ready():
                errors += channel.recv_stderr(65536)[: _ERROR_LIMIT - len(errors)]
            if data == b"":
                break
            if data and len(text) < _OUTPUT_LIMIT:
                text += data
        while len(errors) < _ERROR_LIMIT and (more := channel.recv_stderr(65536)):
            errors += more[: _ERROR_LIMIT - len(errors)]
        return bytes(text), bytes(errors)

    @contextmanager
    def _limit(self) -> Iterator[None]:
        """Bound a call of the library that has no timeout of its own, by closing the connection under it."""
        timer = threading.Timer(self.server.timeout, self._transport.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @property
    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport()
        if transport is None:
            raise EOFError
        return transport

    def _alive(self) -> bool:
        return _is_active(self._client)


def end_input(channel: paramiko.Channel) -> None:
    """Tell a command that there is no more input.

    Under the channel's lock, unlike the library's own call: what follows the answer to a command's end
    there makes sshd end the whole connection.
    """
    with channel.lock:
        message = channel._send_eof()  # type: ignore[attr-defined]
        if message is not None:
            channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]


def _is_active(client: paramiko.SSHClient) -> bool:
    transport = client.get_transport()
    return transport is not None and transport.is_active()


def _log_in(client: paramiko.SSHClient, server: SshServer, sock: socket.socket | paramiko.Channel) -> None:
    client.set_missing_host_key_policy(_Pinned(server))
    if server.host_key is not None:
        key = _public_key(server)
        client.get_host_keys().add(server.host_key_name, key.get_name(), key)
    elif server.known_hosts is not None:
        try:
            client.load_system_host_keys(server.known_hosts)
        except OSError as error:
            raise ServerRejected(
                f"{server}: cannot read known_hosts {server.known_hosts}: {error.strerror}"
            ) from error
    client.connect(
        server.hostname,
        port=server.port,
        username=server.user,
        pkey=_private_key(server),
        password=server.password,
        look_for_keys=False,
        allow_agent=server.identity_file is None and server.password is None,
        timeout=server.timeout,
        banner_timeout=server.timeout,
        auth_timeout=server.timeout,
        channel_timeout=server.timeout,
        sock=sock,
        transport_factory=_fast_ciphers_first,
    )
    transport = client.get_transport()
    if transport is not None:
        transport.set_keepalive(server.keepalive)


def _public_key(server: SshServer) -> paramiko.PKey:
    kind, _, encoded = (server.host_key or "").partition(" ")
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(encoded.split(" ")[0], validate=True))
    except (paramiko.pkey.UnknownKeyType, paramiko.SSHException, binascii.Error, ValueError) as error:
        raise ServerRejected(
            f"{server}: host_key is no public key", f"take it from: ssh-keyscan -t ed25519 {server.hostname}"
        ) from error


def _private_key(server: SshServer) -> paramiko.PKey | None:
    if server.identity_file is None:
        return None
    passphrase = None if server.passphrase is None else server.passphrase.encode()
    try:
        key = paramiko.PKey.from_path(server.identity_file, passphrase)  # type: ignore[arg-type]  # it is bytes
        if server.certificate_file is not None:
            key.load_certificate(str(server.certificate_file))
        return key
    except OSError as error:
        raise ServerRejected(
            f"{server}: cannot read the private key {error.filename or server.identity_file}: "
            f"{error.strerror}",
            "check identity_file and certificate_file",
        ) from error
    except TypeError as error:
        # This is how the library says that a passphrase is missing.
        raise paramiko.PasswordRequiredException from error
    except (ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        if passphrase is not None:
            raise ServerRejected(
                f"{server}: the passphrase does not open {server.identity_file}",
                "check the secret that it is",
            ) from error
        raise ServerRejected(
            f"{server}: {server.identity_file} is no private key that can be used",
            "make one with ssh-keygen -t ed25519",
        ) from error
