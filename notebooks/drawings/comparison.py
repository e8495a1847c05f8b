"""Drawings of notebooks 08, 11 and 12: differences, two scales, quality against cost, shifts, label efficiency."""

import numpy as np
from matplotlib.markers import CARETDOWN
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lib.report import plots

DEPTH = 0.06  # of the AUC below the best that a figure shows
KINDS = {"empty": "white", "pixel hits only (right: coarse token)": "#bfd7ea",
         "track or calorimeter": plots.CYCLE[0]}


def differences(rows, panels):
    """Differences to one system with 95 % intervals, a panel a metric. rows: label → metric →
    ``{difference, low, high[, points]}``; a metric may be missing. panels: metric → label of its
    axis."""
    fig, axes = plots.new(1, len(panels), 0.26 * len(rows) + 0.9, sharey=True)
    for number, (ax, (metric, label)) in enumerate(zip(axes.flat, panels.items(), strict=True)):
        plots.intervals({metric: {name: row.get(metric) for name, row in rows.items()}}, label,
                        ax=ax, first=number)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    return fig


def scales(kind, coarse):
    """The tokens of one jet at one scale and at two.

    kind: (rows, columns) of patches, 0 empty, 1 pixel-layer hits only, 2 more than that; coarse:
    (rows / 5, columns / 5) bool, coarse tokens that hold something.
    """
    kind, coarse = plots.array(kind), plots.array(coarse)
    block = [n // m for n, m in zip(kind.shape, coarse.shape)]
    two = np.where(kind == 2, 2, np.kron(coarse, np.ones(block)))
    counts = (kind > 0).sum(), (kind == 2).sum() + coarse.sum()
    axes = plots.grid_map({f"one scale: {counts[0]} tokens": kind,
                           f"two scales: {counts[1]} tokens": two}, kinds=KINDS)
    for draw, size, step in zip((axes[0, 1].axhline, axes[0, 1].axvline), kind.shape, block):
        for line in range(0, size + 1, step):
            draw(line, color=plots.GREY, lw=0.6)
    return axes[0, 0].figure


def pareto(rows, flat):
    """AUC against cost: operations of a training step per jet, and measured time.

    rows: system → ``{mean, low, high, gflop, ratio}``: AUC with its interval, GFLOP per jet and
    speed as a multiple of the reference's; flat: systems without such a cost → ``{mean, low,
    high}``, drawn as lines. The staircase joins those that no cheaper system surpasses; those far
    below the best are arrows at the lower edge.
    """
    fig, (axes,) = plots.new(1, 2, 4.0, sharey=True)
    costs = {"GFLOP per jet and step": lambda row: row["gflop"],
             "time per jet (R1, dense: 1)": lambda row: 1 / row["ratio"]}
    floor = max(row["mean"] for row in rows.values()) - DEPTH
    for ax, (label, cost) in zip(axes, costs.items(), strict=True):
        for number, (name, row) in enumerate(rows.items()):
            x, value, look = cost(row), row["mean"], plots.look(number, True)
            ends = plots.ends_of(row, "mean")[1:]
            if value < floor:
                ax.text(x, floor + 0.03 * DEPTH, f"{value:.2f}\n", ha="center", fontsize=7,
                        color=look["color"])
                value, ends, look["marker"] = floor, (floor, floor), CARETDOWN
            look |= dict(ls="none", ms=5, elinewidth=1, mfc="w" if number > 6 else None)
            plots.lines({name: ([x], [value], *([end] for end in ends))}, label, ax=ax, log="x",
                        bars=True, **look)
        best, front = -np.inf, []
        for row in sorted(rows.values(), key=cost):
            if row["mean"] > best:
                best = row["mean"]
                front.append((cost(row), best))
        ax.step(*zip(*front), where="post", **plots.RULE)
        for number, (name, row) in enumerate(flat.items(), 2):
            value, low, high = plots.ends_of(row, "mean")
            ax.axhline(value, color=plots.GREY, lw=1, ls=plots.LINES[number], label=name)
            ax.axhspan(low, high, color=plots.GREY, alpha=0.12, lw=0)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("AUC on the test jets")
    plots.legend_below(axes[0])
    return fig


def shifts(rows):
    """What a change of the jets at test time does, by system.

    rows: system → shift → ``{"auc": {difference, low, high}, "mass": {difference, ...}}``, the
    mass as a fraction of the predicted mass.
    """
    names = next(iter(rows.values()))
    fig, (axes,) = plots.new(1, 2, 0.32 * len(names) + 1.1, sharey=True)
    for ax, what, scale, label in zip(axes, ("auc", "mass"), (1, 100), (
            "change of the AUC", "mean change of the predicted mass (%)")):
        plots.intervals({system: {name: found[name][what] for name in names}
                         for system, found in rows.items()}, label, ax=ax, scale=scale,
                        legend=ax is axes[1])
    return fig


def growth(curves, marks):
    """Time against tokens, both logarithmic: a panel each for the attention and a block.

    curves: panel → mechanism → points ``{tokens, seconds}`` by rising tokens; marks: name → lowest
    and highest number of tokens, drawn as a band.
    """
    fig, (axes,) = plots.new(1, len(curves), 3.8, sharey=True)
    for ax, (what, rows) in zip(axes, curves.items(), strict=True):
        plots.lines({name: ([p["tokens"] for p in points], [1e3 * p["seconds"] for p in points])
                     for name, points in rows.items()}, "tokens", ax=ax, log="xy", legend=False)
        ax.set_title(what)
        for name, (low, high) in marks.items():
            ax.axvspan(low, max(high, 1.05 * low), color=plots.GREY, alpha=0.15, lw=0)
            ax.text((low * max(high, 1.05 * low)) ** 0.5, 1, name, transform=ax.get_xaxis_transform(),
                    ha="center", va="top", fontsize=7, rotation=90)
    axes[0].set_ylabel("ms for one pass, forward and backward")
    plots.legend_below(axes[0], 4)
    return fig


def trade(networks, units):
    """Mass error against AUC of the configurations of networks, with lines on which the sum of what
    is missing, in units of what matters, is the same.

    networks: network → configuration → (AUC, mass error in GeV); open markers for those called
    mirrors. units: metric → the difference that matters.
    """
    fig, ((ax,),) = plots.new(1, 1, 3.2)
    for number, (name, rows) in enumerate(networks.items()):
        for choice, (auc, error) in rows.items():
            look = plots.look(number, True) | dict(ls="none", ms=5)
            ax.plot(auc, error, **look, mfc="w" if choice.startswith("mirrors") else None)
        ax.plot([], [], **look, label=name)
    low, high = ax.get_xlim()
    bottom, top = ax.get_ylim()
    slope = units["mass_mae"] / units["auc"]
    for start in np.arange(bottom - slope * (high - low), top, 3 * units["mass_mae"]):
        ax.plot([low, high], [start, start + slope * (high - low)], **plots.RULE | dict(ls=":"))
    ax.set(xlim=(low, high), ylim=(bottom, top), xlabel="AUC", ylabel="mass error (GeV)")
    ax.legend()
    return fig


def clocks(histories, panels):
    """Validation losses against updates. histories: network → key → (updates, values); panels: key
    → what it is, a panel each."""
    fig, (axes,) = plots.new(1, len(panels), 3.0)
    for ax, (key, title) in zip(axes, panels.items(), strict=True):
        plots.lines({name: row[key] for name, row in histories.items()}, "update",
                    f"{title}, validation", ax=ax, marks=True, legend=False)
    plots.legend_below(axes[0])
    return fig
