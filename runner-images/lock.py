#!/usr/bin/env python3
"""Pins what the images install: each requirements file anew, from its .in file and from uv.lock.

Usage: lock.py [UV]. Each package gets its exact version and the hashes of the wheels that fit CPython 3.11 on
Linux, amd64 and arm64: pip then takes nothing else, and builds nothing. `make lock` runs it with .venv's own.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

HERE = Path(__file__).resolve().parent
PYTHON = (3, 11)
GLIBC = 36
"""Minor version of Debian 12's C library, 2.36: newer wheels do not load there."""
MACHINES = ("x86_64", "aarch64")
HEAD = """\
# Made by runner-images/lock.py (`make lock`) from {source}: exact versions, and hashes of their wheels for
# CPython 3.11 on Linux, amd64 and arm64. Change {source}, not this file.
"""


def tags(machine: str) -> frozenset[Tag]:
    """The wheels that our images can use."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(5, GLIBC + 1)]
    platforms += [f"manylinux{year}_{machine}" for year in ("1", "2010", "2014")]
    return frozenset(
        [*cpython_tags(PYTHON, platforms=platforms), *compatible_tags(PYTHON, "cp311", platforms)]
    )


TAGS = {machine: tags(machine) for machine in MACHINES}


def wanted_on(package: dict[str, Any]) -> list[str]:
    """The machines whose images install a package."""
    if "marker" not in package:
        return list(MACHINES)
    marker = Marker(package["marker"])
    common = {
        "python_version": "3.11",
        "python_full_version": "3.11.2",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    return [machine for machine in MACHINES if marker.evaluate({**common, "platform_machine": machine})]


def hashes(package: dict[str, Any], machine: str) -> set[str]:
    """The hashes of a package's wheels for a machine. Ends the program when there is none."""
    found = set()
    for wheel in package.get("wheels", []):
        name = wheel["url"].rpartition("/")[2].replace("%2B", "+")
        if parse_wheel_filename(name)[3] & TAGS[machine]:
            found.add(str(wheel["hashes"]["sha256"]))
    if not found:
        raise SystemExit(f"lock.py: {package['name']} {package['version']} has no wheel for {machine}")
    return found


def pinned(lock: str, source: str) -> str:
    """A requirements file from the text of a pylock.toml."""
    packages: list[dict[str, Any]] = tomllib.loads(lock)["packages"]
    lines = [HEAD.format(source=source)]
    for package in sorted(packages, key=lambda entry: str(entry["name"])):
        machines = wanted_on(package)
        if not machines:
            continue
        marker = f" ; platform_machine == '{machines[0]}'" if len(machines) == 1 else ""
        found = sorted(set().union(*(hashes(package, machine) for machine in machines)))
        entry = [
            f"{package['name']}=={package['version']}{marker}",
            *(f"    --hash=sha256:{h}" for h in found),
        ]
        lines.append(" \\\n".join(entry) + "\n")
    return "".join(lines)


def main() -> None:
    """Write all of them."""
    uv = sys.argv[1] if len(sys.argv) > 1 else "uv"

    def said(*arguments: str) -> str:
        line = [uv, *arguments, "--quiet", "--no-config", "--format", "pylock.toml"]
        return subprocess.run(line, cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout

    index = ("--default-index", "https://pypi.org/simple")
    for source in sorted(HERE.glob("*/*.in")):
        text = said("pip", "compile", str(source), "--universal", "--python-version", "3.11", *index)
        source.with_suffix(".txt").write_text(pinned(text, source.name))
    extras = ("--extra", "postgres", "--extra", "s3", "--extra", "gcs", "--extra", "demo")
    server = said("export", "--frozen", "--no-dev", *extras, "--no-emit-project")
    (HERE / "server" / "requirements.txt").write_text(pinned(server, "uv.lock"))


if __name__ == "__main__":
    main()
