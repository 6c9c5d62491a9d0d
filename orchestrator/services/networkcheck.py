"""Proof by a container that a host's networks shut what they should: what a run would find, it finds."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.domain.errors import EngineError
from orchestrator.domain.pipeline import HostSpec, Protection, Resources
from orchestrator.ports.engine import ContainerSpec, ContainerState, Engine, Sandbox
from orchestrator.ports.world import Clock
from orchestrator.services import naming
from orchestrator.services.networks import Networks

_METADATA = "169.254.169.254"
_NAME = "pypi.org"
"""A name that runs ask for more often than for any other."""
_LOOK = f"""
for address; do
  if ip -4 route get "$address" >/dev/null 2>&1; then echo "open $address"; else echo "shut $address"; fi
done
if getent hosts {_NAME} >/dev/null; then echo names; fi
"""
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found. ``result`` is ok, warn or fail."""

    result: str
    told: str


def try_out(networks: Networks, engine: Engine, host: HostSpec, name: str, clock: Clock) -> Finding:
    """Make a sandbox of that name and look from within; the sandbox stays, for its maker to remove.

    Raises EngineError where there can be none.
    """
    network = networks.make(engine, host.name, name)
    if host.protection is Protection.NONE or not isinstance(network, Sandbox):
        return Finding("warn", "runs reach the host and the cloud's metadata: `protect: none`")
    shut = [a for a in networks.addresses_shut(engine, host.name) if a not in host.reachable]
    addresses = [_METADATA, *shut] if _METADATA not in host.reachable else shut
    said = _look(engine, network, host.helper_image, f"{name}-look", addresses, clock)
    still_open = [line.removeprefix("open ") for line in said if line.startswith("open ")]
    refused = sum(line.startswith("shut ") for line in said)
    if still_open or refused != len(addresses):
        return Finding("fail", f"runs reach {', '.join(still_open) or 'the host'}, which should be shut")
    count = "1 address" if refused == 2 else f"{refused - 1} addresses"
    told = f"{count} of the host and the cloud's metadata are shut"
    if "names" not in said:
        return Finding("warn", f"{told}; names such as {_NAME} are not found")
    return Finding("ok", told)


def _look(
    engine: Engine, network: Sandbox, image: str, name: str, addresses: list[str], clock: Clock
) -> list[str]:
    engine.remove(name)
    try:
        engine.create(
            ContainerSpec(
                name=name,
                image=image,
                command=("/bin/sh", "-c", _LOOK, "look", *addresses),
                labels={naming.ROLE_LABEL: "check"},
                env={},
                user="65534:65534",
                workdir="/",
                resources=Resources(memory=64 << 20, shm_size=1 << 20, pids=32),
                network=network,
            )
        )
        engine.start(name)
        deadline = clock.monotonic() + _PATIENCE
        while (found := engine.find(name)) is not None and found.state is not ContainerState.EXITED:
            if clock.monotonic() > deadline:
                raise EngineError(f"{name} had not ended after {_PATIENCE:.0f} s")
            clock.sleep(0.1)
        return [line.text.decode(errors="replace") for line in engine.logs(name, None)]
    finally:
        engine.remove(name)
