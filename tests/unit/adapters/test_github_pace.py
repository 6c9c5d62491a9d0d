"""How requests to GitHub are spread."""

from __future__ import annotations

import pytest

from orchestrator.adapters.github.pace import BURST, Pace


def test_a_few_requests_after_a_rest_do_not_wait() -> None:
    pace = Pace()
    for moment in (0.0, 1000.0):
        assert max(pace.wait(moment) for _ in range(BURST)) < 1e-9
        assert pace.wait(moment) > 0.05


@pytest.mark.parametrize("eagerness", [0.0, 0.01, 0.07, 1.0])
def test_no_minute_has_more_requests_than_github_takes(eagerness: float) -> None:
    pace, now = Pace(), 0.0
    sent: list[float] = []
    for _ in range(2500):
        now += eagerness
        sent.append(now + pace.wait(now))
    sent.sort()
    for index, moment in enumerate(sent):
        until = index + 900
        assert until >= len(sent) or sent[until] - moment >= 60
