"""Figures that notebook 09 draws once: maps of both runs, what a training does, a block with
experts, attention, sick cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hcal.maps import LIVE, ieta
from hcal.plots import AXES, bands, label_columns
from drawings.diagrams import arrow, blank, box, joined, norm, residual, wire
from lib.report.plots import (
    CYCLE,
    GREY,
    RULE,
    array,
    colourbar,
    grid_map,
    histograms,
    legend_below,
    lines,
    new,
)

LOW, HIGH = (3, 14), (50, 61)  # rows with live cells


# --- maps -----------------------------------------------------------------------------------------


def whole(maps: Mapping[str, Any], label: str = "", *, ax: Any, live: Any = LIVE,
          **show: Any) -> np.ndarray:
    """Maps (64, up to 72), one an axes of ``ax``, on one scale; ``show``: as for ``grid_map``."""
    found = {name: np.where(array(live)[:, :array(counts).shape[1]], array(counts), np.nan)
             for name, counts in maps.items()}
    axes = grid_map(found, label, ax=ax, **AXES, **show)
    rows = (3, 13, 50, 60)
    for panel in axes.flat:
        panel.set_yticks([r + 0.5 for r in rows], [str(ieta(r)) for r in rows])
        label_columns(panel)
    return axes


def geometry(live: Any, patches: Mapping[str, Any]) -> Figure:
    """The unrolled detector with its active cells, and how patches (name → ``Grid``) cut it."""
    fig, axes = new(1, 1 + len(patches), 2.3, sharey=True)
    names = ["active cells", *patches]
    whole(dict.fromkeys(names, live), ax=axes.flat, bar=False, norm=Normalize(0, 1),
          cmap=ListedColormap(["w", "#7fb2d6"]))
    for (low, high), beside in ((LOW, 18), (HIGH, 45)):
        axes[0, 0].axhspan(low, high, color=CYCLE[1], alpha=0.12, lw=0)
        axes[0, 0].text(36, beside, f"rows {low}–{high - 1}", fontsize=7, ha="center", va="center")
    for ax, grid in zip(axes.flat[1:], patches.values(), strict=True):
        for top in range(0, 64, grid.patch_height):
            for left in range(0, grid.width, grid.patch_width):
                ax.add_patch(Rectangle((left, top), grid.patch_width, grid.patch_height,
                                       fill=False, lw=0.7, ec="#333333"))
        ax.axvspan(grid.width, 72, color=GREY, alpha=0.5, lw=0)
    return fig


def averages(means: Mapping[str, Any]) -> Figure:
    """Mean maps of two runs on one logarithmic scale, and the second minus the first."""
    first, second = (array(mean) for mean in means.values())
    fig, axes = new(1, 3, 2.3, sharey=True)
    counts = np.concatenate([first[LIVE], second[LIVE]])
    whole(means, "mean count", ax=axes[0, :2], norm=LogNorm(counts.min(), counts.max()))
    edge = abs(second - first).max()
    whole({"second minus first": second - first}, "difference", ax=axes[0, 2],
          norm=Normalize(-edge, edge), cmap="RdBu_r")
    return fig


def symmetry(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Ratio of the ring at +ieta to that at −ieta: run → ``ieta`` (|ieta|), ``ratio``, ``error``
    (of the lumi-sections) and ``spread`` (of the cells of a ring)."""
    fig, axes = new(1, len(rows), 2.4, sharey=True)
    for ax, colour, (name, row) in zip(axes.flat, CYCLE, rows.items()):
        ax.axhline(1, **RULE)
        ax.errorbar(row["ieta"], row["ratio"], row["spread"], fmt="none", elinewidth=3, alpha=0.35,
                    ecolor=colour, label="cells of a ring")
        ax.errorbar(row["ieta"], row["ratio"], row["error"], fmt="o", ms=3, capsize=2,
                    color=colour, label="lumi-sections")
        ax.set(title=name, xlabel=r"$|i\eta|$")
        ax.legend()
    axes[0, 0].set_ylabel("mean of +ieta / mean of −ieta")
    return fig


