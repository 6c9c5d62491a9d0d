"""Structured logs: what a line holds, and what it never holds."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog

from orchestrator import observe


@pytest.fixture
def logged() -> Iterator[Callable[..., io.StringIO]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(*, as_json: bool, secrets: tuple[str, ...] = (), level: str = "INFO") -> io.StringIO:
        stream = io.StringIO()
        observe.configure_logging(level, json=as_json, masker=observe.Masker(secrets), stream=stream)
        return stream

    yield configure
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_carries_the_values_bound_around_it(logged: Callable[..., io.StringIO]) -> None:
    stream = logged(as_json=True)
    with observe.bound(run=7, pipeline="wine"):
        logging.getLogger("execute").info("attempt started")
    logging.getLogger("execute").info("idle")
    first, second = map(json.loads, stream.getvalue().splitlines())
    shown = {key: value for key, value in first.items() if key not in ("timestamp", "logger")}
    assert shown == {
        "event": "attempt started",
        "run": 7,
        "pipeline": "wine",
        "level": "info",
    }
    assert first["logger"] == "execute"
    assert "run" not in second


@pytest.mark.parametrize("as_json", [True, False])
def test_a_secret_shows_nowhere_in_a_line(logged: Callable[..., io.StringIO], as_json: bool) -> None:
    secret = "pa ss\nword-42"
    stream = logged(as_json=as_json, secrets=(secret,))
    with observe.bound(where=f"https://x:{secret}@host", raw=secret.encode(), nested=[secret]):
        try:
            int(secret)
        except ValueError:
            logging.getLogger("a").exception("failed with %s", secret)
    logging.getLogger("library").warning("said %s", secret)
    text = stream.getvalue()
    assert text.count("***") >= 5
    assert "word-42" not in text
    assert "ValueError" in text


def test_lines_of_libraries_look_like_ours(logged: Callable[..., io.StringIO]) -> None:
    stream = logged(as_json=True)
    logging.getLogger("library").warning("said %s", "this")
    assert json.loads(stream.getvalue())["event"] == "said this"


def test_lines_below_the_level_are_dropped(logged: Callable[..., io.StringIO]) -> None:
    stream = logged(as_json=False, level="warning")
    logging.getLogger("a").info("quiet")
    logging.getLogger("a").warning("loud")
    assert "loud" in stream.getvalue()
    assert "quiet" not in stream.getvalue()


def test_a_value_cannot_forge_a_line_or_command_a_terminal(logged: Callable[..., io.StringIO]) -> None:
    stream = logged(as_json=False)
    with observe.bound(branch="x\n12:00:00 error   forged\x1b[2J"):
        logging.getLogger("a").info("pushed")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert r"\n" in stream.getvalue()


def test_what_a_library_warns_of_each_try_is_no_line_of_ours(logged: Callable[..., io.StringIO]) -> None:
    stream = logged(as_json=False)
    logging.getLogger("urllib3.connectionpool").warning("Retrying (Retry(total=0)) after connection broken")
    logging.getLogger("urllib3.connectionpool").error("something worse")
    assert "Retrying" not in stream.getvalue()
    assert "something worse" in stream.getvalue()


def test_the_masker_alone_does_not_load_structlog() -> None:
    code = (
        "import sys; from orchestrator.observe import Masker; "
        "Masker(['abcdef']); sys.exit('structlog' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
