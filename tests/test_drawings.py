"""Figures that only a notebook draws: each is drawn here from a few numbers."""

import importlib
import inspect
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from course import figures
from hcal.maps import LIVE
from lib.data.images import JetImages
from lib.evaluation import metrics
from lib.models.vit import R1, ViTConfig
from lib.profiles import ROOT

RNG = np.random.default_rng(0)
IMAGE = RNG.poisson(0.05, (8, 125, 125)) * 50.0
ROW = {"mean": 0.93, "low": 0.92, "high": 0.94, "difference": 0.01, "points": [0.01, 0.02]}
BARE = {"mean": 0.6, "difference": 0.02, "low": None, "high": None}
X = np.arange(1, 6)
PREDICTED = metrics.Predictions(np.arange(400), np.arange(400) % 2, RNG.random(400),
                                RNG.uniform(50, 250, 400), RNG.uniform(50, 250, 400))
RESPONSE = metrics.response(PREDICTED, [40, 120, 200, 280])
HISTORY = [{"update": u, "loss": 4.0, "val_loss": 3.9, "match": 0.1, "feature_std": 0.3,
            "probe_auc": 0.8, "neighbour_auc": 0.7, "effective_rank": 20.0, "mean_cosine": 0.8}
           for u in (10, 20)]
SPECTRUM = {"edges": [0, 1, 2, 3], "published": [5, 20, 9], "measured": [6, 21, 10],
            "error": [2, 4, 3], "pull": [0.5, 0.2, 0.3]}
CLOSURE = {"quantity": "zeros", "kind": "fitted", "published": 0.988, "measured": 0.98,
           "tolerance": "±0.003", "ok": False}
PLANE = {"plane": RNG.normal(size=(30, 2)), "auc": 0.8, "mass": 0.5, "pt": 0.1}
SQUARE = np.where(RNG.random((25, 25)) < 0.3, RNG.random((25, 25)), np.nan)

