"""An image is named by what it is made from."""

from __future__ import annotations

from pathlib import Path

from orchestrator.services.images import folder_digest


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
