"""Hearing what a process prints, up to a bound."""

import subprocess
import time

import pytest

from orchestrator.adapters.git.listening import Endless, listen


def begin(script: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, stderr=pipe)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def test_what_a_process_prints_and_complains_of_is_heard_whole() -> None:
    process = begin("cat; echo trouble >&2")
    told = b"0123456789" * 50_000
    assert listen(process, told, 20, len(told)) == (told, b"trouble\n")
    assert process.returncode == 0
    end(process)


def test_a_process_that_does_not_listen_is_heard_all_the_same() -> None:
    process = begin("exec <&-; echo heard")
    assert listen(process, b"x" * 500_000, 20, 100) == (b"heard\n", b"")
    end(process)


@pytest.mark.parametrize("script", ["yes", "yes >&2"])
def test_a_process_that_prints_without_end_is_given_up(script: str) -> None:
    process = begin(script)
    with pytest.raises(Endless):
        listen(process, None, 30, 1 << 20)
    end(process)


def test_of_many_complaints_the_beginning_and_the_end_are_kept() -> None:
    process = begin("echo first >&2; yes | head -c 300000 >&2; echo last >&2")
    _, complaints = listen(process, None, 30, 1 << 20)
    assert complaints.startswith(b"first\n")
    assert complaints.endswith(b"last\n")
    assert len(complaints) < 70_000
    end(process)


def test_a_process_that_is_silent_for_too_long_is_given_up() -> None:
    process = begin("sleep 60")
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        listen(process, None, 0.2, 100)
    assert time.monotonic() - began < 20
    end(process)
