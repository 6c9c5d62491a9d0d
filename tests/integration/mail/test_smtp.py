"""Mail handed to real SMTP servers: encrypted or not, with and without a login, taken or refused."""

from __future__ import annotations

import email
import email.policy
import logging
import socket
import ssl
from email.message import EmailMessage
from pathlib import Path

import pytest

from orchestrator.adapters.render import ReportRenderer
from orchestrator.adapters.smtp import SmtpMailer
from orchestrator.domain.errors import MailRejected, MailUnavailable, SecretMissing
from orchestrator.domain.mailing import Refusal
from orchestrator.services.mail_message import compose
from tests.support.mailserver import PASSWORD, USER, mailbox, make_certificate
from tests.support.smtp import SmtpServer
from tests.unit.adapters_render.reports import WHEN, broken, crashed

SENDER = "ML CI <ci@example.org>"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def message(*to: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, ", ".join(to or ("team@example.org",)), "grüße"
    mail.set_content("plain")
    return mail


def test_a_report_arrives_with_both_bodies_and_its_thread(smtp_server: SmtpServer) -> None:
    mailer = SmtpMailer(f"smtp://{smtp_server.host}:{smtp_server.port}", None, SENDER)
    report = broken()
    mailer.send(
        compose(
            ReportRenderer().render(report),
            run=report.run,
            sender=mailer.sender,
            recipients=("team@example.org", "Ána <ana@example.org>"),
            message_id="report.42.7@example.org",
            now=WHEN,
        )
    )
    (mail,) = smtp_server.wait_for(1)
    assert (mail.sender, mail.recipients) == ("ci@example.org", ("team@example.org", "ana@example.org"))
    assert mail.subject == "[wine-quality] broken: accuracy 0.897 (-0.018), not deployed"
    assert report.headline in mail.body("html")
    assert report.headline in " ".join(mail.body("plain").split())
    assert "wine v6 → v7" in mail.body("plain")
    assert mail.message["Message-ID"] == "<report.42.7@example.org>"
    assert mail.message["References"] == "<pipeline.wine-quality@example.org>"


def test_a_log_line_of_one_dot_does_not_end_the_mail(smtp_server: SmtpServer) -> None:
    mailer = SmtpMailer(f"smtp://{smtp_server.host}:{smtp_server.port}", None, SENDER)
    mail = message()
    mail.set_content("before\n.\n..\nafter\n" + crashed().headline)
    mailer.send(mail)
    (arrived,) = smtp_server.wait_for(1)
    assert arrived.body("plain").splitlines()[:4] == ["before", ".", "..", "after"]


@pytest.mark.parametrize("security", ["smtps", "smtp+starttls"])
def test_a_mail_travels_encrypted_with_a_login(
    security: str, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    with mailbox(security, certificate, login=True) as box:
        url = f"{security}://{USER}@{box.host}:{box.port}"
        SmtpMailer(url, PASSWORD, SENDER, tls=trusting).send(message())
        assert (len(box.received), box.encrypted, box.logins) == (1, [True], [USER.encode()])


def test_a_password_is_looked_up_for_each_mail_and_waited_for_while_it_is_missing(
    certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    values: list[str] = []

    def looked_up() -> str:
        if not values:
            raise SecretMissing("the key does not exist", "put it back")
        return values[-1]

    with mailbox("smtps", certificate, login=True) as box:
        mailer = SmtpMailer(f"smtps://{USER}@{box.host}:{box.port}", looked_up, SENDER, tls=trusting)
        with pytest.raises(
            MailUnavailable, match=r"email\.password has no value: the key does not exist; put it"
        ):
            mailer.send(message())
        values.append("an older one")
        with pytest.raises(MailRejected):
            mailer.send(message())
        values.append(PASSWORD)
        mailer.send(message())
        assert len(box.received) == 1


def test_a_wrong_password_is_refused_for_good(
    certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    with mailbox("smtps", certificate, login=True) as box:
        mailer = SmtpMailer(f"smtps://{USER}@{box.host}:{box.port}", "wrong", SENDER, tls=trusting)
        with pytest.raises(
            MailRejected, match=r"does not accept the login of ci: 535 .*email\.password"
        ) as caught:
            mailer.send(message())
        assert box.received == []
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "error"),
    [("451 try again later", MailUnavailable), ("554 smells like spam", MailRejected)],
)
def test_a_refused_message_is_tried_again_only_when_the_server_says_so(
    smtp_server: SmtpServer, reply: str, error: type[Exception]
) -> None:
    mailer = SmtpMailer(f"smtp://{smtp_server.host}:{smtp_server.port}", None, SENDER)
    smtp_server.refuse_with(reply)
    with pytest.raises(error, match=f"refuses the message: {reply}"):
        mailer.send(message())
    smtp_server.refuse_with(None)
    mailer.send(message())
    assert len(smtp_server.wait_for(1)) == 1


@pytest.mark.parametrize(
    ("reply", "error"), [("550 no such user", MailRejected), ("450 mailbox busy", MailUnavailable)]
)
def test_recipients_who_are_all_refused_are_named(reply: str, error: type[Exception]) -> None:
    with mailbox(refusals={"team@example.org": reply}) as box:
        mailer = SmtpMailer(f"smtp://{box.host}:{box.port}", None, SENDER)
        with pytest.raises(error, match=f"refuses every recipient: team@example.org: {reply}"):
            mailer.send(message())


def test_one_refused_recipient_does_not_keep_the_mail_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with mailbox(refusals={"gone@example.org": "550 no such user"}) as box, caplog.at_level(logging.WARNING):
        refused = SmtpMailer(f"smtp://{box.host}:{box.port}", None, SENDER).send(
            message("gone@example.org", "team@example.org")
        )
        assert [envelope.rcpt_tos for envelope in box.received] == [["team@example.org"]]
    assert refused == [Refusal("gone@example.org", "550 no such user", permanent=True)]
    assert "refused gone@example.org: 550 no such user" in caplog.text


def test_recipients_who_are_refused_in_different_ways_are_told_apart() -> None:
    refusals = {"gone@example.org": "550 no such user", "busy@example.org": "450 try again later"}
    with mailbox(refusals=refusals) as box:
        mailer = SmtpMailer(f"smtp://{box.host}:{box.port}", None, SENDER)
        refused = mailer.send(message("gone@example.org", "busy@example.org"))
        assert box.received == []
    assert {refusal.address: refusal.permanent for refusal in refused} == {
        "gone@example.org": True,
        "busy@example.org": False,
    }


def test_a_mail_goes_to_those_alone_who_do_not_have_it_yet() -> None:
    with mailbox() as box:
        mailer = SmtpMailer(f"smtp://{box.host}:{box.port}", None, SENDER)
        assert mailer.send(message("ada@example.org", "bo@example.org"), ["bo@example.org"]) == []
        assert [envelope.rcpt_tos for envelope in box.received] == [["bo@example.org"]]


def test_a_server_that_is_down_or_unknown_is_asked_again_later(smtp_server: SmtpServer) -> None:
    smtp_server.stop()
    for host in (f"{smtp_server.host}:{smtp_server.port}", "no-such-host.invalid"):
        with pytest.raises(MailUnavailable, match="cannot be reached"):
            SmtpMailer(f"smtp://{host}", None, SENDER, timeout=5).send(message())
    smtp_server.start()
    SmtpMailer(f"smtp://{smtp_server.host}:{smtp_server.port}", None, SENDER).send(message())
    assert len(smtp_server.wait_for(1)) == 1


def test_blind_copies_are_sent_and_not_shown() -> None:
    with mailbox() as box:
        mail = message()
        mail["Bcc"] = "audit@example.org"
        SmtpMailer(f"smtp://{box.host}:{box.port}", None, SENDER).send(mail)
        (envelope,) = box.received
    assert envelope.rcpt_tos == ["team@example.org", "audit@example.org"]
    assert isinstance(envelope.content, bytes)
    arrived = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert arrived["Bcc"] is None
    assert arrived["Subject"] == "grüße"


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mailer = SmtpMailer(f"smtp://127.0.0.1:{silent.getsockname()[1]}", None, SENDER, timeout=0.3)
        with pytest.raises(MailUnavailable, match=r"did not answer within 0\.3 s"):
            mailer.send(message())
