"""The whole course in one go: notebooks in order, figures, results, report (``run_all.sh``).

One line per step, with its time and what came from the cache. A notebook that fails stops the
run with its name and its error; what it promised must exist afterwards."""

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from course import notebooks
from course.notebooks import NotebookError, shown
from lib.profiles import Profile, fresh_since
from lib.workers import one_at_a_time

OTHER_DATA = {"06", "09"}  # notebooks on public files of their own
EXIT_FAILED, EXIT_NO_LATEX = 1, 3
MEMORY = 4.0  # GB that a notebook of smoke or laptop may take, its workers included


def run(profile: Profile, folder: Path, only: list[str] | None = None, start: str | None = None,
        submission: str | None = None, publish: bool = False, check: bool = False,
        grids: bool = False, fresh: bool = False) -> int:
    """Run the notebooks of a folder; returns the exit code. A ValueError for impossible options.

    Args:
        only, start: numbers of the notebooks to run: some; one and those after it.
        submission: number of the notebook to print as a PDF, or ``all``.
        publish, check: refresh the committed notebooks; only check these options.
        grids, fresh: also run the grids; ignore the cache."""
    found = notebooks.sources(folder)
    chosen = choose(found, only, start)
    if submission not in (None, "all", *chosen):
        raise ValueError(f"--submission {submission}: not among the notebooks {', '.join(chosen)}")
    if publish and profile.name == "smoke":
        raise ValueError("--publish: a smoke run is not for publishing; use laptop or full")
    if check:
        return 0
    printed = list(chosen) if submission == "all" else [submission] if submission else []
    try:
        with one_at_a_time(profile.build_dir / ".lock", "course: another run is at work here"):
            return Course(profile, found, chosen).run(printed, publish, grids, fresh)
    except (NotebookError, ValueError, OSError) as error:
        # On a terminal the step's name waits at the end of an unfinished line.
        print("failed\n" if sys.stdout.isatty() else "", end="", flush=True)
        print(f"run_all.sh: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("\nrun_all.sh: interrupted; run it again to go on from the cache", file=sys.stderr)
        return 130


def choose(found: dict[str, Path], only: list[str] | None, start: str | None) -> dict[str, Path]:
    """The notebooks to run, in order; a ValueError for an unknown number."""
    if not found:
        raise ValueError("no notebooks found")
    wanted = [number.zfill(2) for number in only or []]
    first = start.zfill(2) if start else min(found)
    for number in [*wanted, first]:
        if number not in found:
            raise ValueError(f"unknown notebook {number!r}: choose one of {', '.join(found)}")
    return {k: v for k, v in found.items() if (k in wanted if only else k >= first)}


class Course:
    """One run of the course: ``found`` are all notebook sources by number, ``chosen`` those to run.
    Keeps what its steps share: minutes, GB, what came from the cache, how to install LaTeX."""

    def __init__(self, profile: Profile, found: dict[str, Path], chosen: dict[str, Path]) -> None:
        self.profile, self.found, self.chosen = profile, found, chosen
        self.minutes, self.memory, self.cached, self.missing = {}, {}, 0, ""

    def run(self, printed: list[str], publish: bool, grids: bool, fresh: bool) -> int:
        """All steps in order; returns the exit code."""
        start = time.time()
        print(f"course: profile {self.profile.name}, data {self.profile.data}, "
              f"notebooks {', '.join(self.chosen)}")
        if fresh:  # runs stay, but are not loaded: a grid of hours must not be lost to a flag
            os.environ["JETS_FRESH"] = str(start)
            if self.profile.data == "simulated":
                shutil.rmtree(self.profile.data_dir, ignore_errors=True)
        if self.profile.data == "cms":
            self.public_files()
        done = {number: self.notebook(source, grids) for number, source in self.chosen.items()}
        self.note_times()
        self.report()
        for number in printed:
            self.pdf(done[number])
        if publish:
            with self.step("publish") as said:
                for number, source in self.chosen.items():
                    notebooks.publish(source, done[number], source.with_suffix(".ipynb"))
                said.append(f"{len(done)} notebooks")
        cached = f"; {self.cached} from the cache" if self.cached else ""
        if most := max(self.memory.values(), default=0):
            cached += f"; no notebook took more than {most:.1f} GB of memory"
        print(f"done in {clock(time.time() - start)}{cached}")
        if self.missing:
            print(f"run_all.sh: LaTeX is missing; install it and run this again: {self.missing}",
                  file=sys.stderr)
        return EXIT_NO_LATEX if self.missing else 0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """One step: a terminal says what is running, and in the end there is one line, with the
        time and what the step has added to the list."""
        terminal, start, said = sys.stdout.isatty(), time.time(), []
        if terminal:
            print(f"{name:<22}       ...", end="", flush=True)
        yield said
        line = f"{name:<22} {clock(time.time() - start):>9}  {', '.join(said)}"
        print(("\r" if terminal else "") + line.rstrip(), flush=True)

    def public_files(self) -> None:
        """--data cms: pack what was downloaded; leave out a notebook whose own files are absent."""
        from collider.course import course_files
        from hcal.maps import RUNS, find

        if set(self.chosen) - OTHER_DATA:
            course_files(self.profile)
        for number, files in (("06", lambda: course_files(self.profile, "quark_gluon")),
                              ("09", lambda: [find(self.profile.data_dir, r) for r in RUNS])):
            if number in self.chosen:
                try:
                    files()
                except ValueError as error:
                    print(f"{self.chosen.pop(number).stem:<22}    skipped  {error}")

    def notebook(self, source: Path, grids: bool) -> Path:
        """Run one notebook and check that everything it promised is there and new."""
        start, out = time.time(), self.profile.build_dir / f"notebooks/{source.stem}.ipynb"
        with self.step(source.stem) as said:
            with memory_taken() as taken:
                cached = notebooks.execute(source, out, {
                    "PROFILE": self.profile.name, "DATA": self.profile.data, "GRIDS": grids})
            self.memory[source.stem] = most = taken[0]
            # In a fresh run what is cached was made by a notebook before this one.
            if not cached or fresh_since():
                self.minutes[source.stem] = (time.time() - start) / 60
            promise = notebooks.promised(source)
            if problems := notebooks.check_artefacts(promise, self.profile, start):
                raise NotebookError(f"{source.stem}: finished, but {'; '.join(problems)}")
            said += [f"{len(promise.figures)} figures"] * bool(promise.figures) + [
                f"{name}.json" for name in promise.experiments] + [
                f"{cached} from the cache"] * bool(cached) + [f"{most:.1f} GB of memory"]
            if most > MEMORY and self.profile.name != "full":
                said.append(f"more than the {MEMORY:.0f} GB of a small computer")
        self.cached += cached
        return out

    def note_times(self) -> None:
        """Keep how long each notebook takes and how much memory when nothing comes from the cache;
        the time of one that has changed since is dropped."""
        from lib.report import results

        if not self.minutes:
            return
        course = results.Experiment(results.TIMES, self.profile, uses=())
        with contextlib.suppress(results.ResultsError):
            course.values = results.load(results.TIMES, self.profile)["values"]
        code = {path.stem: results.measuring_cells(path.stem, path.parent)
                for path in self.found.values()}
        timed = course.values.get("sources", {}) | {name: code[name] for name in self.minutes}
        known = course.values.get("minutes", {}) | {k: round(v, 2) for k, v in self.minutes.items()}
        minutes = {k: v for k, v in sorted(known.items()) if k in code and timed.get(k) == code[k]}
        held = course.values.get("memory_gb", {}) | {
            name: round(self.memory[name], 1) for name in self.minutes}
        course.values = {"minutes": minutes, "sources": timed, "timed": len(minutes),
                         "memory_gb": {k: held[k] for k in minutes if k in held},
                         "total_minutes": round(sum(minutes.values()), 1)}
        course.save()

    def report(self) -> None:
        """Tables, README and main.pdf."""
        from course import paper
        from lib.report import results

        with self.step("report") as said:
            try:
                said.append(shown(paper.build(self.profile)))
            except paper.LatexMissing as missing:
                self.missing = str(missing)
                said.append("tables only: LaTeX is missing")
            except results.ResultsError as error:
                if self.chosen == self.found:
                    raise
                # A part of the course has been asked for, and the rest was never run here.
                said.append(f"skipped: {error}")

    def pdf(self, executed: Path) -> None:
        """--submission: an executed notebook as a PDF."""
        from course import paper

        out = self.profile.build_dir / "submission" / f"{executed.stem}.pdf"
        with self.step(out.name) as said:
            if paper.has_notebook_latex():
                notebooks.to_pdf(executed, out)
                said.append(shown(out))
            else:
                self.missing = paper.latex_command()
                said.append("not made: LaTeX is missing")


@contextlib.contextmanager
def memory_taken() -> Iterator[list[float]]:
    """GB of memory that the processes begun in the block have together, looked at every 0.2 s."""
    taken, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            with contextlib.suppress(psutil.Error):  # one that has just ended
                taken[0] = max(taken[0], sum(child.memory_info().rss for child in
                                             psutil.Process().children(recursive=True)) / 1e9)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield taken
    finally:
        over.set()
        watcher.join()


def clock(seconds: float) -> str:
    """``3 min 05 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
