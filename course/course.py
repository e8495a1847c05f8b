"""The whole course in one go: notebooks in order, figures, results, report (``run_all.sh``).

One line per step, with its time and what came from the cache. A notebook that fails stops the
run with its name and its error; what it promised must exist afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from course import notebooks
from course.notebooks import NotebookError, shown
from lib import profiles
from lib.profiles import ROOT, Profile

OTHER_DATA = {"06", "09"}  # notebooks on public files of their own
EXIT_FAILED, EXIT_USAGE, EXIT_NO_LATEX = 1, 2, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m lib course``, those of ``run_all.sh``."""
    add = parser.add_argument
    add("--profile", default="laptop", help="smoke, laptop (default) or full")
    add("--data", default="simulated", help="simulated (default) or cms: the public files")
    add("--only", action="append", metavar="NN", help="one notebook; may be given several times")
    add("--from", dest="start", metavar="NN", help="this notebook and those after it")
    add("--grids", action="store_true", help="also run the grids: hours on two cores")
    add("--fresh", action="store_true", help="ignore the cache: simulate and train again")
    add("--publish", action="store_true", help="refresh notebooks/*.ipynb from this run")
    add("--submission", nargs="?", const="all", metavar="NN",
        help="each executed notebook, or only NN, also as a PDF")
    add("--check", action="store_true", help="only check these options")
    add("--notebooks", type=Path, default=ROOT / "notebooks", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Run the course; returns the exit code."""
    try:
        profile = profiles.get(options.profile, options.data)
        chosen = choose(notebooks.sources(options.notebooks), options.only, options.start)
        if options.submission not in (None, "all") and options.submission not in chosen:
            known = ", ".join(chosen)
            raise ValueError(f"--submission {options.submission}: not among the notebooks {known}")
        if options.publish and profile.name == "smoke":
            raise ValueError("--publish: a smoke run is not for publishing; use laptop or full")
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return EXIT_USAGE
    if options.check:
        return 0
    try:
        return Course(profile, options, chosen).run()
    except (NotebookError, ValueError, OSError) as error:
        # On a terminal the step's name waits at the end of an unfinished line.
        sys.stdout.write("failed\n" if sys.stdout.isatty() else "")
        sys.stdout.flush()
        print(f"run_all.sh: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("\nrun_all.sh: interrupted; run it again to go on from the cache", file=sys.stderr)
        return 130


def choose(
    found: dict[str, Path], only: list[str] | None, start: str | None
) -> dict[str, Path]:
    """The notebooks to run, in order.

    Raises:
        ValueError: an unknown number; the message names the known ones.
    """
    if not found:
        raise ValueError("no notebooks found")
    wanted = [number.zfill(2) for number in only or []]
    first = start.zfill(2) if start else min(found)
    for number in [*wanted, first]:
        if number not in found:
            raise ValueError(f"unknown notebook {number!r}: choose one of {', '.join(found)}")
    return {k: v for k, v in found.items() if (k in wanted if only else k >= first)}


class Course:
    """One run of the course; keeps what its steps share."""

    def __init__(
        self, profile: Profile, options: argparse.Namespace, chosen: dict[str, Path]
    ) -> None:
        self.profile, self.options, self.chosen = profile, options, chosen
        self.complete = list(chosen) == list(notebooks.sources(options.notebooks))
        self.minutes: dict[str, float] = {}
        self.cached = 0
        self.start = time.time()

    def run(self) -> int:
        """All steps in order; returns the exit code."""
        print(f"course: profile {self.profile.name}, data {self.profile.data}, "
              f"notebooks {', '.join(self.chosen)}")
        if self.options.fresh:
            self.forget()
        if self.profile.data == "cms":
            self.public_files()
        done = {number: self.notebook(source) for number, source in self.chosen.items()}
        self.note_times()
        problems = [self.report(), self.pdfs(done)]
        if self.options.publish:
            for number, source in self.chosen.items():
                notebooks.publish(source, done[number].path, source.with_suffix(".ipynb"))
            self.line("publish", 0.0, f"{len(done)} notebooks in {shown(self.options.notebooks)}/")
        seconds = time.time() - self.start
        cached = f"; {self.cached} from the cache" if self.cached else ""
        print(f"done in {_clock(seconds)}{cached}")
        if any(problems):
            for command in dict.fromkeys(p for p in problems if p):
                print(f"run_all.sh: LaTeX is missing; install it and run this again: {command}",
                      file=sys.stderr)
            return EXIT_NO_LATEX
        return 0

    def line(self, step: str, seconds: float, text: str = "") -> None:
        """Print the one line of a finished step."""
        lead = "\r" if sys.stdout.isatty() else ""
        print(f"{lead}{step:<22} {_clock(seconds):>9}  {text}".rstrip(), flush=True)

    def begin(self, step: str) -> float:
        """Say on a terminal what is running; returns the time."""
        if sys.stdout.isatty():
            print(f"{step:<22}       ...", end="", flush=True)
        return time.time()

    def forget(self) -> None:
        """--fresh: simulated files are removed, runs from before this moment are not loaded.

        Runs are not deleted: a grid of hours must not be lost to a flag.
        """
        os.environ["JETS_FRESH"] = str(self.start)
        if self.profile.data == "simulated":
            shutil.rmtree(self.profile.data_dir, ignore_errors=True)

    def public_files(self) -> None:
        """--data cms: pack the public files that were downloaded and are not packed yet."""
        from lib.data.download import SOURCES
        from lib.data.images import pack

        folder = self.profile.data_dir
        for name, source in SOURCES.items():
            packed, dense = folder / f"{name}.h5", folder / source.name
            if not packed.exists() and dense.exists():
                start = self.begin(f"pack {name}")
                pack(dense, packed)
                self.line(f"pack {name}", time.time() - start, shown(packed))
        if set(self.chosen) - OTHER_DATA and not (folder / "labelled.h5").exists():
            raise NotebookError(f"{shown(folder / 'labelled.h5')} is missing: "
                                "run python -m lib download labelled (5 GB)")

    def notebook(self, source: Path) -> notebooks.Executed:
        """Run one notebook and check that everything it promised is there and new."""
        start = self.begin(source.stem)
        out = self.profile.notebooks_dir / f"{source.stem}.ipynb"
        parameters = {
            "PROFILE": self.profile.name, "DATA": self.profile.data, "GRIDS": self.options.grids,
        }
        done = notebooks.execute(source, out, parameters)
        promise = notebooks.promised(source)
        if problems := notebooks.check_artefacts(promise, self.profile, start):
            raise NotebookError(f"{source.stem}: finished, but {'; '.join(problems)}")
        made = [f"{len(promise.figures)} figures"] if promise.figures else []
        made += [f"{name}.json" for name in promise.experiments]
        if done.cached:
            self.cached += len(done.cached)
            made.append(f"{len(done.cached)} from the cache")
        # In a fresh run what is cached was made by a notebook before this one.
        if not done.cached or "JETS_FRESH" in os.environ:
            self.minutes[source.stem] = done.seconds / 60
        self.line(source.stem, done.seconds, ", ".join(made))
        return done

    def note_times(self) -> None:
        """Keep how long each notebook takes when nothing comes from the cache; the time of one that
        has changed since is dropped."""
        from lib.report import results

        course = results.Experiment(results.TIMES, self.profile)
        try:
            course.values = results.load(results.TIMES, self.profile)["values"]
        except results.ResultsError:
            course.values = {"minutes": {}}
        known = course.values["minutes"]
        known.update({name: round(minutes, 2) for name, minutes in self.minutes.items()})
        paths = notebooks.sources(self.options.notebooks).values()
        code = {path.stem: results.code_hashes(path.stem, self.profile).get(
            f"notebooks/{path.name}") for path in paths}
        timed = course.values.setdefault("sources", {})
        timed.update({name: code[name] for name in self.minutes})
        course.values["minutes"] = {k: v for k, v in sorted(known.items())
                                    if k in code and timed.get(k) == code[k]}
        course.values["timed"] = len(course.values["minutes"])
        course.values["total_minutes"] = round(sum(course.values["minutes"].values()), 1)
        if self.minutes:
            course.save()

    def report(self) -> str | None:
        """Tables, README and main.pdf; returns the command to install LaTeX where it is missing."""
        from course import paper
        from lib.report import results

        start = self.begin("report")
        try:
            out = paper.build(self.profile)
        except paper.LatexMissing as missing:
            self.line("report", time.time() - start, "tables only: LaTeX is missing")
            return missing.command
        except results.ResultsError as error:
            if self.complete:
                raise
            # A part of the course has been asked for, and the rest was never run here.
            self.line("report", time.time() - start, f"skipped: {error}")
            return None
        self.line("report", time.time() - start, shown(out))
        return None

    def pdfs(self, done: dict[str, notebooks.Executed]) -> str | None:
        """--submission: executed notebooks as PDFs."""
        from course import paper

        if not self.options.submission:
            return None
        wanted = list(done) if self.options.submission == "all" else [self.options.submission]
        folder = self.profile.build_dir / "submission"
        for number in wanted:
            name = done[number].path.stem
            start = self.begin(f"{name}.pdf")
            if not paper.has_notebook_latex():
                self.line(f"{name}.pdf", 0.0, "not made: LaTeX is missing")
                return paper.latex_command()
            notebooks.to_pdf(done[number].path, folder / f"{name}.pdf")
            self.line(f"{name}.pdf", time.time() - start, shown(folder / f"{name}.pdf"))
        return None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
