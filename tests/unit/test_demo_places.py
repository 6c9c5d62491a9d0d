"""What the demo's last lines name, at hand and from outside of its container."""

from __future__ import annotations

from pathlib import Path

from orchestrator.demo.summary import Places
from orchestrator.demo.workshop import Workshop


def test_at_hand_everything_is_where_it_was_made(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    places = Places(workshop, composed=False)
    assert places.fetch == ""
    assert places.of(workshop.mails) == str(tmp_path / "mails")
    assert places.command == f"orchestrator --config {tmp_path}/config"


def test_from_outside_of_the_container_everything_is_fetched_first(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    places = Places(workshop, composed=True)
    assert places.fetch.startswith("docker cp $(docker-compose ps --all --quiet demo):")
    assert places.fetch.endswith(f"{tmp_path} demo-work")
    assert places.of(workshop.mails) == "demo-work/mails"
    # The configuration names the demo's own schema; the service's variable would win over it.
    assert places.command.startswith("docker-compose run --rm -e ORCHESTRATOR_DATABASE= demo orchestrator ")
