"""Who finds the sick cells? Faults of known strength in healthy maps of a run that no score was
made for; precision and recall over all live cells; what a few sections of that run add."""

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hcal.events import NOISE, estimate_events
from hcal.maps import HcalMaps, windows
from hcal.masked import CellModel, MaskedCells
from hcal.scores import angle, log_odds, rings_and_offsets
from hcal.simulation import CONDITIONS, LOW, STRENGTHS, TAIL, inject, occupancy, simulate
from lib.data.batches import Batches
from lib.training.fit import FitSettings, fit

RECALLS = {"fpr90": 0.90, "fpr95": 0.95, "fpr99": 0.99}
Score = Callable[[HcalMaps], Tensor]


def healthy(run: int, count: int, width: int = 1, low: bool = False, seed: int = 0) -> HcalMaps:
    """``count`` stretches of ``width`` lumi-sections of a run.

    low: each with less than half of the run's events, distributed as its low tail (down to 6 %);
    else all of full statistics.
    """
    if not low:
        return simulate(run, count * width, seed=seed, low_statistics=False)
    rng = np.random.default_rng([29, seed])
    depth = LOW[1] - LOW[0]
    start = ((LOW[1] - 0.5) / depth) ** (1 / TAIL)  # of u, where the share is a half
    shares = LOW[1] - depth * rng.uniform(start, 1, count) ** TAIL
    return HcalMaps.concat([
        simulate(run, width, seed=1000 * seed + number, low_statistics=False,
                 events=share * CONDITIONS[run].events) for number, share in enumerate(shares)])


def oracle(run: int) -> Score:
    """The odds of a score that knows p of every cell and the number of events: the ceiling."""
    p = torch.from_numpy(occupancy(run)).float()

    def score(maps: HcalMaps) -> Tensor:
        sigma = (0.25 * NOISE / maps.events[:, None, None]).sqrt().expand_as(maps.counts)
        mean = p.sqrt().asin().expand_as(maps.counts)
        return log_odds(angle(maps.counts, maps.events), mean, sigma, maps.events, maps.live)

    return score


def curves(sick: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None,
           ) -> dict[str, np.ndarray]:
    """AUPRC (average precision) and false-positive rates ``fpr90``, ``fpr95``, ``fpr99``.

    sick: (N, C) bool, score: (N, C), N maps of C live cells. weight: (R, N), how often a map was
    drawn; None: once. Arrays (R,). Of equal scores the healthy cells count first.
    """
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


def compare(scores: Mapping[str, Score], maps: HcalMaps, width: int = 1,
            strengths: Sequence[float] = STRENGTHS, seeds: Sequence[int] = (0, 1, 2),
            rate: float = 3.0, resamples: int = 50) -> list[dict]:
    """Faults of one strength at a time in healthy maps, looked for by every score.

    For each seed ``rate`` faults a map are drawn (single cells and boxes of up to 3 x 5), the same
    over a window of ``width`` sections, which is summed. Returns a row for each strength and score:
    ``strength``, ``score``, ``auprc``, ``fpr90``, ``fpr95``, ``fpr99``, each with ``_low`` and
    ``_high`` (95 %, bootstrap over maps, the seeds of a map drawn together), ``sick`` (share of
    sick cells), ``maps``, ``seeds``.
    """
    rng, rows = np.random.default_rng(3), []
    count = len(maps) // width
    draws = rng.multinomial(count, np.full(count, 1 / count), resamples).astype(float)
    draws = np.tile(np.concatenate([np.ones((1, count)), draws]), len(seeds))
    for strength in strengths:
        sets = [windows(inject(maps, seed=seed, rate=rate, strengths=(strength,), width=width)[0],
                        width) for seed in seeds]
        faulty = HcalMaps.concat(sets)
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


def adapted_offsets(model: CellModel, seen: HcalMaps) -> Tensor:
    """Offsets after healthy sections of another run: (H, W), no training.

    Empirical Bayes: what the sections say, noise² = f/(4 · all their events), and what the model
    brings, whose error is read off the difference between the two, weighted by their precision.
    """
    new, live = rings_and_offsets(seen)[1], seen.live
    noise = 0.25 * NOISE / float(estimate_events(seen).sum())
    apart = (new - model.offsets)[live].abs().quantile(0.683).square()
    known = float((apart - noise).clamp(min=1e-8))
    return ((known * new + noise * model.offsets) / (known + noise)) * live


def finetuned(model: CellModel, seen: HcalMaps, updates: int) -> CellModel:
    """A copy of the model, trained on for a while on those sections alone."""
    tuned = copy.deepcopy(model)
    objective = MaskedCells(tuned, rings_and_offsets(seen)[0], seen.live, as_is=1.0)
    batches = Batches(seen.with_(labels=None), None, min(16, len(seen)), shuffle=True)
    fit(objective, batches, None,
        FitSettings(updates=updates, batch_size=16, lr=3e-4, select="loss", every=updates,
                    precision="32-true", ema=None), log=lambda line: None)
    return tuned


def adaptation(model: CellModel, old: HcalMaps, new: HcalMaps, seen: HcalMaps,
               sections: Sequence[int], updates: int = 60) -> list[dict]:
    """What a few sections of the new run give there, and what is forgotten of the old.

    old, new: healthy test maps of either run. seen: healthy sections of the new run, of which the
    first few (each of ``sections``) are used. Rows as of ``compare``, for faults of strength 0.9,
    with ``way`` ("as trained", "offsets", "weights"), ``sections`` and ``run`` ("old", "new").
    """
    ways: list[tuple[str, int, Score]] = [("as trained", 0, model.score)]
    for count in sections:
        few = seen.subset(torch.arange(count))
        offsets = adapted_offsets(model, few)
        ways.append(("offsets", count, lambda maps, o=offsets: model.score(maps, o)))
        ways.append(("weights", count, finetuned(model, few, updates).score))
    rows = []
    for run, maps in (("old", old), ("new", new)):
        named = {f"{way} {count}": score for way, count, score in ways}
        found = compare(named, maps, strengths=(0.9,), seeds=(0,))
        rows += [{**row, "way": way, "sections": count, "run": run}
                 for row, (way, count, _) in zip(found, ways, strict=True)]
    return rows
