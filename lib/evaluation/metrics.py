"""How good is a model, and how sure are we?

A metric of N jets takes a matrix of weights, one row for each of R bootstrap resamples (how often
each jet was drawn; ones for the point value): an interval costs one sort and a few cumulative sums.

Intervals (95 %): the jets are resampled, the same for every seed; where their events are known,
whole events, for the jets of one share its luck. The seeds are too few for that (three have ten
distinct means, and the interval would cover 75 %), so each replicate adds their scatter as a draw
from Student's t with S - 1 degrees of freedom (a parametric bootstrap). The field ``over`` says
what an interval is over: jets or events, and seeds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import stats

from lib.data.images import Images, to_numpy
from lib.files import guarded, read_npz, write_npz

CELLS = 4_000_000  # elements of one block of resamples (R x N): bounds the memory to about 100 MB
SMALLEST = 1e-7  # a float32 probability can round to 0 or 1; its logarithm must stay finite


def _check(**columns: np.ndarray | None) -> None:
    """ValueError for columns of different jets, and for values that are no answer."""
    jets = len(columns["y"])
    for name, values in columns.items():
        if values is not None and len(values) != jets:
            raise ValueError(f"{jets} labels, but {len(values)} of {name}: pass the same jets")
        if values is not None and (wrong := np.sum(~np.isfinite(values))):
            raise ValueError(f"{name} is not finite for {wrong} jets")


@dataclass(frozen=True)
class Predictions:
    """What one run says about N jets; (N,) each.
    ValueError: not the same number of each, or a value that is not finite."""

    index: np.ndarray
    y: np.ndarray  # 0 (QCD) or 1 (top)
    score: np.ndarray  # probability of class 1
    m: np.ndarray | None = None  # GeV; None without a mass head
    m_hat: np.ndarray | None = None  # the prediction of m
    event: np.ndarray | None = None  # a number for each event; None where each jet has its own

    def __post_init__(self) -> None:
        _check(**vars(self))

    @classmethod
    def of(cls, jets: Images, index: Any, score: Any, m_hat: Any = None) -> Self:
        """What was said of the jets ``index`` (n,) of a store, which knows the rest: score (n,) and
        m_hat (n,), arrays or tensors. y is -1 where the store has no labels."""
        index = to_numpy(index)
        y = np.full(len(jets), -1) if jets.labels is None else to_numpy(jets.labels)
        m = None if jets.mass is None else to_numpy(jets.mass)[index]
        m_hat = None if m_hat is None else np.float32(to_numpy(m_hat))
        found, event = np.unique(jets.event[index], return_inverse=True)
        return cls(index, np.float32(y[index]), np.float32(to_numpy(score)), m, m_hat,
                   event.astype(np.int32) if len(found) < len(index) else None)

    def __len__(self) -> int:
        return len(self.y)

    def where(self, keep: np.ndarray) -> Self:
        """The jets picked by a mask or by positions: ``p.where((p.m > 150) & (p.m < 200))``."""
        return replace(self, **{k: v if v is None else v[keep] for k, v in vars(self).items()})

    def columns(self) -> dict[str, np.ndarray]:
        """What is stored of them, by name: float32, index int64, event int32."""
        kinds = {"index": np.int64, "event": np.int32}
        return {k: np.asarray(v, kinds.get(k, np.float32))
                for k, v in vars(self).items() if v is not None}

    @classmethod
    def of_columns(cls, stored: Mapping[str, np.ndarray]) -> Self:
        """Back from ``columns``. ValueError: one is missing, or is no row of numbers."""
        columns = {k: stored[k] for k in cls.__dataclass_fields__ if k in stored}
        if not {"index", "y", "score"} <= columns.keys():
            raise ValueError("without index, y, score")
        if other := [k for k, v in columns.items() if v.ndim != 1 or v.dtype.kind in "cSU"]:
            raise ValueError(f"{other[0]} is no row of numbers")
        return cls(**columns)

    def save(self, path: Path) -> None:
        """Write an npz of the columns, all or nothing."""
        write_npz(path, self.columns())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote. DataError: damaged, or not a file of predictions."""
        todo, what = "evaluate again", "it holds no predictions"
        with guarded(path, todo, what):
            return cls.of_columns(read_npz(path, todo, what))


# --- metrics: predictions, weights (R,N) -> (R,) --------------------------------------------------

