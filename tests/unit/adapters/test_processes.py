"""Which process is which, and which has ended for certain."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.adapters.process import LocalProcesses

NAME = "from orchestrator.adapters.process import LocalProcesses; print(LocalProcesses().this())"


@pytest.fixture(scope="module")
def ended() -> str:
    """The name of a process that has ended."""
    done = subprocess.run([sys.executable, "-c", NAME], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_process_that_lives_is_not_dead_and_one_that_ended_is(ended: str) -> None:
    processes = LocalProcesses()
    assert not processes.is_dead(processes.this())
    assert processes.is_dead(ended)


def test_a_process_of_an_earlier_boot_is_dead() -> None:
    machine, place, *rest = LocalProcesses().this().split("/")
    earlier = f"00000000.{place.partition('.')[2]}"
    assert LocalProcesses().is_dead("/".join((machine, earlier, *rest)))


def test_nobody_can_tell_of_another_machine_or_another_container_of_this_one(ended: str) -> None:
    machine, place, *rest = ended.split("/")
    elsewhere = f"{place.partition('.')[0]}.1"
    for owner in ("/".join((f"{machine}-2", place, *rest)), "/".join((machine, elsewhere, *rest)), "nobody"):
        assert not LocalProcesses().is_dead(owner)
