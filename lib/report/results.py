"""Results as JSON: what a notebook measured, with everything needed to check it later.

One experiment is one file, ``results/<profile>-<data>/<experiment>.json``, its predictions in npz
files beside it. Paper, README and tables read these files and nothing else.

A result is *stale* when code it was made with has changed since (comments and docstrings do not
count): the file keeps a hash of every module of ``lib`` that was loaded and of its notebook.
Running the notebook again with the cache renews it in minutes, for a run is taken from the cache
only where the present code still reproduces its fingerprint.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lib import profiles
from lib import provenance as origin
from lib.evaluation import metrics as measure
from lib.files import write_json
from lib.profiles import ROOT, Profile
from lib.training.runs import Run

# What a result depends on. Drawing and printing change no number.
CODE = ("lib.data", "lib.models", "lib.training")
TIMES = "course"  # the experiment in which the runner notes how long each notebook took


class ResultsError(ValueError):
    """A result that is missing or damaged; the message says which notebook makes it."""


class Experiment:
    """Collects what one notebook measures and writes it as one file.

    >>> experiment = Experiment("07_finetune", profile)
    >>> experiment.add_run("scratch", predictions, seed=0, parameters=312_000, train_seconds=215.0)
    >>> experiment.add_run("mass_only", baseline)
    >>> experiment.compare("scratch", "mass_only", ["auc"])
    >>> experiment.values["closure"] = {"zeros": 0.988}   # \\result{07_finetune/closure/zeros}
    >>> experiment.save()
    """

    def __init__(self, name: str, profile: Profile) -> None:
        self.name, self.profile = name, profile
        self.runs: list[dict[str, Any]] = []
        self.comparisons: list[dict[str, Any]] = []
        self.values: dict[str, Any] = {}
        self.curves: dict[str, Any] = {}
        self._predictions: dict[str, list[measure.Predictions]] = {}
        self._metrics: dict[str, Sequence[str] | None] = {}

    def add_run(
        self,
        name: str,
        predictions: measure.Predictions | Run,
        *,
        seed: int | None = None,
        labels: int | None = None,
        parameters: int | None = None,
        train_seconds: float | None = None,
        metrics: Sequence[str] | None = None,
        extra: Mapping[str, float] | None = None,
    ) -> dict[str, float]:
        """Add one run of the system ``name``; runs of one name differ in their seed only.

        Args:
            predictions: on the test jets, written beside the JSON; or a Run of
                ``lib.training.runs``, which knows the rest as well.
            labels: number of labelled jets it was trained on.
            parameters: number of trainable parameters.
            train_seconds: seconds of training, on the machine that the file names.
            metrics: the metrics that make sense for it; None for all that the predictions allow.
            extra: further metrics of this run, e.g. ``{"loss": 0.31}``.

        Returns:
            its metrics, without intervals.
        """
        if isinstance(predictions, Run):
            run, predictions = predictions, predictions.predictions
            seed = run.seed if seed is None else seed
            labels = labels or run.record["train_jets"]
            parameters, train_seconds = run.parameters, run.train_seconds
        seed = seed or 0
        found = measure.evaluate(predictions)
        found = {k: v for k, v in found.items() if metrics is None or k in metrics}
        found.update(extra or {})
        self.runs.append({
            "name": name, "seed": seed, "labels": labels, "parameters": parameters,
            "train_seconds": train_seconds, "test_jets": len(predictions), "metrics": found,
            "predictions": f"{self.name}.{name}.{seed}.npz",
        })
        self._predictions.setdefault(name, []).append(predictions)
        known = measure.available(predictions)
        self._metrics[name] = None if metrics is None else [m for m in metrics if m in known]
        return found

    def compare(self, a: str, b: str, metrics: Sequence[str] | None = None) -> dict[str, dict]:
        """Differences a - b of two systems, paired by jet and by seed; kept and returned.

        Taken on the jets that both have seen, in the metrics that both have.
        """
        for name in (a, b):
            if name not in self._predictions:
                raise ResultsError(f"{self.name}: no run called {name!r} to compare")
        one, other = self._predictions[a], self._predictions[b]
        both = np.intersect1d(one[0].index, other[0].index)
        one, other = ([p.where(np.isin(p.index, both)) for p in runs] for runs in (one, other))
        known = set(measure.available(one[0])) & set(measure.available(other[0]))
        metrics = [m for m in metrics or measure.available(one[0])
                   if m in known or m in measure.EXTRA_METRICS]
        rows = measure.compare(one, other, metrics)
        for metric, row in rows.items():
            self.add_comparison(a, b, metric, **row)
        return rows

    def add_comparison(
        self, a: str, b: str, metric: str, difference: float, low: float, high: float,
        p: float | None = None, **more: Any,
    ) -> None:
        """Add a difference a - b that was computed elsewhere, with its 95 % interval."""
        self.comparisons.append({
            "a": a, "b": b, "metric": metric, "difference": difference, "low": low, "high": high,
            "p": p, **more,
        })

    def summary(self) -> dict[str, dict[str, dict]]:
        """``{name: {metric: {mean, low, high, seeds, points}}}`` over the runs added so far."""
        found = {}
        for name, runs in self._predictions.items():
            found[name] = measure.summary(runs, self._metrics[name])
            rows = [run["metrics"] for run in self.runs if run["name"] == name]
            for metric in rows[0]:  # metrics that are no function of the predictions
                if metric not in found[name]:
                    points = [row.get(metric, math.nan) for row in rows]
                    found[name][metric] = {
                        "mean": float(np.mean(points)), "low": None, "high": None,
                        "seeds": len(points), "points": points,
                    }
        return found

    def save(self) -> Path:
        """Write predictions and JSON, each all or nothing; returns the JSON's path."""
        folder = self.profile.results_dir
        folder.mkdir(parents=True, exist_ok=True)
        kept = set()
        for run, predictions in zip(self.runs, self._in_order()):
            predictions.save(folder / run["predictions"])
            kept.add(run["predictions"])
        for old in folder.glob(f"{self.name}.*.npz"):
            if old.name not in kept:  # a run that this experiment no longer has
                old.unlink()
        path = folder / f"{self.name}.json"
        write_json(path, {
            "experiment": self.name,
            "profile": self.profile.name,
            "data": self.profile.data,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": origin.commit(),
            "machine": origin.machine(),
            "runs": self.runs,
            "summary": self.summary(),
            "comparisons": self.comparisons,
            "values": self.values,
            "curves": self.curves,
            "code": code_hashes(self.name, self.profile),
        }, digits=7)  # float32 has no more
        return path

    def _in_order(self) -> list[measure.Predictions]:
        left = {name: iter(runs) for name, runs in self._predictions.items()}
        return [next(left[run["name"]]) for run in self.runs]


