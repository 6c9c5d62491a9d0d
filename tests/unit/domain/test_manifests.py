"""Manifests: many files in little memory, in the order of their paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.change import FileEntry, diff_manifests
from orchestrator.domain.manifest import PART, Manifest, ManifestPart, manifest_of, unpacked

ENTRIES = st.builds(
    FileEntry,
    st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20),
    st.integers(0, 1 << 60),
    st.sampled_from(("", "a" * 64)),
    st.sampled_from(("", 'etag:"5d41"')),
)
MANIFESTS = st.lists(ENTRIES, unique_by=lambda entry: entry.path, max_size=30)


@given(MANIFESTS)
def test_a_manifest_holds_its_files_in_the_order_of_their_paths(entries: list[FileEntry]) -> None:
    manifest = manifest_of(entries)
    assert manifest == sorted(entries, key=lambda entry: entry.path)
    assert Manifest(ManifestPart(p.files, p.content) for p in manifest.parts) == manifest


@given(MANIFESTS, MANIFESTS)
def test_packed_or_not_the_difference_is_the_same(old: list[FileEntry], new: list[FileEntry]) -> None:
    before, after = ({entry.path: entry for entry in entries} for entries in (old, new))
    found = diff_manifests(manifest_of(old), manifest_of(new))
    assert found == diff_manifests(tuple(old), tuple(new))
    assert set(found.added) == after.keys() - before.keys()
    assert set(found.removed) == before.keys() - after.keys()
    both = before.keys() & after.keys()
    assert list(found.changed) == sorted(p for p in both if before[p].content != after[p].content)
    assert found.size_delta == sum(e.size for e in new) - sum(e.size for e in old)


def test_files_are_found_by_number_over_all_parts() -> None:
    entries = [FileEntry(f"{number:06}", number, "") for number in range(2 * PART + 3)]
    manifest = manifest_of(entries)
    assert len(manifest.parts) == 3
    for at in (0, PART - 1, PART, 2 * PART + 2, -1):
        assert manifest[at] == entries[at]
    assert manifest[PART - 1 : PART + 1] == tuple(entries[PART - 1 : PART + 1])
    with pytest.raises(IndexError):
        manifest[len(entries)]


def test_a_manifest_differs_from_one_with_another_file() -> None:
    assert manifest_of([FileEntry("a", 1, "1")]) != manifest_of([FileEntry("a", 1, "2")])
    assert manifest_of([FileEntry("a", 1, "1")]) != manifest_of([])


@pytest.mark.parametrize("content", [b"", b"no part", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_what_is_no_part_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"part of a manifest|Expecting value"):
        unpacked(content)
