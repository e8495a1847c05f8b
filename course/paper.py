"""The report: numbers and tables written for LaTeX, then ``main.pdf`` by latexmk."""

import os
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from course import freshness, ledger, tables
from course.notebooks import shown
from lib import profiles
from lib.files import write_bytes, write_text
from lib.profiles import ROOT, Profile
from lib.report import results

SOURCE = ROOT / "paper"


class LatexMissing(RuntimeError):
    """LaTeX is not installed; the message is the command that installs it."""


def latex_command() -> str:
    """What installs LaTeX; run_all.sh, which knows the packages, says so in the environment."""
    return os.environ.get("JETS_LATEX_COMMAND") or "./run_all.sh --setup"


def _installed(programs: str, packages: str) -> bool:
    if not all(shutil.which(name) for name in ("kpsewhich", *programs.split())):
        return False
    found = subprocess.run(["kpsewhich", *packages.split()], capture_output=True, text=True)
    return len(found.stdout.splitlines()) == len(packages.split())


def has_latex() -> bool:
    """Whether the report can be built here."""
    return _installed("latexmk pdflatex bibtex", "siunitx.sty lmodern.sty")


def has_notebook_latex() -> bool:
    """Whether notebooks can be printed here (nbconvert needs pandoc and xelatex)."""
    return _installed("pandoc xelatex", "ulem.sty tcolorbox.sty")


def report(profile: Profile, check: bool = False) -> Path | int:
    """The command ``report``: build it, or list published results that are stale. Returns the path
    of main.pdf, or an exit code: 3 without LaTeX, 1 for stale results."""
    if check:
        found = [line for name in profiles.NAMES if name != "smoke"
                 for data in profiles.DATA_CHOICES
                 for line in freshness.check(profiles.get(name, data))]
        print("\n".join(found) if found else "all published results are up to date")
        return int(bool(found))
    try:
        return build(profile)
    except LatexMissing as missing:
        print(f"python -m lib: LaTeX is missing; install it with: {missing}", file=sys.stderr)
        return 3


def build(profile: Profile) -> Path:
    """Write tables and numbers, refresh the README (published profile only), build main.pdf.

    Raises:
        lib.report.results.ResultsError: the text uses a result that does not exist.
        LatexMissing: everything but main.pdf is done.
        ValueError: LaTeX stopped, or left a reference or citation open."""
    present = results.names(profile)
    parts = {"main.tex": SOURCE / "main.tex"}
    # Sections on experiments that not every profile runs: those whose first line,
    # ``% needs: EXPERIMENT, ...``, names results that exist.
    for path in sorted((SOURCE / "sections").glob("*.tex")):
        needs = path.read_text().partition("\n")[0].removeprefix("% needs:").split(",")
        if {name.strip() for name in needs} <= set(present):
            parts[f"section_{path.name}"] = path
    used = {key for path in parts.values() for key in tables.check_keys(path, profile)}
    tables.write_latex(profile.paper_dir / "generated", profile, used)
    write_text(profile.paper_dir / "generated/ledger.tex", ledger.latex(profile))
    # The README quotes the default profile.
    if profile.tag == "laptop-simulated" and profile.paper_dir == SOURCE:
        tables.write_readme(ROOT / "README.md", profile)
    if not has_latex():
        raise LatexMissing(latex_command())
    folder = profile.build_dir / "latex"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("section_*.tex"):
        old.unlink()
    for name, path in {**parts, "references.bib": SOURCE / "references.bib"}.items():
        shutil.copy(path, folder / name)
    # Relative paths: TeX's lists know no blanks, and the repository may lie anywhere.
    search = [os.path.relpath(p, folder) for p in (profile.paper_dir, profile.figures_dir)]
    # The same results give the same bytes.
    created = [results.load(name, profile)["created"] for name in present]
    newest = datetime.fromisoformat(max(created, default="2026-01-01T00:00:00Z"))
    env = {**os.environ, "TEXINPUTS": os.pathsep.join([".", *search, ""]),
           "SOURCE_DATE_EPOCH": str(int(newest.timestamp())), "FORCE_SOURCE_DATE": "1"}
    command = ["latexmk", "-pdf", "-g", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True,
                         errors="replace")
    log = (folder / "main.log").read_text(errors="replace") if run.returncode == 0 else run.stdout
    if problem := _first_problem(log, run.returncode):
        raise ValueError(f"paper/main.tex: {problem} (log: {shown(folder / 'main.log')})")
    return write_bytes(profile.paper_dir / "main.pdf", (folder / "main.pdf").read_bytes())


def _first_problem(log: str, code: int) -> str | None:
    if match := re.search(r"^!+ ?(.*)", log, re.M):
        return match[1]
    if match := re.search(r"(Citation|Reference) [`'](.+?)' .*undefined", log):
        return f"{match[1].lower()} {match[2]!r} is undefined"
    return f"latexmk ended with code {code}" if code else None
