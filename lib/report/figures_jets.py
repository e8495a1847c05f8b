"""Figures of the data: images, spectra against the published ones, sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lib.report.style import BLUE, GREY, ORANGE, QCD, TOP, VERMILION, array, new

CRYSTAL = 0.01745  # size of a pixel in eta and phi: one ECAL crystal, 2 pi / 360
CHANNELS = (
    "track $p_T$", "track $d_z$", "track $d_0$", "ECAL", "HCAL", "BPIX 1", "BPIX 2", "BPIX 3",
)


def _extent(image: np.ndarray) -> tuple[float, float, float, float]:
    """Left, right, bottom, top in phi and eta about the image's centre."""
    height, width = (n * CRYSTAL / 2 for n in image.shape[-2:])
    return -width, width, -height, height


def _panels(images: np.ndarray, titles: Sequence[str], unit: str, columns: int) -> Figure:
    rows = -(-len(images) // columns)
    fig, axes = new(rows, columns, 1.62 * rows + 0.35, sharex=True, sharey=True)
    positive = images[images > 0]
    floor = max(positive.min(), positive.max() * 1e-4) if positive.size else 1e-3
    norm = LogNorm(floor, max(positive.max(), floor * 10) if positive.size else 1.0)
    shown = None
    for ax, image, title in zip(axes.flat, images, titles):
        ax.set_facecolor("#00224e")  # cividis' dark end: what is empty
        shown = ax.imshow(
            np.ma.masked_less_equal(image, 0), norm=norm, origin="lower", extent=_extent(image)
        )
        ax.set_title(title)
    for ax in axes.flat[len(images):]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel(r"$\Delta\phi$")
    for ax in axes[:, 0]:
        ax.set_ylabel(r"$\Delta\eta$")
    fig.colorbar(shown, ax=axes, label=unit, shrink=0.8, pad=0.01)
    return fig


def jet_image(
    image, title: str | None = None, unit: str = "8-bit value", channels: Sequence[str] = CHANNELS
) -> Figure:
    """One jet (C, H, W), a panel a channel, logarithmic colours."""
    image = array(image)
    fig = _panels(image, channels, unit, min(4, len(image)))
    if title:
        fig.suptitle(title)
    return fig


def mean_images(
    means: Mapping[str, np.ndarray], channel: Sequence[int] = (0, 3, 4, 5),
    unit: str = "mean 8-bit value", channels: Sequence[str] = CHANNELS,
) -> Figure:
    """Mean image of each class, ``{"QCD": (C, H, W), "top": (C, H, W)}``: a row a class."""
    images = np.stack([array(mean)[c] for mean in means.values() for c in channel])
    titles = [f"{name}: {channels[c]}" for name in means for c in channel]
    return _panels(images, titles, unit, len(channel))


def closure_histograms(histograms: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Published and simulated spectra with their pulls.

    Args:
        histograms: ``{"mass": {edges, published, measured, error, pull}, "pt": ...}`` as
            ``collider.closure.closure`` gives them; GeV, counts.
    """
    labels = {"mass": "jet mass $m$ (GeV)", "pt": "jet $p_T$ (GeV)"}
    fig, axes = new(2, len(histograms), 3.4, sharex="col", height_ratios=(3, 1))
    for (name, row), (top, bottom) in zip(histograms.items(), axes.T):
        edges, centres = array(row["edges"]), np.convolve(row["edges"], [0.5, 0.5], "valid")
        top.stairs(row["published"], edges, color=GREY, fill=True, alpha=0.4, label="published")
        top.errorbar(centres, row["measured"], array(row["error"]), fmt="o", ms=3, color=BLUE,
                     label="simulated")
        top.set_ylabel(f"jets / {edges[1] - edges[0]:.1f} GeV")
        top.set_ylim(0)
        top.legend()
        bottom.axhline(0, color=GREY, lw=0.8)
        bottom.axhspan(-2, 2, color=GREY, alpha=0.2, lw=0)
        bottom.plot(centres, row["pull"], "o", ms=3, color=BLUE)
        bottom.set_xlabel(labels.get(name, name))
        bottom.set_ylabel("pull")
    return fig


def closure_channels(rows: Sequence[Mapping]) -> Figure:
    """Simulated over published for every quantity of the closure table, with its tolerance."""
    rows = [row for row in rows if row["published"]]
    fig, ((ax,),) = new(1, 1, 0.19 * len(rows) + 0.7)
    for y, row in enumerate(reversed(rows)):
        tolerance = row["tolerance"].lstrip("±")
        relative = (
            float(tolerance.rstrip("%")) / 100 if "%" in tolerance
            else float(tolerance) / row["published"]
        )
        ax.barh(y, 2 * relative, left=1 - relative, height=0.7, color=GREY, alpha=0.3)
        marker = ("o", BLUE) if row["ok"] else ("X", VERMILION)
        ax.plot(row["measured"] / row["published"], y, marker[0], color=marker[1], ms=5)
    ax.axvline(1, color=GREY, lw=0.8)
    ax.set_yticks(range(len(rows)), [row["quantity"] for row in reversed(rows)])
    ax.set_xlabel("simulated / published (bars: tolerance; crosses: outside)")
    return fig


def sparsity(
    pixels: Sequence[float], patches: Sequence[float], channels: Sequence[str] = CHANNELS
) -> Figure:
    """Occupied share of pixels and of 5 × 5 patches, a pair of bars a channel.

    Args:
        pixels, patches: fractions in 0…1, one a channel; where ``patches`` has one more, it is
            the share of patches with a hit in any channel.
    """
    pixels, patches = array(pixels), array(patches)
    names = [*channels[: len(pixels)], *(["any"] if len(patches) > len(pixels) else [])]
    fig, ((ax,),) = new(1, 1, 2.5)
    x = np.arange(len(names))
    ax.bar(x[: len(pixels)] - 0.2, 100 * pixels, 0.4, color=BLUE, label="pixels")
    ax.bar(x[: len(patches)] + 0.2, 100 * patches, 0.4, color=ORANGE, hatch="///", edgecolor="w",
           label="patches of 5 × 5 pixels")
    ax.set_yscale("log")
    ax.set_xticks(x, names)
    ax.set_ylabel("occupied (%)")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend()
    return fig


def counts(values: Mapping[str, Sequence[float]], xlabel: str, bins: int = 40) -> Figure:
    """Normalised histograms of one quantity, a line a group; e.g. active patches by class."""
    fig, ((ax,),) = new(1, 1, 2.5)
    edges = np.histogram_bin_edges(np.concatenate([array(v) for v in values.values()]), bins)
    colours = {"QCD": QCD, "top": TOP}
    for number, (name, group) in enumerate(values.items()):
        heights = np.histogram(array(group), edges, density=True)[0]
        ax.stairs(heights, edges, label=name, lw=1.4, ls=("-", "--", "-.", ":")[number % 4],
                  color=colours.get(name))
    ax.set_xlabel(xlabel)
    ax.set_ylabel("density")
    ax.legend()
    return fig