def _sweep(p: Predictions, weight: np.ndarray) -> list[np.ndarray]:
    """Weights of tops and of QCD at or above each distinct score, (R,G) each, from the highest
    score down. Equal scores form one group, so ties count half in the AUC."""
    order = np.argsort(-p.score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(p.score[order]) != 0, True))  # last jet of each group
    top, weight = p.y[order] > 0.5, weight[:, order]
    return [np.cumsum(np.where(kind, weight, 0), axis=1, dtype=np.float64)[:, last]
            for kind in (top, ~top)]


def _area(p: Predictions, weight: np.ndarray) -> np.ndarray:
    signal, background = (np.pad(x, ((0, 0), (1, 0))) for x in _sweep(p, weight))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.trapezoid(signal, background) / (signal[:, -1] * background[:, -1])


def _rejection(p: Predictions, weight: np.ndarray, at: float) -> np.ndarray:
    """One over the background efficiency where the signal efficiency first reaches ``at``; at
    least one jet's worth, so that it stays finite (and is then a lower limit)."""
    signal, background = _sweep(p, weight)
    reached = (signal < at * signal[:, -1:] * (1 - 1e-12)).sum(1).clip(max=signal.shape[1] - 1)
    kept = background[np.arange(len(background)), reached]
    return 1 / (np.maximum(kept, 1.0) / np.maximum(background[:, -1], 1.0))


