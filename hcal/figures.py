"""Figures of DigiOccupancy maps and of models that tell two runs apart (notebook 09)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hcal.maps import LIVE, ieta
from lib.report.style import BLUE, CYCLE, GREY, LINES, VERMILION, array, new

RUN_COLOURS = (BLUE, VERMILION)
TICKS = (2, 13, 31, 51, 61)  # rows whose ieta is written


def _map(ax: Axes, image: Any, labels: str = "xy", **more: Any):
    """A map with iphi to the right and ieta upwards; returns what a colour bar needs."""
    image = image if np.ma.isMaskedArray(image) else array(image)
    drawn = ax.imshow(image, origin="lower", aspect="auto", rasterized=True, **more)
    rows = [r for r in TICKS if r < len(image)]
    ax.set_yticks(rows, [f"{ieta(r):d}" for r in rows] if "y" in labels else [])
    columns = [c for c in (0, 17, 35, 53, 71) if c < image.shape[1]]
    ax.set_xticks(columns, [str(c + 1) for c in columns] if "x" in labels else [])
    if "x" in labels:
        ax.set_xlabel("iphi")
    if "y" in labels:
        ax.set_ylabel("ieta")
    return drawn


def _masked(image: Any, live: Any = None) -> np.ma.MaskedArray:
    """Cells that are not read out are left white."""
    cells = array(LIVE if live is None else live).astype(bool)
    image = array(image)
    cells = cells[:image.shape[-2], :image.shape[-1]]
    return np.ma.masked_where(~np.broadcast_to(cells, image.shape), image)


def _two(ax: Axes, runs: Mapping[str, Any], **more: Any) -> None:
    """Histograms of both runs in the same bins."""
    ends = [f(array(v)) for v in runs.values() for f in (np.min, np.max)]
    edges = np.linspace(min(ends), max(ends), 60)
    for number, (name, found) in enumerate(runs.items()):
        look = dict(color=RUN_COLOURS[number], **more)
        ax.hist(array(found).ravel(), edges, histtype="stepfilled", alpha=0.3, **look)
        ax.hist(array(found).ravel(), edges, histtype="step", label=name, ls=LINES[number],
                lw=1.2, **look)


# ---------------------------------------------------------------- the maps


def geometry(live: Any, patches: Mapping[str, tuple[int, int, int]]) -> Figure:
    """The unrolled detector with its active cells, and how patches cut it.

    Args:
        live: (64, 72) bool.
        patches: name -> (rows and columns of a patch, columns of the map that are used).
    """
    live = array(live)
    fig, axes = new(1, 1 + len(patches), 2.0, width=5.6)
    colours = ListedColormap(["white", "#7fb2d6"])
    for ax in axes.flat:
        _map(ax, live, "xy" if ax is axes[0, 0] else "x", cmap=colours, vmin=0, vmax=1)
    for low, high, beside in ((3, 13, 15), (50, 60, 44)):
        axes[0, 0].axhspan(low - 0.5, high + 0.5, color=VERMILION, alpha=0.12, lw=0)
        axes[0, 0].text(36, beside, f"rows {low}–{high}", fontsize=6.5, ha="center")
    axes[0, 0].set_title("active cells")
    for ax, (name, (height, width, used)) in zip(axes.flat[1:], patches.items(), strict=True):
        for top in range(0, 64, height):
            for left in range(0, used, width):
                ax.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False,
                                       lw=0.7, ec="#333333"))
        if used < 72:
            ax.axvspan(used - 0.5, 71.5, color=GREY, alpha=0.5, lw=0)
        ax.set_title(name)
    return fig


def averages(a: Any, b: Any, names: Sequence[str]) -> Figure:
    """Mean maps of two runs on one logarithmic scale, and their difference b - a."""
    a, b = _masked(a), _masked(b)
    fig, axes = new(1, 3, 2.2)
    norm = LogNorm(min(a.min(), b.min()), max(a.max(), b.max()))
    for ax, image, name in zip(axes.flat, (a, b), names, strict=False):
        drawn = _map(ax, image, "xy" if ax is axes[0, 0] else "x", norm=norm)
        ax.set_title(name)
    fig.colorbar(drawn, ax=list(axes.flat[:2]), label="mean count", pad=0.02)
    difference = b - a
    edge = abs(difference).max()
    drawn = _map(axes[0, 2], difference, "x", cmap="RdBu_r", vmin=-edge, vmax=edge)
    axes[0, 2].set_title("second minus first")
    fig.colorbar(drawn, ax=axes[0, 2], label="difference")
    return fig


def samples(maps: Mapping[str, Any]) -> Figure:
    """Single maps, a row a run: name -> (n, 64, 72)."""
    count = max(len(v) for v in maps.values())
    fig, axes = new(len(maps), count, 1.15 * len(maps) + 0.3, width=5.4)
    top = max(float(array(v).max()) for v in maps.values())
    for row, (name, images) in enumerate(maps.items()):
        for column, image in enumerate(images):
            labels = ("x" if row == len(maps) - 1 else "") + ("" if column else "y")
            drawn = _map(axes[row, column], _masked(image), labels, norm=Normalize(0, top))
        axes[row, 0].set_title(name, loc="left")
    fig.colorbar(drawn, ax=axes, label="count", pad=0.01)
    return fig


def values(frequency: Any, counts: Mapping[str, Any]) -> Figure:
    """How often each cell is not zero, and what is in the cells that are not.

    Args:
        frequency: (2, 64, 72) share of the maps of each run in which a cell is not zero.
        counts: run -> counts of live cells, flat.
    """
    fig, axes = new(1, 3, 2.1, gridspec_kw={"width_ratios": [1, 1, 1.5]})
    first, second = array(frequency)
    drawn = _map(axes[0, 0], first, "xy", vmin=0, vmax=1)
    axes[0, 0].set_title("share non-zero")
    fig.colorbar(drawn, ax=axes[0, 0], shrink=0.9)
    drawn = _map(axes[0, 1], second - first, "x", cmap="RdBu_r", vmin=-0.01, vmax=0.01)
    axes[0, 1].set_title("second minus first")
    fig.colorbar(drawn, ax=axes[0, 1], shrink=0.9)
    ax = axes[0, 2]
    edges = np.linspace(0, max(float(array(v).max()) for v in counts.values()), 80)
    for number, (name, found) in enumerate(counts.items()):
        ax.hist(array(found).ravel(), edges, density=True, histtype="step", log=True, label=name,
                color=RUN_COLOURS[number], ls=LINES[number], lw=1.3)
    ax.set_xlabel("count of a cell, non-zero")
    ax.set_ylabel("density")
    ax.legend()
    return fig


def symmetry(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Ratio of the ring at +ieta to that at -ieta.

    Args:
        rows: run -> ``ieta`` (|ieta|), ``ratio``, ``error`` (of the lumi-sections), ``spread``
            (standard error expected from differences between the cells of a ring).
    """
    fig, axes = new(1, len(rows), 2.4, sharey=True)
    for number, (ax, (name, row)) in enumerate(zip(axes.flat, rows.items(), strict=True)):
        where = array(row["ieta"])
        ax.axhline(1, color=GREY, lw=0.8, ls="--")
        ax.errorbar(where, row["ratio"], row["spread"], fmt="none", elinewidth=3, alpha=0.35,
                    ecolor=RUN_COLOURS[number], label="cells of a ring")
        ax.errorbar(where, row["ratio"], row["error"], fmt="o", ms=3, elinewidth=1, capsize=2,
                    color=RUN_COLOURS[number], label="lumi-sections")
        ax.set_title(name)
        ax.set_xlabel("|ieta|")
        ax.legend(loc="best")
    axes[0, 0].set_ylabel("mean of +ieta / mean of −ieta")
    return fig


