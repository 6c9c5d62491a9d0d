"""Secrets in logs: masked in every form, wherever the engine cuts what it sends."""

import base64
import json
import re
import threading
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.docker.frames import LineParser
from orchestrator.observe import Masker

SECRET = "s3cr+t/v?lue=é"
PRIVATE_KEY = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA7\nq83hJf82kqLwZ0aa\n-----END KEY-----\n"


@given(
    secrets=st.lists(st.text("ab", min_size=6, max_size=9), min_size=1, max_size=4),
    text=st.text("ab", max_size=80),
)
def test_overlapping_values_leave_nothing(secrets: list[str], text: str) -> None:
    result = Masker(secrets).mask_bytes(text.encode())
    assert not any(secret.encode() in result for secret in secrets)


def test_a_value_is_masked_wherever_the_engines_stream_is_split() -> None:
    masker = Masker([SECRET])
    line = f"a {SECRET}{SECRET} b {base64.b64encode(SECRET.encode()).decode()}!".encode()
    text = b"2026-01-01T00:00:00.000000001Z " + line + b"\n"
    stream = b"\1\0\0\0" + len(text).to_bytes(4, "big") + text
    for cut in range(len(stream) + 1):
        parser = LineParser()
        (found,) = [*parser.feed(stream[:cut]), *parser.feed(stream[cut:])]
        assert masker.mask_bytes(found.text) == b"a ****** b ***!"


def test_the_tail_of_a_secret_that_begins_inside_another_is_masked_too() -> None:
    assert Masker(["abcdef", "cdefghijkl"]).mask_bytes(b"<abcdefghijkl>") == b"<***>"


@pytest.mark.parametrize("before", range(7))
def test_base64_is_masked_at_every_alignment(before: int) -> None:
    value = b"correct-horse-battery-staple"
    encoded = base64.b64encode(b"x" * before + value + b"yz")
    text = Masker([value.decode()]).mask_bytes(encoded)
    assert b"***" in text
    left = base64.b64encode(value)[4:-4]
    assert left not in text
    assert len(text) < len(encoded) - len(value)


def test_base64_is_masked_when_a_tool_breaks_it_into_lines() -> None:
    value = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" * 2
    lines = [line for line in base64.encodebytes(value.encode()).splitlines() if len(line) > 40]
    assert len(lines) > 1
    masker = Masker([value])
    assert [masker.mask_bytes(line) for line in lines] == [b"***"] * len(lines)


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        urllib.parse.quote(SECRET),
        re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(SECRET, safe="")),
        urllib.parse.quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_encoded_forms_are_masked(shown: str) -> None:
    assert SECRET[:5] not in Masker([SECRET]).mask_text(f"<{shown}>")
    assert "***" in Masker([SECRET]).mask_text(f"<{shown}>")


def test_each_line_of_a_value_with_many_lines_is_masked_alone() -> None:
    masker = Masker([PRIVATE_KEY])
    assert [masker.mask_bytes(line.encode()) for line in PRIVATE_KEY.splitlines()] == [b"***"] * 4


def test_values_too_short_to_tell_from_words_stay() -> None:
    assert Masker(["abcde", ""]).mask_bytes(b"abcdefgh") == b"abcdefgh"
    assert Masker(["abcdef"]).mask_bytes(b"abcdefgh") == b"***gh"


def test_text_that_is_no_utf_8_keeps_its_bytes() -> None:
    assert Masker(["secret"]).mask_bytes(b"\xff\xfe secret \x00") == b"\xff\xfe *** \x00"
    assert Masker(["secret"]).mask_text("\udcff secret") == "\udcff ***"


def test_values_may_be_added_while_others_mask() -> None:
    masker = Masker()
    values = [f"secret-number-{n}" for n in range(40)]
    results: list[bytes] = []

    def add_all() -> None:
        for value in values:
            masker.add(value)

    adding = threading.Thread(target=add_all)
    masking = threading.Thread(target=lambda: results.extend(masker.mask_bytes(b"text") for _ in range(200)))
    for thread in (adding, masking):
        thread.start()
    for thread in (adding, masking):
        thread.join()
    assert set(results) == {b"text"}
    assert masker.mask_text(" ".join(values)) == " ".join(["***"] * 40)
