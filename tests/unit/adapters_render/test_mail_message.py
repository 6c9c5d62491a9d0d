"""The headers and the parts of a mail."""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from orchestrator.domain.chart import Drawn
from orchestrator.domain.errors import MailRejected
from orchestrator.domain.report import Rendered
from orchestrator.services.mail_message import AS_WRITTEN, compose
from tests.unit.adapters_render.reports import WHEN, run

MESSAGE_ID = "report.42.7@example.org"


def mail(
    *recipients: str,
    subject: str = "[wine] passed",
    sender: str = "ML CI <ci@example.org>",
    message_id: str = MESSAGE_ID,
    html: str = "<p>rich wörds</p>",
    images: tuple[Drawn, ...] = (),
    unsubscribe: str = "",
) -> EmailMessage:
    return compose(
        Rendered(subject, "plain wörds\n", html, images),
        run=run(),
        sender=sender,
        recipients=recipients or ("team@example.org",),
        message_id=message_id,
        now=WHEN,
        unsubscribe=unsubscribe,
    )


def test_a_mail_has_a_plain_and_an_html_body_in_that_order() -> None:
    parts = list(mail().iter_parts())
    assert mail().get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert [part.get_content().strip() for part in parts] == ["plain wörds", "<p>rich wörds</p>"]


def test_pictures_travel_with_the_page_that_shows_them() -> None:
    picture = Drawn("trend-accuracy", b"\x89PNG\r\n\x1a\nrest", "accuracy over 3 runs", 560, 210)
    html = '<p>cid:unknown</p><img src="cid:trend-accuracy" alt="accuracy over 3 runs">'
    made = mail(html=html, images=(picture,))
    plain, related = made.iter_parts()
    assert (plain.get_content_type(), related.get_content_type()) == ("text/plain", "multipart/related")
    page, image = related.iter_parts()
    cid = image["Content-ID"].strip("<>")
    assert cid == f"trend-accuracy.{MESSAGE_ID}"
    assert page.get_content().strip() == html.replace("cid:trend-accuracy", f"cid:{cid}")
    assert (image.get_content_type(), image.get_content()) == ("image/png", picture.png)
    assert image.get_content_disposition() == "inline"


def test_who_wants_no_more_mails_is_told_how_to_say_so() -> None:
    assert mail()["List-Unsubscribe"] == "<mailto:ci@example.org?subject=unsubscribe%20wine-quality>"
    assert mail(unsubscribe="https://lists.example.org/ci")["List-Unsubscribe"] == (
        "<https://lists.example.org/ci>"
    )


def test_the_same_act_has_the_same_message_id_on_every_try() -> None:
    assert mail()["Message-ID"] == mail(message_id=f"<{MESSAGE_ID}>")["Message-ID"] == f"<{MESSAGE_ID}>"


def test_all_mails_about_a_pipeline_are_one_thread_that_machines_do_not_answer() -> None:
    first, second = mail(), mail(message_id="report.43.8@example.org")
    assert (
        first["References"]
        == second["References"]
        == first["In-Reply-To"]
        == "<pipeline.wine-quality@example.org>"
    )
    assert first["Message-ID"] != first["References"]
    assert first["List-Id"] == "<wine-quality.cellar.example.org>"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["X-MLCI-Run"] == "wine-quality #17"
    assert first["Date"] == "Mon, 23 Nov 2026 05:44:59 +0000"


def test_a_subject_is_one_line_whatever_a_commit_says() -> None:
    subject = mail(subject="passed\r\nBcc: eve@example.org\n\n<script>" + "x" * 500)["Subject"]
    assert subject.startswith("passed Bcc: eve@example.org <script>xx")
    assert len(subject) == 200


@pytest.mark.parametrize(
    "address",
    [
        "ana@example.org\nBcc: eve@example.org",
        "ana@example.org, eve@example.org",
        "Ana\r\nBcc: eve@example.org <ana@example.org>",
        "ana",
        "",
        "@example.org",
        "ana@",
        "ana@exa mple.org",
        "<ana@example.org> eve@example.org",
    ],
)
def test_an_address_never_adds_a_header_or_a_recipient(address: str) -> None:
    with pytest.raises(MailRejected, match="no mail address"):
        mail("team@example.org", address)


def test_names_of_people_keep_their_letters() -> None:
    to = mail('"Ána, the first" <ana@example.org>')["To"]
    assert [(a.display_name, a.addr_spec) for a in to.addresses] == [("Ána, the first", "ana@example.org")]


@pytest.mark.parametrize("message_id", ["", "x", "a b@example.org", "x@example.org>\nBcc: eve@example.org"])
def test_a_message_id_is_one_identifier(message_id: str) -> None:
    with pytest.raises(MailRejected, match="no Message-ID"):
        mail(message_id=message_id)


def test_a_mail_to_nobody_is_refused() -> None:
    with pytest.raises(MailRejected, match="no recipient"):
        compose(
            Rendered("s", "t", "h"),
            run=run(),
            sender="ci@example.org",
            recipients=(),
            message_id=MESSAGE_ID,
            now=WHEN,
        )


@pytest.mark.parametrize("length", range(60, 90))
def test_a_subject_of_any_length_arrives_as_it_was_written(length: int) -> None:
    subject = "[wine] failed: " + ("the command ran out of memory " * 3)[: length - 15].strip()
    kept = mail(subject=subject).as_bytes()
    assert f"Subject: {subject[:15]}".encode() in kept
    sent_on = message_from_bytes(kept, EmailMessage, policy=AS_WRITTEN).as_bytes()
    assert sent_on == kept
    assert message_from_bytes(sent_on, policy=default)["Subject"] == subject
