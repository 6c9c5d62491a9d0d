"""Cross-site scripting, template injection, terminal control: texts of a repository and its run are data."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest

from tests.security.conftest import InstallationMaker
from tests.support.installation import COMMAND, Installation

MARKUP = "<img src=x onerror=alert(1)>"
TEMPLATE = "{{7*7}}{% raw %}${7*7}#{7*7}"
SUBJECT = f"Fix {TEMPLATE} {MARKUP} [red]bold[/red] \x1b]0;owned\x07\x1b[2J\x1b[31mred \u202egnp.exe"
AUTHOR = f"Eve {MARKUP.replace('<', '').replace('>', '')} {{{{7*7}}}}\x1b[2J"
BRANCH = "x/{{config}}</title><img/src=x/onerror=alert(1)>"
METRIC = f"a{TEMPLATE}{MARKUP}\x1b[2J"
TRAIN = f"""\
import json, sys
sys.stdout.buffer.write(b"log {MARKUP} {TEMPLATE} </pre></body><script>alert(2)</script>\\n")
sys.stdout.buffer.write(b"title \\x1b]0;owned\\x07 clear \\x1b[2J\\x1b[H up \\x1b[1A\\x1b[2K 8bit \\x9b2J\\n")
sys.stdout.buffer.write(b"link \\x1b]8;;http://evil.example\\x1b\\\\\\\\text\\x1b]8;;\\x1b\\\\\\\\\\n")
sys.stdout.buffer.write(b"answer \\x1b[6n\\x1b[c \\x1bP+q544e\\x1b\\\\\\\\ \\xc2\\x9b31m bell \\x07\\n")
sys.stdout.buffer.write(b"back\\x08\\x08over\\rwritten \\x1b[31mred\\x1b[0m [red]markup[/red]\\n")
json.dump({{"accuracy": 0.8, {METRIC!r}: 0.5}}, open("metrics.json", "w"))
raise SystemExit("died of {MARKUP} {TEMPLATE} \\x1b[2J")
"""
ALLOWED_TAGS = {"script", "img", "iframe", "object", "embed", "form", "svg", "link", "base", "input"}


class Page(HTMLParser):
    """The elements of a page as a browser would make them, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.handlers: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src", "action")}

    def handle_data(self, data: str) -> None:
        self.text += data


@dataclass
class Shown:
    """What people see of one run."""

    installation: Installation
    pages: dict[str, str]
    plain: dict[str, str]


@pytest.fixture(scope="module")
def shown(shared_installation: InstallationMaker) -> Shown:
    """A run that failed, of a commit whose every text is hostile."""
    installation = shared_installation()
    source = {"git": installation.repository.url, "branches": ["main", "x/*"], "poll": "1s"}
    installation.pipeline = {"source": source, "collect": ["metrics.json"]}
    installation.write()
    git = installation.repository.git
    git("checkout", "--quiet", "-b", BRANCH)
    installation.repository.commit({"train.py": TRAIN, "accuracy.txt": "0.8\n"}, "first", push=False)
    git("-c", f"user.name={AUTHOR}", "commit", "--quiet", "--amend", "--reset-author", "-m", SUBJECT)
    git("push", "--quiet", "origin", "HEAD")
    server = installation.serve()
    installation.wait_for_mails(1)
    (mail,) = installation.smtp.messages
    pages = {path: server.get(path) for path in ("/", "/runs/1")}
    return Shown(
        installation,
        {**pages, "mail": mail.body()},
        {"log": server.get("/runs/1/log"), "mail": mail.body("plain"), "subject": mail.subject},
    )


def on_a_terminal(installation: Installation, *arguments: str) -> str:
    """What a command writes to a terminal, standard error included."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "--config", str(installation.config), *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "400"},
    )
    os.close(theirs)
    written = bytearray()

    def drain() -> None:
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:
                return
            if not data:
                return
            written.extend(data)

    reader = threading.Thread(target=drain)
    reader.start()
    process.wait(60)
    reader.join(60)
    os.close(ours)
    return written.decode("utf-8", "replace")


@pytest.mark.parametrize("place", ["/", "/runs/1", "mail"])
def test_markup_in_any_text_is_shown_and_never_parsed(shown: Shown, place: str) -> None:
    page = Page(shown.pages[place])
    assert page.tags & ALLOWED_TAGS == set()
    assert page.handlers == set()
    assert not any(link.lower().startswith(("javascript:", "data:")) for link in page.links)
    assert "onerror=alert(1)" in page.text, "or the hostile text did not come through at all"


@pytest.mark.parametrize("place", ["/runs/1", "mail"])
def test_template_code_in_a_commit_message_stays_as_it_is(shown: Shown, place: str) -> None:
    text = Page(shown.pages[place]).text
    assert "{{7*7}}" in text
    assert "{% raw %}" in text
    assert "Fix 49" not in text


def test_a_subject_cannot_add_headers_or_be_a_template(shown: Shown) -> None:
    (mail,) = shown.installation.smtp.messages
    assert "49" not in mail.subject
    assert mail.message.get_all("Bcc") is None
    assert mail.recipients == ("team@example.org",)
    assert "\n" not in mail.subject


@pytest.mark.parametrize("place", ["/", "/runs/1", "mail"])
def test_no_control_or_reversing_character_reaches_a_page(shown: Shown, place: str) -> None:
    page = shown.pages[place].replace("\r\n", "\n")
    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page) == []


def test_no_control_character_reaches_plain_text(shown: Shown) -> None:
    for place in ("log", "mail", "subject"):
        assert re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", shown.plain[place]) == []


# Colours, and what a live display needs: showing and hiding the cursor, moving it, clearing its own lines.
HARMLESS = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[hl]|\?7[hl]|[0-9]*[ABG]|2?K)")


@pytest.mark.parametrize(
    "command",
    [
        ("runs", "logs", "1"),
        ("runs", "logs", "1", "--timestamps"),
        ("runs", "show", "1"),
        ("runs", "list"),
        ("plan", "line"),
    ],
    ids=" ".join,
)
def test_escape_codes_of_a_run_do_not_command_the_terminal(shown: Shown, command: tuple[str, ...]) -> None:
    written = on_a_terminal(shown.installation, *command)
    assert "\x1b]" not in written.replace("\x1b]8;;\x1b\\", "")
    left = HARMLESS.sub("", written)
    assert re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", left) == []
    if command[1] in ("logs", "show"):
        assert "7*7" in left
    if command[:2] == ("runs", "logs"):
        assert "\x1b[2J" not in written
        assert "\x1b[31m" not in written
        assert "[red]markup[/red]" in left
