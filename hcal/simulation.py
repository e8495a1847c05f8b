"""Simulated DigiOccupancy maps with the published statistics, and faults to find in them.

In a lumi-section of N events a cell is read out Binomial(N, p) times. The rings set p, and
cells of a ring differ: with p = sin²(theta), theta of a cell is that of its ring plus a shift of
fixed spread. That one number describes both runs: the relative spread of p, 2 sigma
sqrt((1 - p) / p), is 8 % in the sparse rings of run 355456 and vanishes in the full ones of
357479, as the published mean maps have it."""

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hcal.events import NOISE, SIGMA
from hcal.maps import LIVE, ROWS, RUNS, SHAPE, HcalMaps


class Conditions(NamedTuple):
    """What is published of a run (10,000 maps each), and what was concluded from it."""
    rows: tuple[float, ...]  # mean count of the live cells, rows 3...13 and 50...60
    mean: float  # this and the next two: of all cells of all maps
    std: float
    maximum: float
    spread: float  # relative, of a lumi-section's number of events, outside the low tail
    low: float  # fraction of lumi-sections with low statistics
    events: float  # mean number; not published: where the spread of the cells vanishes


PUBLISHED = tomllib.loads(Path(__file__).with_name("published.toml").read_text())
CONDITIONS = {run: Conditions(**PUBLISHED[str(run)]) for run in RUNS}
ZEROS = 3676 / 4608  # fraction of zeros, the same in every map
LOW = (0.06, 0.85)  # share of events in a lumi-section with low statistics: 6 % is published,
TAIL = 2.7  # the shape, 0.85 - 0.79 u^2.7 with u uniform, follows from the standard deviation
SHARED = 0.75  # correlation of a cell's shift in the two runs
RINGS = 0.35  # correlation of neighbouring rings at the same iphi; along iphi there is none
MEMORY = 0.8  # correlation of the events of consecutive lumi-sections: an assumption
# Cells far off: ratio to the ring's median in either run
NAMED = {(row, column): tuple(ratios) for row, column, *ratios in PUBLISHED["far_off"]}
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 2.0)


def _theta(p: np.ndarray | float) -> np.ndarray:
    return np.arcsin(np.sqrt(np.clip(p, 0, 1)))


P = np.array([run.rows for run in CONDITIONS.values()]) / [
    [run.events] for run in CONDITIONS.values()]  # (runs, 22): occupancies of ``ROWS``
# (cells, runs): by how much their theta is off that of the ring
NAMED_SHIFTS = np.array([_theta(p * ratios) - _theta(p) for (r, _), ratios in NAMED.items()
                         for p in [P[:, ROWS.index(r)]]])


def pattern(run: int, seed: int | None = None) -> np.ndarray:
    """Shift of theta of every cell, (64, 72): what distinguishes cells of a ring. seed: None for
    the published runs, which share most of it; a number for another detector, which has as many
    cells far off, elsewhere."""
    rng = np.random.default_rng([17, 0 if seed is None else seed + 1])
    shifts = []
    for _ in range(3):  # shared, own of either run
        shift = rng.standard_normal(SHAPE)
        for r in range(1, SHAPE[0]):
            shift[r] = RINGS * shift[r - 1] + math.sqrt(1 - RINGS**2) * shift[r]
        shifts.append(shift)
    which = RUNS.index(run)
    out = SIGMA * (math.sqrt(SHARED) * shifts[0] + math.sqrt(1 - SHARED) * shifts[1 + which])
    for r in ROWS:
        out[r] -= np.median(out[r, LIVE[r].numpy()])
    cells = np.argwhere(LIVE.numpy())
    for cell, found in zip(NAMED, NAMED_SHIFTS, strict=True):
        out[cell if seed is None else tuple(rng.choice(cells))] = found[which]
    return out


def occupancy(run: int, profile: Sequence[float] | float | None = None,
              pattern_seed: int | None = None, live: Tensor = LIVE) -> np.ndarray:
    """Probability p that a cell is read out in an event: (64, 72), 0 where not live. profile: mean
    of each row, 22 occupancies (as ``ROWS``); or a number for conditions between the runs, 0 for
    355456 and 1 for 357479, below and above beyond them; None for the run itself."""
    if run not in RUNS:
        raise ValueError(f"run {run}: known are {RUNS[0]} and {RUNS[1]}; with profile and "
                         "pattern_seed either of them stands for another run")
    if profile is None:
        profile = RUNS.index(run)
    values = np.asarray(profile, float)
    if not values.ndim:
        a, b = _theta(P)
        values = np.sin(np.clip(a + values * (b - a), 0.05, math.pi / 2)) ** 2
    if values.shape != (len(ROWS),) or not ((values > 0) & (values <= 1)).all():
        raise ValueError(f"profile must be {len(ROWS)} occupancies between 0 and 1, one for each "
                         "of rows 3...13 and 50...60")
    live, shift, p = live.numpy(), pattern(run, pattern_seed), np.zeros(SHAPE)
    for r, value in zip(ROWS, values, strict=True):
        cells = live[r]
        ring = np.sin(np.clip(_theta(value) + shift[r, cells], 0.01, math.pi / 2)) ** 2
        p[r, cells] = np.clip(ring * value / max(ring.mean(), 1e-9), 0, 1)
    return p


