"""NVIDIA's tools: what they print, and the shell scripts that ask them in small containers of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from orchestrator.domain.gpu import Gpu
from orchestrator.ports.gpus import GpuProcess, GpuSeen

DRIVER = "/usr/local/nvidia"
"""Where a container finds the driver's volume. Images of NVIDIA's look there by themselves."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Of an image that says nothing."""
_MIB = 1 << 20
_NODE = re.compile(r"/dev/nvidia(\d+)")
_VERSION = r"[0-9]{2,4}\.[0-9]+(\.[0-9]+)*"
CONTROL = "/dev/nvidiactl"
MEMORY = "/dev/nvidia-uvm"
COMMON = (CONTROL, MEMORY, "/dev/nvidia-uvm-tools")
"""Device files that CUDA needs whatever the GPU; the last one is for debuggers alone."""

# Runs with the host's /usr and /dev below /host, to read. Debian links libraries by way of /etc, which is not
# there: so regular files are looked for, by the driver's version that each of them has at its end.
_FOLDERS = "/host/usr/lib64 /host/usr/lib/x86_64-linux-gnu /host/usr/lib/aarch64-linux-gnu /host/usr/lib"
_DRIVER = f"""
find_driver() {{
  version=$(grep -oE '{_VERSION}' /proc/driver/nvidia/version 2>/dev/null | head -n 1) || version=
  for folder in {_FOLDERS}; do
    [ -d "$folder" ] || continue
    for file in $(find "$folder" -maxdepth 4 -type f -name "libcuda.so.${{version:-[0-9]*}}" 2>/dev/null); do
      case $file in */i386-linux-gnu/*|*/stubs/*|*/compat/*) continue;; esac
      version=${{file##*/libcuda.so.}}
      return 0
    done
  done
  return 1
}}
"""
LOOK = (
    _DRIVER
    + """
for file in /host/dev/nvidia*; do if [ -c "$file" ]; then echo "node ${file#/host}"; fi; done
if find_driver; then echo "driver $version"; fi
if [ -f /host/usr/bin/nvidia-smi ]; then echo "program /usr/bin/nvidia-smi"; fi
"""
)
# What CUDA and nvidia-smi need of the driver, into a volume at /driver. Links that the loader looks for are
# made by ldconfig, or by hand where an image has none.
COPY = (
    _DRIVER
    + """
set -eu
[ ! -e /driver/ready ] || exit 0
find_driver || { echo 'the libraries of the driver are gone'; exit 1; }
new=$(mktemp -d /driver/new-XXXXXX)
mkdir -p "$new/lib64" "$new/bin"
for name in cuda cudadebugger nvidia-ml nvidia-ptxjitcompiler nvidia-nvvm nvidia-nvvm70 nvidia-gpucomp \
    nvidia-opencl nvidia-cfg nvidia-allocator nvidia-pkcs11 nvidia-pkcs11-openssl3 nvcuvid nvidia-encode; do
  for found in $(find "$folder" -maxdepth 4 -type f -name "lib$name.so.$version" ! -path '*/i386-*'); do
    cp "$found" "$new/lib64/"
  done
done
cp /host/usr/bin/nvidia-smi "$new/bin/"
ldconfig -n "$new/lib64" 2>/dev/null || :
for name in cuda nvidia-ml; do
  [ -e "$new/lib64/lib$name.so.1" ] || ln -s "lib$name.so.$version" "$new/lib64/lib$name.so.1"
done
ln -s libcuda.so.1 "$new/lib64/libcuda.so"
chmod -R a+rX "$new"
mv -T "$new/lib64" /driver/lib64 2>/dev/null && mv -T "$new/bin" /driver/bin || [ -e /driver/bin ]
rm -rf "$new"
: > /driver/ready
"""
)
# An nvidia-smi refuses fields that it does not know, so one that came late is asked for apart.
PROBE = f"""
export PATH="$PATH:{DRIVER}/bin" LD_LIBRARY_PATH="{DRIVER}/lib64${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
ask() {{ nvidia-smi "$@" --format=csv,noheader,nounits; }}
echo '#gpus'
ask --query-gpu=uuid,memory.total,memory.used,driver_version,name || exit $?
echo '#processes'
ask --query-compute-apps=gpu_uuid,pid,process_name || exit $?
echo '#partitioned'
ask --query-gpu=uuid,mig.mode.current 2>/dev/null || :
echo '#minors'
cat /proc/driver/nvidia/gpus/*/information 2>/dev/null || nvidia-smi -q | grep -E 'GPU UUID|Minor Number' || :
"""


