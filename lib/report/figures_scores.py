"""Figures of first steps and of scores (notebooks 00 and 07), from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lib.report.style import CYCLE, GREY, LINES, QCD, TOP, array, new


def tokens_on_image(images: Mapping[str, Any], patch: int = 5) -> Figure:
    """Images (C, H, W), summed over channels, a panel each; patches that hold nothing are grey.

    The patches left in colour are the tokens that a model gets.
    """
    fig, axes = new(1, len(images), 2.9, sharex=True, sharey=True)
    for ax, (name, image) in zip(axes.flat, images.items(), strict=True):
        total = array(image).sum(0)
        rows, columns = total.shape[0] // patch, total.shape[1] // patch
        active = total.reshape(rows, patch, columns, patch).any((1, 3))
        edges = np.arange(columns + 1) * patch, np.arange(rows + 1) * patch
        ax.pcolormesh(*edges, np.ma.masked_where(active, np.ones_like(active, float)),
                      cmap="Greys", vmin=0, vmax=3, edgecolors="w", linewidth=0.3, rasterized=True)
        shown = ax.pcolormesh(np.arange(total.shape[1] + 1), np.arange(total.shape[0] + 1),
                              np.ma.masked_equal(total, 0), norm=LogNorm(1, max(total.max(), 2)),
                              rasterized=True)
        ax.set_title(f"{name}: {active.sum()} of {active.size} patches")
        ax.set_aspect("equal")
        ax.set_xlabel(r"pixel along $\phi$")
    axes[0, 0].set_ylabel(r"pixel along $\eta$")
    fig.colorbar(shown, ax=axes, label="sum over channels", shrink=0.9)
    return fig


def mass_alone(mass: Any, label: Any, grid: Any, probability: Any) -> Figure:
    """Spectra of the jet mass by class and, below, P(top) at masses ``grid`` (GeV)."""
    mass, label = array(mass), array(label)
    fig, axes = new(2, 1, 3.6, width=4.6, sharex=True)
    edges = np.linspace(30, 330, 51)
    for number, (name, colour) in enumerate({"QCD": QCD, "top": TOP}.items()):
        heights = np.histogram(mass[label == number], edges, density=True)[0]
        axes[0, 0].stairs(heights, edges, color=colour, ls=LINES[number], lw=1.4, label=name)
    axes[0, 0].set_ylabel("density (1 / GeV)")
    axes[0, 0].legend()
    axes[1, 0].step(array(grid), array(probability), where="mid", color=CYCLE[2])
    axes[1, 0].axhline(0.5, color=GREY, lw=0.8, ls="--")
    axes[1, 0].set_ylim(0, 1)
    axes[1, 0].set_ylabel("P(top | mass)")
    axes[1, 0].set_xlabel("jet mass (GeV)")
    return fig


def reliability(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Observed fraction of tops against mean score: rows as ``metrics.reliability`` gives."""
    fig, ((ax,),) = new(1, 1, 3.2, width=4.2)
    ax.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    markers = "os^Dv"
    for number, (name, rows) in enumerate(curves.items()):
        x, y, low, high = (np.array([r[k] for r in rows])
                           for k in ("score", "fraction", "low", "high"))
        ax.errorbar(x, y, [np.maximum(y - low, 0), np.maximum(high - y, 0)], fmt=markers[number],
                    ls=LINES[number], lw=1, ms=4, color=CYCLE[number], label=name)
    ax.set_xlabel("score: probability of top, as stated")
    ax.set_ylabel("fraction of tops, as observed")
    ax.legend()
    return fig


def bootstrap(values: Any, low: float, high: float, xlabel: str) -> Figure:
    """Histogram of a metric over resamples, with the ends of its 95 % interval."""
    fig, ((ax,),) = new(1, 1, 2.3, width=4.6)
    ax.hist(array(values), 40, color=CYCLE[0], alpha=0.7)
    for edge in (low, high):
        ax.axvline(edge, color=CYCLE[1], ls="--")
    ax.set_xlabel(xlabel)
    ax.set_ylabel("resamples")
    return fig