def event_counts(run: int, sections: int, rng: np.random.Generator, mean: float | None = None,
                 low_statistics: bool = True) -> np.ndarray:
    """Number of events of consecutive lumi-sections: (sections,) int64."""
    run = CONDITIONS[run]
    mean = run.events if mean is None else mean
    walk = rng.standard_normal(sections) * math.sqrt(1 - MEMORY**2)
    last = rng.standard_normal()
    for number, step in enumerate(walk):
        last = walk[number] = MEMORY * last + step
    share = 1 + run.spread * np.clip(walk, -3.5, 3.5)  # the published maxima
    if low_statistics and run.low:
        low = rng.random(sections) < run.low
        tail = LOW[1] - (LOW[1] - LOW[0]) * rng.random(sections) ** TAIL
        expected = LOW[1] - (LOW[1] - LOW[0]) / (1 + TAIL)
        share = np.where(low, tail, share) / (1 - run.low * (1 - expected))
    return np.maximum(1, np.rint(mean * share)).astype(np.int64)


def simulate(run: int, sections: int, seed: int = 0, low_statistics: bool = True, *,
             events: float | None = None, profile: Sequence[float] | float | None = None,
             pattern_seed: int | None = None, noise: float = NOISE, integer: bool = False,
             live: Tensor = LIVE) -> HcalMaps:
    """Maps of a run: (sections, 64, 72), with the true number of events; the same for one seed.
    low_statistics: with the published tail of lumi-sections of few events. events: mean number of a
    lumi-section; None for that of the run. profile, pattern_seed: other conditions, another
    detector (``occupancy``, ``pattern``). noise: variance in units of the binomial one; 1 gives
    Binomial(N, p), below, as in the published maps, deviations from N p are made smaller and counts
    are no integers. integer: round the counts. live: (64, 72) bool, cells that are read out."""
    p = occupancy(run, profile, pattern_seed, live)
    rng = np.random.default_rng([run, seed])
    number = event_counts(run, sections, rng, events, low_statistics)
    cells = live.numpy()
    counts = np.zeros((sections, *SHAPE), np.float32)
    for start in range(0, sections, 1000):  # in blocks: bounded memory
        part = slice(start, start + 1000)
        expected = number[part, None] * p[cells]
        drawn = rng.binomial(number[part, None], p[cells])
        values = expected + math.sqrt(noise) * (drawn - expected)
        counts[part][:, cells] = np.rint(values) if integer else values
    made = dict(generator="hcal 1", run=run, jets=sections, seed=seed, events=events, noise=noise,
                low_statistics=low_statistics, pattern_seed=pattern_seed, integer=integer,
                profile=None if profile is None else np.asarray(profile, float).tolist())
    return HcalMaps(torch.from_numpy(counts), live.clone(),
                    torch.full((sections,), RUNS.index(run)),
                    torch.from_numpy(number.astype(np.float32)),
                    attributes=made if torch.equal(live, LIVE) else {})


class Fault(NamedTuple):
    """Live cells of a box that count wrongly: strength times what they should."""
    strength: float
    row: int
    column: int
    height: int = 1
    width: int = 1


def random_faults(rng: np.random.Generator, live: Tensor, rate: float,
                  strengths: Sequence[float], kind: str = "boxes") -> list[Fault]:
    """Poisson(rate) faults of a lumi-section. kind: "boxes", a third single cells, the others of up
    to 3 rows and 5 columns; "strips", of 8 to 16 columns of one ring, as of a readout module; or
    "scattered", six cells anywhere, as of a bad cable."""
    cells, faults = live.nonzero().numpy(), []
    for _ in range(rng.poisson(rate)):
        places, size = cells[rng.integers(len(cells))][None], (1, 1)
        if kind == "boxes" and not rng.random() < 1 / 3:
            size = rng.integers(1, 4), rng.integers(2, 6)
        elif kind == "strips":
            size = 1, rng.integers(8, 17)
        factor = rng.choice(strengths)
        if kind == "scattered":
            places = cells[rng.integers(len(cells), size=6)]
        faults += [Fault(factor, *place, *size) for place in places]
    return faults


def inject(maps: HcalMaps, faults: Sequence[Fault] | None = None, *, seed: int = 0,
           rate: float = 1.0, strengths: Sequence[float] = STRENGTHS,
           kind: str = "boxes") -> tuple[HcalMaps, Tensor]:
    """Make live cells of healthy maps faulty: (maps, strength (N, H, W), 1 where healthy).
    dead: the count is 0. degraded: each count is kept with probability ``strength`` (binomial
    thinning). hot: Poisson((strength - 1) x count) spurious counts are added, so that a hot cell
    is noisier than a healthy one of the same mean.

    faults: for every map; None draws ``random_faults``, ``rate`` a map, from ``seed``."""
    rng = np.random.default_rng([5, seed])
    strength, live = torch.ones(maps.counts.shape), maps.live.cpu()
    step = 1 if faults is None else max(len(maps), 1)
    for start in range(0, len(maps), step):
        drawn = random_faults(rng, live, rate, strengths, kind) if faults is None else faults
        for factor, row, column, height, wide in drawn:
            box = slice(row, row + height), slice(column, column + wide)
            part = strength[(slice(start, start + step), *box)]
            part[(part == 1) & live[box]] = float(factor)  # the first fault of a cell stays
    counts = maps.counts.cpu().clone()
    where = strength != 1
    values, factor = counts[where].double().numpy(), strength[where].double().numpy()
    whole = np.floor(values)
    kept = rng.binomial(whole.astype(np.int64), np.minimum(factor, 1))
    added = rng.poisson(np.maximum(factor - 1, 0) * values)
    new = kept + (values - whole) * np.minimum(factor, 1) + added
    counts[where] = torch.from_numpy(new).float()
    out = maps.with_(counts=counts.to(maps.device), strength=strength.to(maps.device))
    return out, out.strength
