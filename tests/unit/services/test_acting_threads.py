"""Actions of different runs go at once, within bounds."""

from __future__ import annotations

import threading

from orchestrator.domain.action import Action, ActionState, Trigger
from orchestrator.domain.action_spec import ActionSpec, EmailAction, ExecAction
from orchestrator.services.acting.threads import ActingThreads


def action(number: int, spec: ActionSpec) -> Action:
    return Action(number, number, f"run-{number}-pass-0", Trigger.PASS, 0, spec, ActionState.PENDING)


class Acting:
    """Actions that go on until they are let go."""

    def __init__(self, *due: Action, broken: frozenset[int] = frozenset()) -> None:
        self.actions = list(due)
        self.broken = broken
        self.lock = threading.Lock()
        self.begun: list[int] = []
        self.begun_all = {a.id: threading.Event() for a in due}
        self.let_go = {a.id: threading.Event() for a in due}

    def due(self) -> list[Action]:
        return [a for a in self.actions if not self.let_go[a.id].is_set()]

    def carry_out(self, action: Action) -> int:
        with self.lock:
            self.begun.append(action.id)
        self.begun_all[action.id].set()
        assert self.let_go[action.id].wait(10)
        if action.id in self.broken:
            raise ValueError("a defect")
        return 1


def test_an_action_that_hangs_holds_up_no_other_runs_action() -> None:
    acting = Acting(action(1, ExecAction("a")), action(2, ExecAction("b")))
    ended = threading.Event()
    threads = ActingThreads(acting, ended.set)
    assert threads.start_due() == 2
    assert acting.begun_all[2].wait(10)
    acting.let_go[2].set()
    assert ended.wait(10)
    assert not threads.drain(0)
    acting.let_go[1].set()
    assert threads.drain(10)


def test_no_more_of_a_kind_go_at_once_than_may_and_none_goes_twice() -> None:
    acting = Acting(*(action(n, EmailAction(("a@b.org",))) for n in (1, 2)), action(3, ExecAction("a")))
    ended = threading.Semaphore(0)
    threads = ActingThreads(acting, ended.release)
    assert threads.start_due() == 2
    assert threads.start_due() == 0
    acting.let_go[1].set()
    assert ended.acquire(timeout=10)
    assert threads.start_due() == 1
    acting.let_go[2].set()
    acting.let_go[3].set()
    assert threads.drain(10)
    assert sorted(acting.begun) == [1, 2, 3]


def test_a_defect_in_one_action_leaves_room_for_the_next() -> None:
    acting = Acting(action(1, EmailAction(("a@b.org",))), broken=frozenset({1}))
    ended = threading.Event()
    threads = ActingThreads(acting, ended.set)
    acting.let_go[1].set()
    acting.actions = [acting.actions[0]]
    acting.due = lambda: acting.actions  # type: ignore[method-assign]
    assert threads.start_due() == 1
    assert ended.wait(10)
    assert threads.drain(10)
    assert threads.start_due() == 1
    assert threads.drain(10)
