"""What can this machine do, and is all there that the course needs? If not, what to do about it."""

import contextlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator

from course import paper
from course.colab import pins
from lib.profiles import cores, get, home
from lib.report.results import TIMES, ResultsError, load


def main() -> int:
    """Print the findings; returns 0 when nothing that is needed is missing."""
    missing = 0
    for good, needed, text in findings():
        missing += needed and not good
        print(f"{'ok' if good else 'MISSING' if needed else 'absent':<8} {text}")
    return 1 if missing else 0


def findings() -> Iterator[tuple[bool, bool, str]]:
    """(good, needed, text) of every question."""
    import torch

    version = ".".join(map(str, sys.version_info[:3]))
    yield sys.version_info >= (3, 11), True, f"Python {version} (3.11 or newer)"
    other = [(name, want, have) for name, want, have in pins() if have != want]
    for name, want, have in other:
        text = f"{name}: pinned {want}, {have or 'not installed'}: run ./run_all.sh --setup"
        yield False, not have, text
    if not other:
        yield True, True, "all packages of requirements.txt, at their pins"
    pythia = importlib.util.find_spec("pythia8mc") is not None
    yield pythia, False, f"Pythia, to simulate jets on {platform.system()} {platform.machine()}" + (
        "" if pythia else ": wheels are for Linux x86-64 and Macs with arm64, Python 3.11-3.13; "
        "without one: ./run_all.sh --data cms, predict, evaluate, published results")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield memory > 4, True, f"{memory:.0f} GB of memory (the laptop profile needs 4)"
    free = shutil.disk_usage(next(p for p in (home(), *home().parents) if p.exists())).free / 1e9
    yield free > 3, True, f"{free:.0f} GB of disk free (the course writes about 1 GB)"
    cuda = torch.cuda.is_available()
    yield cuda, False, f"GPU: {torch.cuda.get_device_name()}" if cuda else (
        "GPU (the laptop profile needs none)")
    yield paper.has_latex(), False, f"LaTeX for the report (to install it: {paper.latex_command()})"
    yield paper.has_notebook_latex(), False, (
        "pandoc and xelatex for notebooks as PDFs (./run_all.sh --submission installs them)")
    yield True, False, _how_long("full" if cuda else "laptop")


def _how_long(profile: str) -> str:
    """Which profile fits, and its published time, by the number of cores."""
    text = f"{cores()} cores: profile {profile}; smoke checks all of it in minutes"
    with contextlib.suppress(ResultsError, KeyError, ValueError):
        found = load(TIMES, get(profile))
        minutes, before = found["values"]["total_minutes"], found["machine"]
        threads = int(before.rpartition(", ")[2].split()[0])
        text += (f"; its {found['values']['timed']} timed notebooks took {minutes:.0f} minutes on "
                 f"{before}: about {minutes * max(1, threads / cores()):.0f} here")
    return text
