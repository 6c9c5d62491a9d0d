"""Each thing that is watched is looked at apart, and how that goes is told once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from orchestrator.domain.errors import (
    DatasetUnavailable,
    InvalidInput,
    OrchestratorError,
    SourceRefused,
    SourceUnavailable,
    StoreUnavailable,
)
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.scheduler import Watcher
from orchestrator.scheduler.watcher import AT_ONCE, LINGERING, OF_A_SERVER, SLOW
from orchestrator.services.watches import Looks, Sight, Watch, asks_for, server_of, watches_of
from tests.support.waiting import wait_until
from tests.unit.services.worlds import World, pipeline

NAME = "source wine/repo"


def looks_of(world: World) -> Looks:
    return Looks(world.store, world.clock, lambda: 0.0)


def watch_of(world: World) -> Watch:
    return watches_of(pipeline(), world.detector, lambda source: "")[0]


def scripted(*ends: OrchestratorError | Sight) -> Callable[[], Sight]:
    left = list(ends)

    def look() -> Sight:
        end = left.pop(0)
        if isinstance(end, OrchestratorError):
            raise end
        return end

    return look


def notes(world: World) -> list[str]:
    return [e.reason for e in reversed(world.store.journal.latest()) if e.who == "watcher"]


@pytest.fixture
def watchers(world: World) -> Iterator[Callable[..., Watcher]]:
    made: list[Watcher] = []

    def make(
        woken: Callable[[], None] = lambda: None, looks: Looks | None = None, slow: float = SLOW
    ) -> Watcher:
        made.append(Watcher(looks or looks_of(world), woken, slow=slow))
        return made[-1]

    yield make
    for watcher in made:
        watcher.stop()


def test_trouble_is_told_once_and_its_end_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    looks, watch = looks_of(world), watch_of(world)
    world.sources.down = True
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            looks.look(watch)
        assert looks.problems == {NAME: "/repo does not answer"}
        seen = world.store.watches.all()[NAME]
        assert (seen.trouble, seen.tries) == ("/repo does not answer", 3)
        assert seen.trouble_since == world.clock.now()
        world.sources.down = False
        for _ in range(2):
            looks.look(watch)
    assert looks.problems == {}
    assert notes(world) == ["/repo does not answer", "answers again"]
    assert [r.message for r in caplog.records if NAME in r.message] == [
        f"{NAME}: /repo does not answer",
        f"{NAME}: answers again",
    ]
    after = world.store.watches.all()[NAME]
    assert (after.trouble, after.tries, after.not_before, after.trouble_since) == ("", 0, None, None)
    assert after.changed_at == world.clock.now(), "the first look after it found the repository"


def test_trouble_of_the_process_before_is_not_told_again_and_its_end_is(world: World) -> None:
    watch = watch_of(world)
    world.sources.down = True
    looks_of(world).look(watch)
    looks_of(world).look(watch)
    world.sources.down = False
    looks_of(world).look(watch)
    assert notes(world) == ["/repo does not answer", "answers again"]


def test_what_is_watched_anew_has_no_trouble_of_long_ago(world: World) -> None:
    watch = watch_of(world)
    world.sources.down = True
    looks_of(world).look(watch)
    looks = looks_of(world)
    world.sources.down = False
    looks.look(watch)
    looks.forget(watch.name)
    looks.look(watch)
    assert notes(world) == ["/repo does not answer", "answers again"]
    assert looks.problems == {}


def test_trouble_that_cannot_be_written_down_stops_no_watching(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def troubled(*args: object) -> None:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(world.store.watches, "troubled", troubled)
    world.sources.down = True
    looks = looks_of(world)
    looks.look(watch_of(world))
    assert looks.problems == {NAME: "/repo does not answer"}


def test_a_look_that_fails_again_and_again_is_tried_ever_more_seldom(world: World) -> None:
    looks = looks_of(world)
    watch = Watch(NAME, scripted(*[SourceUnavailable("away")] * 6, Sight()), 30.0)
    waits = [looks.look(watch).wait for _ in range(7)]
    assert waits == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0, 30.0]


def test_a_mistake_that_was_found_is_looked_at_again_at_the_usual_pace(world: World) -> None:
    looks = looks_of(world)
    watch = Watch(NAME, scripted(*[InvalidInput("a branch's file is wrong")] * 3), 30.0)
    assert [looks.look(watch).wait for _ in range(3)] == [30.0, 30.0, 30.0]
    assert looks.problems == {NAME: "a branch's file is wrong"}


@pytest.mark.parametrize("refusal", [SourceRefused, DatasetUnavailable])
def test_nothing_is_asked_before_the_time_that_the_other_side_named(
    world: World, refusal: type[SourceRefused | DatasetUnavailable]
) -> None:
    looks = looks_of(world)
    watch = Watch(NAME, scripted(refusal("the quota is used up", retry_after=1800.0)), 30.0)
    assert looks.look(watch).wait == 1800.0
    seen = world.store.watches.all()[NAME]
    assert seen.not_before is not None
    assert (seen.not_before - world.clock.now()).total_seconds() == 1800.0


def test_what_a_look_wants_earlier_is_looked_at_earlier(world: World) -> None:
    watch = Watch(NAME, scripted(Sight(again=4.0), Sight(again=400.0)), 30.0)
    looks = looks_of(world)
    assert [looks.look(watch).wait, looks.look(watch).wait] == [4.0, 30.0]


def test_a_repository_that_calls_by_webhook_is_asked_more_seldom(world: World) -> None:
    looks = looks_of(world)
    watch = Watch(NAME, scripted(Sight(True), Sight(), Sight()), 60.0)
    assert [looks.look(watch, called=True).wait, looks.look(watch).wait] == [600.0, 600.0]


def test_a_webhook_that_comes_before_what_it_tells_of_can_be_seen_is_not_forgotten(world: World) -> None:
    looks = looks_of(world)
    watch = Watch(NAME, scripted(Sight(), Sight(True), Sight()), 60.0)
    assert looks.look(watch, called=True).wait == 60.0


def test_a_change_that_no_webhook_told_brings_the_usual_pace_back(world: World) -> None:
    looks = looks_of(world)
    watch = Watch(NAME, scripted(Sight(True), Sight(True), Sight()), 60.0)
    waits = [looks.look(watch, called=True).wait, looks.look(watch).wait, looks.look(watch).wait]
    assert waits == [600.0, 60.0, 60.0]


def test_looks_that_go_well_are_written_down_together(world: World) -> None:
    looks = looks_of(world)
    watches = [Watch(f"source wine/{i}", Sight, 60.0, note=lambda: "4 left") for i in range(3)]
    for watch in watches:
        looks.look(watch)
    assert world.store.watches.all() == {}
    looks.write_down()
    found = world.store.watches.all()
    assert sorted(found) == [watch.name for watch in watches]
    assert {(seen.checked_at, seen.note) for seen in found.values()} == {(world.clock.now(), "4 left")}


def test_a_defect_in_one_look_is_logged_and_the_others_go_on(
    watchers: Callable[..., Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    looked = threading.Event()

    def broken() -> Sight:
        raise KeyError("x")

    def well() -> Sight:
        looked.set()
        return Sight()

    watcher = watchers()
    watcher.add(Watch("broken", broken, 60.0))
    watcher.add(Watch("well", well, 60.0))
    watcher.start()
    assert looked.wait(10)
    wait_until(lambda: "broken: defect" in caplog.text, "the log")


def test_a_server_that_does_not_answer_holds_up_no_other(watchers: Callable[..., Watcher]) -> None:
    release, others = threading.Event(), [threading.Event() for _ in range(40)]
    asked: list[int] = []

    def hangs() -> Sight:
        asked.append(1)
        assert release.wait(20)
        return Sight()

    def answers(seen: threading.Event) -> Callable[[], Sight]:
        def look() -> Sight:
            seen.set()
            return Sight()

        return look

    watcher = watchers()
    for i in range(40):
        watcher.add(Watch(f"slow {i}", hangs, 60.0, server="slow.example.org"))
    for i, seen in enumerate(others):
        watcher.add(Watch(f"quick {i}", answers(seen), 60.0, server="quick.example.org"))
    watcher.start()
    try:
        assert all(seen.wait(10) for seen in others)
        wait_until(lambda: len(asked) >= OF_A_SERVER, "the slow server to be asked as often as it may")
        assert len(asked) == OF_A_SERVER
    finally:
        watcher.pause()
        release.set()


def hanging(release: threading.Event) -> Callable[[], Sight]:
    def hangs() -> Sight:
        assert release.wait(20)
        return Sight()

    return hangs


def seeing(seen: threading.Event) -> Callable[[], Sight]:
    def look() -> Sight:
        seen.set()
        return Sight()

    return look


def test_servers_that_hang_hold_up_no_other_however_many_they_are(watchers: Callable[..., Watcher]) -> None:
    release, seen = threading.Event(), threading.Event()
    watcher = watchers(slow=0.05)
    for server in range(AT_ONCE // OF_A_SERVER):
        for i in range(OF_A_SERVER):
            watcher.add(Watch(f"hangs {server}/{i}", hanging(release), 60.0, server=f"{server}.example.org"))
    watcher.start()
    try:
        wait_until(lambda: watcher.under_way == AT_ONCE, "all places are taken")
        watcher.add(Watch("other", seeing(seen), 60.0, server="other.example.org"))
        assert seen.wait(10)
    finally:
        watcher.pause()
        release.set()


def test_one_long_look_holds_up_no_other_of_its_server(watchers: Callable[..., Watcher]) -> None:
    release, others = threading.Event(), [threading.Event() for _ in range(6)]
    watcher = watchers(slow=0.05)
    for i in range(OF_A_SERVER):
        watcher.add(Watch(f"long {i}", hanging(release), 60.0, server="x"))
    watcher.start()
    try:
        wait_until(lambda: watcher.under_way == OF_A_SERVER, "the long looks")
        for i, seen in enumerate(others):
            watcher.add(Watch(f"other {i}", seeing(seen), 60.0, server="x"))
        assert all(seen.wait(10) for seen in others)
    finally:
        watcher.pause()
        release.set()


def test_a_server_that_hangs_takes_few_places_more(watchers: Callable[..., Watcher]) -> None:
    release, seen = threading.Event(), threading.Event()
    watcher = watchers(slow=0.05)
    for i in range(LINGERING):
        watcher.add(Watch(f"hangs {i}", hanging(release), 60.0, server="x"))
    watcher.add(Watch("other", seeing(seen), 0.1, server="y"))
    watcher.start()
    try:
        wait_until(lambda: watcher.under_way > OF_A_SERVER, "one more that finds out whether it answers")
        for _ in range(3):
            seen.clear()
            assert seen.wait(10)
        assert watcher.under_way <= OF_A_SERVER + 2
    finally:
        watcher.pause()
        release.set()


def test_schedules_wait_for_no_look(watchers: Callable[..., Watcher]) -> None:
    release, seen = threading.Event(), threading.Event()
    watcher = watchers()
    for i in range(AT_ONCE):
        watcher.add(Watch(f"hangs {i}", hanging(release), 60.0, server=f"{i}.example.org"))
    watcher.start()
    try:
        wait_until(lambda: watcher.under_way == AT_ONCE, "all places are taken")
        watcher.add(Watch("schedule wine", seeing(seen), 60.0, server="0.example.org", occasion=True))
        assert seen.wait(SLOW - 1)
    finally:
        watcher.pause()
        release.set()


def test_the_trouble_of_what_is_watched_no_more_is_forgotten(
    world: World, watchers: Callable[..., Watcher]
) -> None:
    began, release, looks = threading.Event(), threading.Event(), looks_of(world)

    def fails() -> Sight:
        began.set()
        assert release.wait(20)
        raise SourceUnavailable("away")

    watcher = watchers(looks=looks)
    watcher.add(Watch(NAME, fails, 60.0))
    watcher.start()
    assert began.wait(10)
    watcher.remove(NAME)
    release.set()
    watcher.stop()
    assert world.store.watches.all()[NAME].trouble == "away", "the look has failed"
    assert watcher.problems == {}


def test_a_server_in_trouble_is_asked_one_thing_at_a_time(watchers: Callable[..., Watcher]) -> None:
    lock, most, now, asked = threading.Lock(), [0], [0], [0]
    everybody = threading.Event()

    def refuses() -> Sight:
        with lock:
            asked[0] += 1
            first = asked[0] == 1
            now[0] += 1
            most[0] = max(most[0], 0 if first else now[0])
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1
            if asked[0] == 9:
                everybody.set()
        raise SourceUnavailable("away")

    watcher = watchers()
    watcher.start()
    watcher.add(Watch("first", refuses, 60.0, server="x"))
    wait_until(lambda: watcher.problems, "the first look")
    for i in range(8):
        watcher.add(Watch(f"source {i}", refuses, 60.0, server="x"))
    assert everybody.wait(10)
    assert most[0] == 1


def test_a_webhook_brings_the_look_forward(watchers: Callable[..., Watcher]) -> None:
    looked: list[int] = []
    spec = SourceSpec("wine", "https://github.com/acme/wine", github="acme/wine")
    woken = threading.Event()

    def look() -> Sight:
        looked.append(1)
        return Sight(len(looked) == 2)

    watcher = watchers(woken.set)
    watcher.add(Watch(NAME, look, 3600.0, "github.com", "wine", spec))
    watcher.start()
    wait_until(lambda: looked, "the first look")
    assert watcher.wake("acme/other") == []
    assert watcher.wake("Acme/Wine") == [NAME]
    assert woken.wait(10)


def test_a_webhook_during_a_look_makes_another_look_after_it(watchers: Callable[..., Watcher]) -> None:
    began, go_on, second = threading.Event(), threading.Event(), threading.Event()
    spec = SourceSpec("wine", "https://github.com/acme/wine", github="acme/wine")

    def look() -> Sight:
        if began.is_set():
            second.set()
            return Sight()
        began.set()
        assert go_on.wait(10)
        return Sight()

    watcher = watchers()
    watcher.add(Watch(NAME, look, 3600.0, "github.com", "wine", spec))
    watcher.start()
    assert began.wait(10)
    watcher.wake("acme/wine")
    go_on.set()
    assert second.wait(10)


def test_what_is_watched_no_more_is_looked_at_no_more(watchers: Callable[..., Watcher]) -> None:
    began, go_on, looked = threading.Event(), threading.Event(), []

    def look() -> Sight:
        looked.append(1)
        began.set()
        assert go_on.wait(10)
        return Sight(again=0.01)

    watcher = watchers()
    watcher.add(Watch(NAME, look, 3600.0))
    watcher.start()
    assert began.wait(10)
    watcher.remove(NAME)
    go_on.set()
    assert watcher.names == frozenset()
    watcher.stop()
    assert looked == [1]


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("https://git.example.org:8443/a/b.git", "git.example.org"),
        ("ssh://git@Git.example.org/a/b", "git.example.org"),
        ("git@git.example.org:a/b.git", "git.example.org"),
        ("/srv/repositories/wine", ""),
        ("file:///srv/repositories/wine", ""),
    ],
)
def test_the_server_of_an_address_is_known(address: str, server: str) -> None:
    assert server_of(address) == server


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("https://github.com/acme/wine.git", True),
        ("git@github.com:acme/wine.git", True),
        ("https://github.com/acme/wines", False),
        ("/srv/acme/wine", True),
    ],
)
def test_a_webhook_wakes_plain_git_sources_of_that_name_too(world: World, location: str, asked: bool) -> None:
    watch = replace(watch_of(world), source=SourceSpec("wine", location))
    assert asks_for(watch, "acme/wine") is asked
