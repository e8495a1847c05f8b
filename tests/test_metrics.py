"""Metrics on known cases, and intervals that cover what they promise."""

from __future__ import annotations

import dataclasses
import importlib
import logging

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from lib.evaluation import metrics, predictions
from lib.evaluation.metrics import Predictions


def sample(jets: int, seed: int, gap: float = 1.5, mass: bool = True, shift: float = 0.0,
           shared: np.random.Generator | None = None) -> Predictions:
    """Binormal scores: the AUC is Phi((gap + shift) / sqrt 2). With ``shared`` the jets are those
    of that generator, and only a part of the noise is the seed's own."""
    own = np.random.default_rng(seed)
    jets_of = shared or own
    y = (np.arange(jets) % 2).astype(np.float32)
    common = jets_of.normal(size=jets)
    z = common if shared is None else 0.8 * common + 0.6 * own.normal(size=jets)
    m = (140 + 40 * jets_of.normal(size=jets)).astype(np.float32)
    m_hat = (m + 5 + 10 * own.normal(size=jets)).astype(np.float32)
    score = 1 / (1 + np.exp(-(z + (gap + shift) * (y - 0.5))))
    return Predictions(np.arange(jets), y, score.astype(np.float32), m if mass else None,
                       m_hat if mass else None)


def truth(gap: float) -> float:
    return float(stats.norm.cdf(gap / np.sqrt(2)))


def test_against_scikit_learn():
    p = sample(2000, 1)
    tied = Predictions(p.index, p.y, np.round(p.score, 1), p.m, p.m_hat)
    for q in (p, tied):
        values = metrics.evaluate(q)
        assert values["auc"] == pytest.approx(sk.roc_auc_score(q.y, q.score), abs=1e-9)
        assert values["accuracy"] == sk.accuracy_score(q.y, q.score > 0.5)
        clipped = q.score.astype(float).clip(1e-7, 1 - 1e-7)
        assert values["loss_class"] == pytest.approx(sk.log_loss(q.y, clipped))
    assert values["mass_mae"] == pytest.approx(sk.mean_absolute_error(p.m, p.m_hat), rel=1e-5)
    assert values["mass_mse"] == pytest.approx(sk.mean_squared_error(p.m, p.m_hat), rel=1e-5)
    assert values["mass_r2"] == pytest.approx(sk.r2_score(p.m, p.m_hat), abs=1e-5)
    assert values["mass_bias"] == pytest.approx(5, abs=1)
    assert values["mass_resolution"] == pytest.approx(10, abs=1)
    assert values["mass_rmse"] ** 2 == pytest.approx(values["mass_mse"])
    assert metrics.confusion(p.y, p.score).tolist() == sk.confusion_matrix(
        p.y, p.score > 0.5).tolist()


def test_rejection():
    """100 tops and 100 QCD jets; 3 QCD jets lie above the 30th top, 10 above the 50th."""
    y = np.r_[np.ones(100), np.zeros(100)].astype(np.float32)
    score = np.r_[np.linspace(0.99, 0.5, 100), np.full(3, 0.98), np.full(7, 0.8),
                  np.linspace(0.4, 0.1, 90)].astype(np.float32)
    values = metrics.evaluate(Predictions(np.arange(200), y, score))
    assert values["rejection_30"] == pytest.approx(100 / 3)
    assert values["rejection_50"] == pytest.approx(100 / 10)
    perfect = metrics.evaluate(Predictions(np.arange(200), y, y))
    assert perfect["auc"] == 1
    assert perfect["rejection_30"] == 100
    assert np.isfinite(perfect["loss_class"])


def test_without_mass_and_with_one_class():
    p = sample(200, 1, mass=False)
    assert "mass_mae" not in metrics.evaluate(p)
    assert "mass_mae" not in metrics.summary(p)
    assert np.isnan(metrics.auc(np.ones(5), np.arange(5)))
    assert np.isnan(metrics.auc(np.ones(0), np.ones(0)))


