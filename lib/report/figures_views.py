"""Figures of views and contrastive pretraining (notebook 04)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lib.report.figures_jets import CRYSTAL
from lib.report.style import CYCLE, GREY, LINES, QCD, TOP, array, new

EMPTY = "#00224e"  # cividis' dark end
MARKS = ("o", "s", "^", "D")


def _jet(ax: Axes, image: np.ndarray) -> None:
    """Calorimeters as colours, pixel layers as grey and tracks as white dots; 8-bit levels."""
    half = image.shape[-1] * CRYSTAL / 2
    extent = (-half, half, -half, half)
    energy = image[3] + image[4]
    ax.set_facecolor(EMPTY)
    ax.imshow(np.ma.masked_less_equal(energy, 0), norm=LogNorm(1, 255), origin="lower",
              extent=extent, rasterized=True)
    for layers, colour, size in ((image[5:8], "#a0a0a0", 0.35), (image[:1], "white", 3.5)):
        row, column = np.nonzero(layers.sum(0))
        level = layers.sum(0)[row, column] / 255
        ax.scatter((column + 0.5) * CRYSTAL - half, (row + 0.5) * CRYSTAL - half, lw=0,
                   s=size * (0.3 + level), color=colour, rasterized=True)
    ax.set(xlim=(-half, half), ylim=(-half, half), xticks=(), yticks=())
    ax.spines[:].set_visible(False)


def views(images: Mapping[str, Any], columns: int = 6) -> Figure:
    """Jets, a panel each: title → image (8, H, W) in 8-bit levels."""
    rows = -(-len(images) // columns)
    fig, axes = new(rows, columns, 6.3 / columns * rows + 0.3 * rows)
    for ax, (title, image) in zip(axes.flat, images.items()):
        _jet(ax, array(image))
        ax.set_title("\n".join(textwrap.wrap(title, 17)), fontsize=8)
    for ax in axes.flat[len(images):]:
        ax.set_visible(False)
    return fig


def symmetry(rows: Mapping[str, Mapping[str, Mapping[str, Mapping]]],
             labels: Mapping[str, str]) -> Figure:
    """How well a classifier tells changed from original jets, a panel an encoding.

    Args:
        rows: encoding → transformation → classifier → ``{mean, low, high}``, AUCs.
        labels: of the transformations, from the top.
    """
    fig, axes = new(1, len(rows), 0.21 * len(labels) + 1.0, sharey=True)
    kinds = dict.fromkeys(k for found in rows.values() for row in found.values() for k in row)
    for ax, (encoding, found) in zip(axes.flat, rows.items()):
        for number, kind in enumerate(kinds):
            y = [-n for n, name in enumerate(labels) if kind in found.get(name, {})]
            ends = np.array([[found[name][kind][k] for k in ("mean", "low", "high")]
                             for name in labels if kind in found.get(name, {})]).reshape(-1, 3)
            ax.errorbar(ends[:, 0], np.array(y) - 0.2 * number,
                        xerr=np.abs(ends[:, :1] - ends[:, 1:]).T, fmt=MARKS[number], ls="none",
                        ms=4, lw=1.2, color=CYCLE[number], label=kind)
        ax.axvline(0.5, color=GREY, lw=0.8, ls="--")
        ax.set_xlim(0.4, 1.02)
        ax.set_title(encoding)
        ax.set_xlabel("AUC, changed against original")
    axes[0, 0].set_yticks([-n for n in range(len(labels))], labels.values())
    axes[0, 0].set_ylim(-len(labels) + 0.3, 0.6)
    axes[0, -1].legend(loc="upper right")
    return fig


def similarities(panels: Mapping[str, Any]) -> Figure:
    """Cosines (2B, 2B) of all views of a batch: first views, then second ones."""
    fig, axes = new(1, len(panels), 2.7, sharey=True)
    for ax, (title, cosine) in zip(axes.flat, panels.items()):
        shown = ax.imshow(np.ma.masked_array(array(cosine), np.eye(len(cosine), dtype=bool)),
                          vmin=-1, vmax=1, rasterized=True)
        ax.set_title(title)
        ax.set_xlabel("view")
    axes[0, 0].set_ylabel("view")
    fig.colorbar(shown, ax=axes, label="cosine", shrink=0.9)
    return fig


def monitor(history: Sequence[Mapping[str, float]], chance: float, start: Mapping[str, float],
            best: int | None = None) -> Figure:
    """What the monitor of collapse saw, against updates.

    Args:
        history: rows of ``fit`` with those of ``lib.evaluation.probes.Monitor``.
        chance: loss of a guess. start: the monitor before the first update. best: update kept.
    """
    panels = {"loss": ("loss", "val_loss"), "partner found": ("match", "val_match"),
              "AUC of the probes": ("probe_auc", "neighbour_auc"), "feature std": ("feature_std",),
              "effective rank": ("effective_rank",), "mean cosine": ("mean_cosine",)}
    names = {"loss": "training", "match": "training", "val_loss": "validation",
             "val_match": "validation", "probe_auc": "linear", "neighbour_auc": "neighbours"}
    fig, axes = new(2, 3, 3.9, sharex=True)
    for ax, (title, keys) in zip(axes.flat, panels.items()):
        for number, key in enumerate(keys):
            points = [(r["update"], r[key]) for r in history if r.get(key) is not None]
            points = ([(0, start[key])] if key in start else []) + points
            if points:
                ax.plot(*zip(*points), ls=LINES[number], marker=".", color=CYCLE[number],
                        label=names.get(key))
        if best is not None:
            ax.axvline(best, color=GREY, lw=0.8, ls=":")
        ax.set_ylabel(title)
        if len(ax.get_legend_handles_labels()[0]) > 1:
            ax.legend()
    axes[0, 0].axhline(chance, color=GREY, lw=0.8, ls="--")
    for ax in axes[1]:
        ax.set_xlabel("update")
    return fig


def collapse(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Training with and without what holds features apart.

    Args:
        curves: arm → ``{update, feature_std, effective_rank}``.
    """
    panels = {"feature_std": "feature std", "effective_rank": "effective rank"}
    fig, axes = new(1, 2, 2.3, sharex=True)
    for ax, (key, label) in zip(axes.flat, panels.items()):
        for number, (name, rows) in enumerate(curves.items()):
            ax.plot(rows["update"], rows[key], ls=LINES[number], color=CYCLE[number], label=name)
        ax.set_ylim(0)
        ax.set_xlabel("update")
        ax.set_ylabel(label)
    axes[0, 0].legend()
    return fig


