"""Is everything here that the course needs? One line a question, and what to do about a no."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys

from lib.profiles import ROOT, home


def main() -> int:
    """Print the findings; returns 0 when nothing that is needed is missing."""
    missing = 0
    for good, needed, text in [*_python(), *_packages(), *_machine(), *_latex()]:
        missing += needed and not good
        print(f"{'ok' if good else 'MISSING' if needed else 'absent':<8} {text}")
    return 1 if missing else 0


Finding = tuple[bool, bool, str]  # good, needed, text


def _python() -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    return [(sys.version_info >= (3, 11), True, f"Python {version} (3.11 or newer)")]


def _packages() -> list[Finding]:
    found = []
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if not (match := re.match(r"([\w-]+)==([\w.]+)(;.*linux)?", line)):
            continue
        name, want, linux_only = match.groups()
        try:
            have = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            have = "not installed"
        needed = not linux_only or sys.platform == "linux"
        if have != want:
            text = f"{name}: pinned {want}, {have}: run ./run_all.sh --setup"
            found.append((False, needed and have == "not installed", text))
    return found or [(True, True, "all packages of requirements.txt, at their pins")]


def _machine() -> list[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free = shutil.disk_usage(home()).free / 1e9
    cuda = torch.cuda.is_available()
    return [
        (True, False, f"{cores} cores"),
        (free > 3, True, f"{free:.0f} GB of disk free (the course writes about 1 GB)"),
        (cuda, False, f"GPU: {torch.cuda.get_device_name()}" if cuda else
         "GPU (the laptop profile needs none)"),
    ]


def _latex() -> list[Finding]:
    from course import paper

    command = paper.latex_command()
    hint = f": {command}"
    report, notebooks = paper.has_latex(), paper.has_notebook_latex()
    return [
        (report, False, "LaTeX for the report" + ("" if report else hint)),
        (notebooks, False, "pandoc and xelatex for notebooks as PDFs"
         + ("" if notebooks else ": ./run_all.sh --submission installs them")),
    ]
