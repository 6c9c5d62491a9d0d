"""A reader of what a server serves: it polls ``current`` on the server itself and judges every look."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import TracebackType

from tests.support.sshd import SshServer
from tests.support.waiting import wait_until

PROGRAM = """
import hashlib, json, os, sys, time

base, marks = sys.argv[1:]
reads, wrong, seen = 0, [], []


def whole(content):
    return hashlib.sha256(content[64:]).hexdigest().encode() == content[:64]


def look():
    through_the_link = open(base + "/current/model.bin", "rb").read()
    if not whole(through_the_link):
        return "half a model through the link"
    # One release, held open: whatever is switched or pruned meanwhile, its files have to fit together.
    folder = os.open(base + "/current", os.O_RDONLY)
    try:
        def read(name):
            with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
                return file.read()
        manifest = json.loads(read("release.json"))
        for name, facts in manifest["files"].items():
            content = read(name)
            if hashlib.sha256(content).hexdigest() != facts["sha256"]:
                return "%s is not the one of %s" % (name, manifest["release"])
    finally:
        os.close(folder)
    if not seen or seen[-1] != manifest["release"]:
        seen.append(manifest["release"])


while not os.path.exists(marks + "/stop"):
    try:
        problem = look()
    except (OSError, ValueError, KeyError) as error:
        problem = repr(error)
    if problem:
        wrong.append(problem)
    reads += 1
    if reads == 1:
        open(marks + "/started", "w").close()
    time.sleep(0.003)
with open(marks + "/seen.new", "w") as file:
    json.dump({"reads": reads, "wrong": wrong[:20], "seen": seen}, file)
os.rename(marks + "/seen.new", marks + "/seen")
"""


@dataclass
class Reader:
    """Reads all the time between entering and leaving. Afterwards it tells what it saw."""

    machine: SshServer
    path: str
    reads: int = 0
    wrong: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    """The releases that were live, each where it took another one's place."""

    @property
    def _marks(self) -> str:
        return f"/tmp/reader{self.path.replace('/', '-')}"

    def __enter__(self) -> Reader:
        self.machine.run("mkdir", self._marks)
        self.machine.container.exec_run(
            ["python3", "-c", PROGRAM, self.path, self._marks], user="root", detach=True
        )
        wait_until(lambda: self._there("started"), "the reader")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.machine.run("touch", f"{self._marks}/stop")
        wait_until(lambda: self._there("seen"), "what the reader saw")
        told = json.loads(self.machine.run("cat", f"{self._marks}/seen"))
        self.reads, self.wrong, self.seen = told["reads"], tuple(told["wrong"]), tuple(told["seen"])
        self.machine.run("rm", "-r", self._marks)

    def _there(self, mark: str) -> bool:
        return mark in self.machine.run("ls", self._marks).split()
