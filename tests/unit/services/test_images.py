"""An image is named by what it is made from."""

from __future__ import annotations

from pathlib import Path

from orchestrator.services.images import built_tag, folder_digest
from orchestrator.services.naming import data_volume


def test_the_name_follows_contents_names_execute_bits_and_links(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM image:1\n")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    script = tmp_path / "one" / "run"
    script.write_text("true")
    seen = [folder_digest(tmp_path)]
    script.chmod(0o755)
    seen.append(folder_digest(tmp_path))
    script.write_text("false")
    seen.append(folder_digest(tmp_path))
    link = tmp_path / "data"
    link.symlink_to("one")
    seen.append(folder_digest(tmp_path))
    link.unlink()
    link.symlink_to("two")
    seen.append(folder_digest(tmp_path))
    script.rename(script.with_name("walk"))
    seen.append(folder_digest(tmp_path))
    assert len(set(seen)) == len(seen)


def test_the_name_does_not_follow_git_nor_times(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM image:1\n")
    before = folder_digest(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref")
    (tmp_path / "Dockerfile").touch()
    assert folder_digest(tmp_path) == before


def test_a_links_target_and_the_next_name_are_told_apart(tmp_path: Path) -> None:
    digests = set()
    for number, (target, name) in enumerate((("one", "two"), ("onet", "wo"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "link").symlink_to(target)
        (folder / name).write_text("the same")
        digests.add(folder_digest(folder))
    assert len(digests) == 2


def test_nobody_can_look_for_two_contents_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM image:1\n")
    digest = built_tag(tmp_path, "Dockerfile", "repository").rpartition(":")[2]
    assert len(digest) * 4 >= 160
    assert len(data_volume("0" * 32, "f" * 64).rpartition("-")[2]) * 4 >= 160
