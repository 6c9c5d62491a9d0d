"""When a host was started, told from what its /proc says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.adapters.docker.boot import boot_of
from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import Boot

ID = "c5ec6871-547b-469e-99f5-25010e0ac9ab"
STAT = f"""\
{ID}
cpu  1245 0 3321 99812 12 0 44 0 0 0
intr 1 2 3
ctxt 4711
btime 1795412657
processes 90210
1 (systemd (odd) ) S 0 1 1 0 -1 4194560 9 9 9 9 9 9 9 9 20 0 1 0 2450 170000 3000 18446744073709551615 1 1
"""


def test_the_start_of_the_first_process_counts_from_that_of_the_kernel() -> None:
    assert boot_of(STAT) == Boot(f"{ID}/2450", datetime.fromtimestamp(1795412657 + 24.5, UTC))


def test_the_engine_counts_from_its_own_process_the_newest_one() -> None:
    rest = "S 1 9 9 0 -1 4194560 9 9 9 9 9 9 9 9 20 0 1 0"
    said = STAT + f"engine 310 (dockerd) {rest} 5000 170000 1\nengine 99 (dockerd) {rest} 7000 170000 1\n"
    boot = boot_of(said)
    assert boot.engine_at == datetime.fromtimestamp(1795412657 + 70, UTC)
    assert boot.last == boot.engine_at
    assert boot_of(STAT).last == boot_of(STAT).at


@pytest.mark.parametrize("lacking", [ID, "btime", "1 (systemd"])
def test_what_says_less_is_refused(lacking: str) -> None:
    with pytest.raises(EngineError, match="cannot be told"):
        boot_of(STAT.replace(lacking, ""))


@pytest.mark.parametrize(
    ("told", "model"),
    [
        ("model name\t: AMD EPYC 7B13  64-Core\n", "AMD EPYC 7B13 64-Core"),
        ("cpu\t\t: POWER9 (raw), altivec supported\n", "POWER9 (raw), altivec supported"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "implementer 0x41 part 0xd0c"),
        ("", ""),
    ],
)
def test_the_model_of_the_cpu_is_told_where_it_is_known(told: str, model: str) -> None:
    assert boot_of(STAT + told).cpu == model
