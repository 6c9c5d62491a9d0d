"""Runs on a host over SSH beside the same runs on the local engine, in one orchestrator, in turns.

The host is a container on this machine with a sshd and an engine of its own, so that both sides have the
same processor and disk; ``delay`` milliseconds each way make a network of it.

- ``first_instruction``: from the change's run committed to the first instruction of its container;
- ``verdict``: from the same moment to the verdict recorded;
- ``streams``: until so many runs at once, each of which writes a line now and then, are all judged. No line
  may be missing, doubled or out of order, else there is no figure.

``host_*`` are the same over the other engine's own socket, without SSH: what is left of a ratio is SSH's.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import docker

from tests.benchmarks.harness import Figures, Parameters, table
from tests.benchmarks.product import Product, serving
from tests.support.engine import BASE_IMAGE, RUNNER_IMAGES, run_script
from tests.support.hosts import Host, host_image, host_network, trust
from tests.support.waiting import wait_until

_NANO = 1e-9
_PAUSE = 0.5
_SIDES = {"local": "trivial", "host": "direct", "remote": "lab"}
"""By side: the pipeline whose runs execute there."""


def measure(parameters: Parameters) -> Figures:
    """``rounds``: 15 of single runs; ``streams``: 50 of ``lines``: 60; ``delay`` in ms: 0; ``network``."""
    rounds, streams = parameters.number("rounds", 15), parameters.number("streams", 50)
    lines, delay = parameters.number("lines", 60), float(parameters.given.get("delay", "0"))
    network = parameters.choice("network", ("bridge", "none"))
    run_script(RUNNER_IMAGES / "engine")
    run_script(RUNNER_IMAGES / "base" / "make", BASE_IMAGE)
    with ExitStack() as stack:
        engine = stack.enter_context(closing(docker.from_env(timeout=60)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "keys").mkdir()
        hosts = stack.enter_context(host_network(engine, host_image(engine), folder / "keys"))
        host = stack.enter_context(hosts.host([BASE_IMAGE], disk=None))
        ssh = _over(stack, host, delay / 1000, folder / "single")
        single = _in_turns(engine, folder / "single", host, ssh, network, rounds)
        host.clear()
        ssh = _over(stack, host, delay / 1000, folder / "many")
        many, at_once = _streams(engine, folder / "many", host, ssh, streams, lines)
    samples = {**single, **many}
    middle = {name: statistics.median(values) for name, values in samples.items()}
    for what in ("first_instruction", "verdict"):
        table(what.replace("_", " "), {side: samples[f"{side}_{what}"] for side in _SIDES}, "ms", 1000)
    table(
        f"{streams} runs at once", {side: samples[f"{side}_streams"] for side in ("local", "remote")}, "s", 1
    )
    return Figures(
        {
            "first_instruction": middle["remote_first_instruction"] / middle["local_first_instruction"],
            "verdict": middle["remote_verdict"] / middle["local_verdict"],
            "streams": middle["remote_streams"] / middle["local_streams"],
            "ssh_first_instruction": middle["remote_first_instruction"] / middle["host_first_instruction"],
            "ssh_verdict": middle["remote_verdict"] / middle["host_verdict"],
        },
        samples,
        {"network": network, "delay_ms": delay, "streams": streams, "lines": lines, "at_once": at_once},
    )


def _over(stack: ExitStack, host: Host, delay: float, folder: Path) -> dict[str, object]:
    """The host's ``ssh:``, trusted by an installation in ``folder``."""
    folder.mkdir()
    trust(folder / "var", host)
    if not delay:
        return host.ssh
    link = stack.enter_context(host.over_a_link(delay))
    known = folder / "var" / "ssh" / "known_hosts"
    known.write_text(host.line_at("127.0.0.1", link.port) + "\n")
    return {**host.ssh, "hostname": "127.0.0.1", "port": link.port}


def _in_turns(
    engine: docker.DockerClient, folder: Path, host: Host, ssh: dict[str, object], network: str, rounds: int
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {
        f"{side}_{what}": [] for what in ("first_instruction", "verdict") for side in _SIDES
    }
    machines: dict[str, dict[str, object]] = {"lab": {"ssh": ssh}, "direct": {"engine": host.url}}
    with (
        serving(folder, BASE_IMAGE, 1, network, engine, machines) as product,
        closing(host.client()) as inside,
    ):
        sides = {side: product.of(pipeline) for side, pipeline in _SIDES.items()}
        for number in range(rounds + 1):
            for side, runs in sides.items():
                first, verdict = _single(runs, engine if side == "local" else inside)
                # The first makes the slot's network and brings the link up: it does not count.
                if number:
                    samples[f"{side}_first_instruction"].append(first)
                    samples[f"{side}_verdict"].append(verdict)
    return samples


def _single(product: Product, client: docker.DockerClient) -> tuple[float, float]:
    run = product.push()
    began = time.time_ns()
    ended = product.judged(range(run.id, run.id + 1))
    name, _ = product.names(run.id)
    mine: dict[str, str | list[str] | bool] = {"name": name}
    wait_until(lambda: not client.api.containers(all=True, filters=mine), f"{name} to be removed", 60)
    return (product.first_instruction(run.id) - began) * _NANO, (ended - began) * _NANO


def _streams(
    engine: docker.DockerClient, folder: Path, host: Host, ssh: dict[str, object], streams: int, lines: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Without a network, so that both engines spend their time on streams."""
    writing = f"i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); sleep {_PAUSE}; done"
    command = ("sh", "-c", writing + '; echo "{\\"accuracy\\": 0.9}" > metrics.json')
    machines = {"lab": {"ssh": ssh, "slots": streams}}
    taken: dict[str, list[float]] = {}
    most: dict[str, int] = {}
    with serving(folder, BASE_IMAGE, streams, "none", engine, machines, {"lines": command}) as product:
        for side, pipeline in (("local", "local-lines"), ("remote", "lab-lines")):
            seconds, most[side] = _at_once(product.of(pipeline), streams, lines)
            taken[f"{side}_streams"] = [seconds]
    return taken, most


def _at_once(product: Product, streams: int, lines: int) -> tuple[float, int]:
    """How long it took, and how many ran at the same time, at most."""
    run = product.push()
    product.judged(range(run.id, run.id + 1))
    began = time.time_ns()
    ids = [product.again(run) for _ in range(streams)]
    ended = product.judged(range(ids[0], ids[-1] + 1))
    wanted = [f"line {number}".encode() for number in range(lines)]
    attempts = [attempt for run_id in ids for attempt in product.app.store.attempts.of_run(run_id)]
    for attempt in attempts:
        written = [line.text for _, line in product.app.logs.lines(attempt.id)]
        if written != wanted:
            raise RuntimeError(f"run {attempt.run_id}: {len(written)} lines for {lines}, or not in order")
    spans = [(a.started_at, a.finished_at) for a in attempts if a.started_at and a.finished_at]
    most = max(sum(start <= at < end for start, end in spans) for at, _ in spans)
    return (ended - began) * _NANO, most
