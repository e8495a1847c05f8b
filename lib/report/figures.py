"""Every figure of the course, drawn from plain arrays; each function returns a ``Figure``.

A notebook writes ``figures.style()`` once, then ``figures.save(figures.roc(...), "07_roc",
profile)``. Figures of jets are in ``figures_jets``, diagrams of the model in ``figures_model``;
all of them are reached from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lib.report import style as _style
from lib.report.figures_jets import (
    CHANNELS,
    closure_channels,
    closure_histograms,
    counts,
    jet_image,
    mean_images,
    sparsity,
)
from lib.report.figures_model import block_diagram, model_diagram
from lib.report.style import CYCLE, GREY, LINES, QCD, TOP, array, new, save

__all__ = [
    "CHANNELS", "block_diagram", "closure_channels", "closure_histograms", "confusion", "counts",
    "differences", "jet_image", "mean_images", "model_diagram", "new", "predicted_mass",
    "response", "roc", "save", "score_histogram", "sparsity", "style", "training_curves",
]


def style(dpi: int | None = None) -> None:
    """As ``style.style``; until every notebook uses ``plots``."""
    _style.style()


def roc(curves: Mapping[str, Mapping[str, Any]], auc: Mapping[str, str] | None = None) -> Figure:
    """Background rejection against signal efficiency, with 95 % bands.

    Args:
        curves: name → ``{signal, background, low, high}`` as ``metrics.roc`` gives them
            (efficiencies); the band is optional.
        auc: name → text for the legend, e.g. ``"AUC 0.931 [0.926, 0.936]"``.
    """
    fig, ((ax,),) = new(1, 1, 3.2, width=4.6)
    lowest = 1.0
    for number, (name, curve) in enumerate(curves.items()):
        signal, background = array(curve["signal"]), array(curve["background"])
        keep = background > 0
        label = f"{name}, {auc[name]}" if auc and name in auc else name
        colour = CYCLE[number % len(CYCLE)]
        ax.plot(signal[keep], 1 / background[keep], LINES[number % len(LINES)], color=colour,
                label=label)
        lowest = min(lowest, background[keep & (signal >= 0.15)].min(initial=1.0))
        if "low" in curve:
            floor = np.maximum(array(curve["low"]), 1e-6)
            ax.fill_between(signal, 1 / floor, 1 / np.maximum(array(curve["high"]), 1e-6),
                            color=colour, alpha=0.2, lw=0)
    line = np.linspace(0.01, 1, 100)
    ax.plot(line, 1 / line, color=GREY, lw=0.8, ls=":", label="chance")
    ax.set_yscale("log")
    ax.set_xlim(0.1, 1)
    ax.set_ylim(0.9, 2.5 / lowest)
    ax.set_xlabel("signal efficiency (top)")
    ax.set_ylabel("background rejection (1 / QCD efficiency)")
    ax.legend()
    return fig


def confusion(counts: Any, names: Sequence[str] = ("QCD", "top"), title: str = "") -> Figure:
    """Confusion matrix (2, 2) of numbers of jets: rows truth, columns prediction."""
    counts = array(counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    fig, ((ax,),) = new(1, 1, 2.5, width=3.0)
    ax.imshow(share, vmin=0, vmax=1)
    for row in range(len(counts)):
        for column in range(len(counts)):
            ax.text(column, row, f"{counts[row, column]:,}\n{share[row, column]:.1%}",
                    ha="center", va="center", color="k" if share[row, column] > 0.5 else "w")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if title:
        ax.set_title(title)
    return fig


def predicted_mass(
    m: Any, m_hat: Any, y: Any | None = None, names: Sequence[str] = ("QCD", "top"),
    limits: tuple[float, float] = (0.0, 400.0),
) -> Figure:
    """Predicted against true jet mass (GeV), a panel a class where labels are given."""
    m, m_hat = array(m), array(m_hat)
    groups = {"all jets": np.ones(len(m), bool)} if y is None else {
        name: array(y) == number for number, name in enumerate(names)
    }
    edges = np.linspace(*limits, 61)
    images = [np.histogram2d(m[keep], m_hat[keep], edges)[0].T for keep in groups.values()]
    highest = max(max(image.max() for image in images), 2)
    fig, axes = new(1, len(groups), 2.9, width=3.0 * len(groups) + 0.6, sharey=True)
    for ax, name, image in zip(axes.flat, groups, images):
        shown = ax.pcolormesh(edges, edges, np.ma.masked_equal(image, 0), norm=LogNorm(1, highest),
                              rasterized=True)
        ax.plot(limits, limits, color=GREY, lw=0.8, ls="--")
        ax.set_title(name)
        ax.set_xlabel("true jet mass (GeV)")
        ax.set_aspect("equal")
    axes[0, 0].set_ylabel("predicted jet mass (GeV)")
    fig.colorbar(shown, ax=axes, label="jets / bin", shrink=0.9)
    return fig


def training_curves(history: Sequence[Mapping[str, float]], best: int | None = None) -> Figure:
    """Losses on training and validation jets, and the validation metrics, against updates.

    Args:
        history: rows with ``update``, ``loss``, ``val_loss`` and, where known, ``class``,
            ``mass``, ``val_class``, ``val_mass``, ``val_auc``, ``val_mae`` (GeV).
        best: the update whose weights were kept.
    """
    def curve(name: str) -> tuple[list[float], list[float]]:
        rows = [(row["update"], row[name]) for row in history if row.get(name) is not None]
        return [r[0] for r in rows], [r[1] for r in rows]

    parts = [p for p in ("loss", "class", "mass") if curve(p)[0]]
    others = {"val_auc": "AUC", "val_mae": "mass MAE (GeV)"}
    others = {k: v for k, v in others.items() if curve(k)[0]}
    titles = {"loss": "total loss", "class": "class loss", "mass": "mass loss"}
    count = len(parts) + len(others)
    dots = "." if len(history) < 20 else ""
    columns = min(3, count)
    rows = -(-count // columns)
    fig, axes = new(rows, columns, 2.0 * rows, sharex=True)
    for ax, part in zip(axes.flat, parts):
        ax.plot(*curve(part), f"{dots}-", color=CYCLE[0], label="training")
        if curve(f"val_{part}")[0]:
            ax.plot(*curve(f"val_{part}"), f"{dots}--", color=CYCLE[1], label="validation")
        ax.set_ylabel(titles[part])
        ax.legend()
    for ax, (name, label) in zip(axes.flat[len(parts):], others.items()):
        ax.plot(*curve(name), f"{dots}--", color=CYCLE[1])
        ax.set_ylabel(label)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    for ax in axes.flat[:count]:
        if best is not None:
            ax.axvline(best, color=GREY, lw=0.8, ls=":")
    for ax in axes.flat[max(0, count - columns):count]:
        ax.set_xlabel("update")
        ax.tick_params(labelbottom=True)
    return fig


def response(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Response and resolution of the mass in bins of the true mass, by class.

    Args:
        rows: ``{class, low, high, response, error, resolution}`` as ``metrics.response`` gives.
    """
    fig, axes = new(1, 2, 2.6, sharex=True)
    looks = {"all": ("s", GREY), "QCD": ("o", QCD), "top": ("^", TOP)}
    for name in dict.fromkeys(row["class"] for row in rows):
        chosen = [row for row in rows if row["class"] == name]
        marker, colour = looks.get(name, ("o", None))
        x = np.array([(row["low"] + row["high"]) / 2 for row in chosen])
        half = np.array([(row["high"] - row["low"]) / 2 for row in chosen])
        common = dict(fmt=marker, ms=4, lw=1, color=colour, label=name)
        axes[0, 0].errorbar(x, [r["response"] for r in chosen], [r["error"] for r in chosen], half,
                            **common)
        axes[0, 1].errorbar(x, [100 * r["resolution"] for r in chosen], None, half, **common)
    axes[0, 0].axhline(1, color=GREY, lw=0.8, ls="--")
    axes[0, 0].set_ylabel("median of predicted / true mass")
    axes[0, 1].set_ylabel("resolution (%)")
    axes[0, 1].set_ylim(0, 110 * max(row["resolution"] for row in rows))
    axes[0, 0].legend()
    for ax in axes.flat:
        ax.set_xlabel("true jet mass (GeV)")
    return fig


