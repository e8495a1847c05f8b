"""The first cell of a notebook, on Colab: nothing of the course is there yet."""

import subprocess
import sys

from course import notebooks
from lib.profiles import ROOT

FAKE = f"""
import subprocess, sys, types
sys.modules["google"] = types.ModuleType("google")
sys.modules["google.colab"] = types.ModuleType("google.colab")
asked = []
subprocess.run = lambda command, **more: asked.append(command)
cell = '''%s'''.replace("/content/course", {str(ROOT)!r})
exec(cell)
print(*asked[0])
"""


def test_set_up_installs_what_is_missing_in_an_empty_environment(tmp_path):
    """Without site-packages: not even numpy may be needed to find out what is missing."""
    cells = [cell.source for cell in notebooks.read_source(
        ROOT / "notebooks/00_start_here.py").cells if "google.colab" in cell.source]
    code = "\n".join(line for line in cells[0].splitlines()
                     if not line.lstrip().startswith(("!", "%")))
    run = subprocess.run([sys.executable, "-I", "-S", "-c", FAKE % code], cwd=tmp_path,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    command = run.stdout.split()
    assert "pip" in command
    assert any(name.startswith("papermill==") for name in command)
    assert not any(name.startswith(("torch==", "numpy==", "pytest==")) for name in command)
