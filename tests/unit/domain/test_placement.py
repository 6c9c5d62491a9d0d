"""Which attempt goes next and to which host, and the reason that is told where it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.gpu import Gpu, HostGpus
from orchestrator.domain.pipeline import HostSpec, NamedImage, Resources, RunnerSpec
from orchestrator.domain.placement import (
    HOLD_AFTER,
    Closed,
    Decision,
    Going,
    HostNow,
    Placed,
    Queued,
    Refused,
    Share,
    Terms,
    Waits,
    decide,
    share_of,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
GIB = 1 << 30
H100 = Gpu("GPU-1", "NVIDIA H100 80GB HBM3", 80 * GIB)
T4 = Gpu("GPU-2", "Tesla T4", 15 * GIB)


def spec(name: str, slots: int = 1, **more: object) -> HostSpec:
    return HostSpec(name, f"unix:///{name}.sock", slots, **more)  # type: ignore[arg-type]


def runner(**more: object) -> RunnerSpec:
    return RunnerSpec("small", NamedImage("image:1"), **more)  # type: ignore[arg-type]


def needs(**wish: object) -> RunnerSpec:
    return runner(resources=Resources(**wish))  # type: ignore[arg-type]


def queued(run_id: int, pipeline: str = "wine", **more: object) -> Queued:
    made = Queued(run_id * 10, run_id, f"{pipeline}#{run_id}", pipeline, "shop", runner(), NOW)
    return replace(made, **more)  # type: ignore[arg-type]


def decisions(
    queue: Sequence[Queued],
    hosts: Sequence[HostNow],
    at_work: Mapping[str, int] | None = None,
    going: Sequence[Going] = (),
    limits: Mapping[str, int] | None = None,
) -> list[Decision]:
    return list(decide(queue, hosts, at_work or {}, going, limits or {}, NOW))


def place(attempt: Queued, *hosts: HostNow) -> str:
    """The host that an attempt gets."""
    (decision,) = decisions([attempt], hosts)
    assert isinstance(decision, Placed), decision
    return decision.host.name


def why(attempt: Queued, *hosts: HostNow) -> str:
    (decision,) = decisions([attempt], hosts)
    assert isinstance(decision, Waits), decision
    return decision.why


def order(queue: Sequence[Queued], at_work: Mapping[str, int] | None = None) -> list[int]:
    """The runs that begin, in this order, where there is room for all."""
    return [d.attempt.run_id for d in decisions(queue, [HostNow(spec("lab", 99))], at_work)]


def test_the_greater_priority_goes_first() -> None:
    assert order([queued(1), queued(2, priority=5), queued(3, priority=-1)]) == [2, 1, 3]


def test_pipelines_take_turns_whoever_was_first() -> None:
    flood = [queued(n, "flood") for n in range(1, 5)]
    assert order([*flood, queued(8, "wine"), queued(9, "wine")]) == [1, 8, 2, 9, 3, 4]


def test_a_pipeline_with_attempts_at_work_lets_others_go_first() -> None:
    assert order([queued(1, "flood"), queued(2, "wine")], {"flood": 3}) == [2, 1]


def test_within_a_pipeline_the_oldest_run_goes_first_also_with_a_new_try() -> None:
    again = replace(queued(1), attempt_id=99, begun=True)
    assert order([queued(2), again]) == [1, 2]


def test_names_are_tried_in_the_order_of_wish() -> None:
    wish = queued(1, runner=runner(host_names=("best", "good")))
    best, good = HostNow(spec("best")), HostNow(spec("good"))
    assert place(wish, good, best) == "best"
    assert place(wish, good, replace(best, slots=1)) == "good"


def test_labels_leave_only_hosts_that_have_them_all() -> None:
    wish = queued(1, runner=runner(host_labels=(("gpu", "h100"),)))
    lab = HostNow(spec("lab", labels=(("gpu", "h100"), ("zone", "desk"))))
    assert place(wish, HostNow(spec("local")), lab) == "lab"


def test_a_persons_wish_counts_more_than_the_runners() -> None:
    wish = queued(1, runner=runner(host_names=("lab",)), wish="local")
    assert place(wish, HostNow(spec("lab")), HostNow(spec("local"))) == "local"


def test_the_host_that_has_the_data_is_wanted_before_one_that_has_the_image() -> None:
    hosts = HostNow(spec("one")), HostNow(spec("two")), HostNow(spec("three"))
    assert place(queued(1, holds_image=frozenset({"three"})), *hosts) == "three"
    both = queued(1, holds_image=frozenset({"three"}), holds_data=frozenset({"two"}))
    assert place(both, *hosts) == "two"


def test_the_emptier_host_is_wanted_and_a_busy_machine_less() -> None:
    half, empty = HostNow(spec("half", 4), slots=2), HostNow(spec("empty", 1))
    assert place(queued(1), half, empty) == "empty"
    assert place(queued(1), half, replace(empty, load=3.0)) == "half"


def test_a_host_at_fault_before_is_the_last_resort() -> None:
    tried = queued(1, avoid=frozenset({"bad"}), holds_data=frozenset({"bad"}))
    assert place(tried, HostNow(spec("bad")), HostNow(spec("other"))) == "other"
    assert place(tried, HostNow(spec("bad"))) == "bad"


def test_slots_are_given_out_once_in_a_turn_and_the_reason_tells_who_is_first() -> None:
    found = decisions([queued(1), queued(2), queued(3)], [HostNow(spec("lab", 1))])
    assert isinstance(found[0], Placed)
    assert [d.why for d in found if isinstance(d, Waits)] == [
        "a free slot: lab (1 of 1 taken)",
        "a free slot: lab (1 of 1 taken); 1 other run first",
    ]


def test_declared_cores_and_memory_are_shared_out() -> None:
    lab = HostNow(spec("lab", 4, cpus=4.0, memory=8 * GIB), slots=1, cpus=3.0, memory=2 * GIB)
    assert place(queued(1, runner=needs(cpus=1.0, memory=2 * GIB)), lab) == "lab"
    assert why(queued(1, runner=needs(cpus=2.0)), lab) == "a host: lab has 3 of 4 cores taken, 2 wanted"
    assert (
        why(queued(1, runner=needs(cpus=0.5, memory=7 * GIB)), lab)
        == "a host: lab has 2.0 GiB of 8.0 GiB memory taken, 7.0 GiB wanted"
    )


def test_a_run_without_limits_takes_a_slots_share_of_a_host_that_counts() -> None:
    assert share_of(runner(), spec("lab", 4, cpus=6.0, memory=8 * GIB)) == Share(1.5, 2 * GIB)
    assert share_of(needs(cpus=1.0), spec("lab", 4)) == Share(None, None)


def test_terms_hold_where_shares_of_a_core_add_up_to_the_whole() -> None:
    third = Terms(Share(cpus=1 / 3), cpus=1.0)
    assert third.allow(1 / 3 + 1 / 3, 0)
    assert not third.allow(1.0, 0)


def test_a_runner_that_is_too_large_for_every_host_is_refused_with_numbers() -> None:
    hosts = HostNow(spec("lab"), cores=4), HostNow(spec("desk", cpus=2.0), cores=8)
    (decision,) = decisions([queued(1, runner=needs(cpus=16.0))], hosts)
    assert isinstance(decision, Refused)
    told = "no host can execute the runner small: "
    told += "lab has 4 cores, 16 wanted; desk has 2 cores, 16 wanted"
    assert decision.why == told


def test_a_host_of_unknown_size_may_be_large_enough() -> None:
    small, unknown = HostNow(spec("small"), cores=4), HostNow(spec("new"), slots=1)
    assert why(queued(1, runner=needs(cpus=16.0)), small, unknown) == "a free slot: new (1 of 1 taken)"


def test_memory_that_is_not_there_is_wanted_less_but_was_never_promised() -> None:
    small, large = HostNow(spec("small"), size=8 * GIB), HostNow(spec("large", 2), slots=1, size=64 * GIB)
    wish = queued(1, runner=needs(memory=32 * GIB))
    assert place(wish, small, large) == "large"
    assert place(wish, small) == "small"


def test_a_runner_whose_hosts_are_not_there_is_refused() -> None:
    (decision,) = decisions([queued(1, runner=runner(host_names=("gone",)))], [HostNow(spec("local"))])
    assert isinstance(decision, Refused)
    assert decision.why == "no host of the configuration fits gone; its hosts are: local"


@pytest.mark.parametrize(
    ("closed", "told", "says"),
    [
        (
            Closed.BY_PEOPLE,
            "is being drained by ann: a new disk",
            "a host: lab is being drained by ann: a new disk",
        ),
        (Closed.SILENT, "does not answer: refused", "a host: lab does not answer: refused"),
        (Closed.NO_ROOM, "1 GiB free at /", "room: 1 GiB free at /"),
    ],
)
def test_a_closed_host_takes_nothing_and_the_reason_is_told(closed: Closed, told: str, says: str) -> None:
    lab = HostNow(spec("lab", 4), closed=closed, told=told)
    assert why(queued(1), lab) == says
    assert place(queued(1), lab, HostNow(spec("local"))) == "local"


def test_each_host_that_cannot_take_it_says_why() -> None:
    full = HostNow(spec("full"), slots=1)
    silent = HostNow(spec("lab"), closed=Closed.SILENT, told="does not answer: refused")
    assert why(queued(1), full, silent) == "a host: full has 1 of 1 slots taken; lab does not answer: refused"


def test_a_gpu_is_one_attempts_alone_and_who_has_it_is_told() -> None:
    lab = HostNow(spec("lab", 4), gpus=HostGpus((H100, T4)))
    wish = needs(gpus=1, gpu_model="h100")
    first, second = decisions([queued(1, runner=wish), queued(2, runner=wish)], [lab])
    assert isinstance(first, Placed)
    assert first.gpus == (H100,)
    assert isinstance(second, Waits)
    assert "attempt 10 has GPU-1" in second.why


def test_runs_without_gpus_leave_machines_with_gpus_to_others() -> None:
    lab = HostNow(spec("lab", 8), gpus=HostGpus((H100,)))
    assert place(queued(1), lab, HostNow(spec("local", 8), slots=7)) == "local"
    assert place(queued(1), lab) == "lab"


def test_gpus_that_are_not_known_yet_are_waited_for() -> None:
    lab = HostNow(spec("lab"), gpus=HostGpus(known=False))
    assert why(queued(1, runner=needs(gpus=1)), lab) == "a host: lab is being asked for its GPUs"


def test_no_run_begins_beyond_its_pipelines_limit() -> None:
    hosts = [HostNow(spec("lab", 9))]
    one, two = decisions([queued(1, limit=1), queued(2, limit=1)], hosts)
    assert isinstance(one, Placed)
    assert isinstance(two, Waits)
    assert two.why == "its turn: 1 run goes at a time of wine, now wine#1"


def test_no_run_begins_beyond_its_projects_limit_and_others_go() -> None:
    going = [Going(1, "a#1", "a", "shop"), Going(2, "b#1", "b", "shop")]
    queue = [queued(3), queued(4, "beer", project="bar")]
    shop, bar = decisions(queue, [HostNow(spec("lab", 9))], going=going, limits={"shop": 2})
    by_run = {d.attempt.run_id: d for d in (shop, bar)}
    assert isinstance(by_run[4], Placed)
    waits = by_run[3]
    assert isinstance(waits, Waits)
    assert waits.why == "its turn: 2 runs go at a time of the project shop, now a#1, b#1"


def test_replicates_of_a_run_that_has_begun_need_no_turn() -> None:
    going = [Going(1, "wine#1", "wine", "shop")]
    more = [replace(queued(1, limit=1, begun=True), attempt_id=n) for n in (10, 11)]
    found = decisions(more, [HostNow(spec("lab", 9))], going=going)
    assert all(isinstance(d, Placed) for d in found)


def test_a_host_is_kept_for_a_large_run_that_has_waited_long() -> None:
    lab = HostNow(spec("lab", 4, cpus=4.0), slots=1, cpus=1.0)
    large = queued(1, "large", runner=needs(cpus=4.0), since=NOW - HOLD_AFTER)
    small = queued(2, "small", runner=needs(cpus=1.0))
    impatient = replace(large, since=NOW - HOLD_AFTER + timedelta(seconds=1))
    assert [type(d) for d in decisions([impatient, small], [lab])] == [Waits, Placed]
    _, kept = decisions([large, small], [lab])
    assert isinstance(kept, Waits)
    assert kept.why == "a host: lab is kept for large#1, which waits for long"
    other = HostNow(spec("other", 1))
    assert isinstance(decisions([large, small], [replace(lab, cores=4), other])[0], Placed)
