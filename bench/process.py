"""What a server process costs: its CPU clock, and its memory from /proc (see proc(5)). Cores are numbered from 0."""

import time
from pathlib import Path

_CPUCLOCK_SCHED = 2  # include/linux/posix-timers.h


def cpu_seconds(pid: int) -> float:
    """User plus system time of all threads of the process, ended ones included.

    What clock_getcpuclockid(3) finds: the same figure as in /proc/PID/stat, but not in ticks of 10 ms.
    """
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def resident_kib(pid: int) -> int:
    """Resident memory in KiB, from smaps_rollup: VmRSS lags behind by a batch of pages per core."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise RuntimeError(f"no Rss line in /proc/{pid}/smaps_rollup")


def filesystem(path: Path) -> str:
    """Type of the file system that holds `path`, for example ext4 or tmpfs."""
    best, kind = "", "unknown"
    resolved = str(path.resolve())
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, fs, *_ = line.split()
        inside = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fs
    return kind
