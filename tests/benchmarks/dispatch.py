"""From an accepted change to its container and its verdict, beside bare docker-py.

Both sides use the same image on the same engine, and take turns:

- ``first_instruction``: from the change's run committed to the first instruction of its container, beside
  create and start;
- ``verdict``: from the same moment to the verdict recorded, beside create, start, wait, logs and remove;
- ``throughput``: runs in a second with all slots busy, over that of as many threads that make the same calls
  to the engine with the same options: what one run asks of the engine is recorded, and repeated.
"""

from __future__ import annotations

import queue
import resource
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from orchestrator.domain.run import Run
from tests.benchmarks.calls import Plan, recorded
from tests.benchmarks.harness import Figures, Parameters, table
from tests.benchmarks.product import COMMAND, Product, serving
from tests.support.engine import BASE_IMAGE, RUNNER_IMAGES, run_script
from tests.support.waiting import wait_until

_NANO = 1e-9


def measure(parameters: Parameters) -> Figures:
    """``rounds``: 15 of single runs; ``batches``: 3 of ``runs``: 200 on ``slots``: 8; ``network``."""
    slots, runs = parameters.number("slots", 8), parameters.number("runs", 200)
    network = parameters.choice("network", ("bridge", "none"))
    run_script(RUNNER_IMAGES / "engine")
    run_script(RUNNER_IMAGES / "base" / "make", BASE_IMAGE)
    samples: dict[str, list[float]] = {
        f"{side}_{what}": []
        for what in ("first_instruction", "verdict", "batch")
        for side in ("bare", "product")
    }
    cpu: dict[str, list[float]] = {"bare": [], "product": []}
    with (
        _engine() as engine,
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), BASE_IMAGE, slots, network, engine) as product,
    ):
        client = engine.api
        _bare_run(client, network)
        for _ in range(parameters.number("rounds", 15)):
            first, verdict = _bare_run(client, network)
            samples["bare_first_instruction"].append(first)
            samples["bare_verdict"].append(verdict)
            first, verdict = _product_run(product, client)
            samples["product_first_instruction"].append(first)
            samples["product_verdict"].append(verdict)
        plan = _plan(product, client)
        # A slot makes its network once, at its first run; what is measured is every later one.
        _product_batch(product, client, _first_of(product, client), 2 * slots)
        for _ in range(parameters.number("batches", 3)):
            with _cpu(cpu["bare"]):
                samples["bare_batch"].append(_bare_batch(engine, plan, slots, runs))
            run = _first_of(product, client)
            with _cpu(cpu["product"]):
                samples["product_batch"].append(_product_batch(product, client, run, runs))
    middle = {name: statistics.median(values) for name, values in samples.items()}
    for what in ("first_instruction", "verdict", "batch"):
        shown = {side: samples[f"{side}_{what}"] for side in ("bare", "product")}
        table(what.replace("_", " "), shown, "ms", 1000)
    return Figures(
        {
            "first_instruction": middle["product_first_instruction"] / middle["bare_first_instruction"],
            "verdict": middle["product_verdict"] / middle["bare_verdict"],
            "throughput": middle["bare_batch"] / middle["product_batch"],
        },
        samples,
        {
            "runs": runs,
            "slots": slots,
            "network": network,
            "calls": plan.shapes(),
            "own_cpu_per_run": {side: round(statistics.median(s) / runs, 5) for side, s in cpu.items()},
        },
    )


@contextmanager
def _engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=60)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _cpu(into: list[float]) -> Iterator[None]:
    """Seconds of processor time of this process and of the programs that it ran."""

    def used() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before = used()
    yield
    into.append(used() - before)


def _bare_run(client: docker.APIClient, network: str) -> tuple[float, float]:
    began = time.time_ns()
    options = client.create_host_config(network_mode=network)
    made = client.create_container(BASE_IMAGE, list(COMMAND), host_config=options)
    client.start(made)
    client.wait(made)
    printed = client.logs(made)
    client.remove_container(made)
    ended = time.time_ns()
    return (int(printed) - began) * _NANO, (ended - began) * _NANO


def _product_run(product: Product, client: docker.APIClient) -> tuple[float, float]:
    run = product.push()
    began = time.time_ns()
    ended = product.judged(range(run.id, run.id + 1))
    _tidy(product, client, run.id)
    return (product.first_instruction(run.id) - began) * _NANO, (ended - began) * _NANO


def _tidy(product: Product, client: docker.APIClient, run_id: int) -> None:
    """Wait until the run's container is gone, so that what follows has the engine for itself."""
    name, _ = product.names(run_id)
    mine: dict[str, str | list[str] | bool] = {"name": name}
    wait_until(lambda: not client.containers(all=True, filters=mine), f"{name} to be removed", 60)


def _plan(product: Product, client: docker.APIClient) -> Plan:
    """What one run asks of the engine, when others of its change went before."""
    run = product.push()
    product.judged(range(run.id, run.id + 1))
    _tidy(product, client, run.id)
    again = product.again(run)
    product.judged(range(again, again + 1))
    _tidy(product, client, again)
    with recorded() as calls:
        last = product.again(run)
        product.judged(range(last, last + 1))
        name, volume = product.names(last)
        deadline = time.monotonic() + 60
        while not any(call.method == "DELETE" and "/containers/" in call.target for call in calls):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was not removed")
            time.sleep(0.01)
    _tidy(product, client, last)
    return Plan([call for call in calls if not call.target.startswith("/info")], name, volume)


def _first_of(product: Product, client: docker.APIClient) -> Run:
    """A run of a new commit, over and tidied up."""
    run = product.push()
    product.judged(range(run.id, run.id + 1))
    _tidy(product, client, run.id)
    return run


def _product_batch(product: Product, client: docker.APIClient, first: Run, runs: int) -> float:
    began = time.time_ns()
    ids = [product.again(first) for _ in range(runs)]
    ended = product.judged(range(ids[0], ids[-1] + 1))
    for run_id in ids[-8:]:
        _tidy(product, client, run_id)
    return (ended - began) * _NANO


def _bare_batch(engine: docker.DockerClient, plan: Plan, slots: int, runs: int) -> float:
    prefix = f"mlci-bench-{uuid.uuid4().hex[:8]}"
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in range(runs):
        names.put(f"{prefix}-{number}")
    failures: list[BaseException] = []

    def work() -> None:
        client = docker.APIClient(timeout=60)
        try:
            while True:
                plan.repeat(client, names.get_nowait())
        except queue.Empty:
            pass
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=work) for _ in range(slots)]
    began = time.time_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = time.time_ns()
    if failures:
        raise failures[0]
    for volume in engine.volumes.list(filters={"name": prefix}):
        volume.remove()
    return (ended - began) * _NANO
