"""Figures of the comparison (notebook 08): quality against cost, ingredients, mass, shifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.markers import CARETDOWN
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lib.report.style import CYCLE, GREY, LINES, array, new

DEPTH = 0.06  # of the AUC below the best that a figure shows
MARKS = ("o", "s", "^", "D", "v", "P", "X")
Row = Mapping[str, Any]


def _ends(row: Row, name: str) -> tuple[float, float, float]:
    """Value and ends of its interval; where there is none, the value itself."""
    value = row[name]
    low, high = row.get("low"), row.get("high")
    return value, value if low is None else low, value if high is None else high


def scales(kind: Any, coarse: Any) -> Figure:
    """The tokens of one jet at one scale and at two.

    Args:
        kind: (rows, columns) of patches: 0 empty, 1 pixel-layer hits only, 2 more than that.
        coarse: (rows / 5, columns / 5) bool: coarse tokens that hold something.
    """
    kind, coarse = array(kind), array(coarse)
    rows, columns = kind.shape
    block = (rows // coarse.shape[0], columns // coarse.shape[1])
    floor = np.repeat(np.repeat(coarse, block[0], 0), block[1], 1)
    two = np.where(kind == 2, 2, np.where(floor, 1, 0))
    counts = (int((kind > 0).sum()), int((kind == 2).sum() + coarse.sum()))
    fig, axes = new(1, 2, 2.9, sharex=True, sharey=True)
    colours = ListedColormap(["white", "#bfd7ea", CYCLE[0]])
    titles = (f"one scale: {counts[0]} tokens", f"two scales: {counts[1]} tokens")
    for ax, image, title in zip(axes.flat, (kind, two), titles, strict=True):
        ax.pcolormesh(image, cmap=colours, vmin=0, vmax=2, edgecolors="w", linewidth=0.3,
                      rasterized=True)
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_xlabel(r"patch along $\phi$")
    for line in range(0, rows + 1, block[0]):
        axes[0, 1].axhline(line, color=GREY, lw=0.6)
    for line in range(0, columns + 1, block[1]):
        axes[0, 1].axvline(line, color=GREY, lw=0.6)
    axes[0, 0].set_ylabel(r"patch along $\eta$")
    return fig


def pareto(rows: Mapping[str, Row], flat: Mapping[str, Row] | None = None) -> Figure:
    """AUC against cost: operations of a training step per jet, and measured time.

    Args:
        rows: system → ``{mean, low, high, gflop, ratio}``: AUC with its interval, GFLOP per jet
            and speed as a multiple of the reference's. The staircase joins those that no
            cheaper system surpasses. Those far below the best are arrows at the lower edge.
        flat: systems without such a cost → ``{mean, low, high}``, drawn as lines.
    """
    fig, axes = new(1, 2, 4.0, sharey=True)
    costs = (lambda row: row["gflop"]), (lambda row: 1 / row["ratio"])
    floor = max(row["mean"] for row in rows.values()) - DEPTH
    for ax, cost in zip(axes.flat, costs, strict=True):
        for number, (name, row) in enumerate(rows.items()):
            value, low, high = _ends(row, "mean")
            if value < floor:
                ax.text(cost(row), floor + 0.03 * DEPTH, f"{value:.2f}\n", ha="center",
                        fontsize=7, color=CYCLE[number % len(CYCLE)])
                value = low = high = floor
            ax.errorbar(cost(row), value, [[max(value - low, 0)], [max(high - value, 0)]], ms=5,
                        marker=CARETDOWN if value == floor else MARKS[number % len(MARKS)],
                        ls="none", elinewidth=1, color=CYCLE[number % len(CYCLE)], label=name,
                        mfc="w" if number >= len(CYCLE) else None)
        best, front = -np.inf, []
        for row in sorted(rows.values(), key=cost):
            if row["mean"] > best:
                best = row["mean"]
                front.append((cost(row), best))
        ax.step(*zip(*front), where="post", color=GREY, lw=0.8, ls="--")
        for number, (name, row) in enumerate((flat or {}).items()):
            value, low, high = _ends(row, "mean")
            ax.axhline(value, color=GREY, lw=1, ls=LINES[2 + number], label=name)
            ax.axhspan(low, high, color=GREY, alpha=0.12, lw=0)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("AUC on the test jets")
    axes[0, 0].set_xlabel("GFLOP per jet and step")
    axes[0, 1].set_xlabel("time per jet (R1, dense: 1)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def _dots(ax: Axes, rows: Sequence[Row], colour: str, scale: float = 1.0) -> None:
    for y, row in enumerate(rows):
        value, low, high = _ends(row, "difference")
        ax.plot([low * scale, high * scale], [y, y], "-", color=colour)
        ax.plot(value * scale, y, "o", color=colour, ms=5)
        points = [p for p in row.get("points") or [] if p is not None]
        if len(points) > 1:
            ax.plot([p * scale for p in points], [y + 0.25] * len(points), "|", color=GREY, ms=6)
    ax.axvline(0, color=GREY, lw=0.8, ls="--")


def ingredients(rows: Mapping[str, Mapping[str, Row]], panels: Mapping[str, str]) -> Figure:
    """Differences to one system with 95 % intervals, a panel a metric.

    Args:
        rows: label → metric → ``{difference, low, high[, points]}``; a metric may be missing.
        panels: metric → label of its axis.
    """
    fig, axes = new(1, len(panels), 0.26 * len(rows) + 0.9, sharey=True)
    names = list(reversed(rows))
    for number, (ax, (metric, label)) in enumerate(zip(axes.flat, panels.items(), strict=True)):
        missing = {"difference": np.nan}
        _dots(ax, [rows[name].get(metric, missing) for name in names], CYCLE[number])
        ax.set_xlabel(label)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(-0.6, len(names) - 0.4)
    return fig


def beyond_mass(rows: Mapping[str, Mapping[str, Row]]) -> Figure:
    """What is left of the AUC when the mass is taken away, by system.

    Args:
        rows: system → measure → ``{mean, low, high}``; the same measures for each.
    """
    fig, ((ax,),) = new(1, 1, 3.6, width=5.6)
    measures = list(next(iter(rows.values())))
    for number, (name, row) in enumerate(rows.items()):
        x = np.arange(len(measures)) + 0.7 / len(rows) * (number - (len(rows) - 1) / 2)
        value, low, high = np.array([_ends(row[m], "mean") for m in measures]).T
        ax.errorbar(x, value, [np.maximum(value - low, 0), np.maximum(high - value, 0)],
                    fmt=MARKS[number % len(MARKS)], ms=5, lw=1.2, ls="none",
                    color=CYCLE[number % len(CYCLE)], label=name,
                    mfc="w" if number >= len(CYCLE) else None)
    ax.axhline(0.5, color=GREY, lw=0.8, ls=":")
    ax.set_xticks(range(len(measures)), measures)
    ax.set_ylabel("AUC")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def shifts(rows: Mapping[str, Mapping[str, Mapping[str, Row]]]) -> Figure:
    """What a change of the jets at test time does, by system.

    Args:
        rows: system → shift → ``{"auc": {difference, low, high}, "mass": {difference, ...}}``,
            the mass as a fraction of the predicted mass.
    """
    names = list(reversed(next(iter(rows.values()))))
    fig, axes = new(1, 2, 0.32 * len(names) + 1.1, sharey=True)
    for number, (system, found) in enumerate(rows.items()):
        offset = 0.16 * (number - (len(rows) - 1) / 2)
        for ax, what, scale in zip(axes.flat, ("auc", "mass"), (1, 100)):
            ends = np.array([_ends(found[name][what], "difference") for name in names]) * scale
            value, low, high = ends.T
            ax.errorbar(value, np.arange(len(names)) - offset,
                        xerr=[np.maximum(value - low, 0), np.maximum(high - value, 0)],
                        fmt=MARKS[number], ls="none", ms=4.5, lw=1.2, color=CYCLE[number],
                        label=system)
    for ax in axes.flat:
        ax.axvline(0, color=GREY, lw=0.8, ls="--")
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_xlabel("change of the AUC")
    axes[0, 1].set_xlabel("mean change of the predicted mass (%)")
    axes[0, 1].legend()
    return fig
