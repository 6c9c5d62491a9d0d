"""What is new, and what it differs in."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.change import (
    DatasetRole,
    FileEntry,
    ManifestDiff,
    diff_manifests,
    same_evaluation_data,
    what_changed,
)
from tests.unit.domain.examples import change, version

EVALUATION = DatasetRole.EVALUATION


def test_manifests_differ_in_paths_contents_and_size() -> None:
    old = (FileEntry("a.csv", 10, "1"), FileEntry("b.csv", 20, "2"), FileEntry("c.csv", 5, "3"))
    new = (FileEntry("d.csv", 1, "4"), FileEntry("b.csv", 25, "9"), FileEntry("a.csv", 10, "1"))
    assert diff_manifests(old, new) == ManifestDiff(("d.csv",), ("c.csv",), ("b.csv",), 1)


def test_new_contents_of_the_same_size_are_a_change() -> None:
    diff = diff_manifests((FileEntry("a", 1, "1"),), (FileEntry("a", 1, "2"),))
    assert (diff.added, diff.removed, diff.changed) == ((), (), ("a",))


def test_a_moved_file_is_one_removed_and_one_added() -> None:
    diff = diff_manifests((FileEntry("a", 1, "1"),), (FileEntry("b", 1, "1"),))
    assert (diff.added, diff.removed, diff.changed) == (("b",), ("a",), ())


@pytest.mark.parametrize(
    ("added", "removed", "changed", "summary"),
    [
        (2, 0, 1, "+2 files, 1 changed"),
        (1, 3, 0, "+1 file, -3 files"),
        (0, 1, 0, "-1 file"),
        (0, 0, 0, "no file differs"),
    ],
)
def test_a_difference_is_said_in_one_phrase(added: int, removed: int, changed: int, summary: str) -> None:
    assert ManifestDiff(("x",) * added, ("y",) * removed, ("z",) * changed, 0).summary == summary


MANIFESTS = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 9), st.sampled_from("12")))


@given(MANIFESTS, MANIFESTS)
def test_a_difference_turned_round_is_the_opposite(
    one: dict[str, tuple[int, str]], two: dict[str, tuple[int, str]]
) -> None:
    old = tuple(FileEntry(path, size, sha) for path, (size, sha) in one.items())
    new = tuple(FileEntry(path, size, sha) for path, (size, sha) in two.items())
    there, back = diff_manifests(old, new), diff_manifests(new, old)
    assert (there.added, there.removed, there.changed) == (back.removed, back.added, back.changed)
    assert there.size_delta == -back.size_delta
    assert diff_manifests(old, old) == ManifestDiff((), (), (), 0)


@pytest.mark.parametrize(
    ("commit", "datasets", "words"),
    [
        ("a" * 40, (version("train", "f1"),), "neither code nor data changed"),
        ("b" * 40, (version("train", "f1"),), "code changed"),
        ("a" * 40, (version("train", "f2"),), "data (train), not code, changed"),
        ("b" * 40, (version("train", "f2"),), "code and data (train) changed"),
        ("a" * 40, (version("train", "f1"), version("more")), "data (more), not code, changed"),
        ("a" * 40, (version("train", "f2"), version("more")), "data (train, more), not code, changed"),
        ("a" * 40, (), "data (train), not code, changed"),
    ],
)
def test_what_changed_names_code_and_data(commit: str, datasets: tuple[()], words: str) -> None:
    reference = change(datasets=(version("train", "f1"),))
    assert what_changed(change(commit=commit, datasets=datasets), reference) == words


def test_only_evaluation_data_decide_whether_metrics_are_comparable() -> None:
    test = version("test", "t1", EVALUATION)
    one = change(datasets=(version("train", "f1"), test))
    assert same_evaluation_data(one, change(datasets=(test, version("train", "f2"))))
    assert not same_evaluation_data(one, change(datasets=(replace(test, fingerprint="t2"),)))
    assert not same_evaluation_data(one, change())
    assert same_evaluation_data(change(), change(commit="b" * 40))


def test_a_version_is_named_by_its_number_or_by_its_fingerprint_until_it_has_one() -> None:
    assert replace(version("wine"), number=7).label == "wine v7"
    assert version("wine", "0123456789ab").label == "wine 01234567"


def test_a_change_finds_its_version_of_a_dataset() -> None:
    pinned = change(datasets=(version("train"), version("test")))
    assert pinned.version_of("test") == version("test")
    assert pinned.version_of("other") is None
    assert pinned.revision.short == "aaaaaaaa"
