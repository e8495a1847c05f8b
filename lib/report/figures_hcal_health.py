"""Figures of sick channels (notebook 09): scores on a map, errors by strength, adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lib.report.figures_hcal import _map, _masked
from lib.report.style import CYCLE, GREY, LINES, VERMILION, array, new

MARKS = "osD^vP"
BANDS = ((3, 13), (50, 60))  # rows with live cells
KINDS = {"dead": "x", "degraded": "o", "hot": "^"}


def _rings(image: Any, live: Any) -> np.ndarray:
    """The two bands of live rows above each other with a gap: (24, 72)."""
    image = array(_masked(image, live).filled(np.nan))
    low, high = (image[a:b + 1] for a, b in BANDS)
    return np.ma.masked_invalid(np.concatenate([low, np.full((2, image.shape[1]), np.nan), high]))


def _band_axis(ax: Any, labelled: bool) -> None:
    rows = (0, 5, 10, 13, 18, 23)
    names = ("−29", "−24", "−19", "19", "24", "29")
    ax.set_yticks(rows, names if labelled else [])
    ax.set_ylabel("ieta" if labelled else "")


def sick_map(ratio: Any, scores: Mapping[str, Any], strength: Any, live: Any) -> Figure:
    """One lumi-section with faults: count over the ring's median, and scores; true faults ringed.

    Args:
        ratio: (64, 72). scores: method -> (64, 72). strength: (64, 72), 1 where healthy.
    """
    fig, axes = new(len(scores) + 1, 1, 1.25 * (len(scores) + 1) + 0.3, sharex=True)
    sick = array(strength) != 1
    for ax, (name, image) in zip(axes.flat, {"count / ring": ratio, **scores}.items(),
                                 strict=True):
        image = _rings(image, live)
        if ax is axes[0, 0]:
            look = dict(cmap="RdBu_r", vmin=0, vmax=2)
        else:
            top = float(np.quantile(image.compressed(), 0.999))
            look = dict(vmin=0, vmax=max(top, 1e-3))
        drawn = _map(ax, image, "x" if ax is axes[-1, 0] else "", **look)
        _band_axis(ax, True)
        ax.set_title(name, loc="left", fontsize=8.5)
        rows, columns = np.nonzero(sick)
        lower = rows <= BANDS[0][1]
        where = np.where(lower, rows - BANDS[0][0], rows - BANDS[1][0] + 13)
        ax.scatter(columns, where, s=13, marker="s", facecolors="none", edgecolors=VERMILION,
                   linewidths=0.7)
        fig.colorbar(drawn, ax=ax, pad=0.01)
    return fig


def by_strength(panels: Mapping[str, Mapping[str, Sequence[float]]], strengths: Sequence[float],
                label: str, floor: float = 1e-6) -> Figure:
    """A rate by fault strength, on a logarithmic scale: panel -> method -> values."""
    fig, axes = new(1, len(panels), 2.8, sharey=True)
    places = np.arange(len(strengths))
    for ax, (title, methods) in zip(axes.flat, panels.items(), strict=True):
        for number, (name, values) in enumerate(methods.items()):
            ax.plot(places, np.maximum(values, floor), marker=MARKS[number % 6], ms=3.5,
                    label=name, color=CYCLE[number], ls=LINES[number])
        ax.set_xticks(places, [f"{s:g}" for s in strengths])
        ax.set_yscale("log")
        ax.set_title(title)
        ax.set_xlabel("fault strength")
    axes[0, 0].set_ylabel(label)
    axes[0, 0].legend(fontsize=7)
    return fig


def adaptation(sections: Sequence[int], values: Mapping[str, Sequence[float]],
               before: Mapping[str, float], label: str) -> Figure:
    """A metric after adaptation to ever more lumi-sections; dashed: before it."""
    fig, ((ax,),) = new(1, 1, 2.5, width=4.4)
    for number, (name, found) in enumerate(values.items()):
        ax.plot(sections, found, marker=MARKS[number], ms=3.5, label=name, color=CYCLE[number],
                ls=LINES[number])
        ax.axhline(before[name], color=CYCLE[number], lw=0.8, ls="--")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(sections, [str(s) for s in sections])
    ax.minorticks_off()
    ax.set_xlabel("lumi-sections of the second run")
    ax.set_ylabel(label)
    ax.legend()
    return fig


def regions(ratio: Any, found: Sequence[Any], live: Any) -> Figure:
    """Sum of the lumi-sections over what is expected, with the regions that were reported.

    found: objects with ``kind``, ``rows`` and ``columns`` (arrays), in the order reported.
    """
    fig, ((ax,),) = new(1, 1, 1.9)
    drawn = _map(ax, _rings(ratio, live), "x", cmap="RdBu_r", vmin=0, vmax=2)
    _band_axis(ax, True)
    for number, region in enumerate(found, 1):
        rows, columns = array(region.rows), array(region.columns)
        rows = np.where(rows <= BANDS[0][1], rows - BANDS[0][0], rows - BANDS[1][0] + 13)
        face = "black" if region.kind == "dead" else "none"
        look = {} if region.kind == "dead" else dict(facecolors=face, edgecolors="black")
        ax.scatter(columns, rows, s=18, marker=KINDS.get(region.kind, "s"), linewidths=0.8,
                   **(look or dict(color=face)))
        ax.text(columns.max() + 1, rows.mean(), f"{number} {region.kind}", fontsize=7,
                va="center", bbox=dict(fc="white", ec=GREY, lw=0.4, pad=1, alpha=0.85))
    fig.colorbar(drawn, ax=ax, label="count / expected", pad=0.01)
    return fig