def load(name: str, profile: Profile) -> dict[str, Any]:
    """The published or just written results of an experiment.

    Raises:
        ResultsError: missing (the message names the notebook to run) or damaged.
    """
    path = profile.results_dir / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        shown = os.path.relpath(path, profiles.home())
        raise ResultsError(f"{shown} is missing: {how_to_make(name, profile)}") from None
    except json.JSONDecodeError as error:
        todo = how_to_make(name, profile)
        raise ResultsError(f"{path.name} is damaged ({error}): {todo}") from None


def how_to_make(name: str, profile: Profile) -> str:
    """The command that makes an experiment's results."""
    command = f"./run_all.sh --profile {profile.name}"
    if profile.data != "simulated":
        command += f" --data {profile.data}"
    if name.endswith("_grid"):
        command += " --grids"
    return f"run {command}" + (f" --only {name[:2]}" if name[:2].isdigit() else "")


def load_predictions(name: str, profile: Profile) -> dict[str, list[measure.Predictions]]:
    """The predictions of every run of an experiment, by name, in the order of its runs."""
    found: dict[str, list[measure.Predictions]] = {}
    for run in load(name, profile)["runs"]:
        path = profile.results_dir / run["predictions"]
        found.setdefault(run["name"], []).append(measure.Predictions.load(path))
    return found


def names(profile: Profile) -> list[str]:
    """Experiments that have results in this profile."""
    return sorted(path.stem for path in profile.results_dir.glob("*.json"))


# --- is it still true? ----------------------------------------------------------------------------


def check(profile: Profile) -> list[str]:
    """One line for each published result that is stale or was not made by a clean commit."""
    problems = []
    for name in names(profile):
        found, where = load(name, profile), f"{profile.tag}/{name}"
        made = found.get("commit") or "unknown"
        if made == "unknown" or made.endswith("-dirty"):
            problems.append(f"{where}: made by uncommitted code ({made})")
        elif not origin.is_past(made):
            problems.append(f"{where}: commit {made} is not in the history")
        old = found.get("code", {})
        if name == TIMES:  # how long notebooks took stays true of the commit that it names
            continue
        now = {key: _hash_of(key, profile) for key in old}
        changed = sorted(key for key in old if now[key] != old[key])
        if not old:
            problems.append(f"{where}: does not say what code made it")
        elif changed:
            problems.append(f"{where}: stale, changed since: {', '.join(changed)}")
        for run in found["runs"]:
            if not (profile.results_dir / run["predictions"]).is_file():
                problems.append(f"{where}: {run['predictions']} is missing")
    return problems


def code_hashes(experiment: str, profile: Profile) -> dict[str, str]:
    """Hashes of what a result depends on: the modules of ``lib`` that are loaded now, the
    experiment's notebook and the settings of the profile, those of pretraining only where recipes
    are in use."""
    keys = [m for m in sys.modules if m.startswith(CODE) and getattr(sys.modules[m], "__file__", 0)]
    keys += ["profile", f"notebooks/{experiment}.py"]
    keys += ["pretrain"] if "lib.training.recipes" in keys else []
    return {key: found for key in sorted(keys) if (found := _hash_of(key, profile))}


def _hash_of(key: str, profile: Profile) -> str | None:
    if key in ("profile", "pretrain"):
        settings = profile if key == "profile" else profile.pretrain
        return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    if key.endswith(".py"):
        path = ROOT / key
    else:
        path = ROOT.joinpath(*key.split(".")).with_suffix(".py")
        if not path.is_file():
            path = path.with_suffix("") / "__init__.py"
    return _hash_file(path) if path.is_file() else None


def _hash_file(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # strings that stand alone are documentation
            node.body = [
                x for x in body
                if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))
            ]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
