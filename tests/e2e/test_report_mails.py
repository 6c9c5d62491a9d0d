"""Mails of real runs, as a server receives them: their pictures belong to them, and files hold the same."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.installation import Installation

TRAIN_WITH_CURVE = """\
import json
accuracy = float(open("accuracy.txt").read())
with open("curve.csv", "w") as out:
    out.write("epoch,loss\\n")
    for epoch in range(1, 11):
        out.write(f"{epoch},{(1 - accuracy) + 1 / epoch}\\n")
json.dump({"accuracy": accuracy}, open("metrics.json", "w"))
open("model.txt", "w").write("model")
"""


def test_a_mail_shows_the_trend_of_what_was_judged_inside_it(
    installation: Installation, tmp_path: Path
) -> None:
    for accuracy in (0.8, 0.85, 0.6):
        installation.commit(accuracy)
        installation.orchestrator("run", "line", expect=None)
    first, second, third = (received.message for received in installation.smtp.wait_for(3))
    assert [part for part in first.walk() if part.get_content_maintype() == "image"] == []
    for message in (second, third):
        (picture,) = (part for part in message.walk() if part.get_content_maintype() == "image")
        page = message.get_body(("html",))
        assert page is not None
        shown = re.findall(r'src="cid:([^"]+)"', page.get_content())
        assert [f"<{each}>" for each in shown] == [str(picture["Content-ID"])]
        assert picture.get_content().startswith(b"\x89PNG\r\n\x1a\n")
        assert len(page.get_content().encode()) < 80_000
    assert "over 3 runs: 0.6 in #3, baseline 0.85" in installation.smtp.messages[2].body()

    page_file = tmp_path / "report.html"
    installation.orchestrator("runs", "report", "line#3", "--html", str(page_file))
    whole = page_file.read_text()
    assert 'src="data:image/png;base64,' in whole
    assert "cid:" not in re.sub(r"<meta[^>]+>", "", whole)
    assert not re.search(r'(src|href)="(https?:)?//', whole)


def test_a_curve_that_the_run_left_is_in_its_first_mail(installation: Installation) -> None:
    installation.pipeline["collect"] = ["metrics.json", "curve.csv"]
    installation.write()
    installation.commit(0.8, {"train.py": TRAIN_WITH_CURVE})
    installation.orchestrator("run", "line", expect=None)
    (message,) = (received.message for received in installation.smtp.wait_for(1))
    names = [part.get_filename() for part in message.walk() if part.get_content_maintype() == "image"]
    assert names == ["curve-loss.png"]


def test_a_report_is_seen_in_each_form_and_sent_as_a_test(installation: Installation, tmp_path: Path) -> None:
    note = tmp_path / "mail.html"
    note.write_text("<p>Ask the cellar.</p>{{ standard }}")
    broken = tmp_path / "comment.md"
    broken.write_text("{{ nothing_such }}")
    installation.main["reports"] = {"templates": {"html": str(note), "comment": str(broken)}}
    installation.write()
    installation.commit(0.8)
    installation.orchestrator("run", "line", expect=None)
    installation.smtp.wait_for(1)
    installation.orchestrator("report", "send", "line#1", "--to", "me@example.org", "--on", "start")
    sent = installation.smtp.wait_for(2)[1]
    assert sent.message["Subject"].startswith("[test] [line] started: ")
    page = sent.message.get_body(("html",))
    assert page is not None
    assert "<p>Ask the cellar.</p>" in page.get_content()
    assert "# line \\#" in installation.orchestrator("runs", "report", "line#1", "--md")
    assert "accuracy" in installation.orchestrator("report", "preview", "line#1", "--form", "comment")
    for form in ("text", "html", "markdown", "mail", "slack", "teams", "discord", "mattermost"):
        out = tmp_path / form
        installation.orchestrator("report", "preview", "line#1", "--form", form, "--out", str(out))
        assert b"accuracy" in out.read_bytes()
