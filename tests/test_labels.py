"""Linear rivals with few labels; a change of the calorimeters' response."""

import numpy as np

from lib.data.augment import ECAL, HCAL, recalibrated
from lib.data.images import JetImages
from lib.data.views import transformed
from lib.models.baselines import Linear


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