def scalings(kinds: Mapping[str, Mapping[str, Any]]) -> Figure:
    """What a model is fed: kind -> run -> values of live cells, flat."""
    fig, axes = new(1, len(kinds), 2.1)
    for ax, (kind, runs) in zip(axes.flat, kinds.items(), strict=True):
        _two(ax, runs, density=True)
        ax.set_title(kind)
        ax.set_yticks([])
        ax.set_xlabel("value of a live cell")
    axes[0, 0].set_ylabel("density")
    axes[0, 0].legend(loc="upper center")
    return fig


# ---------------------------------------------------------------- the two runs


def one_number(numbers: Mapping[str, Mapping[str, Any]], cuts: Mapping[str, float]) -> Figure:
    """Histograms of single numbers of a map: number -> run -> (n,), and the cut between them."""
    fig, axes = new(1, len(numbers), 2.3)
    for ax, (what, runs) in zip(axes.flat, numbers.items(), strict=True):
        _two(ax, runs, log=True)
        ax.axvline(cuts[what], color="#333333", lw=1, ls=":")
        ax.set_xlabel(what)
    axes[0, 0].set_ylabel("maps")
    axes[0, 0].legend()
    return fig


def curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Losses and accuracy in training: system -> rows with epoch, loss, val_loss, accuracy."""
    fig, axes = new(1, 2, 2.7)
    for number, (name, rows) in enumerate(histories.items()):
        epochs = [r["epoch"] for r in rows]
        colour, style = CYCLE[number % len(CYCLE)], LINES[number % len(LINES)]
        axes[0, 0].plot(epochs, [r["val_loss"] for r in rows], color=colour, ls=style, label=name)
        axes[0, 0].plot(epochs, [r["loss"] for r in rows], color=colour, lw=0.7, alpha=0.6,
                        ls="-")
        axes[0, 1].plot(epochs, [r["accuracy"] for r in rows], color=colour, ls=style)
    axes[0, 0].set_ylabel("cross-entropy")
    axes[0, 0].axhline(np.log(2), color=GREY, lw=0.8, ls="--")
    axes[0, 0].legend(fontsize=7)
    axes[0, 1].set_ylabel("accuracy on validation")
    axes[0, 1].axhline(0.99, color=GREY, lw=0.8, ls="--")
    for ax in axes.flat:
        ax.set_xlabel("epoch")
    return fig


def decisions(confusions: Mapping[str, Any], rocs: Mapping[str, Mapping[str, Any]],
              runs: Sequence[str]) -> Figure:
    """Confusion matrices (rows truth) and ROC curves of the same systems."""
    fig, axes = new(1, len(confusions) + 1, 2.3,
                    gridspec_kw={"width_ratios": [1] * len(confusions) + [1.5]})
    for ax, (name, matrix) in zip(axes.flat, confusions.items(), strict=False):
        matrix = array(matrix)
        ax.imshow(matrix, cmap="Blues", vmin=0, vmax=matrix.sum(), aspect="equal")
        for (row, column), count in np.ndenumerate(matrix):
            dark = count > matrix.sum() / 3
            ax.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8,
                    color="white" if dark else "black")
        ax.set_title(name)
        ax.set_xticks([0, 1], runs, fontsize=6.5)
        ax.set_yticks([0, 1], runs if ax is axes[0, 0] else [], fontsize=6.5, rotation=90,
                      va="center")
        ax.set_xlabel("predicted")
    axes[0, 0].set_ylabel("true")
    ax = axes[0, -1]
    for number, (name, band) in enumerate(rocs.items()):
        ax.plot(np.r_[0, array(band["background"])], np.r_[0, array(band["signal"])], label=name,
                color=CYCLE[number], ls=LINES[number], lw=2.4 - 0.6 * number)
    ax.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    ax.legend(loc="lower right")
    return fig


def conditions(panels: Mapping[str, tuple[Any, Mapping[str, Any]]]) -> Figure:
    """Share of maps called the second run as something is varied.

    panels: label of the axis -> (values, system -> shares).
    """
    fig, axes = new(1, len(panels), 2.2, sharey=True, width=5.6)
    for ax, (label, (x, answers)) in zip(axes.flat, panels.items(), strict=True):
        for number, (name, found) in enumerate(answers.items()):
            ax.plot(x, found, marker="osD^v"[number % 5], ms=3.5, label=name,
                    color=CYCLE[number], ls=LINES[number])
        ax.set_xlabel(label)
    axes[0, 0].set_ylabel("share called the second run")
    axes[0, 0].legend(fontsize=7)
    return fig


# ---------------------------------------------------------------- experts and attention


def experts(position: Any, classes: Any, runs: Sequence[str]) -> Figure:
    """Weight of the first expert in each block, by patch and by class.

    Args:
        position: (blocks, rows, columns) mean weight of expert 0 on the grid of patches.
        classes: (blocks, 2) the same by class.
    """
    position, classes = array(position), array(classes)
    fig, axes = new(1, len(position) + 1, 2.2)
    spread = max(np.abs(position - 0.5).max(), np.abs(classes - 0.5).max(), 0.01)
    norm = Normalize(0.5 - spread, 0.5 + spread)
    for number, (ax, image) in enumerate(zip(axes.flat, position, strict=False)):
        drawn = ax.imshow(image, origin="lower", aspect="auto", cmap="PuOr", norm=norm)
        ax.set_title(f"block {number + 1}")
        ax.set_xticks(range(image.shape[1]))
        ax.set_yticks(range(image.shape[0]) if not number else [])
        ax.set_xlabel("patch in iphi")
    axes[0, 0].set_ylabel("patch in ieta")
    ax = axes[0, -1]
    ax.imshow(classes, origin="lower", aspect="auto", cmap="PuOr", norm=norm)
    ax.set_xticks([0, 1], runs, fontsize=6.5)
    ax.set_yticks(range(len(classes)), [f"block {n + 1}" for n in range(len(classes))], fontsize=7)
    ax.set_title("by class")
    fig.colorbar(drawn, ax=list(axes.flat), label="weight of expert 1", pad=0.01)
    return fig


def specialisation(histories: Mapping[str, Sequence[Mapping[str, float]]],
                   quantities: Mapping[str, str]) -> Figure:
    """Quantities of the routers over the epochs: system -> rows; quantities: key -> label."""
    fig, axes = new(1, len(quantities), 2.3)
    for ax, (key, label) in zip(axes.flat, quantities.items(), strict=True):
        for number, (name, rows) in enumerate(histories.items()):
            ax.plot([r["epoch"] for r in rows], [r[key] for r in rows], label=name,
                    color=CYCLE[number], ls=LINES[number])
        ax.set_title(label, fontsize=8.5)
        ax.set_xlabel("epoch")
        ax.set_ylim(bottom=0)
    axes[0, 0].legend(fontsize=7)
    return fig


def attention(rows: Mapping[str, tuple[Any, Any]], shape: tuple[int, int]) -> Figure:
    """Input, attention of the class token by head, and their overlay; a row a model and run.

    Args:
        rows: name -> (map (H, W), attention (heads, rows, columns) of the patches).
        shape: cells of a patch.
    """
    heads = max(len(array(a)) for _, a in rows.values())
    fig, axes = new(len(rows), heads + 2, 0.72 * len(rows) + 0.5, width=5.2)
    top = max(float(array(a).max()) for _, a in rows.values())
    for number, (name, (image, found)) in enumerate(rows.items()):
        line = axes[number]
        image, found = array(image), np.kron(array(found), np.ones((1, *shape)))
        height, width = found.shape[1:]
        edge = dict(labels="x" if number == len(rows) - 1 else "")
        _map(line[0], _masked(image), "y" + edge["labels"], cmap="Greys")
        line[0].set_ylabel(name, fontsize=7)
        for ax, head in zip(line[1:-1], found, strict=True):
            drawn = _map(ax, head, vmin=0, vmax=top, **edge)
        _map(line[-1], found.mean(0), cmap="Oranges", vmin=0, **edge)
        line[-1].imshow(_masked(image[:height, :width]), origin="lower", aspect="auto",
                        cmap="Greys", alpha=0.55, rasterized=True)
    for ax, title in zip(axes[0], ["input", *(f"head {h + 1}" for h in range(heads)), "overlay"],
                         strict=True):
        ax.set_title(title)
    fig.colorbar(drawn, ax=axes[:, 1:-1], label="attention", shrink=0.7, pad=0.01)
    return fig

