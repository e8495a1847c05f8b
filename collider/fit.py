"""The few numbers that no reference gives, fitted to what is published of the public files.

`python -m collider fit` simulates jets at the numbers that stand in the code and at one step from
each, solves the linear model for the published statistics (Gauss-Newton, weighted with the
statistical errors of both samples), and does so again from there. It prints what it finds and
records what it saw; who takes the new numbers over into the code raises the sample's version."""

import argparse
import re
import tempfile
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from collider import closure, events
from collider.detector import NOMINAL
from collider.simulate import Settings, chunk
from lib.cms import SIZE
from lib.data.images import JetImages
from lib.data.store import write_packed
from lib.files import DataError, write_json
from lib.profiles import ROOT, cores
from lib.workers import processes

RECORD = ROOT / "results" / "fit.json"


class Free(NamedTuple):
    """A number that is fitted."""

    step: float  # of its derivative
    low: float
    high: float
    rows: str  # it is fitted to the published numbers whose names match this


FREE = {
    "track_pt": Free(0.1, 0.1, 0.8, "track"),  # GeV
    "secondary_rate": Free(0.01, 0.0, 0.3, "BPIX"),  # per cm
    "hadron_ecal": Free(0.03, 0.01, 0.6, "ECAL: non"),
    "hadron_width": Free(0.3, 0.3, 3.0, "HCAL"),  # crystals
    "hcal_threshold": Free(0.2, 0.2, 2.0, "HCAL"),  # GeV
    "p_hat": Free(8.0, 350.0, 400.0, "pT"),  # GeV
    "power": Free(0.4, 0.0, 3.0, "pT"),
    "pile_up": Free(4.0, 10.0, 35.0, "m:"),  # collisions
}
TRACKS = "track: non-zero pixels, all three channels"
CHUNK = 125  # jets: small, so that few jets keep all cores at work


def in_code() -> dict[str, float]:
    """The numbers as they stand in the code."""
    return {"p_hat": events.P_HAT, "power": events.POWER, "pile_up": events.PILE_UP,
            **{k: getattr(NOMINAL, k) for k in FREE if hasattr(NOMINAL, k)}}


@dataclass(frozen=True)
class Trial(Settings):
    """Jets of the labelled mixture at given numbers."""

    values: tuple[tuple[str, float], ...] = ()

    @property
    def sample(self) -> events.Sample:
        given = dict(self.values)
        return events.boosted(given["p_hat"], given["power"])

    @property
    def conditions(self) -> events.Conditions:
        given = dict(self.values)
        changed = {k: v for k, v in given.items() if hasattr(NOMINAL, k)}
        return events.Conditions(given["pile_up"], detector=replace(NOMINAL, **changed))


def statistics(values: dict[str, float], jets: int, seed: int, executor: Executor) -> dict:
    """What jets at these numbers say of everything published: name → (value, error)."""
    trial = Trial("top_qcd", jets, seed=seed, values=tuple(values.items()))
    chunks = executor.map(partial(chunk, settings=trial, size=CHUNK), range(-(-jets // CHUNK)))
    shape = len(trial.sample.channels), SIZE, SIZE
    with tempfile.TemporaryDirectory() as folder:
        path = write_packed(Path(folder) / "trial.h5", chunks, shape, trial.encoding,
                            trial.provenance())
        made = JetImages.open(path)
    found = closure.statistics(made)
    found[TRACKS] = tuple(sum(found[f"track {k}: {closure.PIXELS}"][i] for k in ("pT", "d0", "dz"))
                          for i in (0, 1))
    counts = np.array(closure.spectrum(made.pt.cpu().numpy(), "pt")["measured"])
    return found | {f"pT: bin {i}": (n, float(np.sqrt(max(n, 1) * counts.sum() / jets)))
                    for i, n in enumerate(counts)}


def targets() -> dict[str, tuple[float, int]]:
    """Published number → (value, size of its sample), of those that are fitted."""
    found = {k: (v, n) for k, (v, _, n) in closure.PUBLISHED["means"].items()
             if k in closure.FITTED}
    tracks = [k for k in found if k.startswith("track")]
    # Their ratio is no matter of the threshold: it is left as it comes out.
    found[TRACKS] = sum(found.pop(k)[0] for k in tracks), 10_000
    counts = closure.PUBLISHED["pt"]["counts"]
    return found | {f"pT: bin {i}": (n, sum(counts)) for i, n in enumerate(counts)}


def improved(values: dict[str, float], jets: int, seed: int,
             executor: Executor) -> tuple[dict[str, float], dict[str, float]]:
    """One step of Gauss-Newton: better values, and their statistical errors."""
    rows, here = targets(), statistics(values, jets, seed, executor)
    slope = np.zeros((len(rows), len(FREE)))
    for column, (name, free) in enumerate(FREE.items()):
        step = free.step if values[name] + free.step <= free.high else -free.step
        there = statistics(values | {name: values[name] + step}, jets, seed, executor)
        # Only the rows that a number is there for: it must not make up for faults elsewhere.
        slope[:, column] = [(there[row][0] - here[row][0]) / step if re.match(free.rows, row) else 0
                            for row in rows]
    # Of the published sample only the size is known: its jets are taken to scatter as ours do.
    error = np.array([here[row][1] * np.sqrt(1 + jets / size) for row, (_, size) in rows.items()])
    pull = np.array([value - here[row][0] for row, (value, _) in rows.items()]) / error
    slope /= error[:, None]
    now, step, low, high = np.array([[values[name], *free[:3]] for name, free in FREE.items()]).T
    # At most two steps at once: farther off the slopes are others.
    bounds = np.maximum(low - now, -2 * step) - 1e-9, np.minimum(high - now, 2 * step) + 1e-9
    found = np.clip(now + lsq_linear(slope, pull, bounds).x, low, high)
    spread = np.sqrt(np.diag(np.linalg.inv(slope.T @ slope)))
    return tuple(dict(zip(FREE, x.tolist(), strict=True)) for x in (found, spread))


def fit(jets: int, rounds: int, executor: Executor, seed: int = 4001) -> dict:
    """Fit all of `FREE`, from what stands in the code; returns what `RECORD` holds."""
    values = start = in_code()
    for number in range(rounds):
        values, spread = improved(values, jets, seed + number, executor)
        print(f"round {number + 1}: " + ", ".join(
            f"{k} {v:.3g} ± {spread[k]:.1g}" for k, v in values.items()), flush=True)
    ours = statistics(values, jets, seed + rounds, executor)
    return {"start": start, "found": values, "error": spread, "jets": jets, "rounds": rounds,
            "seed": seed, "sample_version": events.boosted().version,
            "rows": {k: {"published": value, "ours": ours[k][0], "error": ours[k][1]}
                     for k, (value, _) in targets().items()}}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m collider", description=__doc__)
    parser.add_argument("command", choices=["fit"])
    parser.add_argument("--jets", type=int, default=1500, help="for each point (default 1500)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RECORD)
    given = parser.parse_args(arguments)
    if given.jets < 2 * CHUNK or given.rounds < 1:
        raise DataError(f"a fit needs at least {2 * CHUNK} jets and one round")
    events.pile_up_pool()
    with processes(cores()) as executor:
        record = fit(given.jets, given.rounds, executor)
    write_json(given.out, record)
    for name, row in record["rows"].items():
        print(f"{name:32} published {row['published']:9.4g}  ours {row['ours']:9.4g}"
              f" ± {row['error']:.2g}")
    print(f"wrote {given.out}; put `found` into the code where it differs")
    return 0
