"""Results as JSON: what a notebook measured, with everything needed to check it later.

One experiment is one file, ``results/<profile>-<data>/<experiment>.json``, and npz files beside it
with what its runs predicted; a column that runs share (labels, masses of the test jets) is stored
once, for a run names its columns by content. Paper, README and tables read these and nothing else.

A result says what it was *made with*: versions of the components it used (``contract``), keys of
its runs, content of their jets, a hash of the cells that measure. ``report --check`` compares."""

import hashlib
import io
import math
import os
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import ZIP_LZMA  # a quarter smaller where numbers are rounded

import numpy as np

from lib import profiles, provenance
from lib.evaluation import metrics as measure
from lib.files import DataError, guarded, read_json, read_npz, write_json, write_npz
from lib.profiles import ROOT, Profile
from lib.report import contract
from lib.training.runs import Run

NOTEBOOKS = ROOT / "notebooks"
# How statements begin that measure nothing: imports, prints and drawings.
SILENT = ("import", "from", "print", "display", "plots", "diagrams", "drawings", "style", "plt",
          "fig", "ax", "axes")
TIMES = "course"  # the experiment in which the runner notes how long each notebook took
RESULTS = dict(  # keys of a file of results
    runs=list, predictions=list, summary=dict, comparisons=list, values=dict, curves=dict,
    commit=str, created=str, machine=str, profile=str, data=str)


class ResultsError(DataError):
    """A result that is missing or damaged; the message says which notebook makes it."""


class Experiment:
    """Collects what one notebook measures and writes it as one file.

    >>> experiment = Experiment("07_finetune", profile, uses=["fit", "vit", "metrics"])
    >>> experiment.add_run("scratch", predictions, seed=0, parameters=312_000, train_seconds=215.0)
    >>> experiment.add_run("mass_only", baseline)
    >>> experiment.compare("scratch", "mass_only", ["auc"])
    >>> experiment.values["closure"] = {"zeros": 0.988}   # \\result{07_finetune/closure/zeros}
    >>> experiment.save()

    uses: the components of ``lib.report.contract`` on which it depends, as patterns
    (``augment.*``); all of them where nothing is said."""

    def __init__(self, name: str, profile: Profile, uses: Sequence[str] = ("*",)) -> None:
        self.name, self.profile = name, profile
        self.components = contract.versions(uses, profile.name)
        self._made: dict[str, Any] = {"runs": {}, "jets": {}}
        self.runs, self.comparisons, self.values, self.curves = [], [], {}, {}
        self._predictions: dict[str, list[measure.Predictions]] = {}
        self._columns: dict[str, np.ndarray] = {}  # of all predictions, by content
        self._metrics: dict[str, Sequence[str] | None] = {}

    def add_run(self, name: str, predictions: measure.Predictions | Run, *,
                seed: int | None = None, labels: int | None = None, parameters: int | None = None,
                train_seconds: float | None = None, metrics: Sequence[str] | None = None,
                extra: Mapping[str, float] | None = None) -> dict[str, float]:
        """Add one run of the system ``name``; returns its metrics, without intervals. Runs of one
        name differ in their seed only.

        Args:
            predictions: on the test jets; or a Run, which knows the rest as well.
            labels: number of labelled jets it was given, those for validation included.
            parameters: number of trainable ones. train_seconds: on the machine the file names.
            metrics: the metrics that make sense for it; None for all that the predictions allow.
            extra: further metrics of this run, e.g. ``{"loss": 0.31}``."""
        more = {}
        if isinstance(predictions, Run):
            run, predictions = predictions, predictions.predictions
            seed = run.seed if seed is None else seed
            more = {"train_jets": run.record["train_jets"]}
            labels = labels or getattr(run, "labels", None) or run.record["train_jets"]
            parameters, train_seconds = run.parameters, run.train_seconds
            self._made["runs"][f"{name}.{seed}"] = run.folder.name.rpartition("-")[2]
            self._made["jets"][f"{name}.{seed}"] = run.record.get("content")
        seed = seed or 0
        stored = {part: _hash(column) for part, column in predictions.columns().items()}
        self._columns |= {stored[part]: column for part, column in predictions.columns().items()}
        found = {k: v for k, v in measure.evaluate(predictions).items()
                 if metrics is None or k in metrics} | dict(extra or {})
        self.runs.append({
            "name": name, "seed": seed, "labels": labels, **more, "parameters": parameters,
            "train_seconds": train_seconds, "test_jets": len(predictions), "metrics": found,
            "predictions": stored})
        self._predictions.setdefault(name, []).append(predictions)
        known = measure.available(predictions)
        self._metrics[name] = None if metrics is None else [m for m in metrics if m in known]
        return found

    def compare(self, a: str, b: str, metrics: Sequence[str] | None = None) -> dict[str, dict]:
        """Differences a - b of two systems, paired by jet and by seed; kept and returned. Taken on
        the jets that both have seen, in the metrics that both have, and of two networks with the
        seeds that both have (what has no parameters is paired with every seed of the other)."""
        for name in (a, b):
            if name not in self._predictions:
                raise ResultsError(f"{self.name}: no run called {name!r} to compare")
        one, other = self._predictions[a], self._predictions[b]
        rows = [[run for run in self.runs if run["name"] == name] for name in (a, b)]
        if all(row["parameters"] for row in (*rows[0], *rows[1])):
            known = [dict(zip([row["seed"] for row in mine], runs, strict=True))
                     for mine, runs in zip(rows, (one, other), strict=True)]
            if not (seeds := sorted(known[0].keys() & known[1].keys())):
                raise ResultsError(f"{self.name}: {a} and {b} have no seed in common")
            one, other = ([found[seed] for seed in seeds] for found in known)
        both = np.intersect1d(one[0].index, other[0].index)
        one, other = ([p.where(np.isin(p.index, both)) for p in runs] for runs in (one, other))
        known = set(measure.available(one[0])) & set(measure.available(other[0]))
        metrics = [m for m in metrics or measure.available(one[0])
                   if m in known or m in measure.EXTRA_METRICS]
        rows = measure.compare(one, other, metrics)
        self.comparisons += [{"a": a, "b": b, "metric": m, **row} for m, row in rows.items()]
        return rows

    def summary(self) -> dict[str, dict[str, dict]]:
        """``{name: {metric: {mean, low, high, seeds, points}}}`` over the runs added so far."""
        found = {}
        for name, runs in self._predictions.items():
            found[name] = measure.summary(runs, self._metrics[name])
            rows = [run["metrics"] for run in self.runs if run["name"] == name]
            for metric in rows[0]:  # metrics that are no function of the predictions
                if metric not in found[name]:
                    points = [row.get(metric, math.nan) for row in rows]
                    found[name][metric] = {"mean": float(np.mean(points)), "low": None,
                                           "high": None, "seeds": len(points), "points": points}
        return found

    def save(self) -> Path:
        """Write predictions and JSON, all or nothing; returns the JSON's path. Predictions have
        their content in their name: what the JSON before names stays until the new one is there."""
        folder, keys, files = self.profile.results_dir, list(self._columns), []
        for some in (keys[n:n + 20] for n in range(0, len(keys), 20)):  # of 10,000 jets: < 1 MB
            files.append(f"{self.name}.{_hash(np.array(some))}.npz")
            write_npz(folder / files[-1], {key: self._columns[key] for key in some}, ZIP_LZMA)
        path = write_json(folder / f"{self.name}.json", {
            "experiment": self.name, "profile": self.profile.name, "data": self.profile.data,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": provenance.commit(), "machine": provenance.machine(),
            "predictions": files, "runs": self.runs, "summary": self.summary(),
            "comparisons": self.comparisons, "values": self.values, "curves": self.curves,
            "made_with": {"components": self.components, "cells": measuring_cells(self.name),
                          **self._made},
        }, digits=7)  # float32 has no more
        for old in folder.glob(f"{self.name}.*.npz"):
            if old.name not in files:
                old.unlink()
        return path