@dataclass(frozen=True, slots=True)
class Look:
    """What of NVIDIA's is on a host. ``driver`` is the version of its libraries; empty: there are none."""

    nodes: tuple[str, ...] = ()
    driver: str = ""
    program: bool = False

    @property
    def gpus(self) -> tuple[str, ...]:
        """The device files of GPUs."""
        return tuple(node for node in self.nodes if _NODE.fullmatch(node))

    @property
    def common(self) -> tuple[str, ...]:
        """The device files that all of them need, as far as they are there."""
        return tuple(node for node in COMMON if node in self.nodes)


def look_of(said: str) -> Look:
    """What :data:`LOOK` printed."""
    told = [line.partition(" ") for line in said.splitlines()]
    return Look(
        tuple(sorted(what for kind, _, what in told if kind == "node")),
        next((what for kind, _, what in told if kind == "driver"), ""),
        any(kind == "program" for kind, _, _ in told),
    )


def seen_of(said: str) -> tuple[GpuSeen, ...]:
    """What :data:`PROBE` printed. What it does not tell in a way that is known is left out."""
    parts = _parts(said)
    minors = dict(_minors(parts.get("minors", "")))
    found: dict[str, GpuSeen] = {}
    for uuid, total, used, driver, model in _rows(parts.get("gpus", ""), 5):
        # The index is no way to its file: the two are counted in different orders.
        device = f"/dev/nvidia{minors[uuid]}" if uuid in minors else ""
        found[uuid] = GpuSeen(Gpu(uuid, model, _whole(total) * _MIB, driver), device, _whole(used) * _MIB)
    for uuid, pid, program in _rows(parts.get("processes", ""), 3):
        if (seen := found.get(uuid)) is not None:
            found[uuid] = replace(seen, processes=(*seen.processes, GpuProcess(_whole(pid), program)))
    for uuid, mode in _rows(parts.get("partitioned", ""), 2):
        if (seen := found.get(uuid)) is not None and mode == "Enabled":
            found[uuid] = replace(seen, partitioned=True)
    return tuple(found.values())


def driver_paths(environment: Mapping[str, str]) -> dict[str, str]:
    """``PATH`` and ``LD_LIBRARY_PATH`` by which the driver's programs and libraries are found as well."""
    programs = environment.get("PATH") or _PATH
    libraries = environment.get("LD_LIBRARY_PATH")
    return {
        "PATH": f"{programs}:{DRIVER}/bin",
        "LD_LIBRARY_PATH": f"{DRIVER}/lib64:{libraries}" if libraries else f"{DRIVER}/lib64",
    }


def _parts(said: str) -> Mapping[str, str]:
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in said.splitlines():
        if line.startswith("#"):
            current = parts.setdefault(line[1:], [])
        else:
            current.append(line)
    return {name: "\n".join(lines) for name, lines in parts.items()}


def _rows(text: str, columns: int) -> Iterator[tuple[str, ...]]:
    """The rows of a table of that many columns; only the last one may have commas in it."""
    for line in text.splitlines():
        cells = tuple(cell.strip() for cell in line.split(",", columns - 1))
        if len(cells) == columns and cells[0].startswith("GPU-"):
            yield cells


def _minors(text: str) -> Iterator[tuple[str, int]]:
    uuid = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "GPU UUID":
            uuid = value.strip()
        elif name.strip() in ("Device Minor", "Minor Number") and uuid and value.strip().isdecimal():
            yield uuid, int(value)


def _whole(text: str) -> int:
    """A number, or 0 where the driver tells none (``[N/A]``)."""
    text = text.strip()
    return int(text) if text.isdecimal() else 0
