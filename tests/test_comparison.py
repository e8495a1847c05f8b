"""What notebook 08 and its readers rely on: costs, ranks, figures, missing grids."""

import math

import jetfiles
import numpy as np
import pytest

from lib import profiles
from lib.data.jets import JetImages
from lib.report import figures_comparison, results
from lib.tools import bench
from lib.training.metrics import Predictions, auc, decorrelate


@pytest.fixture(scope="module")
def jets():
    few = jetfiles.cms(8, density=0.004)
    mass = np.linspace(80, 200, 8)
    return JetImages.from_dense(few, channels_last=True, labels=np.arange(8) % 2, mass=mass)


def test_operations_of_softmax_attention_and_of_convolutions_are_counted(jets):
    """One block of softmax: 6 operations a weight and token, 12 N²D for the attention; its
    depthwise convolutions: 6 operations a weight and cell."""
    bare = dict(dim=16, heads=2, attention="softmax", position="none", lcm_kernel=0, pool="mean",
                patch_energy=False, summary=False)

    def step(**more):
        batch = jets.batch(range(4))
        return bench.Step(bench.Arm("", {**bare, **more}, "float32", 4), jets.grid, batch)

    one, two, local = step(depth=1), step(depth=2), step(depth=1, lcm_kernel=3)
    tokens = one.batch.tokens.valid.shape[1]
    block = 6 * tokens * (two.parameters - one.parameters) + 12 * tokens**2 * 16
    assert two.flops() - one.flops() == pytest.approx(block, rel=0.05)  # biases and norms aside
    assert local.flops() - one.flops() == pytest.approx(6 * 2 * 625 * 9 * 16, rel=0.05)


def test_the_benchmark_takes_chosen_models(jets):
    model = dict(dim=16, depth=1, heads=2)
    chosen = [bench.Arm("one", model, "float32", 4),
              bench.Arm("all", {**model, "tokens": "all"}, "float32", 4)]
    found = bench.measure(profiles.get("smoke"), 1, False, jets, chosen)["rows"]
    assert [row["name"] for row in found] == ["one", "all"]
    assert found[0]["ratio"] == 1
    assert found[1]["tokens"] == 625
    assert found[0]["gflop"] < found[1]["gflop"]
    assert math.isfinite(found[1]["ratio"])


def test_a_rank_among_no_background_is_no_evidence():
    """Where a bin of mass holds no QCD jet, tops are neither likely nor unlikely."""
    rng = np.random.default_rng(0)
    mass = np.concatenate([rng.uniform(50, 100, 500), rng.uniform(100, 200, 500)])
    y = (mass > 100).astype(int)  # light jets are QCD, heavy ones tops, without exception
    p = Predictions(np.arange(1000), y, rng.random(1000).astype("f4"), mass)
    ranked = decorrelate(p)
    assert (ranked.score[y == 1] == 0.5).all()
    assert auc(y, ranked.score) == pytest.approx(0.5, abs=0.05)


def test_a_missing_grid_names_its_flag(monkeypatch, tmp_path):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    with pytest.raises(results.ResultsError, match="--grids --only 08"):
        results.load("08_comparison_grid", profiles.get("laptop"))


def test_figures_of_the_comparison_hold_what_they_are_given():
    row = dict(difference=-0.01, low=-0.02, high=0.0, points=[-0.01, -0.02])
    bare = dict(difference=0.01, low=None, high=None)
    fig = figures_comparison.ingredients({"a": {"auc": row, "mae": row}, "b": {"auc": bare}},
                                         {"auc": "AUC", "mae": "mass (GeV)"})
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["b", "a"]
    value = dict(mean=0.93, low=0.92, high=0.94, gflop=0.1, ratio=50)
    far = dict(value, mean=0.6, low=None, high=None, gflop=20, ratio=1)
    fig = figures_comparison.pareto({"near": value, "far": far}, {"trees": value})
    assert "0.60" in fig.axes[0].texts[0].get_text()  # an arrow, with the number beside it
    assert fig.axes[0].get_ylim()[0] > 0.8
    figures_comparison.beyond_mass({"a": {"all": value, "window": far}})
    figures_comparison.shifts({"a": {"dead": {"auc": row, "mass": bare}}})
    kind = np.zeros((25, 25), int)
    kind[:3], kind[10] = 1, 2
    fig = figures_comparison.scales(kind, np.arange(25).reshape(5, 5) < 5)
    assert "two scales: 30 tokens" in fig.axes[1].get_title()
