"""Figures of claims (notebook 07): how arms learn, and how often chance alone shows a gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lib.report.style import CYCLE, GREY, LINES, array, new

MARKS = ("o", "s", "^", "D", "v")
RARE = 1e-4  # probabilities below are not drawn


def learning_curves(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], ylabel: str,
    kept: Mapping[str, int] | None = None,
) -> Figure:
    """One validation metric against updates, a line an arm.

    Args:
        curves: arm → (updates, values), as ``History.curve`` gives them.
        kept: arm → update whose weights were kept: a ring around that point.
    """
    fig, ((ax,),) = new(1, 1, 3.0, width=5.4)
    for number, (name, (updates, values)) in enumerate(curves.items()):
        colour = CYCLE[number % len(CYCLE)]
        ax.plot(updates, values, marker=MARKS[number % len(MARKS)], ms=3.5, color=colour,
                ls=LINES[number % len(LINES)], label=name)
        if kept and kept.get(name) in updates:
            ax.plot(kept[name], values[list(updates).index(kept[name])], "o", ms=9, mfc="none",
                    mec=colour)
    ax.set_xlabel("update")
    ax.set_ylabel(ylabel)
    ax.legend()
    return fig


def chance(
    simulated: Any, jets: int, claims: Mapping[str, float],
    densities: Mapping[str, tuple[Any, Any]], odds: Mapping[str, tuple[Any, Any]],
    measured: Mapping[str, tuple[float, Mapping[str, float]]], share: Mapping[str, float],
) -> Figure:
    """How large a difference two equal recipes show on a small test, and how often.

    Args:
        simulated: differences in accuracy on tests of ``jets`` jets, as fractions.
        claims: label → a claimed gain, as a fraction: vertical lines.
        densities: label → (difference, density per unit of it): closed forms on the left.
        odds: label of a claim → (share of jets on which the two disagree, probability of at
            least that gain): lines on the right.
        measured: label → (share, {label of a claim: probability}): points on the right.
        share: label → a share of disagreement to mark with a vertical line.
    """
    simulated = 100 * array(simulated)
    fig, axes = new(1, 2, 3.3)
    left, right = axes[0]
    # differences come in steps of one jet: every bin holds as many of them
    count = np.round(simulated * jets / 100)
    step = max(1, round(np.ptp(count) / 40))
    edges = 100 / jets * np.arange(count.min() - 0.5, count.max() + step + 0.5, step)
    left.hist(100 / jets * count, edges, density=True, color=GREY, alpha=0.35, label="resampled")
    for number, (name, (x, density)) in enumerate(densities.items()):
        left.plot(100 * array(x), array(density) / 100, color=CYCLE[number], ls=LINES[number],
                  label=name)
    for number, (name, gain) in enumerate(claims.items()):
        left.axvline(100 * gain, color=CYCLE[2 + number], ls=LINES[2 + number], lw=1.2)
        left.annotate(name, (100 * gain, 0.98), (2, 0), rotation=90, va="top", ha="left",
                      xycoords=("data", "axes fraction"), textcoords="offset points",
                      fontsize=7, color=CYCLE[2 + number])
    left.set_xlabel(f"difference in accuracy on {jets:,} jets (points)")
    left.set_ylabel("density (1 / point)")
    left.set_yticks([])
    left.set_xlim(-(reach := max(np.abs(simulated).max(), 120 * max(claims.values()))), reach)
    for number, (name, (x, probability)) in enumerate(odds.items()):
        x, probability = 100 * array(x), array(probability)
        drawn = probability > RARE
        right.plot(x[drawn], probability[drawn], color=CYCLE[2 + number], ls=LINES[2 + number],
                   label=f"at least {name}")
    for number, (name, (x, found)) in enumerate(measured.items()):
        for line, claim in enumerate(odds):
            right.plot(100 * x, max(found[claim], RARE), MARKS[number], ms=6,
                       color=CYCLE[2 + line], mec="k", mew=0.6)
        right.plot([], [], MARKS[number], ms=6, color="w", mec="k", mew=0.6, label=name)
    for name, x in share.items():
        right.axvline(100 * x, color=GREY, lw=0.8, ls=":")
        right.annotate(name, (100 * x, 0.02), (-2, 0), rotation=90, ha="right", va="bottom",
                       xycoords=("data", "axes fraction"), textcoords="offset points",
                       fontsize=7, color=GREY)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_ylim(RARE, 1)
    right.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    right.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: ""))
    right.set_xlabel("jets on which the two disagree (%)")
    right.set_ylabel("probability")
    fig.legend(*[a + b for a, b in zip(left.get_legend_handles_labels(),
                                       right.get_legend_handles_labels(), strict=True)],
               loc="outside lower center", ncols=3)
    return fig
