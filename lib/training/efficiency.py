"""Label efficiency: how good a system is with so many labels, and how many labels it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions


def judged(answers: Mapping[str, Sequence[Predictions]], reference: str,
           names: Sequence[str] = ("auc", "mass_mae"), resamples: int = 1000) -> tuple[dict, dict]:
    """Metrics of systems, and their paired differences to one of them.

    Args:
        answers: system → predictions of each seed, the same seeds and jets for all.
        reference: the system that the others are compared with.
        names: of metrics; a system has those that its predictions allow.

    Returns:
        system → metric → row of ``metrics.summary``; and, without the reference, of
        ``metrics.compare``.
    """
    own, gains = {}, {}
    for system, runs in answers.items():
        mine = [n for n in names if n in metrics.available(runs[0])]
        own[system] = metrics.summary(runs, mine)
        if system != reference:
            both = [n for n in mine if n in metrics.available(answers[reference][0])]
            gains[system] = metrics.compare(runs, answers[reference], both, resamples)
    return own, gains


def by_system(found: Mapping[str, Mapping]) -> dict[str, dict]:
    """count → system → rows turned into system → count → rows, in the order of appearance."""
    systems = dict.fromkeys(name for rows in found.values() for name in rows)
    return {s: {c: rows[s] for c, rows in found.items() if s in rows} for s in systems}


def over_groups(points: Sequence[float], groups: int) -> dict[str, float | None]:
    """Mean with a 95 % interval where seeds share something: seed i belongs to group i modulo
    ``groups``, and each group, averaged, counts as one measurement."""
    means = np.reshape(points, (-1, groups)).mean(0)
    if groups == 1:
        return {"mean": float(means[0]), "low": None, "high": None}
    half = stats.t.ppf(0.975, groups - 1) * means.std(ddof=1) / groups**0.5
    middle = means.mean()
    return {"mean": float(middle), "low": float(middle - half), "high": float(middle + half)}


def needed(points: Mapping[int, Sequence[float]], target: Sequence[float], draws: int = 4000,
           seed: int = 0) -> dict[str, float]:
    """With how many labels a system is as good as ``target``.

    Between the counts its metric is taken to be straight in the logarithm of the labels. Each draw
    moves every mean by its error over seeds times Student's t, and the target likewise.

    Args:
        points: number of labels → metric (the higher, the better) of each seed.
        target: metric of each seed of what is to be reached.

    Returns:
        ``{value, low, high}``, numbers of labels with a 95 % interval; the smallest count stands
        for "so many or fewer", infinity for "not with the largest".
    """
    random = np.random.default_rng(seed)
    x = np.log(sorted(points))

    def drawn(values: Sequence[float]) -> np.ndarray:
        """(1 + draws,): the mean, then draws of it."""
        values, count = np.asarray(values, float), len(values)
        if count == 1:
            return np.full(1 + draws, values[0])
        t = stats.t.rvs(count - 1, size=draws, random_state=random)
        return values.mean() + np.append(0, t) * values.std(ddof=1) / count**0.5

    curves = np.stack([drawn(points[n]) for n in sorted(points)], 1)
    goal = drawn(target)
    reached = curves >= goal[:, None]
    first = reached.argmax(1)
    row, before = np.arange(len(goal)), np.maximum(first - 1, 0)
    low, high = curves[row, before], curves[row, first]
    part = np.where(first > 0, (goal - low) / np.where(high > low, high - low, 1), 0)
    labels = np.where(reached.any(1), np.exp(x[before] + part * (x[first] - x[before])), np.inf)
    low, high = np.quantile(labels[1:], [0.025, 0.975], method="nearest")
    return {"value": float(labels[0]), "low": float(low), "high": float(high)}
