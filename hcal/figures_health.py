"""Figures of sick channels (notebook 09): scores on a map, errors by strength, adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from hcal.figures import _map, _masked
from lib.report.style import CYCLE, GREY, LINES, VERMILION, array, new

MARKS = "osD^vP"
BANDS = ((3, 13), (50, 60))  # rows with live cells


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
    fig, axes = new(len(scores) + 1, 1, 0.95 * (len(scores) + 1) + 0.3, width=5.4,
                    sharex=True)
    sick = array(strength) != 1
    for ax, (name, image) in zip(axes.flat, {"count / ring": ratio, **scores}.items(),
                                 strict=True):
        image = _rings(image, live)
        if ax is axes[0, 0]:
            look = dict(cmap="RdBu_r", vmin=0, vmax=2)
        else:
            top = float(image.max())
            look = dict(norm=LogNorm(1, max(top, 10)))
            image = np.ma.maximum(image, 1)
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
    """A rate by fault strength, on a logarithmic scale: panel -> method -> values.

    floor: what stands for zero, marked by a dotted line.
    """
    fig, axes = new(1, len(panels), 2.6, sharey=True, width=5.8)
    places = np.arange(len(strengths))
    for ax, (title, methods) in zip(axes.flat, panels.items(), strict=True):
        for number, (name, values) in enumerate(methods.items()):
            ax.plot(places, np.maximum(values, floor), marker=MARKS[number % 6], ms=3.5,
                    label=name, color=CYCLE[number], ls=LINES[number])
        ax.axhline(floor, color=GREY, lw=0.8, ls=":")
        ax.set_xticks(places, [f"{s:g}" for s in strengths])
        ax.set_yscale("log")
        ax.set_title(title)
        ax.set_xlabel("fault strength")
    axes[0, 0].set_ylabel(label)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    return fig


def adaptation(sections: Sequence[int], values: Mapping[str, Sequence[float]],
               before: Mapping[str, float], label: str, floor: float = 1e-6) -> Figure:
    """A rate after adaptation to ever more lumi-sections; thin: before it. floor: as above."""
    fig, ((ax,),) = new(1, 1, 2.5, width=4.4)
    for number, (name, found) in enumerate(values.items()):
        ax.plot(sections, np.maximum(found, floor), marker=MARKS[number], ms=3.5, label=name,
                color=CYCLE[number], ls=LINES[number])
        ax.axhline(max(before[name], floor), color=CYCLE[number], lw=0.8, ls="--")
    ax.axhline(floor, color=GREY, lw=0.8, ls=":")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(sections, [str(s) for s in sections])
    ax.minorticks_off()
    ax.set_xlabel("lumi-sections of the second run")
    ax.set_ylabel(label)
    ax.legend()
    return fig