def sick_map(shown: Mapping[str, Any], live: Any, sick: Any) -> Figure:
    """One map, faults (``sick``, (64, 72) bool) outlined: the first of ``shown`` (name → values) is
    a count over that of its ring, the others are scores, on logarithmic scales."""
    fig, axes = new(len(shown), 1, 4.4, sharex=True)
    for number, (ax, (name, values)) in enumerate(zip(axes.flat, shown.items(), strict=True)):
        values = array(values)
        how = dict(norm=LogNorm(1, max(values[array(live)].max(), 10))) if number else dict(
            norm=Normalize(0, 2), cmap="RdBu_r")
        bands(ax, values.clip(1) if number else values, live, sick, name, **how)
    return fig


# --- curves ---------------------------------------------------------------------------------------


def one_number(found: Mapping[str, Any], label: Any, names: Sequence[str]) -> Figure:
    """Histograms of numbers of a map (what → (N,)) for the runs ``names`` (label 0 and 1)."""
    fig, axes = new(1, len(found), 2.4)
    for number, (ax, (what, value)) in enumerate(zip(axes.flat, found.items(), strict=True)):
        value = array(value)
        groups = {name: value[label == c] for c, name in enumerate(names)}
        low, high = sorted(groups.values(), key=np.mean)
        histograms(groups, what, "maps", bins=60, stat="count", fill=True, log=True, ax=ax,
                   legend=not number)
        ax.axvline((low.max() + high.min()) / 2, color="#333333", lw=1, ls=":")
        ax.set_ylim(bottom=0.7)
    return fig


def trainings(losses: Mapping[str, Mapping[str, tuple]], logs: Mapping[str, Sequence]) -> Figure:
    """Losses by epoch beside a published log: model → run → (epochs, losses), and model → losses
    after epochs 1, 2, 3."""
    fig, axes = new(1, len(losses), 2.6)
    for ax, (name, curves) in zip(axes.flat, losses.items(), strict=True):
        lines(curves, "epoch (250 updates)", "cross-entropy on validation", ax=ax, log="y",
              legend=False)
        ax.plot((1, 2, 3), logs[name], "kD", ms=6, label="R3's log")
        ax.set_title(name)
    legend_below(axes[0, 0], 5)
    return fig


def conditions(said: Mapping[str, Mapping[str, Sequence]], along: Mapping[str, Sequence]) -> Figure:
    """Share of maps called the second run: classifier → label → shares; label → conditions."""
    fig, axes = new(1, len(along), 2.4, sharey=True)
    for ax, (label, values) in zip(axes.flat, along.items(), strict=True):
        lines({name: (values, shares[label]) for name, shares in said.items()}, label, ax=ax,
              marks=True, legend=ax is axes[0, 0])
    axes[0, 0].set_ylabel("share called the second run")
    return fig


def routing(found: Mapping[str, Mapping[str, tuple]], null: Mapping[str, tuple]) -> Figure:
    """What routers do, by epoch: quantity → router → (epochs, values), and quantity → mean and
    standard deviation of random routers, a grey band."""
    fig, axes = new(1, len(found), 2.4)
    for ax, (label, curves) in zip(axes.flat, found.items(), strict=True):
        lines(curves, "epoch", label, ax=ax, legend=ax is axes[0, 0])
        mean, std = null[label]
        ax.axhspan(mean - std, mean + std, color=GREY, alpha=0.4, lw=0)
        ax.set_ylim(bottom=0)
    return fig


def false_positives(rates: Mapping[str, Mapping[str, Sequence]], strengths: Sequence[float],
                    floor: float) -> Figure:
    """False positives by strength of the fault, a panel a condition: condition → score → rates.
    A dotted line at ``floor`` stands for none."""
    fig, axes = new(2, 2, 4.2, sharex=True, sharey=True)
    for ax, (where, found) in zip(axes.flat, rates.items(), strict=True):
        lines({name: (np.arange(len(strengths)), np.maximum(values, floor))
               for name, values in found.items()}, ax=ax, log="y", marks=True, legend=False)
        ax.axhline(floor, color=GREY, lw=0.8, ls=":")
        ax.set_xticks(range(len(strengths)), [f"{s:g}" for s in strengths])
        ax.set_title(where)
    for ax in axes[:, 0]:
        ax.set_ylabel("false positives")
    for ax in axes[1]:
        ax.set_xlabel("fault strength")
    legend_below(axes[0, 0])
    return fig


