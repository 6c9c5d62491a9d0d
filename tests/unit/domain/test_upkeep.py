"""What goes of what is remembered of repositories and data."""

from datetime import UTC, datetime, timedelta

from orchestrator.domain.retention import Kind
from orchestrator.domain.upkeep import MirrorFacts, VersionFacts, plan_gone, plan_mirrors, plan_versions

NOW = datetime(2026, 11, 23, tzinfo=UTC)
MONTH = timedelta(days=30)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def version(number: int, days: float, key: str = "k") -> VersionFacts:
    return VersionFacts(number, key, number, f"print {number}", ago(days))


def test_versions_go_by_age_unless_they_are_used_or_the_newest_of_what_is_watched() -> None:
    versions = [version(1, 90), version(2, 60), version(3, 20), version(4, 50, "z"), version(5, 40, "z")]
    plan = plan_versions(versions, {"z": "labels"}, {"print 2"}, MONTH, NOW)
    assert [(thing.key, thing.title, thing.why) for thing in plan.going] == [
        (1, "k v1", "older than 30d"),
        (4, "labels v4", "older than 30d"),
    ]
    assert [(thing.title, thing.why) for thing in plan.staying] == [
        ("k v2", "a run has it, or it is looked at"),
        ("labels v5", "it is the newest"),
    ]


def test_all_versions_of_data_that_nobody_watches_go() -> None:
    assert len(plan_versions([version(1, 90), version(2, 60)], {}, set(), MONTH, NOW).going) == 2


def test_without_an_age_nothing_goes() -> None:
    assert plan_versions([version(1, 900)], {}, set(), None, NOW).going == ()
    assert plan_mirrors([MirrorFacts("m", ago(900))], {}, None, NOW).going == ()
    assert plan_gone(Kind.PIPELINES, {"p"}, {"p": ago(900)}, None, NOW).going == ()


def test_what_is_gone_goes_after_a_while_and_not_before_it_is_known_to_be_gone() -> None:
    since = {"old": ago(31), "young": ago(29), "back": ago(90)}
    plan = plan_gone(Kind.PIPELINES, {"old", "young", "new"}, since, MONTH, NOW)
    assert [thing.key for thing in plan.going] == ["old"]


def test_mirrors_go_that_nobody_used_and_nobody_needs() -> None:
    mirrors = [MirrorFacts("a", ago(31)), MirrorFacts("b", ago(31)), MirrorFacts("c", ago(29))]
    plan = plan_mirrors(mirrors, {"b": "wine is watched"}, MONTH, NOW)
    assert [thing.key for thing in plan.going] == ["a"]
    assert [(thing.key, thing.why, thing.because) for thing in plan.staying] == [
        ("b", "wine is watched", "unused for 30d")
    ]