def test_no_metric_takes_what_is_no_answer(tmp_path):
    """NaN, infinity or other jets are refused where they come in, not counted as an answer."""
    p = sample(50, 1)
    for column in ("score", "m", "m_hat", "y"):
        values = getattr(p, column).copy()
        values[3] = np.nan if column != "m" else np.inf
        with pytest.raises(ValueError, match=f"{column} is not finite for 1 jets"):
            dataclasses.replace(p, **{column: values})
    with pytest.raises(ValueError, match="pass the same jets"):
        Predictions(p.index, p.y, p.score[:-1])
    np.savez(tmp_path / "p.npz", index=p.index, y=p.y, score=np.full(50, np.nan))
    with pytest.raises(ValueError, match="score is not finite for 50 jets"):
        Predictions.load(tmp_path / "p.npz")
    for metric in (metrics.auc, metrics.ece, metrics.confusion, metrics.reliability):
        with pytest.raises(ValueError, match="score is not finite for 1 jets"):
            metric(np.ones(2), np.array([0.5, np.nan]))
        with pytest.raises(ValueError, match="pass the same jets"):
            metric(np.ones(2), np.ones(3))


def test_metrics_together_are_metrics_one_by_one():
    """And a metric is prepared once for each set of predictions, whatever the resamples."""
    a, b = ([sample(300, s + first, shared=np.random.default_rng(1)) for s in range(3)]
            for first in (0, 10))
    names = list(metrics.METRICS)
    rows = metrics.compare(a, b, names, resamples=40)
    for name in names:
        assert metrics.compare(a, b, [name], resamples=40)[name] == rows[name]
        assert metrics.summary(a, [name], 40)[name] == metrics.summary(a, names, 40)[name]


def test_predictions_survive_the_file(tmp_path):
    p = sample(50, 1)
    p.save(tmp_path / "predictions.npz")
    q = Predictions.load(tmp_path / "predictions.npz")
    assert metrics.evaluate(q) == metrics.evaluate(p)
    assert q.index.dtype == np.int64
    assert q.score.dtype == np.float32
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="holds no predictions"):
        Predictions.load(tmp_path / "other.npz")


def delong(y: np.ndarray, *scores: np.ndarray) -> np.ndarray:
    """Covariance of AUCs on the same jets (DeLong et al., Biometrics 44, 837 (1988))."""
    top, qcd = [], []
    for score in scores:
        wins = (score[y > 0.5][:, None] > score[y < 0.5]) + 0.5 * (
            score[y > 0.5][:, None] == score[y < 0.5])
        top.append(wins.mean(1))
        qcd.append(wins.mean(0))
    return (np.atleast_2d(np.cov(top)) / len(top[0]) + np.atleast_2d(np.cov(qcd)) / len(qcd[0]))


def test_interval_of_one_seed_is_that_of_delong():
    p = sample(2000, 1)
    row = metrics.summary(p, ["auc"], resamples=1000)["auc"]
    expected = 2 * 1.96 * np.sqrt(delong(p.y, p.score)[0, 0])
    assert row["high"] - row["low"] == pytest.approx(expected, rel=0.1)
    assert row["low"] < row["mean"] < row["high"]
    assert row["over"] == "jets"
    assert row["seeds"] == 1


def test_paired_interval_is_that_of_delong_and_narrower_than_unpaired():
    a = sample(2000, 1, shared=np.random.default_rng(7))
    b = sample(2000, 2, gap=1.4, shared=np.random.default_rng(7))
    row = metrics.compare(a, b, ["auc"], resamples=1000)["auc"]
    covariance = delong(a.y, a.score, b.score)
    paired = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * np.sqrt(paired), rel=0.1)
    assert paired < 0.6 * (covariance[0, 0] + covariance[1, 1])
    z = row["difference"] / np.sqrt(paired)
    assert row["p"] == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.03)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_interval_covers_the_truth(seeds):
    """Seeds that differ by more than the jets do, the hard case for three of them."""
    random, hits, trials, spread = np.random.default_rng(seeds), 0, 150, 0.3
    for trial in range(trials):
        runs = [sample(200, 1000 * trial + s, shared=np.random.default_rng(trial), mass=False,
                       shift=spread * random.normal() if seeds > 1 else 0.0)
                for s in range(seeds)]
        row = metrics.summary(runs, ["auc"], resamples=200)["auc"]
        expected = truth(1.5 / np.sqrt(1 + (spread**2 / 2 if seeds > 1 else 0)))
        hits += row["low"] <= expected <= row["high"]
        assert row["over"] == ("jets" if seeds == 1 else "seeds and jets")
    assert 0.90 <= hits / trials <= 0.995


