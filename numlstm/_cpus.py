"""How many CPUs this process may use, and where it comes from: what the system says of both."""

import functools
import math
import os
from pathlib import Path, PurePosixPath

_PF_FORKNOEXEC = 0x40  # of a process that was forked and has run no other program since (Linux, include/linux/sched.h)


def available_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use at a time: those it may run on, within the quota of its control groups."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; also what -X cpu_count says
        count = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, math.ceil(min(count, _quota(root))))


@functools.cache
def _quota(root: Path) -> float:
    """Return how many CPUs' time the control groups of this process let it have; infinity where nothing is said.

    The smallest quota from the process's group up counts. Files as in cgroups(7) and proc(5); `root` is where /proc is.
    """
    smallest = math.inf
    try:
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return smallest
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in mounts:
            fields, _, filesystem = mount.partition(" - ")
            kind, *_, options = filesystem.split(" ")
            if kind == "cgroup2" if not controllers else kind == "cgroup" and "cpu" in options.split(","):
                top, point = fields.split(" ")[3:5]
                for folder in _folders(PurePosixPath(path), PurePosixPath(top), root / point.lstrip("/")):
                    smallest = min(smallest, _quota_of(folder))
    return smallest


def _folders(group: PurePosixPath, top: PurePosixPath, mounted: Path) -> list[Path]:
    """Return the folder of a group and of those above it, in a hierarchy of which `top` and what is below is mounted."""
    inner = group.relative_to(top) if group.is_relative_to(top) else PurePosixPath()  # else of another namespace
    return [mounted / part for part in (inner, *inner.parents)]


def _quota_of(folder: Path) -> float:
    """Return the quota of one group, of either version."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no quota: no file, "max" or -1
        return math.inf


@functools.cache
def inherited_openmp(root: Path = Path("/")) -> bool:
    """Return whether this process is the fork of one that may have run threads of GNU OpenMP (Linux only; else False)."""
    try:
        flags = int((root / "proc/self/stat").read_text().rpartition(")")[2].split()[6])
        return bool(flags & _PF_FORKNOEXEC) and "/libgomp" in (root / "proc/self/maps").read_text()
    except (OSError, ValueError, IndexError):
        return False
