"""Figures of masked and denoising pretraining (notebook 05)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lib.report.figures_comparison import MARKS
from lib.report.figures_jets import CHANNELS, CRYSTAL
from lib.report.style import CYCLE, GREY, LINES, array, new

KINDS = {"empty, in view": "#ffffff", "empty, hidden": "#c9c9c9",
         "holds something, in view": CYCLE[0], "holds something, hidden": "#a6cbe3"}


def masks(panels: Mapping[str, tuple[Any, Any]]) -> Figure:
    """What a mask hides, on the grid of patches of one jet.

    Args:
        panels: title → (active, hidden), (rows, columns) bool each.
    """
    fig, axes = new(1, len(panels), 3.4, sharex=True, sharey=True)
    colours = ListedColormap(list(KINDS.values()))
    for ax, (title, (active, hidden)) in zip(axes.flat, panels.items(), strict=True):
        kind = 2 * array(active).astype(int) + array(hidden)
        ax.pcolormesh(kind, cmap=colours, vmin=0, vmax=3, edgecolors="#eeeeee", linewidth=0.3,
                      rasterized=True)
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_xlabel(r"patch along $\phi$")
    axes[0, 0].set_ylabel(r"patch along $\eta$")
    handles = [Patch(fc=colour, ec=GREY, lw=0.4, label=name) for name, colour in KINDS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def reconstructions(rows: Mapping[str, Mapping[str, Any]], unit: str) -> Figure:
    """Images beside each other: what is there, what the encoder sees, what it makes of it.

    Args:
        rows: system → title of the column → image (H, W); the same columns for each system.
            Colours follow the square root, the same for all, from 0 to the largest value of the
            first column. NaN is drawn grey: hidden.
        unit: of the colour bar.
    """
    columns = list(next(iter(rows.values())))
    fig, axes = new(len(rows), len(columns), 1.75 * len(rows) + 0.45, sharex=True, sharey=True)
    first = [array(images[columns[0]]) for images in rows.values()]
    norm = PowerNorm(0.5, 0, max(max(image.max() for image in first), 1e-6))
    half, shown = first[0].shape[0] * CRYSTAL / 2, None
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, title in zip(row, columns, strict=True):
            ax.set_facecolor("#b8b8b8")
            image = np.ma.masked_invalid(array(images[title]))
            shown = ax.imshow(image, norm=norm, origin="lower", extent=(-half, half) * 2)
        row[0].set_ylabel(f"{name}\n" + r"$\Delta\eta$")
    for ax, title in zip(axes[0], columns, strict=True):
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set_xlabel(r"$\Delta\phi$")
    fig.colorbar(shown, ax=axes, label=unit, shrink=0.8, pad=0.01)
    return fig


def losses(panels: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Loss curves, each beside what trivial answers would get on the same jets.

    Args:
        panels: title → ``{"update": [...], "model": {label: [...]}, "trivial": {label: [...]}}``.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    fig, axes = new(rows, columns, 2.3 * rows)
    for ax, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        for number, (name, values) in enumerate(curves["model"].items()):
            ax.plot(curves["update"], values, color=CYCLE[number], ls=LINES[number],
                    marker=MARKS[number], ms=3, label=name)
        for number, (name, values) in enumerate(curves["trivial"].items()):
            ax.plot(curves["update"], values, color=GREY, ls=LINES[1 + number], lw=1, label=name)
        ax.set_title(title)
        ax.set_xlabel("update")
        ax.set_ylabel("loss on held-out jets")
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.legend()
    for ax in axes.flat[len(panels):]:
        ax.set_visible(False)
    return fig


def probe_curves(
    curves: Mapping[str, Mapping[str, Sequence[float]]], flat: Mapping[str, Mapping[str, float]]
) -> Figure:
    """AUC of probes through pretraining, beside encoders that have learned nothing.

    Args:
        curves: system → ``{update, probe_auc, neighbour_auc}``, lists of one length.
        flat: rival → ``{probe_auc, neighbour_auc}``, drawn as lines; one may be missing.
    """
    fig, axes = new(1, 2, 2.8, sharey=True)
    titles = {"probe_auc": "linear probe", "neighbour_auc": "nearest neighbours"}
    for ax, (key, title) in zip(axes.flat, titles.items(), strict=True):
        for number, (name, curve) in enumerate(curves.items()):
            ax.plot(curve["update"], curve[key], color=CYCLE[number], ls=LINES[number],
                    marker=MARKS[number], ms=3, label=name)
        for number, (name, values) in enumerate(flat.items()):
            if key in values:
                ax.axhline(values[key], color=GREY, ls=LINES[2 + number], lw=1, label=name)
        ax.set_title(title)
        ax.set_xlabel("update")
        ax.set_xlim(0)
    axes[0, 0].set_ylabel("AUC on validation jets")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def by_channel(rows: Mapping[str, Sequence[float]], ylabel: str) -> Figure:
    """A number for each channel, a marker a system; the dotted line is chance.

    Args:
        rows: system → (C,) values; NaN where there is none.
    """
    fig, ((ax,),) = new(1, 1, 2.8)
    for number, (name, values) in enumerate(rows.items()):
        x = np.arange(len(values)) + 0.14 * (number - (len(rows) - 1) / 2)
        ax.plot(x, array(values), MARKS[number], color=CYCLE[number], ms=5, ls="none", label=name,
                mfc="w" if number % 2 else None)
    ax.axhline(0.5, color=GREY, lw=0.8, ls=":")
    ax.set_xticks(range(len(values)), CHANNELS[: len(values)])
    ax.set_ylabel(ylabel)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def towers(images: Mapping[str, Any], unit: str, columns: int = 4) -> Figure:
    """Images of one number a patch (rows, columns), a panel each; colours follow the square
    root, from 0 to the largest of the first panel."""
    rows = -(-len(images) // columns)
    fig, axes = new(rows, columns, 1.75 * rows + 0.3, sharex=True, sharey=True)
    pictures = [np.asarray(image, float) for image in images.values()]  # null is NaN: hidden
    norm, shown = PowerNorm(0.5, 0, max(np.nanmax(pictures[0]), 1e-6)), None
    for ax, title, image in zip(axes.flat, images, pictures, strict=False):
        ax.set_facecolor("#b8b8b8")
        shown = ax.imshow(np.ma.masked_invalid(image), norm=norm, origin="lower")
        ax.set_title(title, fontsize=9)
    for ax in axes.flat[len(images):]:
        ax.set_visible(False)
    fig.supxlabel(r"patch along $\phi$", fontsize=9)
    fig.supylabel(r"patch along $\eta$", fontsize=9)
    fig.colorbar(shown, ax=axes, label=unit, shrink=0.8, pad=0.01)
    return fig
