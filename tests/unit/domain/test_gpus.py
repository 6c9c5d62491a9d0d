"""Which GPUs an attempt gets, and why it does not get any."""

from __future__ import annotations

import pytest

from orchestrator.domain.gpu import Gpu, HostGpus, chosen, fits, never_fits, why_taken, wished
from orchestrator.domain.pipeline import Resources

GIB = 1 << 30
MIB = 1 << 20


def gpu(name: str, model: str = "NVIDIA H100 80GB HBM3", memory: int = 81559 * MIB) -> Gpu:
    return Gpu(f"GPU-{name}", model, memory, "550.54.15")


@pytest.mark.parametrize(
    ("asked", "model", "whether"),
    [
        ("", "NVIDIA H100 80GB HBM3", True),
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("h100", "NVIDIA H100 80GB HBM3", True),
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
        ("4090 RTX", "NVIDIA GeForce RTX 4090", True),
        ("A10", "NVIDIA A100-SXM4-80GB", False),
        ("RTX 4090", "NVIDIA GeForce RTX 3090", False),
    ],
)
def test_a_model_is_asked_for_by_whole_words_of_its_name(asked: str, model: str, whether: bool) -> None:
    assert fits(gpu("a", model), Resources(gpus=1, gpu_model=asked)) is whether


@pytest.mark.parametrize(
    ("asked", "told_mib", "whether"),
    [(80, 81559, True), (24, 23028, True), (16, 15360, True), (12, 11264, True), (24, 16384, False)],
)
def test_memory_is_asked_for_as_a_gpu_is_sold(asked: int, told_mib: int, whether: bool) -> None:
    wish = Resources(gpus=1, gpu_memory=asked * GIB)
    assert fits(gpu("a", memory=told_mib * MIB), wish) is whether


def test_the_smallest_that_fit_are_taken() -> None:
    large, small = gpu("large"), gpu("small", "NVIDIA L4", 23034 * MIB)
    assert chosen([large, small], Resources(gpus=1)) == (small,)
    assert chosen([large, small], Resources(gpus=1, gpu_memory=40 * GIB)) == (large,)


def test_several_are_of_one_model_where_there_are_enough_of_one() -> None:
    l4, first, second = gpu("l", "NVIDIA L4", 23034 * MIB), gpu("1"), gpu("2")
    assert chosen([second, l4, first], Resources(gpus=2)) == (first, second)
    assert chosen([second, l4, first], Resources(gpus=3)) == (l4, first, second)


def test_too_few_are_none_and_no_wish_is_an_empty_one() -> None:
    assert chosen([gpu("1")], Resources(gpus=2)) is None
    assert chosen([gpu("1")], Resources()) == ()


def test_neither_leased_nor_busy_gpus_are_free() -> None:
    free, leased, busy = gpu("free"), gpu("leased"), gpu("busy")
    host = HostGpus((free, leased, busy), {"GPU-busy": "process 7 (python)"})
    assert host.free({"GPU-leased": 12}) == (free,)


def test_a_host_that_lacks_the_gpus_for_good_says_what_it_has() -> None:
    host = HostGpus((gpu("1"),))
    assert never_fits(host, Resources(gpus=1)) is None
    told = never_fits(host, Resources(gpus=2, gpu_model="H100"))
    assert told == "2 GPUs (H100) wanted, 1 of its GPUs fit; it has: NVIDIA H100 80GB HBM3 (81559 MiB)"
    assert never_fits(HostGpus(), Resources(gpus=1)) == "1 GPU wanted, 0 of its GPUs fit; it has: none"


def test_nothing_is_given_up_for_good_while_the_gpus_are_not_known() -> None:
    wish = Resources(gpus=1)
    assert never_fits(HostGpus(known=False), wish) is None
    assert never_fits(HostGpus(trouble="nvidia-smi fails"), wish) is None
    assert never_fits(HostGpus(), Resources()) is None


def test_who_has_the_gpus_is_told() -> None:
    host = HostGpus(
        (gpu("a"), gpu("b"), gpu("c", "NVIDIA L4")), {"GPU-b": "process 7 (python)"}, "one has failed"
    )
    assert why_taken(host, {"GPU-a": 12}, Resources(gpus=1, gpu_model="H100")) == (
        "1 GPU (H100) wanted: one has failed; attempt 12 has GPU-a; GPU-b is used by process 7 (python)"
    )


def test_a_wish_is_told_in_words() -> None:
    assert wished(Resources(gpus=2, gpu_model="RTX 4090", gpu_memory=24 * GIB)) == (
        "2 GPUs (RTX 4090, 24 GiB each)"
    )
