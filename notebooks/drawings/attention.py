"""Drawings of notebook 03: orders of a product, implied maps and their limits."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from lib.report import plots
from lib.report.plots import BLUE, GREEN, ORANGE, VERMILION


def two_orders(tokens, width):
    """(Q Kᵀ) V and Q (Kᵀ V) as boxes drawn to scale: tokens N, head width D."""
    fig, axes = plots.new(2, 1, 3.4, 5.4)
    long, short = 1.0, max(0.06, width / tokens)
    sizes = {"Q": (short, long, BLUE), "Kᵀ": (long, short, ORANGE), "V": (short, long, GREEN),
             "Q Kᵀ": (long, long, VERMILION), "Kᵀ V": (short, short, VERMILION),
             "O": (short, long, plots.GREY)}
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
        ax.set(xlim=(-0.1, 4.3), ylim=(-0.85, 0.6), aspect="equal")
        ax.set_axis_off()
        ax.set_title(f"{title}: {count:,} multiply–accumulates", loc="left")
    return fig


def spectra(singular, entropy, limit):
    """Singular values of implied maps and entropies of their rows.

    singular: model → (r,) singular values over the first one; entropy: model → (rows,) entropies
    over log N; limit: width D of a head, marked.
    """
    fig, ((left, right),) = plots.new(1, 2)
    values = {name: np.maximum(plots.array(found), 1e-8) for name, found in singular.items()}
    plots.lines({name: (np.arange(1, len(found) + 1), found) for name, found in values.items()},
                "number of the singular value", "singular value / first", ax=left, log="xy")
    left.axvline(limit, **plots.RULE | dict(ls=":"))
    left.text(limit, 1.0, f" D = {limit}", color=plots.GREY, fontsize=8, va="top")
    left.set_ylim(5e-9, 2)
    left.legend(loc="lower left")
    lowest = min(float(np.quantile(plots.array(rows), 0.005)) for rows in entropy.values())
    edges = np.linspace(max(0.0, lowest - 0.01), 1, 41)
    plots.histograms(entropy, "entropy of a row / log N", bins=edges, ax=right, legend=False)
    right.set_xlim(edges[0], 1 + (1 - edges[0]) / 40)
    return fig


def attention_rows(energy, rows, query):
    """One jet on the grid of patches, and where one of its patches looks.

    energy: (rows, columns) sum of the pixels of each patch, 0 where there is no token; rows:
    model → (rows, columns) weights times the number of tokens, NaN where there is no token (1 is
    what a plain average gives); query: row and column of the patch that asks.
    """
    fig, (axes,) = plots.new(1, 1 + len(rows), 2.5, 7.0, sharey=True)
    below = dict(location="bottom", pad=0.02)
    names = ("patch in φ", "patch in η")
    energy = plots.array(energy)
    plots.grid_map({"the jet": np.where(energy > 0, energy, np.nan)}, ax=axes[0], names=names,
                   norm=LogNorm(energy[energy > 0].min(), energy.max()), bar=False)
    plots.colourbar(axes[0].collections[0], axes[0], "sum of pixels", **below)
    weights = {name: plots.array(row) for name, row in rows.items()}
    top = max(float(np.nanmax(row)) for row in weights.values())
    low = max(min(float(np.nanmin(row)) for row in weights.values()), top / 1e3)
    norm = LogNorm(min(low, 0.5), max(top, 2.0))
    plots.grid_map(weights, ax=axes[1:], names=names, norm=norm, bar=False)
    bar = plots.colourbar(axes[1].collections[0], axes[1:], "weight × number of tokens",
                          shrink=0.5, **below)
    shown = [t for t in (0.01, 0.1, 0.5, 1, 2, 5, 10, 100) if norm.vmin <= t <= norm.vmax]
    plots.ticks(bar.ax.xaxis, shown)
    for ax in axes:
        ax.plot(query[1] + 0.5, query[0] + 0.5, "o", mfc="none", mec=VERMILION, ms=9, mew=1.5)
    return fig
