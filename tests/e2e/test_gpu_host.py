"""A host with two GPUs, over SSH: they are given, kept apart, watched, and left to others who use them.

The GPUs are made up (``tests/support/fakegpu.py``); what a real one does, ``test_gpu_training.py`` shows.
"""

from __future__ import annotations

import pytest

from tests.support.fakegpu import DRIVER, MODEL, compute_on, leave, uuid_of
from tests.support.fleet import over_ssh
from tests.support.hosts import Host, trust
from tests.support.installation import Installation

SECONDS = 5


@pytest.mark.xdist_group("gpu-host")
def test_replicates_train_at_once_on_a_gpu_each_and_never_on_one_that_others_use(
    gpu_host: Host, installation: Installation
) -> None:
    trust(installation.folder / "var", gpu_host)
    installation.main = {"hosts": {"lab": over_ssh(gpu_host)}}
    installation.runners = {"gpu": {"resources": {"gpus": 1, "gpu_model": "fake l4", "memory": "256m"}}}
    installation.command = f"nvidia-smi -L; sleep {SECONDS}; python3 train.py"
    installation.checks = ("accuracy >= 0.5",)
    installation.pipeline = {"actions": {}}
    installation.write()
    installation.commit(0.8)

    installation.orchestrator("run", "gpu", "--replicates", "2")
    attempts = installation.json("runs", "show", "gpu#1")["attempts"]
    assert sorted(a["gpus"][0]["uuid"] for a in attempts) == [uuid_of(0), uuid_of(1)]
    first, second = sorted(attempts, key=lambda a: str(a["started_at"]))
    assert second["started_at"] < first["finished_at"], "they did not train at the same time"
    for attempt in attempts:
        (gpu,), (use,) = attempt["gpus"], attempt["utilisation"]
        assert (gpu["model"], gpu["driver"], use["uuid"]) == (MODEL, DRIVER, gpu["uuid"])
        assert (use["mean"], use["memory_peak"], use["samples"] >= 2) == (0.9, 1485 << 20, True), use
        log = (installation.folder / "var" / "logs" / f"{attempt['id']}.log").read_text()
        assert f"GPU 0: {MODEL} (UUID: {gpu['uuid']})" in log
        assert log.count("UUID") == 1, "it saw the other's GPU"

    compute_on(gpu_host, 0)
    try:
        installation.orchestrator("run", "gpu")
    finally:
        leave(gpu_host, 0)
    shown = installation.orchestrator("runs", "show", "gpu#2")
    assert uuid_of(1)[:20] in shown, "it got the GPU that somebody computes on"
    assert f"{MODEL}  {DRIVER}  90% on average, 90% at" in shown, shown

    (part,) = [p for p in installation.json("hosts", "check", "lab") if p["part"] == "gpu"]
    assert f"2 x {MODEL} (driver {DRIVER})" in part["told"]
    assert (part["result"], "nvidia-smi works there, and CUDA does not" in part["told"]) == ("warn", True)
    assert gpu_host.run("docker", "ps", "-aq").split() == []
