"""Durations and sizes as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.units import UnitError, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("10m", 600),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("7d", 604800),
        ("1.5h", 5400),
        ("0s", 0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("30", "30s"),
        ("2 hours", "2h"),
        ("5 min", "5m"),
        ("10M", "10m"),
        ("1h30", ""),
        ("30m1h", ""),
        ("1m1m", ""),
        ("-5m", ""),
        ("", ""),
        ("soon", ""),
        ("9999999999d", ""),
    ],
)
def test_other_durations_are_refused_with_the_likely_one(text: str, meant: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration(text)
    assert caught.value.suggestion == meant


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512b", 512),
        ("1k", 1024),
        ("8g", 8 << 30),
        ("8G", 8 << 30),
        ("8GiB", 8 << 30),
        ("8 GiB", 8 << 30),
        ("8GB", 8 * 10**9),
        ("1.5g", 3 << 29),
        ("2t", 2 << 40),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "meant"), [("32", "32g"), ("8 gigabyte", "8g"), ("8x", ""), ("-1g", ""), ("g", "")]
)
def test_other_sizes_are_refused_with_the_likely_one(text: str, meant: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_size(text)
    assert caught.value.suggestion == meant


@given(st.integers(0, 10**9))
def test_a_written_duration_is_read_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(st.integers(1, 10**12))
def test_a_written_size_is_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size
