"""Label efficiency: the arms of the grid, labels needed, rivals and figures."""

import math

import notebook_code
import numpy as np
import pytest
from scipy import stats

from lib import profiles
from lib.data.augment import ECAL, HCAL, recalibrated
from lib.data.images import JetImages
from lib.data.views import transformed
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.models.baselines import Linear
from lib.training.recipe import recipe

shown = notebook_code.shown("08", (
    "judged", "by_system", "over_groups", "drawn", "needed", "LABELS", "FEW", "label_seeds",
    "label_arms"), np=np, metrics=metrics, stats=stats, recipe=recipe)
judged, by_system, over_groups, needed = (
    shown[name] for name in ("judged", "by_system", "over_groups", "needed"))


def arms_of(profile):
    start = {name: {s: f"runs/{name}-{s}" for s in profile.seeds} for name in ("simclr", "mae")}
    return shown["label_arms"](profile, start)


@pytest.mark.parametrize("name", profiles.NAMES)
def test_arms_with_equal_labels_differ_in_their_start_only(name):
    profile = profiles.get(name)
    arms = arms_of(profile)
    assert arms["scratch_all"] == recipe("scratch", profile)  # so that notebook 07 has made it
    for arm, found in arms.items():
        system, _, count = arm.rpartition("_")
        assert found.but(start=None, frozen=False) == arms[f"scratch_{count}"], arm
        assert found.frozen == system.endswith("frozen")
        if found.start:  # every seed has a pretraining, in turn
            seeds = shown["label_seeds"](profile, found.labels)
            assert set(map(str, seeds)) <= set(found.start)
            of = [found.start[str(s)] for s in seeds]
            assert of[0] == of[-1 - len(profile.seeds) + 1] or len(of) == len(profile.seeds)


def test_labels_needed_are_read_off_between_the_counts():
    curve = {100: [0.80], 1000: [0.90], 10_000: [0.92]}
    assert needed(curve, [0.85])["value"] == pytest.approx(10**2.5)
    assert needed(curve, [0.7])["value"] == pytest.approx(100)  # so many or fewer
    assert math.isinf(needed(curve, [0.95])["high"])
    scattered = {100: [0.79, 0.81, 0.80], 1000: [0.89, 0.91, 0.90], 10_000: [0.92] * 3}
    found = needed(scattered, [0.849, 0.850, 0.851])
    assert 100 <= found["low"] < found["value"] < found["high"] < 10_000
    wider = needed({k: [2 * x - np.mean(v) for x in v] for k, v in scattered.items()}, [0.85])
    assert wider["high"] > found["high"]


def test_systems_are_judged_against_one_of_them_in_what_both_have():
    rng = np.random.default_rng(0)
    y, m = np.arange(200) % 2, rng.uniform(80, 200, 200)
    good = [Predictions(np.arange(200), y, (y + rng.normal(size=200)) / 4, m, m + 1)
            for _ in range(3)]
    bad = [Predictions(np.arange(200), y, rng.random(200), m) for _ in range(3)]
    own, gains = judged({"scratch": bad, "other": good}, "scratch")
    assert own["scratch"].keys() == {"auc"}
    assert own["other"].keys() == {"auc", "mass_mae"}
    assert gains.keys() == {"other"}
    assert gains["other"]["auc"]["low"] > 0


def test_seeds_that_share_a_pretraining_are_one_measurement():
    points = [0.01, 0.02, 0.06] * 3  # three pretrainings, and the labels make no difference
    alone, shared = over_groups(points[:3], 3), over_groups(points, 3)
    assert shared == pytest.approx(alone)
    assert shared["low"] < 0 < shared["mean"] == pytest.approx(0.03)
    assert over_groups(points[:3], 1)["low"] is None


def test_rows_by_count_become_rows_by_system():
    found = by_system({"100": {"a": 1, "b": 2}, "300": {"a": 3}})
    assert found == {"a": {"100": 1, "300": 3}, "b": {"100": 2}}


def test_linear_rivals_learn_from_few_jets():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 60))
    label = (x[:, 0] + 0.5 * rng.normal(size=400) > 0).astype(int)
    mass = 100 + 20 * x[:, 1]
    score, m_hat = Linear().fit(x[:100], label[:100], mass[:100]).predict(x[100:])
    assert np.mean((score > 0.5) == label[100:]) > 0.6
    assert np.abs(m_hat - mass[100:]).mean() < 10
    assert Linear().fit(x[:100], label[:100]).predict(x[100:])[1] is None


def test_a_miscalibration_is_the_same_for_all_jets_and_touches_energies_only():
    image = np.zeros((2, 8, 125, 125), np.float32)
    image[:, :, 20:30, 40:50] = 8.0
    jets = JetImages.from_dense(image, "gev", labels=[0, 1])
    factors = np.random.default_rng(3).normal(1, 0.2, (2, 25, 25)).clip(0.05)
    after = transformed(jets, recalibrated(factors)).dense([0, 1]).numpy()
    assert np.array_equal(after[0], after[1])
    others = [c for c in range(8) if c not in (ECAL, HCAL)]
    assert np.array_equal(after[:, others], image[:, others])
    ecal = after[0, ECAL]
    assert len(np.unique(ecal[20:25, 40:45])) == 1  # one tower, one factor
    assert len(np.unique(ecal[20:30, 40:50])) == 4
    assert not np.allclose(ecal, after[0, HCAL])
