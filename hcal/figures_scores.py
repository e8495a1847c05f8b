"""Maps of sick channels, from plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.report.style import array, new

RATIOS = (0.0, 2.0)


def channel_map(score: Any, ratio: Any, live: Any, kind: Any, title: str = "") -> Figure:
    """Ratio to what is expected and log odds of being sick, over ieta and iphi: (64, 72) arrays.

    Rows without live cells are left out, cells of 10 degrees drawn as wide as they are; the sick
    ones (kind > 0) are outlined in the upper panel.
    """
    score, ratio, live, kind = (array(v) for v in (score, ratio, live, kind))
    rows = np.flatnonzero(live.any(1))
    ieta = rows - 32 + (rows >= 32)
    place = np.arange(len(rows)) + (rows >= 32)  # a gap between the two ends
    wide = ~live & np.roll(live, 1, 1)
    fig, axes = new(2, 1, 4.8, sharex=True, sharey=True)
    panels = ((ratio, "count / expected", RATIOS, "RdBu_r"),
              (score, "log odds of being sick", (-10, 10), None))
    for ax, (values, name, (low, high), colours) in zip(axes.flat, panels, strict=True):
        values = np.where(wide, np.roll(values, 1, 1), values)
        shown = np.full((int(place[-1]) + 1, values.shape[1]), np.nan)
        shown[place] = np.where(live | wide, np.clip(values, low, high), np.nan)[rows]
        edges = np.arange(73) + 0.5, np.arange(len(shown) + 1) - 0.5
        mesh = ax.pcolormesh(*edges, shown, vmin=low, vmax=high, cmap=colours, rasterized=True)
        fig.colorbar(mesh, ax=ax, label=name, extend="both")
        ax.set_ylabel(r"$i\eta$")
    r, c = np.nonzero(kind)
    r = np.searchsorted(rows, r)
    for y, x, row in zip(place[r], c, rows[r], strict=True):
        size = 1 + wide[row, (x + 1) % 72]
        axes[0, 0].add_patch(Rectangle((x + 0.5, y - 0.5), size, 1, fill=False, ec="k", lw=1))
    axes[0, 0].set_ylim(len(shown) - 0.5, -0.5)
    axes[0, 0].set_yticks(place[::2], [str(value) for value in ieta[::2]])
    axes[1, 0].set_xlabel(r"$i\phi$")
    if title:
        fig.suptitle(title, fontsize=9)
    return fig