def _hash(column: np.ndarray) -> str:
    return hashlib.sha256(column.dtype.str.encode() + column.tobytes()).hexdigest()[:12]


def load(name: str, profile: Profile) -> dict[str, Any]:
    """The published or just written results of an experiment. Raises: ResultsError where they are
    missing (the message names the notebook to run) or damaged."""
    path, todo = _path(name, profile), how_to_make(name, profile)
    if not path.exists():
        raise ResultsError(f"{os.path.relpath(path, profiles.home())} is missing: {todo}")
    try:
        with guarded(path, todo, "it holds no results"):
            found = read_json(path, todo, **RESULTS)
            for run in found["runs"]:
                kinds = dict(name=str, seed=int, metrics=dict, predictions=dict)
                float(run.get("train_seconds") or 0)  # JSON's integers have no end
                if not all(isinstance(run[key], kind) for key, kind in kinds.items()):
                    raise ValueError(f"a run of {run['name']!s:.20}")
            if any(Path(file).name != file for file in found["predictions"]):
                raise ValueError("predictions in another folder")
            made = found.get("made_with", {}).get("components", {})
            if not all(isinstance(version, int) for version in made.values()):
                raise ValueError("versions of components that are no numbers")
            summary = [row for part in found["summary"].values() for row in part.values()]
            for rows, keys in ((summary, {"mean"}), (found["comparisons"], {"a", "b", "metric"})):
                if not all(keys <= row.keys() for row in rows):
                    raise ValueError(f"a row without {', '.join(sorted(keys))}")
            return found
    except DataError as error:
        raise ResultsError(str(error)) from None


def earlier(found: Mapping[str, Any]) -> str:
    """Which simulated samples of a result give other jets now; empty where none does."""
    now = contract.golden()
    return ", ".join(
        f"{part} {version}, now {now[part]['version']}"
        for part, version in found.get("made_with", {}).get("components", {}).items()
        if part.startswith("sample.") and part in now and now[part]["version"] != version)


def whence(found: Mapping[str, Any]) -> str:
    """Where, when and of what a published grid was made: a line of Markdown."""
    seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in found["runs"]}))
    old = earlier(found)
    return (f"**Grid** of profile {found['profile']}-{found['data']}"
            + (f", seeds {seeds}" if seeds else "") + f"; made {found['created'][:10]} at commit "
            f"{found['commit']} on {found['machine']}."
            + (f" **Its jets are of an earlier simulation** ({old}): do not compare its numbers "
               "with those of this notebook's own runs." if old else ""))


def grid(name: str, profile: Profile) -> tuple[dict[str, Any] | None, str]:
    """A published grid and a line on its making; None where there is none, and how to make it."""
    if not _path(name, profile).exists():
        return None, f"No grid is published for this profile; {how_to_make(name, profile)}."
    return (found := load(name, profile)), whence(found)


def how_to_make(name: str, profile: Profile) -> str:
    """The command that makes an experiment's results."""
    return (f"run ./run_all.sh --profile {profile.name}"
            + (f" --data {profile.data}" if profile.data != "simulated" else "")
            + (" --grids" if name.endswith("_grid") else "")
            + (f" --only {name[:2]}" if name[:2].isdigit() else ""))


def load_predictions(name: str, profile: Profile) -> dict[str, list[measure.Predictions]]:
    """The predictions of every run of an experiment, by name, in the order of its runs.
    Raises: DataError where they are missing, damaged or of other content than they say."""
    results, todo = load(name, profile), how_to_make(name, profile)
    found: dict[str, list[measure.Predictions]] = {}
    path, columns = _path(name, profile), {}
    with guarded(path, todo, "it names other predictions"):
        for file in results["predictions"]:
            columns |= read_npz(path.with_name(file), todo)
        if wrong := [key for key, column in columns.items() if _hash(column) != key]:
            raise ValueError(f"column {wrong[0]} is not what its name says")
        for run in results["runs"]:
            stored = {part: columns[key] for part, key in run["predictions"].items()}
            found.setdefault(run["name"], []).append(measure.Predictions.of_columns(stored))
    return found


def names(profile: Profile) -> list[str]:
    """Experiments that have results in this profile, for the laptop also grids made on one GPU."""
    more = profiles.get("full", profile.data).results_dir.glob("*_grid.json")
    found = (*profile.results_dir.glob("*.json"), *(more if profile.name == "laptop" else ()))
    return sorted({path.stem for path in found})


def _path(name: str, profile: Profile) -> Path:
    """An experiment's file; of a grid that the laptop has not made, that of the full profile."""
    own = profile.results_dir / f"{name}.json"
    return (own if own.exists() or name not in names(profile)
            else profiles.get("full", profile.data).results_dir / own.name)


def measuring_cells(experiment: str, folder: Path = NOTEBOOKS) -> str | None:
    """Hash of the cells that measure in an experiment's notebook, wherever a cell ends and the next
    begins; a grid belongs to its number. All code counts but for cells tagged ``figure`` or
    ``parameters``, comments, texts that stand alone, and statements that begin as in ``SILENT``.
    None where there is no such notebook."""
    paths = sorted(folder.glob(f"{experiment[:2]}_*.py")) if experiment[:2].isdigit() else []
    if not paths:
        return None
    cells = re.split(r"^# %%(.*)$", paths[0].read_text(), flags=re.MULTILINE)[1:]
    digest = hashlib.sha256()
    for header, code in zip(cells[::2], cells[1::2], strict=True):
        if not any(word in header for word in ("[markdown]", '"figure"', '"parameters"')):
            digest.update("".join(f"{line}\n" for line in statements(code)).encode())
    return digest.hexdigest()[:16]


def statements(code: str) -> Iterator[str]:
    """The statements of a cell, one form for every layout and version of Python."""
    words, lines, opened = [], code.splitlines(keepends=True), []
    for kind, text, start, end, _ in tokenize.generate_tokens(io.StringIO(code).readline):
        name = tokenize.tok_name[kind]
        if name.endswith("STRING_START"):  # from 3.12 on an f-string is many tokens
            opened.append(start)
        elif name.endswith("STRING_END"):
            (row, column), (last, stop) = opened.pop(), end
            if not opened:
                part = lines[row - 1:last]
                part[-1] = part[-1][:stop]
                words.append("".join(part)[column:])
        elif name == "NEWLINE" and words:
            if words[0] not in SILENT and (len(words) > 1 or words[0][-1] not in "\"'"):
                yield " ".join(words)
            words = []
        elif name in ("INDENT", "DEDENT"):
            yield name
        elif name not in ("COMMENT", "NL", "NEWLINE", "ENDMARKER") and not opened:
            words.append(text)
