"""Where a result comes from: the commit of the code, and the machine (not its name)."""

import contextlib
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from lib.profiles import ROOT, cores

# What a number can depend on; generated files do not make the code dirty.
SOURCES = ("lib", "collider", "hcal", "course", "notebooks/*.py", "notebooks/drawings",
           "requirements.txt", "pyproject.toml", "run_all.sh")


@cache
def commit() -> str:
    """The commit of the code, ``-dirty`` appended where a source differs from it."""
    head = git("rev-parse", "--short=12", "HEAD")
    dirty = "-dirty" if git("status", "--porcelain", "--", *SOURCES) else ""
    return head + dirty if head else "unknown"


def git(*arguments: str) -> str | None:
    """Output of git, or None where it fails or is absent."""
    try:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def machine() -> str:
    """Processor and threads, or the accelerator: ``Intel Xeon ..., 2 threads``."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} ({cpu}, {cores()} cores)"
    return f"{cpu}, {torch.get_num_threads()} threads"
