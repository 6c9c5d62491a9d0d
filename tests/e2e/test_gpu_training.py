"""A training on a real GPU. It needs a machine that has one, and an image with PyTorch built for CUDA.

``MLCI_TORCH_IMAGE`` names the image on the local engine; ``orchestrator images build gpu`` makes one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.installation import Installation

TRAIN = """\
import json, time, torch
assert torch.cuda.device_count() == 1, torch.cuda.device_count()
torch.manual_seed(7)
x = torch.randn(4096, 4096, device="cuda")
w = torch.zeros(4096, 1, device="cuda", requires_grad=True)
y = x @ torch.randn(4096, 1, device="cuda")
optimizer, began = torch.optim.Adam([w], lr=0.05), time.time()
while time.time() - began < 12:
    optimizer.zero_grad()
    x @ x  # so that there is something to do
    loss = torch.nn.functional.mse_loss(x @ w, y)
    loss.backward()
    optimizer.step()
torch.cuda.synchronize()
start = float(torch.var(y))
print("on", torch.cuda.get_device_name(0), float(loss))
json.dump({"accuracy": 1.0 if float(loss) < start else 0.0}, open("metrics.json", "w"))
open("model.txt", "w").write("weights")
"""


@pytest.mark.gpu
@pytest.mark.xdist_group("gpu")
@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="this machine has no NVIDIA GPU")
def test_a_training_computes_on_the_gpu_that_was_leased_to_it(installation: Installation) -> None:
    image = os.environ.get("MLCI_TORCH_IMAGE")
    if not image:
        pytest.skip("MLCI_TORCH_IMAGE names no image with PyTorch for CUDA")
    resources = {"gpus": 1, "memory": "8g", "cpus": 4}
    installation.runners = {"gpu": {"resources": resources, "image": image, "network": "none"}}
    installation.command = ["python3", "train.py"]
    installation.checks = ("accuracy >= 0.5",)
    installation.pipeline = {"actions": {}, "datasets": {}}
    installation.write()
    installation.commit(1.0, {"train.py": TRAIN})
    installation.orchestrator("run", "gpu")
    (attempt,) = installation.json("runs", "show", "gpu#1")["attempts"]
    (gpu,), (use,) = attempt["gpus"], attempt["utilisation"]
    assert gpu["uuid"].startswith("GPU-")
    assert use["peak"] > 0.5, use
    assert use["memory_peak"] > 100 << 20, use
    (part,) = [p for p in installation.json("hosts", "check", "local") if p["part"] == "gpu"]
    assert part["result"] == "ok", part
    assert "CUDA starts" in part["told"]