# --- attention ------------------------------------------------------------------------------------


def attention(rows: Mapping[str, tuple[Any, Any]], shape: tuple[int, int]) -> Figure:
    """A map and the attention of the class token to its patches, by head; a row a model.

    Args:
        rows: name → (map (H, W), attention (heads, rows, columns) of the patches).
        shape: cells of a patch.
    """
    heads = max(len(found) for _, found in rows.values())
    titles = ["map", *(f"head {h + 1}" for h in range(heads))]
    fig, axes = new(len(rows), heads + 1, 1.1 * len(rows) + 0.5, sharex=True, sharey=True)
    top = max(float(array(found).max()) for _, found in rows.values())
    for line, (name, (counts, found)) in zip(axes, rows.items(), strict=True):
        found = np.kron(array(found), np.ones((1, *shape)))
        counts, everywhere = array(counts)[:, :found.shape[2]], np.ones((64, 72), bool)
        whole({"": counts}, ax=line[0], bar=False, cmap="Greys")
        whole(dict(enumerate(found)), ax=line[1:], live=everywhere, bar=False,
              norm=Normalize(0, top))
        line[0].set_ylabel(name, fontsize=7)
        for ax in line:
            ax.set_title("")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    colourbar(axes[0, 1].collections[0], axes[:, 1:], "attention")
    return fig


# --- diagrams -------------------------------------------------------------------------------------


def expert_block(config: Any) -> Figure:
    """A transformer block whose MLP is a mixture of experts (a ``ViTConfig`` with experts)."""
    c, y = config, 0.95
    fig, ax = blank(7.0, 1.9)
    ax.text(0.02, y, f"tokens\n$K$ × {c.dim}", fontsize=7, va="center")
    residual(ax, 0.6, 2.65, y, 0.85)
    wire(ax, (0.5, y), (0.72, y))
    norm(ax, 0.8, y)
    box(ax, 1.62, y, 1.3, 0.6, f"{c.attention} attention\n{c.heads} heads of {c.dim // c.heads}",
        "attention")
    wire(ax, (2.3, y), (2.55, y))
    residual(ax, 2.85, 6.55, y, 0.85)
    wire(ax, (2.75, y), (2.97, y))
    norm(ax, 3.05, y)
    box(ax, 3.75, y - 0.7, 0.95, 0.36, f"router\n{c.dim} → {c.experts}", "head", 6.5)
    arrow(ax, (3.2, y), (3.5, y - 0.5))
    for number in range(c.experts):
        height = y + 0.5 - number * (1.0 / max(c.experts - 1, 1)) * 0.72
        box(ax, 4.95, height, 1.25, 0.34 if c.experts < 3 else 0.3,
            f"expert {number + 1}: {c.dim} → {int(c.dim * c.mlp_ratio)} → {c.dim}", "mlp", 6.5)
        arrow(ax, (3.2, y), (4.3, height))
        arrow(ax, (5.6, height), (6.02, y))
    said = {"soft": "all experts, weighted", "top1": "the likeliest one only",
            "top2": "the two likeliest"}[c.router]
    ax.text(5.15, y - 0.63, f"weights: {said}", fontsize=6.5, ha="center", va="center")
    wire(ax, (4.25, y - 0.74), (6.1, y - 0.74))
    arrow(ax, (6.1, y - 0.74), (6.1, y - 0.14))
    joined(ax, 6.1, y, "Σ")
    wire(ax, (6.22, y), (6.45, y))
    arrow(ax, (6.65, y), (6.95, y))
    return fig
