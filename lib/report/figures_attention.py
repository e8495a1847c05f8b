"""Figures of the attention lecture: orders of a product, kernels, implied maps, limits, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.report.style import BLUE, CYCLE, GREEN, GREY, LINES, ORANGE, VERMILION, array, new

MARKS = ("o", "s", "^", "D", "v", "P", "X")


def two_orders(tokens: int, width: int) -> Figure:
    """(Q Kᵀ) V and Q (Kᵀ V) as boxes drawn to scale: tokens N, head width D."""
    fig, axes = new(2, 1, 3.4, width=5.4)
    long, short = 1.0, max(0.06, width / tokens)
    sizes = {"Q": (short, long, BLUE), "Kᵀ": (long, short, ORANGE), "V": (short, long, GREEN),
             "Q Kᵀ": (long, long, VERMILION), "Kᵀ V": (short, short, VERMILION),
             "O": (short, long, GREY)}
    rows = (("(Q Kᵀ) V", ["(", "Q", "Kᵀ", ")", "V", "→", "Q Kᵀ", "V", "→", "O"]),
            ("Q (Kᵀ V)", ["Q", "(", "Kᵀ", "V", ")", "→", "Q", "Kᵀ V", "→", "O"]))
    counts = (2 * tokens**2 * width, 2 * tokens * width**2)
    for ax, (title, parts), count in zip(axes.flat, rows, counts):
        x = 0.0
        for part in parts:
            if part in sizes:
                w, h, colour = sizes[part]
                ax.add_patch(Rectangle((x, -h / 2), w, h, facecolor=colour, alpha=0.35,
                                       edgecolor=colour))
                ax.text(x + w / 2, -0.62, part, ha="center", va="top", fontsize=8)
                x += max(w, 0.1) + 0.13
            else:
                wide = 0.16 if part == "→" else 0.05
                ax.text(x + wide / 2, 0, part, ha="center", va="center", fontsize=14)
                x += wide + 0.13
        ax.set_xlim(-0.1, 4.3)
        ax.set_ylim(-0.85, 0.6)
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_title(f"{title}: {count:,} multiply–accumulates", loc="left")
    return fig


def concentration(
    angles: Any, similarity: Mapping[str, Any], scales: Any, entropy: Mapping[str, Any]
) -> Figure:
    """What a kernel can point at: weight against the angle, entropy against the length of q.

    Args:
        angles: (a,) degrees between query and key.
        similarity: kernel -> (a,) weights, one at angle 0.
        scales: (s,) factors by which queries are stretched.
        entropy: kernel -> (s,) entropies of the rows over log N.
    """
    fig, axes = new(1, 2, 2.6)
    for number, name in enumerate(similarity):
        look = dict(color=CYCLE[number], ls=LINES[number], label=name)
        axes[0, 0].plot(array(angles), array(similarity[name]), **look)
        axes[0, 1].plot(array(scales), array(entropy[name]), **look)
    axes[0, 0].set_xlabel("angle between query and key (degrees)")
    axes[0, 0].set_ylabel("weight, relative to angle 0")
    axes[0, 0].set_xticks(range(0, 181, 45))
    axes[0, 1].set_xscale("log")
    axes[0, 1].set_xlabel("length of the queries, relative")
    axes[0, 1].set_ylabel("entropy of a row / log N")
    axes[0, 1].set_ylim(0, 1.04)
    axes[0, 0].legend()
    return fig


def floors(tokens: Any, shares: Mapping[str, Any], jets: tuple[float, float]) -> Figure:
    """What comes back of a constant 1 against the number of tokens.

    Args:
        tokens: (n,) numbers of tokens.
        shares: normaliser -> (n,) mean outputs.
        jets: 5 and 95 % quantiles of the active patches of a jet, shaded.
    """
    fig, ((ax,),) = new(1, 1, 2.5, width=4.6)
    ax.axvspan(*jets, color=GREY, alpha=0.15, lw=0, label="90 % of the jets")
    for number, (name, share) in enumerate(shares.items()):
        ax.plot(array(tokens), array(share), color=CYCLE[number], ls=LINES[number],
                marker=MARKS[number], ms=4, label=name)
    ax.set_xscale("log")
    ax.set_ylim(0, 1.1)
    ax.set_xlabel("number of tokens")
    ax.set_ylabel("output for values that are all 1")
    ax.legend()
    return fig


def spectra(
    singular: Mapping[str, Any], entropy: Mapping[str, Any], limit: int | None = None
) -> Figure:
    """Singular values of implied maps and entropies of their rows.

    Args:
        singular: model -> (r,) singular values, the first one.
        entropy: model -> (rows,) entropies over log N.
        limit: width D of a head, marked.
    """
    fig, axes = new(1, 2, 2.6)
    lowest = min(float(np.quantile(array(rows), 0.005)) for rows in entropy.values())
    edges = np.linspace(max(0.0, lowest - 0.01), 1, 41)
    for number, name in enumerate(singular):
        values = np.maximum(array(singular[name]), 1e-8)
        axes[0, 0].plot(np.arange(1, len(values) + 1), values, color=CYCLE[number],
                        ls=LINES[number], label=name)
        rows = array(entropy[name])
        axes[0, 1].hist(rows, edges, density=True, histtype="step", color=CYCLE[number],
                        ls=LINES[number], label=name, lw=1.4)
    if limit:
        axes[0, 0].axvline(limit, color=GREY, lw=0.8, ls=":")
        axes[0, 0].text(limit, 1.0, f" D = {limit}", color=GREY, fontsize=8, va="top")
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylim(5e-9, 2)
    axes[0, 0].set_xlabel("number of the singular value")
    axes[0, 0].set_ylabel("singular value / first")
    axes[0, 1].set_xlim(edges[0], 1 + (1 - edges[0]) / 40)
    axes[0, 1].set_xlabel("entropy of a row / log N")
    axes[0, 1].set_ylabel("density")
    axes[0, 0].legend(loc="lower left")
    return fig


def attention_rows(energy: Any, rows: Mapping[str, Any], query: tuple[int, int]) -> Figure:
    """One jet on the grid of patches, and where one of its patches looks.

    Args:
        energy: (rows, columns) sum of the pixels of each patch, 0 where there is no token.
        rows: model -> (rows, columns) weights times the number of tokens, NaN where there is no
            token: 1 is what a plain average gives.
        query: row and column of the patch that asks.
    """
    fig, axes = new(1, 1 + len(rows), 2.3, sharey=True)
    shown = axes[0, 0].imshow(np.ma.masked_less_equal(array(energy), 0), norm=LogNorm(),
                              origin="lower")
    axes[0, 0].set_title("the jet")
    fig.colorbar(shown, ax=axes[0, 0], location="bottom", label="sum of pixels", shrink=0.9)
    weights = [array(row) for row in rows.values()]
    top = max(float(np.nanmax(row)) for row in weights)
    low = max(min(float(np.nanmin(row)) for row in weights), top / 1e3)
    norm = LogNorm(min(low, 0.5), max(top, 2.0))
    for ax, name, row in zip(axes[0, 1:], rows, weights):
        shown = ax.imshow(np.ma.masked_invalid(row), norm=norm, origin="lower")
        ax.set_title(name)
    ticks = [t for t in (0.01, 0.1, 0.5, 1, 2, 5, 10, 100) if norm.vmin <= t <= norm.vmax]
    bar = fig.colorbar(shown, ax=list(axes[0, 1:]), location="bottom", shrink=0.5,
                       label="weight × number of tokens")
    bar.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
    bar.ax.minorticks_off()
    for ax in axes.flat:
        ax.plot(query[1], query[0], "o", mfc="none", mec=VERMILION, ms=9, mew=1.5)
        ax.set_xlabel("patch in φ")
    axes[0, 0].set_ylabel("patch in η")
    return fig


def cost(
    tokens: Sequence[int], measured: Mapping[str, Any], counted: Mapping[str, Any],
    jets: tuple[float, float],
) -> Figure:
    """Time and multiply-accumulates over those of softmax attention, against N.

    Args:
        tokens: (n,) numbers of tokens.
        measured, counted: mechanism -> (n,) ratios; below 1 is cheaper than softmax.
        jets: 5 and 95 % quantiles of the active patches of a jet, shaded.
    """
    fig, axes = new(1, 2, 2.8, sharey=True)
    for ax, ratios, title in zip(axes.flat, (counted, measured), ("counted", "measured")):
        ax.axvspan(*jets, color=GREY, alpha=0.15, lw=0)
        ax.axhline(1, color=GREY, lw=0.8)
        for number, (name, values) in enumerate(ratios.items()):
            ax.plot(tokens, array(values), color=CYCLE[number], ls=LINES[number],
                    marker=MARKS[number], ms=4, label=name)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("number of tokens N")
        ax.set_title(title)
    axes[0, 0].set_ylabel("cost / cost of softmax")
    axes[0, 1].legend(fontsize=7)
    return fig
