"""What is installed, beside the pins; on Colab, what is missing is installed."""

import importlib.metadata
import platform
import re
import subprocess
import sys
from collections.abc import Iterator

from lib.profiles import ROOT

KEEP = ("torch", "numpy")  # Colab's own are built for its GPUs
UNUSED = ("jupyterlab", "pytest", "hypothesis", "ruff")  # not by a notebook


def pins() -> Iterator[tuple[str, str, str | None]]:
    """(package, pinned version, installed version or None) of requirements.txt, on this system."""
    here = {"sys_platform": sys.platform, "platform_machine": platform.machine(),
            "python_version": "{}.{}".format(*sys.version_info)}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        match = re.match(r"([\w.-]+)==([\w.]+)(?:; ([^#]+))?", line)
        if match and eval(match[3] or "True", here):  # a marker of pip is an expression of Python
            found = next(iter(importlib.metadata.distributions(name=match[1])), None)
            yield match[1], match[2], found and found.version.split("+")[0]


def install() -> None:
    """Install with pip what Colab lacks, never torch or numpy."""
    wanted = [f"{name}=={want}" for name, want, have in pins()
              if have is None and name not in KEEP + UNUSED]
    if wanted:
        print("installing", ", ".join(wanted))
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], check=True)
