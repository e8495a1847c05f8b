"""Figures of collisions, encodings, pile-up and tokens (notebooks 01 and 02), from plain arrays.

Angles in radians, momenta and masses in GeV, lengths in cm. Spectra against the published ones
and images of one colour scale are in ``figures_jets``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from lib.report import style
from lib.report.figures_jets import CHANNELS
from lib.report.style import BLUE, CYCLE, GREY, LINES, ORANGE, QCD, TOP, VERMILION, array

CLASSES = {"QCD": QCD, "top": TOP}


def new(*size, **more):
    """As ``style.new``; shown small, so that notebooks with many figures stay light."""
    fig, axes = style.new(*size, **more)
    fig.set_dpi(72)
    return fig, axes


def event_stages(stages: Mapping[str, np.ndarray], jets: np.ndarray, radius: float) -> Figure:
    """One event, stage by stage, in the (eta, phi) plane.

    Args:
        stages: title → (n, 3) eta, phi, pT; the area of a marker grows with pT.
        jets: (j, 2) eta, phi of the jet axes, drawn as circles of ``radius``.
    """
    fig, axes = new(1, len(stages), 3.0, sharex=True, sharey=True)
    for ax, (title, particles) in zip(axes.flat, stages.items(), strict=True):
        eta, phi, pt = array(particles).T
        ax.scatter(eta, phi, s=np.clip(pt, 0.5, 200), color=BLUE, alpha=0.5, lw=0)
        for centre in jets:
            for turn in (-2 * np.pi, 0, 2 * np.pi):  # phi goes around
                ax.add_patch(Circle((centre[0], centre[1] + turn), radius, fill=False,
                                    color=VERMILION, ls="--"))
        ax.set_title(f"{title} ({len(particles)})")
        ax.set_xlabel(r"$\eta$")
        ax.set(xlim=(-3.2, 3.2), ylim=(-np.pi, np.pi), aspect="equal")
    axes[0, 0].set_ylabel(r"$\phi$ (rad)")
    return fig


def transverse_tracks(
    tracks: Sequence[tuple[float, float]], curvature: float, layers: Sequence[float], ecal: float
) -> Figure:
    """Paths of particles across the beam: up to the crystals, and through the pixel layers.

    Args:
        tracks: (charge in e, pT in GeV), one a particle, each drawn in a direction of its own.
        curvature: 1/radius of the circle of 1 GeV and charge 1 (1/cm).
        layers: radii of the pixel layers (cm); ecal: that of the crystals' front face (cm).
    """
    fig, axes = new(1, 2, 3.3)
    for ax, size in zip(axes.flat, (1.08 * ecal, 1.15 * max(layers)), strict=True):
        for r in (*layers, ecal):
            ax.add_patch(Circle((0, 0), r, fill=False, color=GREY, lw=3 if r == ecal else 0.8))
        for i, (charge, pt) in enumerate(tracks):
            kappa = charge * curvature / pt
            arc = np.linspace(0, min(150, np.pi / abs(kappa)), 300)
            angle = 0.4 + 1.2 * i - kappa * arc / 2
            chord = 2 / kappa * np.sin(kappa * arc / 2)
            ax.plot(chord * np.cos(angle), chord * np.sin(angle), color=CYCLE[i], ls=LINES[i],
                    label=f"{charge:+d}, {pt:g} GeV")
        ax.set(xlim=(-size, size), ylim=(-size, size), aspect="equal", xlabel="x (cm)",
               ylabel="y (cm)")
    axes[0, 0].set_title("to the crystals (thick circle)")
    axes[0, 1].set_title("the three pixel layers")
    axes[0, 1].legend(fontsize=7, loc="upper left", frameon=True)
    return fig


def jet_in_units(image: np.ndarray, units: Sequence[str], title: str = "") -> Figure:
    """One image (8, H, W), each channel on a scale of its own; signed ones in two colours.

    Lone pixels are drawn larger than they are, or they would not be seen.
    """
    image = array(image)
    fig, axes = new(2, 4, 4.0, width=8.5, sharex=True, sharey=True)
    for ax, plane, name, unit in zip(axes.flat, image, CHANNELS, units, strict=True):
        filled = plane[plane != 0]
        if len(filled) and filled.min() < 0:
            edge = np.quantile(np.abs(filled), 0.9)
            look = dict(norm=SymLogNorm(edge / 30, vmin=-edge, vmax=edge), cmap="PuOr")
        elif unit == "hits":
            look = dict(norm=Normalize(0, max(2, filled.max(initial=0))), cmap="cividis_r")
        else:
            top = max(filled.max(initial=0), 1e-3)
            look = dict(norm=LogNorm(top / 300, top), cmap="cividis_r")
        shown = grow(plane) if len(filled) < 400 else plane
        artist = ax.imshow(np.ma.masked_equal(shown, 0), origin="lower", **look)
        ax.set_title(f"{name}: {len(filled)} pixels", fontsize=8)
        bar = fig.colorbar(artist, ax=ax, shrink=0.8)
        bar.ax.minorticks_off()
        bar.ax.tick_params(labelsize=6)
        bar.set_label(unit, fontsize=7)
        ax.set(xticks=(0, 62, 124), yticks=(0, 62, 124))
    for ax in axes[-1]:
        ax.set_xlabel(r"column ($\phi$)")
    for ax in axes[:, 0]:
        ax.set_ylabel(r"row ($\eta$)")
    if title:
        fig.suptitle(title)
    return fig


def grow(plane: np.ndarray) -> np.ndarray:
    """Every filled pixel painted 3 × 3, the largest value winning; for drawing only."""
    height, width = plane.shape
    padded = np.pad(plane, 1)
    near = np.stack([padded[i:i + height, j:j + width] for i in range(3) for j in range(3)])
    return np.take_along_axis(near, np.abs(near).argmax(0)[None], axis=0)[0]


def class_spectra(values: Mapping[str, np.ndarray], labels: np.ndarray,
                  ranges: Mapping[str, tuple[float, float]]) -> Figure:
    """Normalised spectra of each class: axis label → (N,) values; labels (N,), 1 is top."""
    fig, axes = new(1, len(values), 2.5)
    for ax, (name, value) in zip(axes.flat, values.items(), strict=True):
        edges = np.linspace(*ranges[name], 36)
        for k, (label, colour) in enumerate(CLASSES.items()):
            heights = np.histogram(array(value)[array(labels) == k], edges, density=True)[0]
            ax.stairs(heights, edges, color=colour, ls=LINES[k], lw=1.4, label=label)
        ax.set(xlabel=name, ylabel="density (1/GeV)")
        ax.legend()
    return fig


def encodings(gev: np.ndarray, cms8: np.ndarray, energy: np.ndarray, scale: np.ndarray) -> Figure:
    """What the 8-bit encoding does: to the sign of d0, and to the scale of energies.

    Args:
        gev: d0 (cm) of all track pixels; cms8: d0 (cm) of those that survive the encoding.
        energy: ECAL energy of each jet (GeV); scale: sum of its ECAL pixels in ``cms8``.
    """
    fig, axes = new(1, 2, 2.6)
    edges = np.linspace(-0.06, 0.06, 49)
    axes[0, 0].hist(array(gev), edges, color=BLUE, alpha=0.35, label="in gev")
    axes[0, 0].hist(array(cms8), edges, histtype="step", color=VERMILION, lw=1.6,
                    label="left in cms8")
    axes[0, 0].set(xlabel="$d_0$ (cm)", ylabel="pixels", yscale="log")
    axes[0, 0].legend()
    axes[0, 1].scatter(array(energy), array(scale), s=6, color=BLUE, alpha=0.6, lw=0)
    axes[0, 1].set(xlabel="ECAL energy of the image (GeV)", ylabel="sum of its ECAL pixels, cms8")
    return fig


def pile_up(means: Sequence[float], shift: np.ndarray, error: np.ndarray,
            filled: Mapping[str, Sequence[float]]) -> Figure:
    """Against the mean number of pile-up collisions: extra jet mass, and filled pixels.

    Args:
        shift, error: mean of (reconstructed - particle-level mass) and its error, GeV.
        filled: name → mean number of non-zero pixels at each of ``means``.
    """
    fig, axes = new(1, 2, 2.5)
    axes[0, 0].errorbar(means, shift, error, color=BLUE, marker="o", capsize=3)
    axes[0, 0].set(xlabel="mean pile-up collisions", ylabel="mean shift of the mass (GeV)")
    for i, (name, counts) in enumerate(filled.items()):
        axes[0, 1].plot(means, counts, marker="osD^v"[i % 5], label=name)
    axes[0, 1].set(xlabel="mean pile-up collisions", ylabel="non-zero pixels an image",
                   ylim=(0, None))
    axes[0, 1].legend()
    return fig


# --- sparsity -------------------------------------------------------------------------------------


def patch_kinds(kinds: Mapping[str, np.ndarray]) -> Figure:
    """Maps of patches (rows, columns): 0 empty, 1 pixel layers only, 2 track or calorimeter."""
    fig, axes = new(1, len(kinds), 2.9, sharey=True)
    colours = ListedColormap(["#F2F2F2", "#A8C6DF", BLUE])
    for ax, (title, kind) in zip(axes.flat, kinds.items(), strict=True):
        shown = ax.imshow(array(kind), origin="lower", cmap=colours, vmin=-0.5, vmax=2.5)
        ax.set(title=title, xlabel=r"patch column ($\phi$)")
    axes[0, 0].set_ylabel(r"patch row ($\eta$)")
    bar = fig.colorbar(shown, ax=axes, ticks=(0, 1, 2), shrink=0.8)
    bar.ax.set_yticklabels(["empty", "pixel layers only", "track or calorimeter"])
    return fig


def occupancy_map(share: np.ndarray, fine: np.ndarray) -> Figure:
    """Share of jets in which a patch is active, and in which it is fine: (rows, columns)."""
    fig, axes = new(1, 2, 2.9, sharey=True)
    titles = ("any hit", "track or calorimeter hit")
    for ax, values, title in zip(axes.flat, (share, fine), titles, strict=True):
        shown = ax.imshow(array(values), origin="lower", vmin=0, vmax=1)
        ax.set(title=title, xlabel=r"patch column ($\phi$)")
    axes[0, 0].set_ylabel(r"patch row ($\eta$)")
    fig.colorbar(shown, ax=axes, shrink=0.8, label="share of jets")
    return fig


def bytes_per_jet(sizes: Mapping[str, float]) -> Figure:
    """Bytes a jet takes in each form, logarithmic; the factor over the first beside each bar."""
    fig, ((ax,),) = new(1, 1, 0.32 * len(sizes) + 0.7)
    first = next(iter(sizes.values()))
    for y, size in enumerate(reversed(sizes.values())):
        ax.barh(y, size, color=BLUE, height=0.65)
        ax.text(size * 1.1, y, f"{size:,.0f}  (÷ {first / size:,.0f})", va="center", fontsize=8)
    ax.set_yticks(range(len(sizes)), list(reversed(sizes)))
    ax.set(xscale="log", xlabel="bytes a jet", xlim=(min(sizes.values()) / 3, first * 30))
    return fig


def cost(tokens: Mapping[str, float], work: Mapping[str, float], seconds: Mapping[str, float]
         ) -> Figure:
    """Tokens, multiply–accumulates and time of a forward pass, each relative to all patches."""
    fig, ((ax,),) = new(1, 1, 2.6)
    x, names = np.arange(len(tokens)), list(tokens)
    looks = (("tokens", tokens, BLUE, None), ("multiply–accumulates", work, ORANGE, "///"),
             ("time", seconds, VERMILION, "..."))
    for shift, (label, values, colour, hatch) in zip((-0.27, 0, 0.27), looks, strict=True):
        ax.bar(x + shift, [values[n] / values[names[0]] for n in names], 0.27, color=colour,
               hatch=hatch, edgecolor="w", label=label)
    ax.set_xticks(x, names)
    ax.set_ylabel(f"relative to “{names[0]}”")
    ax.axhline(1, color=GREY, lw=0.8, ls="--")
    ax.legend()
    return fig
