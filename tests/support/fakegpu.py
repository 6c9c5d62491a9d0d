"""A host that looks as one with NVIDIA's driver: device files, libraries, and a nvidia-smi that is a script.

Nothing computes there. What is real is everything around it: the files of the host, what its engine lets into
a container, and that nvidia-smi tells of those GPUs alone whose device file is there, and of the processes
that it sees, as the real one does.
"""

from __future__ import annotations

from tests.support.hosts import Host
from tests.support.waiting import wait_until

DRIVER = "550.54.15"
MODEL = "NVIDIA Fake L4"
MEMORY = 23034 << 20
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
TRAINER = "fake-train"
"""Programs of that name and a GPU's number compute on it, as far as nvidia-smi can tell."""
# The libraries have to be found as the real one finds them.
_PROGRAM = f"""#!/bin/sh
found=
for folder in $(echo "$LD_LIBRARY_PATH" | tr : ' ') {LIBRARIES}; do
  [ ! -e "$folder/libnvidia-ml.so.1" ] || found=1
done
[ "$found" ] || {{ echo "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system."; exit 12; }}
[ -c /dev/nvidiactl ] || {{ echo "NVIDIA-SMI has failed: it couldn't communicate with the driver."; exit 9; }}
for node in /dev/nvidia[0-9]; do
  [ -c "$node" ] || continue
  n=${{node#/dev/nvidia}}
  uuid=GPU-0000000$n-fake-fake-fake-000000000000
  case "$*" in
    -q) echo "    GPU UUID : $uuid"; echo "    Minor Number : $n";;
    -L) echo "GPU 0: {MODEL} (UUID: $uuid)";;
    --query-gpu=uuid,memory.total,memory.used,driver_version,name\\ *)
      echo "$uuid, {MEMORY >> 20}, 1, {DRIVER}, {MODEL}";;
    --query-gpu=uuid,mig.mode.current\\ *) echo "$uuid, [N/A]";;
    --query-gpu=uuid,utilization.gpu,memory.used\\ *) echo "$uuid, 90, 1485";;
    --query-compute-apps=gpu_uuid,pid,process_name\\ *)
      for name in /proc/[0-9]*/comm; do
        if read -r program <"$name" && [ "$program" = "{TRAINER}-$n" ]; then
          pid=${{name%/comm}}
          echo "$uuid, ${{pid#/proc/}}, $program"
        fi
      done 2>/dev/null;;
    *) echo "ERROR: Option $1 is not recognized."; exit 2;;
  esac
done
"""
_FILES = f"""set -e
for n in 0 1; do [ -c /dev/nvidia$n ] || mknod -m 666 /dev/nvidia$n c 1 3; done
for name in nvidiactl nvidia-uvm; do [ -c /dev/$name ] || mknod -m 666 /dev/$name c 1 3; done
for name in cuda nvidia-ml nvidia-ptxjitcompiler; do
  echo "a library of the fake driver" > {LIBRARIES}/lib$name.so.{DRIVER}
  ln -sf lib$name.so.{DRIVER} {LIBRARIES}/lib$name.so.1
done
for n in 0 1; do cp /bin/sleep /usr/local/bin/{TRAINER}-$n; done
chmod 755 /usr/bin/nvidia-smi
"""


def uuid_of(number: int) -> str:
    """The UUID of the GPU with that number, 0 or 1."""
    return f"GPU-0000000{number}-fake-fake-fake-000000000000"


def give_gpus(host: Host) -> None:
    """Make the host look as one with two GPUs, or whole again as such. Repeating is fine."""
    host.run("sh", "-c", 'printf %s "$1" > /usr/bin/nvidia-smi', "sh", _PROGRAM)
    host.run("sh", "-c", _FILES)


def compute_on(host: Host, number: int) -> int:
    """Have somebody compute on a GPU, outside of any container; the process's id there."""
    program = f"{TRAINER}-{number}"
    host.container.exec_run([program, "1000"], detach=True)
    wait_until(lambda: bool(_pid(host, program)), f"{program} to run")
    return int(_pid(host, program))


def leave(host: Host, number: int) -> None:
    """End what computes on a GPU."""
    host.run("pkill", "-KILL", "-x", f"{TRAINER}-{number}", check=False)
    wait_until(lambda: not _pid(host, f"{TRAINER}-{number}"), "the process to end")


def _pid(host: Host, program: str) -> str:
    return host.run("pgrep", "-o", "-x", program, check=False).strip()
