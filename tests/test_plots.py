"""The primitives that figures are drawn from, and how figures are saved."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from course import figures
from lib import profiles
from lib.cms import PIXEL
from lib.report import plots
from lib.report import plots as looks

X = np.arange(1.0, 6.0)
ROW = {"difference": -0.01, "low": -0.02, "high": 0.0, "points": [-0.01, -0.02]}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_lines_have_names_looks_and_bands():
    ax = plots.lines({"a": (X, X), "b": (X, torch.tensor(X), X - 1, X + 1)}, "x", "y", log="x")
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("x", "y", "log")
    a, b = ax.lines
    assert (a.get_color(), a.get_linestyle()) != (b.get_color(), b.get_linestyle())
    assert len(ax.collections) == 1  # the band of b
    assert [text.get_text() for text in ax.get_legend().texts] == ["a", "b"]
    ax = plots.lines({"b": (X, X, X - 1, X + 1)}, bars=True, marks=True)
    assert len(ax.containers) == 1


def test_primitives_draw_on_the_axes_they_are_given():
    _, ((first, second),) = plots.new(1, 2)
    assert plots.lines({"a": (X, X)}, ax=first) is first
    assert plots.intervals({"": {"a": 1.0}}, ax=second) is second
    assert plots.images({"a": np.ones((2, 2))}, ax=first)[0] is first


def test_intervals_go_from_the_top_and_keep_a_place_for_what_is_missing():
    ax = plots.intervals({"one": {"a": ROW, "b": None}, "two": {"b": 0.5, "c": ROW}}, "AUC")
    assert labels(ax.yaxis) == ["a", "b", "c"]
    low, high = ax.get_ylim()
    assert low > high
    assert ax.get_xlabel() == "AUC"
    ax = plots.intervals({"": {"a": ROW}})
    points = ax.lines[-2]  # the dashed line of zero comes last
    assert points.get_marker() == "|"
    assert sorted(points.get_xdata()) == [-0.02, -0.01]
    ax = plots.intervals({"one": {"a": {"mean": 1.0, "low": None, "high": None}}}, "AUC",
                         value="mean", vertical=True)
    assert (labels(ax.xaxis), ax.get_ylabel()) == (["a"], "AUC")


def test_histograms_share_their_bins_and_are_densities():
    ax = plots.histograms({"a": [0, 0.2, 0.9], "b": [0.5] * 50}, "x", bins=np.linspace(0, 1, 5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "density")
    heights = [line.get_ydata()[:4].sum() for line in ax.lines]
    assert heights == pytest.approx([4, 4])  # of four bins of a quarter


@pytest.mark.parametrize("empty", [False, True])
def test_eta_points_up_and_phi_to_the_right_in_angles(empty):
    image = np.zeros((125, 125))
    image[0, 124] = 0 if empty else 5
    (ax,) = plots.images({"a jet": image}, "GeV").flat
    half = 125 * PIXEL / 2
    assert ax.get_xlim() == pytest.approx((-half, half))
    assert ax.get_ylim() == pytest.approx((-half, half))  # upwards
    assert ax.images[0].origin == "lower"
    assert ("phi" in ax.get_xlabel(), "eta" in ax.get_ylabel()) == (True, True)


def test_maps_begin_at_the_bottom_and_name_their_kinds():
    values = np.arange(6).reshape(2, 3) % 2
    axes = plots.grid_map({"a": values, "b": values}, kinds={"empty": "w", "filled": "b"})
    for ax in axes.flat:
        assert (ax.get_xlim(), ax.get_ylim()) == ((0, 3), (0, 2))
    fig = axes.flat[0].figure
    assert [text.get_text() for text in fig.legends[0].texts] == ["empty", "filled"]
    axes = plots.grid_map({"a": np.array([[1.0, np.nan]])}, "counts")
    assert axes.flat[0].figure.axes[-1].get_ylabel() == "counts"


def test_a_matrix_has_its_first_row_on_top():
    ax = plots.matrix(np.eye(2), ["QCD", "top"], text=np.array([["1", "2"], ["3", "4"]]))
    assert labels(ax.xaxis) == labels(ax.yaxis) == ["QCD", "top"]
    low, high = ax.get_ylim()
    assert low > high
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3", "4"]


def test_roc_draws_rejection_with_its_band():
    rate = np.linspace(0, 1, 11)
    ax = figures.roc({"a": {"signal": rate, "background": rate**2, "low": rate**2 / 2,
                            "high": rate**2 * 2}}, {"a": "AUC 0.7"})
    assert ax.get_yscale() == "log"
    assert ax.lines[0].get_ydata()[-2] == pytest.approx(1 / 0.81)
    assert len(ax.collections) == 1
    assert [text.get_text() for text in ax.get_legend().texts] == ["a, AUC 0.7", "chance"]


def test_a_notebook_shows_figures_wide_enough():
    for fig in (plots.new(1, 1, width=4.6)[0], plots.new(2, 4)[0], plots.new(1, 1)[0]):
        for ax in fig.axes:
            ax.plot([0, 1])
        dpi = looks.shown_dpi(fig)
        assert dpi >= 110
        assert dpi * fig.get_tightbbox().width >= 700
        assert all(dpi * fig.get_figwidth() * ax.get_position().width >= 200 for ax in fig.axes)


def test_figures_are_saved_small_and_the_same_each_time(monkeypatch, tmp_path):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    profile = profiles.get("smoke")
    image = np.random.default_rng(0).poisson(0.02, (125, 125))
    for drawn in (plots.images({"a": image})[0, 0], plots.lines({"a": (X, X)}).figure):
        path = plots.save(drawn, "figure", profile)
        pair = [path, path.with_suffix(".pdf")]
        assert all(p.stat().st_size <= looks.LIMIT for p in pair)
        before = [p.read_bytes() for p in pair]
        plots.save(drawn, "figure", profile)
        assert before == [p.read_bytes() for p in pair]
