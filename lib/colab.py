"""Set-up on Colab: what the course needs and Colab lacks, never torch or numpy."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

from lib.profiles import ROOT

KEEP = ("torch", "numpy")  # Colab's own are built for its GPUs
UNUSED = ("jupyterlab", "pytest", "hypothesis", "ruff")  # not by a notebook


def missing() -> list[str]:
    """Pins of requirements.txt whose package is not installed at all."""
    wanted = []
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        match = re.match(r"([\w.-]+)==[\w.]+", line)
        if not match or match[1] in KEEP + UNUSED:
            continue
        try:
            importlib.metadata.version(match[1])
        except importlib.metadata.PackageNotFoundError:
            wanted.append(match[0])
    return wanted


def install() -> None:
    """Install what is missing with pip."""
    if wanted := missing():
        print("installing", ", ".join(wanted))
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], check=True)
