"""Handing messages to a mail server."""

from __future__ import annotations

import logging
import smtplib
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.errors import HeaderParseError
from email.message import EmailMessage
from email.utils import getaddresses, parseaddr
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from orchestrator.domain.errors import (
    MailError,
    MailRejected,
    MailUnavailable,
    OrchestratorError,
    SecretMissing,
    StoreUnavailable,
)
from orchestrator.domain.mailing import Refusal

_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_PERMANENT = 500

_log = logging.getLogger(__name__)


class SmtpMailer:
    """Implements Mailer; one connection for each message, so it may be used from any thread.

    ``url`` is ``smtp://``, ``smtp+starttls://`` (encryption is demanded, not tried) or ``smtps://``, with the
    user name before the ``@``. ``password`` is called for each message, so that a new one counts at once. It
    travels only encrypted, or to this machine itself. ``tls`` replaces the system's trusted certificates.
    ``timeout`` is in seconds and bounds each answer of the server.
    """

    def __init__(
        self,
        url: str,
        password: str | Callable[[], str] | None,
        sender: str,
        timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise MailRejected(
                f"'{parts.scheme}://{parts.hostname or ''}' is no mail server", "smtps://user@host:465"
            )
        self._security = parts.scheme
        self._host = parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        self._user = unquote(parts.username) if parts.username else None
        self._password = password
        self._sender = sender
        self._timeout = timeout
        self._tls = tls

    def __repr__(self) -> str:
        return f"SmtpMailer({self._security}://{self._host}:{self._port})"

    @property
    def sender(self) -> str:
        """The From address."""
        return self._sender

    def send(self, message: EmailMessage, to: Sequence[str] = ()) -> Sequence[Refusal]:
        """Send to those bare addresses, else to the message's To, Cc and Bcc.

        What comes back are the recipients that were refused; the others have it. Raises MailUnavailable (try
        later) or MailRejected (give up) when nobody has it and all were answered alike.
        """
        recipients = list(to) or _recipients(message)
        envelope_sender = parseaddr(self._sender)[1]
        password = self._known_password()
        with self._translated(), self._connected(password) as connection:
            refused = self._sent(connection, message, envelope_sender, recipients)
        for address, (code, reply) in refused.items():
            _log.warning("%s refused %s: %d %s", self._where, address, code, _text(reply))
        return [
            Refusal(address, f"{code} {_text(reply)}", code >= _PERMANENT)
            for address, (code, reply) in refused.items()
        ]

    @staticmethod
    def _sent(
        connection: smtplib.SMTP, message: EmailMessage, sender: str, recipients: list[str]
    ) -> Mapping[str, tuple[int, bytes]]:
        try:
            return connection.send_message(message, from_addr=sender, to_addrs=recipients)
        except smtplib.SMTPRecipientsRefused as error:
            if len({code >= _PERMANENT for code, _ in error.recipients.values()}) == 1:
                raise
            # Some never will have it, some may later: no one answer is true of all.
            return error.recipients

    @property
    def _where(self) -> str:
        return f"mail server {self._host}:{self._port}"

    def _known_password(self) -> str:
        if not callable(self._password):
            return self._password or ""
        try:
            return self._password()
        except (SecretMissing, StoreUnavailable) as error:
            raise MailUnavailable(f"email.password has no value: {error.message}", error.remedy) from error

    @contextmanager
    def _connected(self, password: str) -> Iterator[smtplib.SMTP]:
        tls = self._tls or ssl.create_default_context()
        if self._security == "smtps":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=self._timeout, context=tls
            )
        else:
            connection = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
        try:
            if self._security == "smtp+starttls":
                connection.starttls(context=tls)
            self._login(connection, password)
            yield connection
            self._say_goodbye(connection)
        finally:
            connection.close()

    def _login(self, connection: smtplib.SMTP, password: str) -> None:
        if self._user is None:
            return
        if self._security == "smtp" and not _is_loopback(self._host):
            raise MailRejected(
                f"{self._where}: the password of {self._user} would travel unencrypted; nothing was sent",
                "use smtp+starttls:// or smtps://",
            )
        connection.login(self._user, password)

    @staticmethod
    def _say_goodbye(connection: smtplib.SMTP) -> None:
        # The message is delivered by now; a connection that breaks here must not have it sent again.
        try:
            connection.quit()
        except (smtplib.SMTPException, OSError):
            return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OrchestratorError:
            raise
        except smtplib.SMTPRecipientsRefused as error:
            raise self._refused(error) from error
        except smtplib.SMTPNotSupportedError as error:
            remedy = "use smtps://, or another port" if self._security == "smtp+starttls" else ""
            raise MailRejected(f"{self._where} cannot do what is asked of it: {error}", remedy) from error
        except smtplib.SMTPServerDisconnected as error:
            # This is also how the library reports an answer that does not come.
            silent = isinstance(error.__context__, TimeoutError)
            what = f"did not answer within {self._timeout:g} s" if silent else "ended the connection"
            raise MailUnavailable(f"{self._where} {what}") from error
        except smtplib.SMTPResponseException as error:
            raise self._answered(error) from error
        except ssl.SSLCertVerificationError as error:
            raise MailRejected(
                f"{self._where} shows a certificate that is not trusted: {error.verify_message}",
                "use the name that the certificate was made for, or install its authority on this machine",
            ) from error
        except TimeoutError as error:
            raise MailUnavailable(f"{self._where} did not answer within {self._timeout:g} s") from error
        except (smtplib.SMTPException, OSError) as error:
            raise MailUnavailable(f"{self._where} cannot be reached: {error}") from error

    def _refused(self, error: smtplib.SMTPRecipientsRefused) -> MailError:
        replies = error.recipients.items()
        refused = "; ".join(f"{address}: {code} {_text(reply)}" for address, (code, reply) in replies)
        problem = f"{self._where} refuses every recipient: {refused}"
        if all(code >= _PERMANENT for _, (code, _) in replies):
            return MailRejected(problem, "check the addresses in the pipeline's actions")
        return MailUnavailable(problem)

    def _answered(self, error: smtplib.SMTPResponseException) -> MailError:
        answer = f"{error.smtp_code} {_text(error.smtp_error)}"
        problem, remedy = f"{self._where} refuses the message: {answer}", ""
        if isinstance(error, smtplib.SMTPAuthenticationError):
            problem = f"{self._where} does not accept the login of {self._user}: {answer}"
            remedy = "check the user in email.smtp, and email.password"
        return MailRejected(problem, remedy) if error.smtp_code >= _PERMANENT else MailUnavailable(problem)


def _recipients(message: EmailMessage) -> list[str]:
    """The bare addresses. Raises MailRejected for one that is none, or when there are none at all."""
    try:
        fields = [str(field) for name in ("To", "Cc", "Bcc") for field in message.get_all(name, [])]
        addresses = [address for _, address in getaddresses(fields)]
    except (HeaderParseError, ValueError) as error:
        raise MailRejected(f"the message has a damaged header: {error}") from error
    if not addresses:
        raise MailRejected("the message has no recipient", "name one in the pipeline's actions")
    for address in addresses:
        local, at, domain = address.rpartition("@")
        if not (local and at and domain) or any(ord(c) <= 32 or c in "<>" for c in address):
            raise MailRejected(
                f"{address!r} is no mail address", "check the addresses in the pipeline's actions"
            )
    return list(dict.fromkeys(addresses))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _text(reply: bytes | str) -> str:
    """A server's reply on one line."""
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return " ".join(text.split())
