"""Drawings of notebook 01: an event, tracks, channels, encodings, spectra against published ones.

Angles in radians, momenta and masses in GeV, lengths in cm.
"""

import numpy as np
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.patches import Circle

from lib.cms import CHANNELS
from lib.report import plots
from lib.report.plots import BLUE, VERMILION


def event_stages(stages, jets, radius):
    """One event, stage by stage, in the (eta, phi) plane.

    stages: title → (n, 3) eta, phi, pT, the area of a marker grows with pT; jets: (j, 2) eta and
    phi of the jet axes, drawn as circles of ``radius``.
    """
    fig, (axes,) = plots.new(1, len(stages), 3.2, 7.0, sharex=True, sharey=True)
    for ax, (title, particles) in zip(axes, stages.items(), strict=True):
        eta, phi, pt = plots.array(particles).T
        ax.scatter(phi, eta, s=np.clip(pt, 0.5, 200), color=BLUE, alpha=0.5, lw=0,
                   rasterized=True)
        for centre in jets:
            for turn in (-2 * np.pi, 0, 2 * np.pi):  # phi goes around
                ax.add_patch(Circle((centre[1] + turn, centre[0]), radius, fill=False,
                                    color=VERMILION, ls="--"))
        ax.set(title=f"{title} ({len(particles)})", xlabel=r"$\phi$ (rad)",
               xlim=(-np.pi, np.pi), ylim=(-3.2, 3.2), aspect="equal")
    axes[0].set_ylabel(r"$\eta$")
    return fig


def transverse_tracks(tracks, curvature, layers, ecal):
    """Paths of particles across the beam: up to the crystals, and through the pixel layers.

    tracks: (charge in e, pT in GeV), one a particle, each drawn in a direction of its own;
    curvature: 1/radius of the circle of 1 GeV and charge 1 (1/cm); layers, ecal: radii of the
    pixel layers and of the crystals' front face (cm).
    """
    fig, (axes,) = plots.new(1, 2, 3.3)
    for ax, size in zip(axes, (1.08 * ecal, 1.15 * max(layers)), strict=True):
        for r in (*layers, ecal):
            ax.add_patch(Circle((0, 0), r, fill=False, color=plots.GREY, lw=3 if r == ecal else 1))
        paths = {}
        for i, (charge, pt) in enumerate(tracks):
            kappa = charge * curvature / pt
            arc = np.linspace(0, min(150, np.pi / abs(kappa)), 300)
            angle = 0.4 + 1.2 * i - kappa * arc / 2
            chord = 2 / kappa * np.sin(kappa * arc / 2)
            paths[f"{charge:+d}, {pt:g} GeV"] = chord * np.cos(angle), chord * np.sin(angle)
        plots.lines(paths, "x (cm)", "y (cm)", ax=ax, legend=False)
        ax.set(xlim=(-size, size), ylim=(-size, size), aspect="equal")
    axes[0].set_title("to the crystals (thick circle)")
    axes[1].set_title("the three pixel layers")
    axes[1].legend(fontsize=7, loc="upper left", frameon=True)
    return fig


def jet_in_units(image, units, title):
    """One image (8, H, W), each channel on a scale of its own; signed ones in two colours.

    Lone pixels are drawn larger than they are, or they would not be seen.
    """
    fig, axes = plots.new(2, 4, 4.0, 8.5, sharex=True, sharey=True)
    for ax, plane, name, unit in zip(axes.flat, plots.array(image), CHANNELS, units, strict=True):
        filled = plane[plane != 0]
        norm, colours = LogNorm(max(filled.max(initial=0), 1e-3) / 300,
                                max(filled.max(initial=0), 1e-3)), "cividis_r"
        if len(filled) and filled.min() < 0:
            edge = np.quantile(np.abs(filled), 0.9)
            norm, colours = SymLogNorm(edge / 30, vmin=-edge, vmax=edge), "PuOr"
        elif unit == "hits":
            norm = Normalize(0, max(2, filled.max(initial=0)))
        shown = grow(plane) if len(filled) < 400 else plane
        plots.images({f"{name}: {len(filled)} pixels": np.where(shown == 0, np.nan, shown)}, ax=ax,
                     norm=norm, cmap=colours, empty="w", bar=False)
        ax.set_title(ax.get_title(), fontsize=8)
        bar = plots.colourbar(ax.images[0], ax, shrink=0.8)
        bar.ax.minorticks_off()
        if isinstance(norm, SymLogNorm):  # near zero decades are closer than their labels
            bar.set_ticks([-1e-2, -1e-3, 0, 1e-3, 1e-2])
        bar.ax.tick_params(labelsize=6)
        bar.set_label(unit, fontsize=7)
    fig.suptitle(title)
    return fig


def grow(plane):
    """Every filled pixel painted 3 × 3, the largest value winning; for drawing only."""
    height, width = plane.shape
    padded = np.pad(plane, 1)
    near = np.stack([padded[i:i + height, j:j + width] for i in range(3) for j in range(3)])
    return np.take_along_axis(near, np.abs(near).argmax(0)[None], axis=0)[0]


