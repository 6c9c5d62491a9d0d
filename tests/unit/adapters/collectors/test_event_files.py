"""TensorBoard's event files when something is wrong with them."""

from __future__ import annotations

import math
import struct
import tracemalloc

import pytest

from orchestrator.adapters.collectors import tensorboard, tfrecords
from orchestrator.adapters.collectors.tfrecords import masked_crc
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from tests.support.left_files import curve, left, readings, values


def varint(value: int) -> bytes:
    """A number as protocol buffers write it."""
    value &= (1 << 64) - 1
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def record(data: bytes) -> bytes:
    """A record around some bytes."""
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc(size)) + data + struct.pack("<I", masked_crc(data))


def scalar(step: int, value: float, tag: str = "loss", wall: float = 1.5e9) -> bytes:
    """An event of one number."""
    said = b"\x0a" + varint(len(tag)) + tag.encode() + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + varint(len(said)) + said
    return record(
        b"\x09" + struct.pack("<d", wall) + b"\x10" + varint(step) + b"\x2a" + varint(len(summary)) + summary
    )


def read(*files: bytes) -> Reading:
    """What the files of one run say."""
    made = left({f"runs/events.out.tfevents.{n}.host": content for n, content in enumerate(files)})
    (reading,) = readings(made).values()
    return reading


def test_the_sum_of_a_record_is_that_of_the_format() -> None:
    # CRC-32C of "123456789" is 0xE3069283 in RFC 3720's family of checks; the format turns and adds.
    crc = 0xE3069283
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_last_record_that_is_cut_off_is_a_warning() -> None:
    whole = scalar(1, 4.0) + scalar(2, 2.0)
    reading = read(whole + scalar(3, 1.0)[:-7])
    assert curve(reading, "loss") == [(1, 4), (2, 2)]
    assert f"its last record is cut off: 35 bytes at byte {len(whole)}" in reading.warnings[0]


def test_a_damaged_length_ends_the_reading_with_a_warning() -> None:
    broken = bytearray(scalar(3, 1.0))
    broken[1] = 1
    reading = read(scalar(1, 4.0) + scalar(2, 2.0) + bytes(broken) + scalar(4, 0.5))
    assert curve(reading, "loss") == [(1, 4), (2, 2)]
    assert "is damaged; what follows was not read" in reading.warnings[0]


def test_a_damaged_record_is_passed_over_with_a_warning() -> None:
    broken = bytearray(scalar(3, 1.0))
    broken[-5] ^= 0x55
    reading = read(scalar(1, 4.0) + scalar(2, 2.0) + bytes(broken) + scalar(4, 0.5))
    assert curve(reading, "loss") == [(1, 4), (2, 2), (4, 0.5)]
    assert "1 records near byte 0 are damaged and were passed over" in reading.warnings[0]


def test_records_that_are_no_events_are_counted() -> None:
    reading = read(scalar(1, 4.0) + record(b"\x09" * 30) + record(b"\x00" + b"\xff" * 40) + scalar(2, 2.0))
    assert curve(reading, "loss") == [(1, 4), (2, 2)]
    assert reading.warnings == (
        "runs/events.out.tfevents.0.host: 2 records are no events and were passed over",
    )


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"not events at all, but a text", scalar(1, 1.0)[:20]]
)
def test_a_file_without_an_event_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="no event could be read"):
        read(content)


def test_records_in_blocks_of_any_size_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"".join(scalar(n, n / 2, "ab"[n % 2] * (1 + n % 3)) for n in range(200))
    expected = read(content)
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(tfrecords, "_BLOCK", size)
        assert read(content) == expected


def test_a_record_that_is_too_large_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecords, "_LARGEST", 100)
    monkeypatch.setattr(tfrecords, "_BLOCK", 64)
    reading = read(scalar(1, 4.0) + record(bytes(5000)) + scalar(2, 2.0))
    assert curve(reading, "loss") == [(1, 4), (2, 2)]
    assert "has 5000 bytes and was passed over" in reading.warnings[0]


def test_steps_of_any_size_and_nan_are_kept() -> None:
    steps = [-1, 0, 127, 128, 300, 2**31, 2**40, 2**62]
    reading = read(b"".join(scalar(step, math.nan if step == 127 else step % 97) for step in steps))
    assert [step for step, _ in curve(reading, "loss")] == steps
    assert math.isnan(curve(reading, "loss")[2][1])


def test_a_later_file_that_goes_back_replaces_the_points_from_there() -> None:
    first = b"".join(scalar(step, 10 + step) for step in range(5))
    second = b"".join(scalar(step, 20 + step) for step in range(3, 7))
    assert curve(read(first, second), "loss") == [
        (0, 10),
        (1, 11),
        (2, 12),
        (3, 23),
        (4, 24),
        (5, 25),
        (6, 26),
    ]


def test_what_stands_in_the_order_of_the_file_stays_in_it_across_layouts() -> None:
    # Steps below and above 128 have other lengths, and so other layouts of their records.
    reading = read(b"".join(scalar(step, step) for step in (200, 3, 400, 5)))
    assert curve(reading, "loss") == [(200, 200), (3, 3), (400, 400), (5, 5)]
    assert values(reading) == {"loss": 5}


def test_a_run_that_lost_one_of_its_files_is_read_from_the_others() -> None:
    reading = read(b"", scalar(1, 2.0))
    assert values(reading) == {"loss": 2}
    assert reading.warnings == ("runs/events.out.tfevents.0.host: the file is empty",)


def counter(step: int, value: int, tag: str = "seen") -> bytes:
    """An event of one integer, whose length tells no place."""
    tensor = b"\x08\x09\x52" + varint(len(varint(value))) + varint(value)
    said = b"\x0a" + varint(len(tag)) + tag.encode() + b"\x42" + varint(len(tensor)) + tensor
    summary = b"\x0a" + varint(len(said)) + said
    stamp = b"\x09" + struct.pack("<d", 1.5e9)
    return record(stamp + b"\x10" + varint(step) + b"\x2a" + varint(len(summary)) + summary)


def test_integers_are_read_in_their_order_with_little_memory_for_each() -> None:
    count = 20_000
    content = b"".join(counter(step, 3 * step) for step in range(count))
    tracemalloc.start()
    try:
        reading = read(content)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert curve(reading, "seen")[-2:] == [(count - 2, 3 * count - 6), (count - 1, 3 * count - 3)]
    assert (most - 6 * len(content)) / count < 200


def test_records_that_must_be_parsed_one_by_one_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "_MOST_ALONE", 50)
    with pytest.raises(InvalidInput, match="more than 50 records that differ in more than numbers"):
        read(b"".join(counter(step, step) for step in range(60)))
    assert len(curve(read(b"".join(scalar(step, 1.0) for step in range(60))), "loss")) == 60