def embeddings(rows: Mapping[str, Mapping[str, Any]], label: Any, mass: Any, pt: Any) -> Figure:
    """Jets in a plane, a row an encoder, coloured by class, mass and transverse momentum.

    Args:
        rows: encoder → ``{plane (N, 2), auc, mass, pt}``: t-SNE, AUC of a linear probe of the
            class and R² of linear ones of mass and pT.
        label (N,) of 0 and 1; mass, pt (N,) in GeV.
    """
    label, mass, pt = array(label), array(mass), array(pt)
    fig, axes = new(len(rows), 3, 2.15 * len(rows) + 0.4)
    for number, (line, (name, row)) in enumerate(zip(axes, rows.items())):
        x, y = array(row["plane"]).T
        for value, colour, marker, text in ((0, QCD, "o", "QCD"), (1, TOP, "^", "top")):
            line[0].scatter(x[label == value], y[label == value], s=5, lw=0, marker=marker,
                            color=colour, label=text, alpha=0.8)
        line[0].set_title(f"class, probe AUC {row['auc']:.3f}", fontsize=9)
        for ax, values, unit, found in ((line[1], mass, "mass", row["mass"]),
                                        (line[2], pt, "$p_T$", row["pt"])):
            low, high = np.quantile(values, [0.02, 0.98])
            shown = ax.scatter(x, y, c=values, s=5, lw=0, vmin=low, vmax=high)
            ax.set_title(f"{unit}, probe R² {found:.2f}", fontsize=9)
            if number == len(rows) - 1:
                fig.colorbar(shown, ax=axes[:, 1 if ax is line[1] else 2], label=f"{unit} (GeV)",
                             location="bottom", shrink=0.9, pad=0.02, aspect=30)
        line[0].set_ylabel(name)
        for ax in line:
            ax.set(xticks=(), yticks=())
            ax.spines[:].set_visible(False)
    axes[0, 0].legend(markerscale=2, handletextpad=0)
    return fig


def moved(rows: Mapping[str, Mapping[str, float]], labels: Mapping[str, str],
          trained_on: Sequence[str] = ()) -> Figure:
    """How far a transformation moves features, in units of the distance of different jets.

    Args:
        rows: encoder → transformation → distance. labels: from the top; those ``trained_on`` are
            marked by a star.
    """
    fig, ((ax,),) = new(1, 1, 0.21 * len(labels) + 0.9, width=4.8)
    for number, (name, found) in enumerate(rows.items()):
        ax.plot([found[k] for k in labels], [-n for n in range(len(labels))], MARKS[number], ms=5,
                ls="none", color=CYCLE[number], label=name)
    names = [f"{'* ' if k in trained_on else ''}{text}" for k, text in labels.items()]
    ax.set_yticks([-n for n in range(len(labels))], names)
    ax.axvline(1, color=GREY, lw=0.8, ls="--")
    ax.set_xscale("log")
    ax.set_xlabel("mean squared distance, different jets: 1")
    ax.legend(loc="lower left")
    return fig