def score_histogram(y: Any, score: Any, names: Sequence[str] = ("QCD", "top")) -> Figure:
    """Distribution of the score of each class."""
    fig, ((ax,),) = new(1, 1, 2.5, width=4.6)
    edges = np.linspace(0, 1, 41)
    for number, (name, colour) in enumerate(zip(names, (QCD, TOP))):
        heights = np.histogram(array(score)[array(y) == number], edges, density=True)[0]
        ax.stairs(heights, edges, color=colour, ls=LINES[number], label=name, lw=1.4)
    ax.set_xlabel("score: probability of top")
    ax.set_ylabel("density")
    ax.set_yscale("log")
    ax.legend()
    return fig


def differences(rows: Mapping[str, Mapping[str, float]], xlabel: str) -> Figure:
    """Differences with 95 % intervals, a row each; the points of single seeds where given.

    Args:
        rows: label → ``{difference, low, high[, points]}`` as ``Experiment.compare`` gives.
    """
    fig, ((ax,),) = new(1, 1, 0.3 * len(rows) + 0.8, width=4.6)
    for y, row in enumerate(reversed(rows.values())):
        ax.plot([row["low"], row["high"]], [y, y], "-", color=CYCLE[0])
        ax.plot(row["difference"], y, "o", color=CYCLE[0], ms=5)
        points = row.get("points") or []
        if len(points) > 1:
            ax.plot(points, [y + 0.2] * len(points), "|", color=GREY, ms=6)
    ax.axvline(0, color=GREY, lw=0.8, ls="--")
    ax.set_yticks(range(len(rows)), list(reversed(rows)))
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(xlabel)
    return fig