DRAWN = {
    "start.pair": ({"top": IMAGE, "QCD": IMAGE},),
    "start.channels": ({"track": IMAGE[0], "none": 0 * IMAGE[1]},),
    "start.tokens_on_image": ({"top": IMAGE, "QCD": IMAGE},),
    "start.mass_alone": (PREDICTED.m, PREDICTED.y, X, X / 9),
    "start.training": (HISTORY, 20),
    "collisions.event_stages": ({"a": [[0, 1, 9]], "b": [[1, 1, 2]]}, [[0, 3]], 0.8),
    "collisions.transverse_tracks": (((1, 0.3), (-1, 3.0)), 0.011, (4, 7, 11), 129),
    "collisions.jet_in_units": (IMAGE - 50 * (IMAGE[::-1] > 50),
                                ["GeV", "cm", "cm", "GeV", "GeV", "hits", "hits", "hits"], "a"),
    "collisions.encodings": (RNG.normal(0, 0.02, 50), abs(RNG.normal(0, 0.02, 20)), X, X),
    "collisions.closure_histograms": ({"mass": SPECTRUM, "pt": SPECTRUM},),
    "collisions.removal_spectra": ({"chs": SPECTRUM, "none": SPECTRUM},),
    "collisions.closure_channels": ([CLOSURE, dict(CLOSURE, kind="predicted", ok=True)],),
    "collisions.shifts": ([CLOSURE], {"zeros": 0.981}),
    "hcal.one_number": ({"maximum": RNG.normal(size=40)}, np.arange(40) % 2, ("a", "b")),
    "hcal.trainings": ({"a": {"seed 0": (X, X)}}, {"a": (3, 2, 1)}),
    "hcal.conditions": ({"a": {"share": X / 9}, "b": {"share": X / 9}}, {"share": X}),
    "hcal.routing": ({"bits": {"a": (X, X), "b": (X, X)}}, {"bits": (0.5, 0.1)}),
    "hcal.false_positives": ({where: {"a": X * 0, "b": X} for where in "ABCD"}, X, 1e-3),
    "hcal.attention": ({"a": (np.ones((64, 72)), np.ones((2, 8, 4)) / 32)}, (8, 18)),
    "hcal.sick_map": ({"count": np.ones((64, 72)), "score": np.ones((64, 72))}, LIVE,
                      np.zeros((64, 72), bool)),
    "attention.two_orders": (100, 16),
    "attention.spectra": ({"a": 1 / X}, {"a": X / 9}, 3),
    "attention.attention_rows": (np.nan_to_num(SQUARE), {"a": SQUARE, "b": SQUARE * 9}, (3, 4)),
    "simclr.views": ({"a jet with a long title": IMAGE, "no hits": 0 * IMAGE},),
    "simclr.monitor": (HISTORY, 4.8, {"feature_std": 0.2}, 20),
    "simclr.lengths": ({"a": (800, {"low": 0.0, "difference": 0.1, "high": 0.2})}, {"a": "A"},
                       10**6),
    "simclr.symmetry": ({"cms8": {"a": {"trees": ROW}, "b": {"transformer": BARE}}},
                        {"a": "A", "b": "B"}),
    "simclr.collapse": ({"a": {"update": X, "feature_std": X / 9, "effective_rank": X}},),
    "simclr.design": (np.eye(4) - 0.5, list("abcd")),
    "simclr.fitted": (X, X, 3.0, 1.0, X[:2]),
    "simclr.cosines": ({"before": np.eye(8), "after": -np.eye(8)},),
    "simclr.moved": ({"a": {"x": 0.1, "y": 0.2}}, {"x": "X", "y": "Y"}, {"x"}),
    "simclr.embeddings": ({"a": PLANE, "b": PLANE}, np.arange(30) % 2,
                          np.arange(30.0), np.arange(30.0)),
    "mae.reconstructions": ({"a": {"there": SQUARE, "seen": SQUARE}}, "GeV"),
    "mae.masks": (SQUARE > 0.5, {"all": SQUARE > 0.8, "active": SQUARE > 0.7}),
    "mae.losses": ({"own": ([dict(row, val_zero=5.0, val_mean=4.5) for row in HISTORY], "val_"),
                    "square": ([dict(row, val_mse=0.1, val_mse_zero=0.2) for row in HISTORY],
                               "val_mse")},),
    "mae.probe_curves": ({"a": HISTORY}, {"random": {"probe_auc": 0.7}}),
    "jepa.flow": (),
    "jepa.watch": ({"a": [dict(row, val_mean=0.4) for row in HISTORY]}, {"probe_auc": 0.7}),
    "jepa.pair": (JetImages.from_dense(IMAGE[None, :3].repeat(4, 0), "gev",
                                       labels=np.arange(4) % 2), np.arange(4)),
    "jepa.probed": ({n: {"auc": ROW} for n in ("jepa_linear", "random_linear", "trees_known")},
                    {"linear": [0.6, 0.7]}, {"linear": "linear"}),
    "jepa.varied": ([{"a": f"own_{k}", "b": f"block_{k}", **ROW} for k in ("linear", "attentive")],
                    ["block", "own"]),
    "jepa.planes": ({"a": PLANE, "b": PLANE}, np.arange(30) % 2),
    "finetune.chance": (np.repeat(np.arange(-50, 51), 3) / 2000, 2000, {"+1.5 points": 0.015},
                        {"form": (X / 100, X)}, {"+1.5 points": (X / 100, X / 9)},
                        {"seeds": (0.04, {"+1.5 points": 0.0})}, {"independent": 0.18}),
    "finetune.calibration": ({"a": metrics.reliability(PREDICTED.y, PREDICTED.score)},),
    "inference.times": ([{"name": "a", "median_1": 1.0, "p99_1": 2.0},
                         {"name": "b", "median_1": 9.0, "p99_1": 12.0}],),
    "inference.looks": ({"track pT": 0.6, "ECAL": 0.4}, {"track pT": 0.5, "ECAL": 0.5}, X / 9,
                        {"energy": X[:4] / 10}, {"at random": (X / 10, X)}),
    "comparison.differences": ({"a": {"auc": ROW, "mae": ROW}, "b": {"auc": ROW}},
                               {"auc": "AUC", "mae": "mass MAE (GeV)"}),
    "comparison.scales": (RNG.integers(0, 3, (25, 25)), np.arange(25).reshape(5, 5) < 5),
    "comparison.pareto": ({"near": dict(ROW, gflop=0.1, ratio=50),
                           "far": dict(BARE, gflop=20, ratio=1)}, {"trees": ROW}),
    "comparison.trade": ({"a": {"mirrors": (0.95, 18.0), "turned": (0.96, 15.0)}},
                         {"auc": 0.003, "mass_mae": 0.3}),
    "comparison.clocks": ({"a": {"loss": ([1, 2], [0.3, 0.2])}}, {"loss": "loss of the class"}),
    "comparison.growth": ({"a": {"b": [{"tokens": 64, "seconds": 0.1},
                                       {"tokens": 128, "seconds": 0.3}]}}, {"jets": (70, 90)}),
    "comparison.shifts": ({"a": {"dead": {"auc": ROW, "mass": BARE}}},),
    "finetune.labelled": ({"a": {"100": {"auc": ROW}, "all": {"auc": ROW, "mass_mae": ROW}},
                             "b": {"100": {"auc": BARE}}}, {"100": 100, "all": 6000},
                            {"auc": "AUC", "mass_mae": "mass MAE (GeV)"}),
}


