"""Drawings of notebooks 00 and 07: tokens of an image, the mass as a rival, a training."""

import numpy as np
from matplotlib.colors import LogNorm

from drawings.collisions import grow
from lib.cms import PIXEL
from lib.report import plots
from lib.report.plots import ORANGE


def pair(images):
    """Images (C, H, W) as a detector's display, a panel each: energy in the two calorimeters as
    squares, tracks as circles whose area grows with their transverse momentum."""
    fig, (axes,) = plots.new(1, len(images), 3.2, sharey=True)
    images = {name: plots.array(image) for name, image in images.items()}
    energy = {name: image[3] + image[4] for name, image in images.items()}
    norm = LogNorm(1, max(2, *(plane.max() for plane in energy.values())))
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        plots.images({name: energy[name]}, ax=ax, norm=norm, bar=False)
        row, column = image[0].nonzero()
        middle = (image.shape[-1] - 1) / 2
        size = 60 * np.sqrt(image[0][row, column] / max(image[0].max(), 1))
        ax.scatter((column - middle) * PIXEL, (row - middle) * PIXEL, size, facecolors="none",
                   edgecolors=ORANGE, linewidths=1.0)
    plots.colourbar(axes[-1].images[0], axes, "ECAL + HCAL (8-bit value)")
    return fig


def channels(planes):
    """The channels of a jet, name → (H, W); where few pixels are filled, each is painted 3 × 3."""
    planes = {name: plots.array(plane) for name, plane in planes.items()}
    shown = {name: grow(plane) if (plane > 0).sum() < 400 else plane
             for name, plane in planes.items()}
    return plots.images(shown, "8-bit value")[0, 0].figure


def tokens_on_image(images, patch=5):
    """Images (C, H, W), summed over channels, a panel each; patches that hold nothing are grey.

    The patches left in colour are the tokens that a model gets.
    """
    fig, (axes,) = plots.new(1, len(images), 3.0, sharey=True)
    totals = {name: plots.array(image).sum(0) for name, image in images.items()}
    norm = LogNorm(1, max(2, *(total.max() for total in totals.values())))
    for ax, (name, total) in zip(axes, totals.items(), strict=True):
        rows, columns = (n // patch for n in total.shape)
        active = total.reshape(rows, patch, columns, patch).any((1, 3))
        edges = np.arange(columns + 1) * patch, np.arange(rows + 1) * patch
        ax.pcolormesh(*edges, np.where(active, np.nan, 1), cmap="Greys", vmin=0, vmax=3,
                      edgecolors="w", linewidth=0.3, rasterized=True)
        plots.images({f"{name}: {active.sum()} of {active.size} patches": total}, ax=ax,
                     norm=norm, empty="w", bar=False, extent=(0, total.shape[1]) * 2)
        ax.set(xlabel=r"pixel along $\phi$", ylabel=r"pixel along $\eta$")
        ax.label_outer()
    plots.colourbar(ax.images[-1], axes, "sum over channels")
    return fig


def mass_alone(mass, label, grid, probability):
    """Spectra of the jet mass by class and, below, P(top) at masses ``grid`` (GeV)."""
    fig, ((top,), (bottom,)) = plots.new(2, 1, 3.8, 4.8, sharex=True)
    plots.histograms({"QCD": mass[label == 0], "top": mass[label == 1]}, "", "density (1 / GeV)",
                     bins=np.linspace(30, 330, 51), ax=top)
    plots.lines({"P(top | mass)": (grid, probability)}, "jet mass (GeV)", "P(top | mass)",
                ax=bottom, first=2, ls="-", drawstyle="steps-mid")
    bottom.axhline(0.5, **plots.RULE)
    bottom.set_ylim(0, 1)
    return fig


def training(history, best=None):
    """Losses on training and validation jets, and the validation metrics, against updates.

    history: rows with ``update``, ``loss``, ``val_loss`` and, where known, ``class``, ``mass``,
    ``val_class``, ``val_mass``, ``val_auc``, ``val_mae`` (GeV); best: the update whose weights were
    kept.
    """
    panels = {"total loss": ("loss", "val_loss"), "class loss": ("class", "val_class"),
              "mass loss": ("mass", "val_mass"), "AUC": (None, "val_auc"),
              "mass error (GeV)": (None, "val_mae")}
    found = {title: {name: [(row["update"], row[key]) for row in history
                            if row.get(key) is not None]
                     for name, key in zip(("training", "validation"), keys, strict=True)}
             for title, keys in panels.items()}
    found = {title: curves for title, curves in found.items() if any(curves.values())}
    fig, axes = plots.new(-(-len(found) // 3), min(3, len(found)), 2.0 * -(-len(found) // 3))
    for ax, (title, curves) in zip(axes.flat, found.items()):
        for number, (name, points) in enumerate(curves.items()):
            if points:
                plots.lines({name: zip(*points)}, "update", title, ax=ax, first=number,
                            marker="." if len(history) < 20 else None)
        if best is not None:
            ax.axvline(best, **plots.RULE | dict(ls=":"))
    axes[0, 0].legend()
    for ax in axes.flat[len(found):]:
        ax.set_visible(False)
    return fig
