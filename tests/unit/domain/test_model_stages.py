"""Stages of models: one candidate, one in production, and what left production is archived."""

from orchestrator.domain.model_registry import Moved, Stage, moves

CANDIDATE, PRODUCTION, ARCHIVED = Stage.CANDIDATE, Stage.PRODUCTION, Stage.ARCHIVED


def test_the_first_version_gets_its_stage() -> None:
    assert moves(1, PRODUCTION, {}) == (Moved(1, PRODUCTION),)


def test_what_leaves_production_is_archived() -> None:
    holders = {PRODUCTION: frozenset({1}), CANDIDATE: frozenset({2})}
    assert moves(2, PRODUCTION, holders) == (
        Moved(2, CANDIDATE, gone=True),
        Moved(1, PRODUCTION, gone=True),
        Moved(1, ARCHIVED),
        Moved(2, PRODUCTION),
    )


def test_a_new_candidate_takes_the_place_of_the_old_one() -> None:
    assert moves(2, CANDIDATE, {CANDIDATE: frozenset({1})}) == (
        Moved(1, CANDIDATE, gone=True),
        Moved(2, CANDIDATE),
    )


def test_a_version_that_comes_back_is_archived_no_more() -> None:
    holders = {PRODUCTION: frozenset({2}), ARCHIVED: frozenset({1})}
    made = moves(1, PRODUCTION, holders)
    assert Moved(1, ARCHIVED, gone=True) in made
    assert Moved(2, ARCHIVED) in made


def test_a_stage_that_it_has_changes_nothing() -> None:
    assert moves(1, PRODUCTION, {PRODUCTION: frozenset({1})}) == ()


def test_what_is_in_production_is_no_candidate_as_well() -> None:
    assert moves(1, CANDIDATE, {PRODUCTION: frozenset({1})}) == ()
