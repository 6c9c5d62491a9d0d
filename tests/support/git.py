"""A real Git repository with a bare remote, and what people do to them."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GitRepository:
    """A working copy, and the bare repository that it pushes to, which is what the product watches."""

    work: Path
    remote: Path

    @classmethod
    def create(cls, folder: Path) -> "GitRepository":
        """Make both below ``folder``, on the branch ``main``, without a commit."""
        repository = cls(work=folder / "work", remote=folder / "remote.git")
        run_git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(repository.remote))
        run_git(folder, "init", "--quiet", "--initial-branch=main", str(repository.work))
        repository.git("remote", "add", "origin", str(repository.remote))
        return repository

    @property
    def url(self) -> str:
        return str(self.remote)

    def git(self, *arguments: str) -> str:
        """Run git in the working copy and return what it printed, without the final newline."""
        return run_git(self.work, *arguments)

    def commit(
        self, files: Mapping[str, str | bytes | None], message: str = "Change something", *, push: bool = True
    ) -> str:
        """Write (None: delete) ``files``, commit them on the current branch, push; return the SHA."""
        for name, content in files.items():
            path = self.work / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        if push:
            self.push()
        return self.head()

    def head(self, name: str = "HEAD") -> str:
        """The SHA that ``name`` points to."""
        return self.git("rev-parse", "--verify", f"{name}^{{commit}}")

    def push(self, *, force: bool = False) -> None:
        """Push the current branch."""
        self.git("push", "--quiet", *(["--force"] if force else []), "origin", "HEAD")

    def switch(self, branch: str) -> None:
        """Go to ``branch``, made from the current commit when it is new."""
        known = self.git("branch", "--list", branch)
        self.git("switch", "--quiet", *([] if known else ["--create"]), branch)

    def rewrite(self, message: str = "Say it differently") -> str:
        """Replace the current branch's last commit by another one, force-push it, and return its SHA."""
        self.git("commit", "--quiet", "--amend", "--allow-empty", "--message", message)
        self.push(force=True)
        return self.head()

    def delete_branch(self, branch: str) -> None:
        """Delete ``branch`` at the remote."""
        self.git("push", "--quiet", "--delete", "origin", branch)


def run_git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder`` without any person's configuration; a failure shows what git said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise AssertionError(f"git {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout.rstrip("\n")
