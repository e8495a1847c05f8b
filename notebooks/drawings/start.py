"""Drawings of notebook 00: what a model gets of an image, and the mass as a rival."""

import numpy as np
from matplotlib.colors import LogNorm

from lib.report import plots


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
