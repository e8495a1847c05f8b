"""Closure: simulated jets against the published numbers of the public CMS files.

Published values: statistics of the labelled file (10,000 jets) and of the unlabelled one (60,000).
"""

import numpy as np

from lib.cms import CHANNELS
from lib.data.images import JetImages

NONZERO = (46, 31, 15, 234, 734, 125, 156, 156)  # mean number per image and channel
# Mean over all pixels: unlabelled file, but for the HCAL, which is 1.29 there and about 1.5 in the
# labelled file, the mixture simulated here.
MEANS = (0.0785, 0.0843, 0.0575, 0.1210, 1.5, 1.1100, 1.1577, 1.1159)
MASS_COUNTS = (10, 158, 465, 905, 1022, 1057, 870, 740, 732, 740, 1030, 930, 638, 342, 142, 90, 40,
               28, 20, 10)
MASS_EDGES = 31.95 + 13.93 * np.arange(len(MASS_COUNTS) + 1)  # GeV
PT_COUNTS = (1650, 1885, 1700, 1265, 1030, 710, 525, 365, 262, 135, 120, 90, 60, 45, 38, 32, 25)
PT_EDGES = 400.0 + 32.8 * np.arange(len(PT_COUNTS) + 1)  # GeV
MODE_SPLIT = 145.0  # GeV, the dip between the two modes of the mass spectrum


def closure(jets: JetImages) -> dict:
    """Compare jets of the labelled mixture (cms8 encoding) with the published statistics.

    jets: at least 2,000 for the tolerances to mean something; with mass and pT where known.
    Returns `rows`, see `row`, and `histograms` {"mass", "pt"}: dict(edges, published, measured,
    error, pull, outside), counts scaled to the published total within the histogram's range.
    """
    channels, height, width = jets.shape
    hits, pixels = jets.hits(slice(None)), len(jets) * height * width
    channel, value = hits.channel.cpu().numpy(), hits.value.cpu().numpy()
    count = np.bincount(channel, minlength=channels) / len(jets)
    mean = np.bincount(channel, value, minlength=channels) / pixels
    zeros = 1 - len(value) / (pixels * channels)
    rows = [row("zeros", 0.98797, zeros, 0.003, absolute=True)]  # labelled file
    for what, published, measured in (("non-zero pixels", NONZERO, count),
                                      ("mean pixel", MEANS, mean)):
        rows += [row(f"{name}: {what}", *pair, 0.20)
                 for name, *pair in zip(CHANNELS, published, measured, strict=True)]
    histograms = {}
    if jets.labels is not None:
        tops = float((jets.labels == 1).float().mean())
        rows.append(row("fraction of tops", 0.4878, tops, 0.01, absolute=True))
    if jets.mass is not None:
        m = jets.mass.cpu().numpy()
        low, high = modes(m)
        rows += [row("m: mean (GeV)", 142.8, m.mean(), 0.07),
                 row("m: standard deviation (GeV)", 51.5, m.std(), 0.07),
                 row("m: low mode (GeV)", 105.0, low, 10.0, absolute=True),
                 row("m: high mode (GeV)", 185.0, high, 10.0, absolute=True)]
        histograms["mass"] = _histogram(m, MASS_EDGES, MASS_COUNTS)
    if jets.pt is not None:
        pt = jets.pt.cpu().numpy()
        rows += [row("pT: mean (GeV)", 521.0, pt.mean(), 0.07),
                 row("pT: standard deviation (GeV)", 108.0, pt.std(), 0.07)]
        histograms["pt"] = _histogram(pt, PT_EDGES, PT_COUNTS)
    return {"rows": rows, "histograms": histograms}


def modes(mass: np.ndarray, width: float = 13.93) -> tuple[float, float]:
    """Positions (GeV) of the maxima of a mass spectrum below and above 145 GeV, smoothed with a
    Gaussian kernel as wide as a published bin: less noisy than the fullest bin."""
    grid, edges = np.arange(40.0, 300.0), np.arange(0.0, 800.0)
    distance = grid[:, None] - (edges[:-1] + 0.5)
    density = np.exp(-0.5 * (distance / (width / 2)) ** 2) @ np.histogram(mass, edges)[0]
    low = grid < MODE_SPLIT
    return float(grid[low][np.argmax(density[low])]), float(grid[~low][np.argmax(density[~low])])


def row(quantity: str, published: float, measured: float, tolerance: float, absolute=False) -> dict:
    """A row of a closure table; the tolerance is relative unless it is `absolute`."""
    scale = 1.0 if absolute else abs(published)
    return {"quantity": quantity, "published": float(published), "measured": float(measured),
            "tolerance": f"±{tolerance:g}" if absolute else f"±{tolerance:.0%}",
            "ok": bool(abs(measured - published) <= tolerance * scale)}


def _histogram(values: np.ndarray, edges: np.ndarray, published: tuple[int, ...]) -> dict:
    counts, published = np.histogram(values, edges)[0], np.array(published, dtype=float)
    scale = published.sum() / max(counts.sum(), 1)
    # The published counts have a statistical error of their own; an empty bin is as uncertain as
    # the count that was expected there.
    error = np.sqrt(np.maximum(counts, published / scale) * scale**2 + published)
    return {"edges": edges.tolist(), "published": published.tolist(),
            "measured": (counts * scale).tolist(), "error": error.tolist(),
            "pull": ((counts * scale - published) / np.maximum(error, 1)).tolist(),
            "outside": float(1 - counts.sum() / max(len(values), 1))}
