"""Calorimeter maps as pictures: ieta up, iphi to the right, white where no cell is read out."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hcal.maps import ieta, iphi
from lib.report.plots import array, colourbar, grid_map, new

AXES = dict(names=(r"$i\phi$", r"$i\eta$"), square=False)  # of ``grid_map``
COLUMNS = (0, 17, 35, 53, 71)


def bands(ax: Axes, values: Any, live: Any, sick: Any, label: str, extend: str = "neither",
          **show: Any) -> None:
    """One map without the rows that have no live cell, with a gap between the two ends.
    Cells of 10 degrees are as wide as they are; those of ``sick`` (64, 72) are outlined."""
    values, live, sick = array(values), array(live), array(sick)
    rows = np.flatnonzero(live.any(1))
    place = np.arange(len(rows)) + (rows >= 32)
    wide = ~live & np.roll(live, 1, 1)
    shown = np.full((place[-1] + 1, values.shape[1]), np.nan)
    shown[place] = np.where(live, values, np.where(wide, np.roll(values, 1, 1), np.nan))[rows]
    grid_map({"": shown}, ax=ax, bar=False, **AXES, **show)
    colourbar(ax.collections[0], ax, label, extend=extend)
    for r, c in np.argwhere(sick):
        corner = c, place[np.searchsorted(rows, r)]
        ax.add_patch(Rectangle(corner, 1 + wide[r, (c + 1) % 72], 1, fill=False, ec="k", lw=1))
    ax.set_yticks(place[::2] + 0.5, [str(value) for value in ieta(rows[::2])])
    label_columns(ax)


def label_columns(ax: Axes) -> None:
    """iphi of some columns of an array as labels of the lower axis."""
    shown = [c for c in COLUMNS if c < ax.get_xlim()[1]]
    ax.set_xticks([c + 0.5 for c in shown], [str(iphi(c)) for c in shown])


def cell_map(score: Any, ratio: Any, live: Any, kind: Any, title: str = "") -> Figure:
    """Ratio to what is expected, and log odds of being sick: (64, 72) arrays; what is sick
    (kind > 0) is outlined in the upper panel."""
    fig, axes = new(2, 1, 4.8, sharex=True, sharey=True)
    bands(axes[0, 0], ratio, live, array(kind) > 0, "count / expected", "max",
          norm=Normalize(0, 2), cmap="RdBu_r")
    bands(axes[1, 0], score, live, np.zeros_like(array(live)), "log odds of being sick", "both",
          norm=Normalize(-10, 10))
    if title:
        fig.suptitle(title, fontsize=9)
    return fig
