"""Folders of a host that no run is shown."""

from __future__ import annotations

import pytest

from orchestrator.domain.hostpaths import why_not_mounted

CLOSED = (
    *("/", "//", "/.", "/etc", "/etc/", "/./etc", "/etc/ssh", "/var", "/var/run/docker.sock", "/var/lib"),
    *("/proc/1/root", "/run/user/1000", "/sys", "/dev/shm", "/root/.ssh", "/boot", "/var/lib/docker/volumes"),
    *("/data/../etc", "data", "", "~/data", "/da\nta"),
)


@pytest.mark.parametrize("path", CLOSED)
def test_what_holds_the_machine_is_closed(path: str) -> None:
    assert why_not_mounted(path)


@pytest.mark.parametrize(
    "path", ["/data", "/mnt/data/wine/", "/srv", "/home/ci/wine", "/var/lib/wine", "/etcetera"]
)
def test_a_folder_of_data_is_not(path: str) -> None:
    assert why_not_mounted(path) == ""


def test_the_orchestrators_own_state_is_closed_from_both_sides() -> None:
    own = ("/srv/orchestrator/var",)
    for path in ("/srv/orchestrator/var", "/srv/orchestrator/var/logs", "/srv/orchestrator", "/srv"):
        assert why_not_mounted(path, own)
    assert why_not_mounted("/srv/orchestrator/variety", own) == ""
