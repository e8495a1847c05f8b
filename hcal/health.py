"""Who finds the sick cells? Faults of known strength in healthy maps of a run that no score was
made for; precision and recall over all live cells."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hcal.events import NOISE
from hcal.maps import RUNS, HcalMaps
from hcal.masked import CellModel
from hcal.scores import angle, log_odds
from hcal.simulation import CONDITIONS, LOW, STRENGTHS, TAIL, inject, occupancy, simulate

RECALLS = {"fpr90": 0.90, "fpr95": 0.95, "fpr99": 0.99}
Score = Callable[[HcalMaps], Tensor]


def healthy(run: int, count: int, low: bool = False, seed: int = 0) -> HcalMaps:
    """``count`` lumi-sections of a run; low: each with less than half of the run's events,
    distributed as its low tail (down to 6 %); else all of full statistics."""
    if not low:
        return simulate(run, count, seed=seed, low_statistics=False)
    rng = np.random.default_rng([29, seed])
    depth = LOW[1] - LOW[0]
    start = ((LOW[1] - 0.5) / depth) ** (1 / TAIL)  # of u, where the share is a half
    shares = LOW[1] - depth * rng.uniform(start, 1, count) ** TAIL
    return HcalMaps.concat([
        simulate(run, 1, seed=1000 * seed + number, low_statistics=False,
                 events=share * CONDITIONS[run].events) for number, share in enumerate(shares)])


def oracle(run: int, boxes: bool = True) -> Score:
    """The odds of a score that knows p of every cell and the number of events: the ceiling; without
    ``boxes`` each cell by itself."""
    mean = torch.from_numpy(occupancy(run)).float().sqrt().asin()

    def score(maps: HcalMaps) -> Tensor:
        sigma, theta = (0.25 * NOISE / maps.events[:, None, None]).sqrt(), angle(
            maps.counts, maps.events)
        return (log_odds(theta, mean, sigma, maps.events, maps.live) if boxes else
                ((theta - mean) / sigma).abs() * maps.live)

    return score


def curves(sick: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None,
           ) -> dict[str, np.ndarray]:
    """AUPRC (average precision) and false-positive rates ``fpr90``, ``fpr95``, ``fpr99``.
    sick: (N, C) bool, score: (N, C), N maps of C live cells. weight: (R, N), how often a map was
    drawn; None: once. Arrays (R,). Of equal scores the healthy cells count first."""
    weight = np.ones((1, len(sick))) if weight is None else weight
    order = np.lexsort((sick.ravel(), -score.ravel()))
    good, owner = sick.ravel()[order], np.repeat(np.arange(len(sick)), sick.shape[1])[order]
    out = {name: np.empty(len(weight)) for name in ("auprc", *RECALLS)}
    for number, row in enumerate(weight):
        each = row[owner]
        hits, alarms = np.cumsum(each * good), np.cumsum(each * ~good)
        precision = hits / np.maximum(hits + alarms, 1e-9)
        out["auprc"][number] = (precision * each * good).sum() / max(hits[-1], 1e-9)
        for name, recall in RECALLS.items():
            at = np.searchsorted(hits, recall * hits[-1] - 1e-9)
            out[name][number] = alarms[at] / max(alarms[-1], 1e-9)
    return out


def compare(scores: Mapping[str, Score], maps: HcalMaps, strengths: Sequence[float] = STRENGTHS,
            seeds: Sequence[int] = (0, 1, 2), rate: float = 3.0, resamples: int = 50,
            kind: str = "boxes") -> list[dict]:
    """Faults of one strength at a time in healthy maps, looked for by every score.
    For each seed ``rate`` faults a map are drawn (``random_faults``, of a ``kind``). Returns a row
    for each strength and score: ``strength``, ``score``, ``auprc``, ``fpr90``, ``fpr95``,
    ``fpr99``, each with ``_low`` and ``_high`` (95 %, bootstrap over maps, the seeds of a map drawn
    together), ``sick`` (share of sick cells), ``maps``, ``seeds``."""
    rng, rows, count = np.random.default_rng(3), [], len(maps)
    draws = rng.multinomial(count, np.full(count, 1 / count), resamples).astype(float)
    draws = np.tile(np.concatenate([np.ones((1, count)), draws]), len(seeds))
    for strength in strengths:
        faulty = HcalMaps.concat([
            inject(maps, seed=seed, rate=rate, strengths=(strength,), kind=kind)[0]
            for seed in seeds])
        sick = (faulty.strength != 1)[:, faulty.live].numpy()
        for name, score in scores.items():
            values = score(faulty)[:, faulty.live].numpy()
            row = {"strength": strength, "score": name, "sick": float(sick.mean()),
                   "maps": count, "seeds": len(seeds)}
            for key, all_ in curves(sick, values, draws).items():
                low, high = np.quantile(all_[1:], (0.025, 0.975))
                row |= {key: float(all_[0]), f"{key}_low": float(low), f"{key}_high": float(high)}
            rows.append(row)
    return rows


def measured(folder: Path) -> dict[str, dict]:
    """What a ``CellModel``'s card states: metric -> mean, low, high, on weak faults in run B."""
    row, = compare({"model": CellModel.from_pretrained(folder).score},
                   healthy(RUNS[1], 60, low=True, seed=77), (0.9,), resamples=200)
    return {key: {"mean": row[key], "low": row[f"{key}_low"], "high": row[f"{key}_high"]}
            for key in ("auprc", "fpr95")}