@pytest.fixture
def drawings(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    yield lambda name: importlib.import_module(f"drawings.{name}")
    plt.close("all")
    for name in [name for name in sys.modules if name.split(".")[0] == "drawings"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", DRAWN)
def test_every_drawing_is_drawn(drawings, name):
    module, function = name.split(".")
    fig = getattr(drawings(module), function)(*DRAWN[name])
    fig = getattr(fig, "flat", [fig])[0].figure
    fig.draw_without_rendering()
    assert any(ax.get_xlabel() or ax.texts for ax in fig.axes) or name == "simclr.views"


@pytest.mark.parametrize(("name", "given"), [
    ("confusions", ({"a": np.array([[40, 3], [5, 39]]), "b": np.eye(2)},)),
    ("scatters", ({"a": (PREDICTED.m, PREDICTED.m_hat), "b": (X, X)},)),
    ("response", ({"a": RESPONSE, "b": RESPONSE},)),
    ("learning_curves", ({"a": (X, X / 9), "b": (X[:2], X[:2])}, "AUC", {"a": 2}))])
def test_pictures_of_answers_are_drawn(name, given):
    fig = getattr(figures, name)(*given)
    fig.draw_without_rendering()
    assert all(ax.get_xlabel() for ax in fig.axes if ax.get_label() != "<colorbar>"
               and ax.get_subplotspec().is_last_row())
    plt.close(fig)


def test_no_drawing_is_left_out(drawings):
    for path in (ROOT / "notebooks/drawings").glob("[a-z]*.py"):
        if path.stem in ("hcal", "diagrams"):
            continue  # drawn in test_notebook_hcal and below
        module = drawings(path.stem)
        functions = {f"{path.stem}.{name}" for name, found in vars(module).items()
                     if getattr(found, "__module__", "") == module.__name__}
        # What makes a table or a sentence, and not a figure, is seen in the executed notebook.
        assert {name for name in functions if re.search(
            r"plots\.|blank\(", inspect.getsource(getattr(module, name.split(".")[1])))
        } - {"collisions.grow", "mae.square_root"} <= set(DRAWN)


def test_tables_of_latency_have_a_line_a_model(drawings):
    names = ("median_1", "p90_1", "p99_1", "median_32", "start_ms", "size_mb", "memory_mb")
    rows = [{"name": n, **dict.fromkeys(names, t)} for n, t in (
        ("ours, image", 2.0), ("ours, tokens", 3.0), ("ours, softmax", 4.0), ("ResNet-15", 5.0),
        ("R1, dense", 6.0))]
    table = drawings("inference").table(rows)
    assert "| ours, softmax | 4.00 | 4.00 | 4.00 | 2.00 | 0.12 | 4 | 4.00 | 4 |" in table
    assert "The prediction was right." in drawings("inference").order(rows)
    assert "wrong in part" in drawings("inference").order([{**rows[0], "median_1": 9.0}, *rows[1:]])


def test_diagrams_are_drawn_from_the_settings(drawings):
    for config in (ViTConfig(dim=96, depth=3, heads=3), ViTConfig(**R1)):
        for draw in (drawings("diagrams").block_diagram,
                     lambda config: drawings("diagrams").model_diagram(config, 1_000)):
            assert draw(config).axes[0].texts


def test_counts_of_labels_fill_the_axis(drawings):
    rows, labels, panels = DRAWN["finetune.labelled"]
    for value in ("mean", "difference"):
        low, high = drawings("finetune").labelled(rows, labels, panels, value).axes[0].get_xlim()
        assert 60 < low < 100
        assert 6000 < high < 10_000


def test_differences_have_a_panel_for_each_metric(drawings):
    fig = drawings("comparison").differences(*DRAWN["comparison.differences"])
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["a", "b"]
    assert [ax.get_xlabel() for ax in fig.axes] == ["AUC", "mass MAE (GeV)"]


def test_far_systems_are_arrows_with_their_number(drawings):
    ax = drawings("comparison").pareto(*DRAWN["comparison.pareto"]).axes[0]
    assert "0.60" in ax.texts[0].get_text()
    assert ax.get_ylim()[0] > 0.8


def test_the_chance_figure_leaves_rare_claims_out_and_bins_evenly(drawings):
    left, right = drawings("finetune").chance(*DRAWN["finetune.chance"]).axes
    heights = [bar.get_height() for bar in left.patches]
    assert np.ptp(heights[:-1]) < 1e-9 * max(heights)
    assert right.get_ylim()[0] > 0


def test_training_shows_what_the_history_holds(drawings):
    history = [{"update": u, "loss": 1 / u, "val_loss": 1 / u, "val_auc": 1 - 1 / u}
               for u in range(1, 5)]
    fig = drawings("start").training(history, best=3)
    assert [ax.get_ylabel() for ax in fig.axes if ax.get_visible()] == ["total loss", "AUC"]
