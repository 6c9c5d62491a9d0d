"""An engine that has no range of addresses left for one more network."""

from __future__ import annotations

from contextlib import closing

from docker.types import IPAMConfig, IPAMPool

from tests.support.enginehost import EngineHost
from tests.support.installation import Installation

POOL = "192.168.216.0/21"
"""All that the machine's engine makes networks of."""


def test_a_run_for_whose_network_an_engine_has_no_range_left_says_so_and_what_to_do(
    elsewhere: Installation, engine_machine: EngineHost
) -> None:
    elsewhere.retries = 0
    elsewhere.write()
    elsewhere.commit(0.8)
    with closing(engine_machine.client()) as client:
        taken = client.networks.create("all", ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=POOL)]))
        try:
            elsewhere.serve()
            elsewhere.wait_for_mails(1)
        finally:
            taken.remove()
    (attempt,) = elsewhere.json("runs", "show", "1")["attempts"]
    assert attempt["state"] == "errored"
    assert "has no range of addresses left for the network" in attempt["message"]
    assert "orchestrator hosts prune" in attempt["message"]