def encodings(gev, cms8, energy, scale):
    """What the 8-bit encoding does: to the sign of d0, and to the scale of energies.

    gev: d0 (cm) of all track pixels; cms8: d0 (cm) of those that survive the encoding; energy:
    ECAL energy of each jet (GeV); scale: sum of its ECAL pixels in ``cms8``.
    """
    fig, ((left, right),) = plots.new(1, 2)
    bins = dict(bins=np.linspace(-0.06, 0.06, 49), stat="count", log=True, ax=left)
    plots.histograms({"in gev": gev}, "$d_0$ (cm)", "pixels", fill=True, **bins)
    plots.histograms({"left in cms8": cms8}, "$d_0$ (cm)", "pixels", first=1, **bins)
    left.legend()
    right.scatter(plots.array(energy), plots.array(scale), s=6, color=BLUE, alpha=0.6, lw=0)
    right.set(xlabel="ECAL energy of the image (GeV)", ylabel="sum of its ECAL pixels, cms8")
    return fig


def closure_histograms(histograms):
    """Published and simulated spectra with their pulls.

    histograms: ``{"mass": {edges, published, measured, error, pull}, "pt": ...}`` as
    ``collider.closure.closure`` gives them; GeV, counts.
    """
    names = {"mass": "jet mass $m$ (GeV)", "pt": "jet $p_T$ (GeV)"}
    fig, axes = plots.new(2, len(histograms), 3.6, sharex="col", height_ratios=(3, 1))
    for (name, row), (top, bottom) in zip(histograms.items(), axes.T):
        edges, error = plots.array(row["edges"]), plots.array(row["error"])
        centres, measured = (edges[1:] + edges[:-1]) / 2, plots.array(row["measured"])
        top.stairs(row["published"], edges, color=plots.GREY, fill=True, alpha=0.4,
                   label="published")
        points = dict(marker="o", ms=3, ls="none", legend=False)
        plots.lines({"simulated": (centres, measured, measured - error, measured + error)}, "",
                    f"jets / {edges[1] - edges[0]:.1f} GeV", ax=top, bars=True, **points)
        top.set_ylim(0)
        top.legend()
        bottom.axhline(0, **plots.RULE)
        bottom.axhspan(-2, 2, color=plots.GREY, alpha=0.2, lw=0)
        plots.lines({"": (centres, row["pull"])}, names[name], "pull", ax=bottom, **points)
    return fig


def removal_spectra(histograms):
    """The published mass spectrum and simulated ones under several treatments of pile-up.

    histograms: name → what ``collider.closure.spectrum`` gives; GeV, counts.
    """
    fig, ((ax,),) = plots.new(1, 1, 2.8)
    edges = plots.array(next(iter(histograms.values()))["edges"])
    ax.stairs(next(iter(histograms.values()))["published"], edges, color=plots.GREY, fill=True,
              alpha=0.4, label="published")
    points = {}
    for name, row in histograms.items():
        measured, error = plots.array(row["measured"]), plots.array(row["error"])
        points[name] = (edges[1:] + edges[:-1]) / 2, measured, measured - error, measured + error
    plots.lines(points, "jet mass $m$ (GeV)", f"jets / {edges[1] - edges[0]:.1f} GeV", ax=ax,
                bars=True, marks=True)
    ax.set_ylim(0)
    ax.legend()
    return fig


def closure_channels(rows):
    """Simulated over published for every quantity of the closure table, with its tolerance; fitted
    rows, then predicted ones, then those held out, under their names."""
    kinds = sorted({row["kind"] for row in rows}, key=("fitted", "predicted", "held out").index)
    rows = [row for kind in kinds for row in rows if row["kind"] == kind and row["published"]]
    fig, ((ax,),) = plots.new(1, 1, 0.19 * len(rows) + 0.7)
    for y, row in enumerate(reversed(rows)):
        share = float(row["tolerance"].lstrip("±")) / row["published"]
        ax.barh(y, 2 * share, left=1 - share, height=0.7, color=plots.GREY, alpha=0.3)
        marker, colour = ("o", BLUE) if row["ok"] else ("X", VERMILION)
        ax.plot(row["measured"] / row["published"], y, marker, color=colour, ms=5)
    for kind in kinds:
        last = max(i for i, row in enumerate(rows) if row["kind"] == kind)
        ax.axhline(len(rows) - last - 1.5, **plots.RULE)
    ax.axvline(1, **plots.RULE)
    ax.set_yticks(range(len(rows)), [f"{row['quantity']} ({row['kind']})"
                                     for row in reversed(rows)])
    ax.set_xlabel("simulated / published (bars: tolerance; crosses: outside)")
    return fig


def shifts(rows, varied, most=8):
    """Relative change, in per cent, of the quantities of a closure table that change ``most`` under
    a varied detector, the largest on top.

    rows: of the closure table; varied: quantity → value.
    """
    changes = {row["quantity"]: 100 * (varied[row["quantity"]] / row["measured"] - 1)
               for row in rows}
    names = sorted(changes, key=lambda name: abs(changes[name]))[-most:]
    fig, ((ax,),) = plots.new(1, 1, 0.19 * len(names) + 0.7)
    ax.barh(names, [changes[name] for name in names], height=0.7, color=BLUE)
    ax.axvline(0, **plots.RULE)
    ax.set_xlabel("change with the varied detector (%)")
    return fig