def _mean(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return weight @ value.astype(np.float64) / weight.sum(1)


def _variance(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    centred = value - value.mean()  # the mean of squares minus the square of the mean, safely
    return np.maximum(_mean(centred**2, weight) - _mean(centred, weight) ** 2, 0)


def cross_entropy(p: Predictions) -> np.ndarray:
    """Cross-entropy (N,) of each jet."""
    right = np.where(p.y > 0.5, p.score, 1 - p.score.astype(np.float64))
    return -np.log(np.clip(right, SMALLEST, 1))


def _residual(p: Predictions) -> np.ndarray:
    return p.m_hat.astype(np.float64) - p.m


def _by_mass(m: np.ndarray, bins: int = 20) -> np.ndarray:
    """The quantile bin of m of each jet, (N,)."""
    return np.searchsorted(np.quantile(m, np.linspace(0, 1, bins + 1))[1:-1], m)


def _equal_mass(p: Predictions, weight: np.ndarray) -> np.ndarray:
    """AUC with weights that give both classes one spectrum of mass, the smaller of the two in every
    quantile bin of m: what is left of it is not the mass."""
    where, top = _by_mass(p.m), p.y > 0.5
    spectrum = np.stack([np.bincount(where[c], minlength=20) / max(c.sum(), 1)
                         for c in (~top, top)])
    return _area(p, weight * (spectrum.min(0)[where] / spectrum[top.astype(int), where]))


CLASS_METRICS = {
    "accuracy": lambda p, w: _mean((p.score > 0.5) == (p.y > 0.5), w), "auc": _area,
    "rejection_30": partial(_rejection, at=0.3), "rejection_50": partial(_rejection, at=0.5),
    "loss_class": lambda p, w: _mean(cross_entropy(p), w)}
MASS_METRICS = {
    "mass_mae": lambda p, w: _mean(np.abs(_residual(p)), w),
    "mass_mse": lambda p, w: _mean(_residual(p) ** 2, w),
    "mass_rmse": lambda p, w: np.sqrt(_mean(_residual(p) ** 2, w)),
    "mass_r2": lambda p, w: 1 - _mean(_residual(p) ** 2, w) / _variance(p.m.astype(float), w),
    "mass_bias": lambda p, w: _mean(_residual(p), w),
    "mass_resolution": lambda p, w: np.sqrt(_variance(_residual(p), w))}
EXTRA_METRICS = {"auc_equal_mass": _equal_mass}
METRICS = CLASS_METRICS | MASS_METRICS | EXTRA_METRICS


def available(p: Predictions) -> list[str]:
    """Names of the metrics that these predictions allow."""
    return [*CLASS_METRICS, *(MASS_METRICS if p.m is not None and p.m_hat is not None else [])]


def evaluate(p: Predictions) -> dict[str, float]:
    """All metrics of one run, without intervals; also the calibration error."""
    one = np.ones((1, len(p)))
    return {n: float(METRICS[n](p, one)[0]) for n in available(p)} | {"ece": ece(p.y, p.score)}


def auc(y: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; equal scores count half; NaN where a class is missing."""
    p = Predictions(np.arange(len(y)), np.asarray(y), np.asarray(score))
    return float(_area(p, np.ones((1, len(p))))[0]) if len(p) else float("nan")


# --- intervals ------------------------------------------------------------------------------------

def _weights(p: Predictions, resamples: int) -> Iterator[np.ndarray]:
    """Blocks of (r,N) counts of an ordinary bootstrap: all events, or jets, with replacement."""
    units, draws = len(p), slice(None)
    if p.event is not None:
        units, draws = len(np.unique(p.event)), np.unique(p.event, return_inverse=True)[1]
    random, block = np.random.default_rng(0), max(1, min(resamples, CELLS // max(len(p), 1)))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(0, units, (rows, units), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
        yield counts.astype(np.float32)[:, draws]


def _replicate(value: Callable, p: Predictions, resamples: int) -> tuple:
    """``value(weights (r,N)) -> (r,...,S)`` -> points (...,S) of the seeds and replicates (R,...)
    of their mean, events or jets and seeds varied."""
    points = value(np.ones((1, len(p)), np.float32))[0]
    replicates = np.concatenate([value(w).mean(-1) for w in _weights(p, resamples)])
    if (seeds := points.shape[-1]) > 1:
        error = points.std(-1, ddof=1) / np.sqrt(seeds)
        # evenly spaced quantiles in random order: Student's t without the noise of drawing it
        spread = stats.t.ppf((np.arange(resamples) + 0.5) / resamples, seeds - 1)
        spread = np.random.default_rng(1).permutation(spread)
        replicates = replicates + spread.reshape(-1, *[1] * error.ndim) * error
    return points, replicates


Runs = Sequence[Predictions] | Predictions  # the seeds of one system; a single run needs no list


def _aligned(*systems: Runs) -> list[list[Predictions]]:
    """Each system as a list of runs whose jets have one order, and the events that one of them
    knows; ValueError for other jets."""
    aligned = [[p.where(np.argsort(p.index, kind="stable"))
                for p in ([runs] if isinstance(runs, Predictions) else runs)] for runs in systems]
    first = aligned[0][0]
    if not all(np.array_equal(p.index, first.index) and np.array_equal(p.y, first.y)
               for runs in aligned for p in runs):
        raise ValueError("the runs were evaluated on different jets: predict the same file")
    event = next((p.event for runs in aligned for p in runs if p.event is not None), None)
    return [[replace(p, event=event) for p in runs] for runs in aligned]


def _values(runs: Sequence[Predictions], names: Sequence[str], weight: np.ndarray) -> np.ndarray:
    """weights (r,N) -> (r,M,S)."""
    return np.stack([[METRICS[name](p, weight) for name in names] for p in runs], -1).swapaxes(0, 1)


def _row(what: str, jets: Predictions, points: np.ndarray, replicates: np.ndarray,
         **more: float) -> dict:
    """A metric's row: points (S,), replicates (R,); ``what`` is the name of its mean."""
    drawn = "jets" if jets.event is None else "events"
    mean, low, high, *each = (float(x) if np.isfinite(x) else None for x in (
        points.mean(), *np.nanquantile(replicates, [0.025, 0.975]), *points))
    return {what: mean, "low": low, "high": high, **more, "seeds": len(points), "points": each,
            "over": drawn if len(points) == 1 else f"seeds and {drawn}"}


def summary(runs: Runs, metrics: Sequence[str] | None = None, resamples: int = 500) -> dict:
    """Mean over the seeds of a system with a 95 % interval, of ``metrics`` or all of ``available``:
    ``{metric: {mean, low, high, seeds, points, over}}``; ``over`` names what was varied."""
    (runs,) = _aligned(runs)
    names = list(metrics or available(runs[0]))
    points, replicates = _replicate(partial(_values, runs, names), runs[0], resamples)
    return {name: _row("mean", runs[0], *x)
            for name, *x in zip(names, points, replicates.T, strict=True)}


def compare(a: Runs, b: Runs, metrics: Sequence[str] | None = None, resamples: int = 2000) -> dict:
    """Difference a - b, paired by jet and by seed (position in the list; a single run, such as a
    cut without a seed, is paired with every seed of the other); p is two-sided: ``{metric:
    {difference, low, high, p, seeds, points, over}}``.

    ValueError: other jets, or a different number of seeds."""
    a, b = _aligned(a, b)
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise ValueError(f"{len(a)} seeds against {len(b)}: compare the same seeds")
    names = list(metrics or [n for n in available(a[0]) if n in available(b[0])])
    points, replicates = _replicate(lambda w: _values(a, names, w) - _values(b, names, w),
                                    a[0], resamples)
    below, above = (replicates <= 0).mean(0), (replicates >= 0).mean(0)
    p = np.minimum(1, 2 * np.maximum(np.minimum(below, above), 1 / (resamples + 1)))
    return {name: _row("difference", a[0], *x, p=float(p)) for name, p, *x in
            zip(names, p, points, replicates.T, strict=True)}


# --- curves and tables ----------------------------------------------------------------------------

def roc(runs: Runs, points: int = 200, resamples: int = 200) -> dict:
    """ROC curve with its 95 % band: ``background`` efficiency, ``low`` and ``high`` at efficiencies
    ``signal``, (points,) each."""
    (runs,) = _aligned(runs)
    efficiency = np.linspace(0, 1, points + 1)[1:]

    def background(weight: np.ndarray) -> np.ndarray:
        return np.stack([[np.interp(efficiency, s / s[-1], b / b[-1])
                          for s, b in zip(*_sweep(p, weight))] for p in runs], -1)

    curves, replicates = _replicate(background, runs[0], resamples)
    low, high = np.clip(np.nanquantile(replicates, [0.025, 0.975], axis=0), 0, 1)
    return {"signal": efficiency, "background": curves.mean(-1), "low": low, "high": high}


def confusion(y: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Numbers of jets (2,2): rows truth, columns prediction, QCD first."""
    _check(y=y, score=score)
    truth, said = (np.asarray(y) > 0.5).astype(int), (np.asarray(score) > 0.5).astype(int)
    return np.bincount(2 * truth + said, minlength=4).reshape(2, 2)


def _by_score(y: np.ndarray, score: np.ndarray, bins: int) -> np.ndarray:
    """The equal bin of score of each jet, (N,)."""
    _check(y=y, score=score)
    return np.minimum((np.asarray(score) * bins).astype(int), bins - 1)


def reliability(y: np.ndarray, score: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Reliability diagram in equal bins of score: mean score, fraction of tops with its 95 %
    Wilson interval, number of jets; empty bins are left out."""
    where, rows = _by_score(y, score, bins), []
    for b in np.unique(where):
        tops, jets = int(np.sum(y[where == b] > 0.5)), int(np.sum(where == b))
        low, high = map(float, stats.binomtest(tops, jets).proportion_ci(0.95, "wilson"))
        rows.append({"score": float(score[where == b].mean()), "fraction": tops / jets,
                     "low": low, "high": high, "jets": jets})
    return rows


def ece(y: np.ndarray, score: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: the mean over jets of |fraction of tops - mean score| in equal
    bins of score (Guo et al., arXiv:1706.04599). Not zero for few jets, however good the model."""
    where = _by_score(y, score, bins)
    gap = np.bincount(where, np.asarray(y, float) - score, minlength=bins)
    return float(np.abs(gap).sum() / max(len(where), 1))


def response(p: Predictions, edges: Sequence[float]) -> list[dict]:
    """Response m_hat / m in bins of m (GeV), for all jets and for each class: rows ``{class, low,
    high, jets, response (median), error, bias (GeV), resolution (half the central 68 % of m_hat / m
    over the median)}``; bins of fewer than 10 jets are left out."""
    rows = []
    for name, chosen in {"all": p.y >= 0, "QCD": p.y < 0.5, "top": p.y > 0.5}.items():
        for low, high in pairwise(edges):
            at = chosen & (p.m >= low) & (p.m < high)
            if (jets := int(at.sum())) < 10:
                continue
            ratio = p.m_hat[at] / p.m[at]
            lower, middle, upper = np.quantile(ratio, [0.16, 0.5, 0.84])
            rows.append({"class": name, "low": float(low), "high": float(high), "jets": jets,
                         "response": float(middle),
                         "error": float(1.2533 * ratio.std() / np.sqrt(jets)),  # of a median
                         "bias": float((p.m_hat[at] - p.m[at]).mean()),
                         "resolution": float((upper - lower) / 2 / middle)})
    return rows


def decorrelate(p: Predictions, bins: int = 20) -> Predictions:
    """The same jets with a score that knows nothing of the background's mass: its quantile among
    the QCD jets of the same quantile bin of m (one half where there is none). A cut keeps the same
    share of QCD everywhere."""
    where, score = _by_mass(p.m, bins), np.zeros(len(p), np.float32)
    for b in np.unique(where):
        background = np.sort(p.score[(where == b) & (p.y < 0.5)])
        rank = sum(np.searchsorted(background, p.score[where == b], side) for side in
                   ("left", "right")) / 2
        score[where == b] = rank / len(background) if len(background) else 0.5
    return replace(p, score=score)