def test_paired_difference_covers_zero_where_there_is_none():
    random, wrong, trials = np.random.default_rng(0), 0, 150
    for trial in range(trials):
        a, b = ([sample(200, 10_000 * arm + 100 * trial + s, mass=False,
                        shared=np.random.default_rng(trial), shift=0.2 * random.normal())
                 for s in range(3)] for arm in (1, 2))
        row = metrics.compare(a, b, ["auc"], resamples=200)["auc"]
        if abs(row["p"] - 0.05) > 0.011:  # else the quantile lies between two resamples
            assert (row["p"] < 0.05) == (not row["low"] <= 0 <= row["high"])
        wrong += row["p"] < 0.05
    assert wrong / trials <= 0.09


def test_seeds_are_paired_by_position_and_jets_by_index():
    a = [sample(300, s, shared=np.random.default_rng(1)) for s in range(3)]
    shuffled = [p.where(np.random.default_rng(0).permutation(300)) for p in a]
    row = metrics.compare(a, shuffled, ["auc", "mass_mae"], resamples=50)
    assert row["auc"]["difference"] == 0
    assert row["auc"]["low"] == row["auc"]["high"] == 0
    assert row["auc"]["p"] == 1
    assert metrics.compare(a, a[0], ["auc"], resamples=50)["auc"]["seeds"] == 3
    with pytest.raises(ValueError, match="3 seeds against 2"):
        metrics.compare(a, a[:2])
    with pytest.raises(ValueError, match="different jets"):
        metrics.compare(a[0], a[0].where(np.arange(100)))


def test_roc_band_holds_the_analytic_curve():
    p = sample(4000, 3)
    curve = metrics.roc(p, points=50, resamples=100)
    at = curve["signal"]
    expected = stats.norm.sf(stats.norm.isf(at) + 1.5)
    inside = (curve["low"] <= expected) & (expected <= curve["high"])
    assert inside.mean() > 0.8
    assert np.trapezoid(np.r_[0, at], np.r_[0, curve["background"]]) == pytest.approx(
        metrics.evaluate(p)["auc"], abs=0.01)


def test_mass_taken_out():
    """A score that knows the mass alone: worthless once both classes have one spectrum."""
    random = np.random.default_rng(0)
    y = (np.arange(8000) % 2).astype(np.float32)
    m = (110 + 60 * y + 30 * random.normal(size=8000)).astype(np.float32)
    score = (1 / (1 + np.exp(-(m - 140) / 20))).astype(np.float32)
    p = Predictions(np.arange(8000), y, score, m, m)
    plain, equal = (metrics.summary(p, [name], resamples=20)[name]["mean"]
                    for name in ("auc", "auc_equal_mass"))
    assert plain > 0.9
    assert equal < 0.62
    assert metrics.evaluate(p.where((m > 135) & (m < 145)))["auc"] < 0.7
    flat = metrics.decorrelate(p)
    passing = flat.score[y < 0.5] > 0.8
    for low in (90, 110, 130):
        assert passing[(m[y < 0.5] > low) & (m[y < 0.5] < low + 20)].mean() == pytest.approx(
            0.2, abs=0.05)


def test_calibration():
    random = np.random.default_rng(0)
    score = random.random(20_000).astype(np.float32)
    y = (random.random(20_000) < score).astype(np.float32)
    assert metrics.ece(y, score) < 0.02
    assert metrics.ece(y, score**3) > 0.1
    rows = metrics.reliability(y, score)
    assert sum(r["jets"] for r in rows) == 20_000
    assert sum(r["low"] <= r["score"] <= r["high"] for r in rows) >= 8


def test_response_by_mass_and_class():
    p = sample(4000, 1)
    scaled = Predictions(p.index, p.y, p.score, p.m, (0.9 * p.m).astype(np.float32))
    rows = metrics.response(scaled, [50, 100, 150, 200, 5000, 6000])
    assert {r["class"] for r in rows} == {"all", "QCD", "top"}
    assert all(r["response"] == pytest.approx(0.9, rel=1e-5) for r in rows)
    assert all(r["resolution"] < 1e-5 and r["jets"] >= 10 for r in rows)


def test_importing_the_library_changes_no_logger():
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    try:
        logger.setLevel(logging.INFO)
        importlib.reload(predictions)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)
