"""Figures of label efficiency (notebook 08): curves, differences to scratch, damaged jets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lib.report.style import CYCLE, GREY, LINES, new

MARKS = ("o", "s", "^", "D", "v", "P", "X")
Rows = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]


def _axis(ax: Axes, labels: Mapping[str, int]) -> None:
    """A logarithmic axis of label counts, ticks at the counts themselves."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(labels.values())))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([name if name == "all" else f"{int(name):,}" for name in labels])
    ax.set_xlabel("labelled jets")


def _ends(rows: Mapping[str, Mapping], counts: list[str], metric: str, name: str) -> np.ndarray:
    """(3, n): value and ends of its interval."""
    found = [rows[c][metric] for c in counts]
    return np.array([[r[name], r[name] if r.get("low") is None else r["low"],
                      r[name] if r.get("high") is None else r["high"]] for r in found]).T


def curves(rows: Rows, labels: Mapping[str, int], panels: Mapping[str, str]) -> Figure:
    """Metrics against the number of labels, a line with its 95 % band for each system.

    Args:
        rows: system → count → metric → ``{mean, low, high}``; counts and metrics may be missing.
        labels: count, as a key of ``rows``, → number of jets.
        panels: metric → label of its axis.
    """
    fig, axes = new(1, len(panels), 3.6, width=6.3 if len(panels) > 1 else 4.6)
    for ax, (metric, title) in zip(axes.flat, panels.items(), strict=True):
        for number, (system, found) in enumerate(rows.items()):
            counts = [c for c in labels if metric in found.get(c, {})]
            if not counts:
                continue
            x = [labels[c] for c in counts]
            value, low, high = _ends(found, counts, metric, "mean")
            style = number % len(CYCLE)
            ax.plot(x, value, ls=LINES[style], marker=MARKS[style], ms=4, color=CYCLE[style],
                    label=system)
            ax.fill_between(x, low, high, color=CYCLE[style], alpha=0.1, lw=0)
        _axis(ax, labels)
        ax.set_ylabel(title)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def gains(rows: Rows, labels: Mapping[str, int], panels: Mapping[str, str]) -> Figure:
    """Paired differences to one system against the number of labels, with 95 % intervals and
    single seeds as ticks beside them.

    Args:
        rows: system → count → metric → ``{difference, low, high[, points]}``, in the order of
            ``curves`` and without its first system, the reference.
        labels, panels: as in ``curves``.
    """
    fig, axes = new(1, len(panels), 3.2, width=6.3 if len(panels) > 1 else 4.6)
    for ax, (metric, title) in zip(axes.flat, panels.items(), strict=True):
        for number, (system, found) in enumerate(rows.items(), 1):  # colours as in ``curves``
            counts = [c for c in labels if metric in found.get(c, {})]
            if not counts:
                continue
            x = np.array([labels[c] for c in counts]) * 1.13 ** (number - (len(rows) + 1) / 2)
            value, low, high = _ends(found, counts, metric, "difference")
            colour = CYCLE[number % len(CYCLE)]
            ax.errorbar(x, value, [np.maximum(value - low, 0), np.maximum(high - value, 0)],
                        fmt=MARKS[number % len(MARKS)], ms=4.5, lw=1.2, ls="none", color=colour,
                        label=system)
            for place, c in zip(x, counts, strict=True):
                points = [p for p in found[c][metric].get("points") or [] if p is not None]
                if len(points) > 1:
                    ax.plot([place * 1.05] * len(points), points, "_", color=colour, ms=4,
                            alpha=0.6)
        ax.axhline(0, color=GREY, lw=0.8, ls="--")
        _axis(ax, labels)
        ax.set_ylabel(title)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig
