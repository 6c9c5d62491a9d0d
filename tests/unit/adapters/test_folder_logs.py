"""Logs of attempts on disk: masked, resumable, readable from both ends."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.adapters.files.logs import FolderLogs
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.observe import LogMask, Masker
from orchestrator.ports.engine import LogLine


def line(moment: float, text: str | bytes) -> LogLine:
    """A line stamped so many seconds after ten o'clock."""
    raw = text.encode() if isinstance(text, str) else text
    return LogLine(f"2026-11-05T10:00:{moment:012.9f}Z", raw)


def unmasked() -> LogMask:
    return LogMask(Masker())


def write(logs: FolderLogs, lines: Sequence[LogLine]) -> int:
    writer = logs.writer(1, unmasked())
    for item in lines:
        writer.write(item)
    writer.close()
    return writer.size


def texts(logs: FolderLogs) -> list[bytes]:
    return [item.text for _, item in logs.lines(1)]


@pytest.fixture
def logs(tmp_path: Path) -> FolderLogs:
    return FolderLogs(tmp_path / "logs")


def test_lines_come_back_with_their_times_and_offsets_to_go_on_from(logs: FolderLogs) -> None:
    written = [line(1, "one"), line(2, b"t\xffwo words\r50%\r100%"), line(3, "")]
    write(logs, written)
    read = list(logs.lines(1))
    assert [item for _, item in read] == written
    assert [item for _, item in logs.lines(1, read[0][0])] == written[1:]
    assert list(logs.lines(1, read[-1][0])) == []


def test_an_attempt_without_a_log_has_no_lines(logs: FolderLogs) -> None:
    assert list(logs.lines(7)) == []
    assert logs.tail(7, 5) == ()
    writer = logs.writer(7, unmasked())
    assert writer.last_timestamp is None
    writer.close()


def test_a_reader_sees_a_line_as_soon_as_it_is_written(logs: FolderLogs) -> None:
    writer = logs.writer(1, unmasked())
    writer.write(line(1, "one"))
    assert texts(logs) == [b"one"]
    writer.close()


def test_secrets_are_masked_before_they_reach_the_disk(logs: FolderLogs, tmp_path: Path) -> None:
    writer = logs.writer(1, LogMask(Masker(["hunter22"])))
    writer.write(line(1, "password=hunter22"))
    writer.close()
    path = tmp_path / "logs" / "1.log"
    assert b"password=***" in path.read_bytes()
    assert b"hunter22" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def resume(logs: FolderLogs, everything: Sequence[LogLine]) -> str | None:
    """Do what a follower does after a restart: the stream begins again at the resume point, inclusive."""
    writer = logs.writer(1, unmasked())
    since = writer.last_timestamp
    for item in everything:
        if since is None or item.timestamp >= since:
            writer.write(item)
    writer.close()
    return since


@pytest.mark.parametrize("kept", range(9))
def test_a_resumed_log_has_no_line_twice_and_none_missing(logs: FolderLogs, kept: int) -> None:
    everything = [
        line(1, "start"),
        line(5, "same"),
        line(5, "same"),
        line(5.0000001, "same"),
        line(5.000002, "from stdout"),
        line(5.000001, "late, from stderr"),
        line(5.000002, "from stdout"),
        line(9, "end"),
    ]
    write(logs, everything[:kept])
    resume(logs, everything)
    assert texts(logs) == [item.text for item in everything]


def test_a_late_line_of_the_other_stream_is_not_lost(logs: FolderLogs) -> None:
    write(logs, [line(5, "from stdout")])
    assert resume(logs, [line(5, "from stdout"), line(4.8, "late, from stderr")]) == line(4, "").timestamp
    assert texts(logs) == [b"from stdout", b"late, from stderr"]


def test_equal_lines_survive_in_their_number_when_a_resumed_stream_has_more(logs: FolderLogs) -> None:
    write(logs, [line(1, "tick"), line(1, "tick")])
    resume(logs, [line(1, "tick")] * 5)
    assert texts(logs) == [b"tick"] * 5


def test_the_same_line_at_a_later_time_is_another_line(logs: FolderLogs) -> None:
    write(logs, [line(1, "tick")])
    resume(logs, [line(1, "tick"), line(1.1, "tick")])
    assert texts(logs) == [b"tick"] * 2


def test_a_torn_last_line_is_cut_off_and_comes_again(logs: FolderLogs, tmp_path: Path) -> None:
    everything = [line(1, "one"), line(2, "a longer second line")]
    write(logs, everything)
    path = tmp_path / "logs" / "1.log"
    for size in range(len("2026-11-05T10:00:01.000000000Z one\n"), path.stat().st_size):
        write(logs, [])
        os.truncate(path, size)
        assert texts(logs) == [b"one"]
        resume(logs, everything)
        assert texts(logs) == [b"one", b"a longer second line"]


def test_the_size_is_that_of_the_file_over_all_resumptions_without_repeats(
    logs: FolderLogs, tmp_path: Path
) -> None:
    everything = [line(n / 10, "x" * n) for n in range(20)]
    path = tmp_path / "logs" / "1.log"
    assert write(logs, everything[:10]) == path.stat().st_size > 10 * len(everything[0].timestamp)
    resume(logs, everything)
    writer = logs.writer(1, unmasked())
    assert writer.size == path.stat().st_size
    assert len(texts(logs)) == 20
    writer.close()


def test_resuming_a_long_log_finds_repeats_beyond_the_first_window(logs: FolderLogs) -> None:
    everything = [line(1, "old")] + [line(50 + n / 10_000, f"{n} " + "x" * 400) for n in range(6000)]
    write(logs, everything)
    resume(logs, everything)
    assert len(texts(logs)) == len(everything)


def test_the_tail_is_what_a_person_would_see(logs: FolderLogs) -> None:
    write(
        logs,
        [
            line(1, "early"),
            line(2, "\x1b[31mred\x1b[0m \x1b]0;title\x07alert\x07"),
            line(3, "10%\r50%\r100%\r"),
            line(4, "caf\u00e9\ttab"),
            line(5, b"\xff"),
        ],
    )
    assert logs.tail(1, 4) == ("red alert", "100%", "caf\u00e9    tab", "\ufffd")
    assert logs.tail(1, 0) == ()
    assert len(logs.tail(1, 100)) == 5


@pytest.mark.parametrize("count", [1, 3, 500])
def test_the_tail_of_a_long_log_is_its_end(logs: FolderLogs, count: int) -> None:
    write(logs, [line(n / 100, f"{n} " + "x" * 300) for n in range(2000)])
    assert [text.split()[0] for text in logs.tail(1, count)] == [str(n) for n in range(2000 - count, 2000)]


def test_a_full_disk_is_a_clear_error_and_leaves_whole_lines(
    logs: FolderLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A file on a disk with room for five more bytes."""

        def __init__(self, descriptor: int) -> None:
            self._descriptor = descriptor
            self.room = 5

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            count, self.room = os.write(self._descriptor, data[: self.room]), 0
            return count

        def truncate(self, size: int) -> None:
            os.ftruncate(self._descriptor, size)

    writer = logs.writer(1, unmasked())
    writer.write(line(1, "one"))
    real = writer._file
    monkeypatch.setattr(writer, "_file", Full(real.fileno()))
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        writer.write(line(2, "two"))
    monkeypatch.setattr(writer, "_file", real)
    writer.write(line(3, "three"))
    writer.close()
    assert [item for _, item in logs.lines(1)] == [line(1, "one"), line(3, "three")]
