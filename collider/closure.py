"""Closure: simulated jets against the published numbers of the public CMS files.

A row of the table is *fitted* (`collider.fit` has seen it), *predicted* (no fit has) or *held out*
(a published number that could have been fitted and was kept back on purpose).
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from lib.cms import CHANNELS, PIXEL, TOWER
from lib.data.images import JetImages

LABELLED, UNLABELLED = 10_000, 60_000  # jets of the public files
PIXELS, MEAN = "non-zero pixels", "mean pixel"
# What the fit uses: nothing else of this file may enter it. The fraction of zeros is the sum of the
# pixels of all channels, so it is no prediction.
FITTED = (*(f"{name}: {PIXELS}" for name in CHANNELS if name not in ("track d0", "track dz")),
          "m: mean (GeV)", "pT: mean (GeV)", "zeros")
HELD_OUT = (*(f"{name}: {what}" for name in ("track d0", "track dz") for what in (PIXELS, MEAN)),
            "m: standard deviation (GeV)", "m: low mode (GeV)", "m: high mode (GeV)",
            "pT: standard deviation (GeV)")


class Published(NamedTuple):
    """A published mean: its value, half of its last printed digit, the number of jets."""

    value: float
    digit: float
    jets: int = LABELLED


# Mean over all pixels: of the unlabelled file, but for the HCAL, which is 1.29 there and about 1.5
# in the labelled file, the mixture simulated here.
PUBLISHED = {
    "zeros": Published(0.98797, 5e-6),
    **{f"{name}: {PIXELS}": Published(value, 0.5) for name, value in zip(
        CHANNELS, (46, 31, 15, 234, 734, 125, 156, 156), strict=True)},
    **{f"{name}: {MEAN}": Published(value, 5e-5, UNLABELLED) for name, value in zip(
        CHANNELS, (0.0785, 0.0843, 0.0575, 0.1210, 1.2899, 1.1100, 1.1577, 1.1159), strict=True)},
    f"HCAL: {MEAN}": Published(1.5, 0.05),
    "m: mean (GeV)": Published(142.8, 0.05), "m: standard deviation (GeV)": Published(51.5, 0.05),
    "pT: mean (GeV)": Published(521, 0.5), "pT: standard deviation (GeV)": Published(108, 0.5),
}
# Read off published figures: the pT counts to about 5 jets.
MASS_COUNTS = (10, 158, 465, 905, 1022, 1057, 870, 740, 732, 740, 1030, 930, 638, 342, 142, 90, 40,
               28, 20, 10)
MASS_EDGES = 31.95 + 13.93 * np.arange(len(MASS_COUNTS) + 1)  # GeV
PT_COUNTS = (1650, 1885, 1700, 1265, 1030, 710, 525, 365, 262, 135, 120, 90, 60, 45, 38, 32, 25)
PT_EDGES = 400.0 + 32.8 * np.arange(len(PT_COUNTS) + 1)  # GeV
READ_TO = 5.0  # jets
MODE_SPLIT = 8  # bin of the mass spectrum between its two modes


def per_jet(jets: JetImages) -> dict[str, np.ndarray]:
    """What can be said of one image (cms8), whatever its class: name → (N,), nan where undefined.

    Of each channel the number of non-zero pixels, their mean over all pixels, median level and
    share of ones; overlaps of channels; pixels within 0.4 of the centre; patches; hits of the
    fullest pixel of a pixel layer, and the rise of its occupancy from one end in η to the other.
    """
    channels, height, width = jets.shape
    n, hits = len(jets), jets.hits(slice(None))
    image, channel, row, column = (getattr(hits, k).cpu().numpy()
                                   for k in ("image", "channel", "row", "column"))
    value, key = hits.value.cpu().numpy(), image * channels + channel

    def count(where: np.ndarray | slice = slice(None), weights=None) -> np.ndarray:
        return np.bincount(key[where], weights, minlength=n * channels).reshape(n, channels)

    pixels = count()
    found = {"zeros": 1 - pixels.sum(1) / (channels * height * width)}
    near = np.hypot(row - height // 2, column - width // 2) * PIXEL < 0.4
    order = np.lexsort((value, key))
    first = np.concatenate([[0], pixels.ravel().cumsum()[:-1]]).reshape(pixels.shape)

    def level(share: float) -> np.ndarray:
        at = first + (share * (pixels - 1)).astype(int)
        return np.where(pixels > 0, value[order][np.minimum(at, len(order) - 1)], np.nan)

    with np.errstate(invalid="ignore"):
        for what, values in ((PIXELS, pixels), (MEAN, count(weights=value) / (height * width)),
                             ("median level", level(0.5)), ("level of 90 %", level(0.9)),
                             ("share of ones", count(value == 1) / pixels),
                             ("pixels within 0.4", count(near) / pixels)):
            found |= {f"{name}: {what}": v for name, v in zip(CHANNELS, values.T, strict=True)}
    for a, b in ((0, 1), (0, 2), (1, 2), (0, 3), (3, 4)):
        both = np.intersect1d(*(((image * height + row) * width + column)[channel == c]
                                for c in (a, b)), assume_unique=True) // (height * width)
        found[f"pixels of {CHANNELS[a]} and {CHANNELS[b]}"] = np.bincount(both, minlength=n)
    across = width // TOWER
    patch = (image * (height // TOWER) + row // TOWER) * across + column // TOWER
    for what, used in (("patches that are not empty", slice(None)),
                       ("patches with more than pixel-layer hits", channel < 5)):
        filled = np.bincount(patch[used], minlength=n * across * (height // TOWER)) > 0
        found[what] = filled.reshape(n, -1).sum(1)
    lowest, ends = level(0.0), [count(row < height // 5), count(row >= height - height // 5)]
    rise = np.abs(np.log((ends[0] + 1) / (ends[1] + 1)))
    for c in range(5, channels):  # floor(255 k / kmax), and single hits are never missing
        found[f"{CHANNELS[c]}: hits of the fullest pixel"] = 255 // lowest[:, c]
        found[f"{CHANNELS[c]}: rise along eta (log)"] = rise[:, c]
    return {name: np.asarray(values, float) for name, values in found.items()}


def statistics(jets: JetImages) -> dict[str, tuple[float, float]]:
    """Every number of the table, and its standard error: name → (value, error).

    jets: of the labelled mixture, encoding cms8; mass and pT are used where known.
    """
    found = {name: _mean(values) for name, values in per_jet(jets).items()}
    for name, column in (("m", jets.mass), ("pT", jets.pt)):
        if column is not None:
            x = column.cpu().numpy().astype(float)
            found[f"{name}: mean (GeV)"] = _mean(x)
            variance, error = _mean((x - x.mean()) ** 2)
            found[f"{name}: standard deviation (GeV)"] = variance**0.5, error / (2 * variance**0.5)
    if jets.mass is not None:
        mass = jets.mass.cpu().numpy().astype(float)
        pixels = np.diff(jets.indptr.cpu().numpy()).astype(float)
        r = np.corrcoef(mass, pixels)[0, 1]
        found["correlation of m with the number of pixels"] = r, (1 - r**2) / len(mass) ** 0.5
        found |= _modes(np.histogram(mass, MASS_EDGES)[0])
    return found


def _mean(values: Iterable[float]) -> tuple[float, float]:
    values = np.asarray(values)[np.isfinite(values)]
    return float(values.mean()), float(values.std() / max(len(values) - 1, 1) ** 0.5)


def _modes(counts: np.ndarray) -> dict[str, tuple[float, float]]:
    """The two modes of a mass spectrum in the published bins (GeV): vertices of the parabolas
    through the fullest bins and their neighbours; errors by drawing the counts again."""
    rng = np.random.default_rng(0)
    drawn = np.concatenate([[counts], rng.poisson(counts, (200, len(counts)))]).astype(float)
    found, line = {}, np.arange(len(drawn))
    for name, low, high in (("low", 1, MODE_SPLIT), ("high", MODE_SPLIT, len(counts) - 1)):
        top = low + drawn[:, low:high].argmax(1)
        a, b, c = (drawn[line, top + k] for k in (-1, 0, 1))
        bend = np.where(a - 2 * b + c == 0, -1, a - 2 * b + c)
        place = MASS_EDGES[0] + (top + 0.5 + np.clip(0.5 * (a - c) / bend, -0.5, 0.5)) * 13.93
        found[f"m: {name} mode (GeV)"] = float(place[0]), float(place[1:].std())
    return found


def closure(jets: JetImages, varied: JetImages | None = None) -> dict:
    """Compare jets of the labelled mixture (cms8 encoding) with the published statistics.

    jets: at least 2,000 for the errors to mean something; with mass and pT where known.
    varied: jets of a varied detector. The root mean square of their relative shifts over the rows
        of one sort (pixels, mean pixels, m, pT) is what we do not know of such a row, and adds to
        the statistical errors of both samples; without them only these count.
    Returns `rows`, dict(quantity, kind, published, published_error, measured, error, allowance,
    pull, tolerance, ok), where the pull is in units of all three errors together and the tolerance
    is twice these; and `histograms` {"mass", "pt"}, see `spectrum`.
    """
    found = statistics(jets)
    published = {**PUBLISHED, **{name: Published(value, 0.0) for name, (value, _) in
                                 _modes(np.array(MASS_COUNTS)).items()}}
    names = [name for name in published if name in found]
    shift = {}
    if varied is not None:
        other = statistics(varied)
        for name in names:
            shift.setdefault(_sort(name), []).append(other[name][0] / found[name][0] - 1)
    rows = []
    for name in names:
        (value, digit, sample), (measured, error) = published[name], found[name]
        # Of the published sample only the number of jets is known: a jet there is as far from the
        # mean as one of ours. A digit's rounding is uniform.
        theirs = np.hypot(error * np.sqrt(len(jets) / sample), digit / np.sqrt(3))
        allowance = abs(value) * np.sqrt(np.mean(np.square(shift.get(_sort(name), [0.0]))))
        total = float(np.sqrt(theirs**2 + error**2 + allowance**2))
        kind = ("fitted" if name in FITTED else "held out" if name in HELD_OUT else "predicted")
        rows.append({"quantity": name, "kind": kind, "published": float(value),
                     "published_error": float(theirs), "measured": measured, "error": error,
                     "allowance": float(allowance), "pull": (measured - value) / total,
                     "tolerance": f"±{2 * total:.2g}",
                     "ok": bool(abs(measured - value) <= 2 * total)})
    spectra = {"mass": (jets.mass, MASS_EDGES, MASS_COUNTS), "pt": (jets.pt, PT_EDGES, PT_COUNTS)}
    return {"rows": rows, "histograms": {
        name: spectrum(x.cpu().numpy(), *binned)
        for name, (x, *binned) in spectra.items() if x is not None}}


def _sort(quantity: str) -> str:
    head, _, tail = quantity.partition(": ")
    return tail if tail in (PIXELS, MEAN) else head


def spectrum(values: np.ndarray, edges: np.ndarray, published: tuple[int, ...]) -> dict:
    """A spectrum (GeV) beside the published one, bin by bin, scaled to its total in this range.

    Returns edges, published, measured, error, pull; `outside`, the share of our jets beyond the
    range; `chi2` of the shape with errors of both samples, `ndf` and `p`.
    """
    counts, published = np.histogram(values, edges)[0], np.array(published, dtype=float)
    scale = published.sum() / max(counts.sum(), 1)
    # An empty bin is as uncertain as the count that was expected there.
    error = np.sqrt(np.maximum(counts, published / scale) * scale**2 + published + READ_TO**2 / 3)
    pull = (counts * scale - published) / error
    found = float((pull**2).sum())
    return {"edges": edges.tolist(), "published": published.tolist(),
            "measured": (counts * scale).tolist(), "error": error.tolist(), "pull": pull.tolist(),
            "outside": float(1 - counts.sum() / max(len(values), 1)), "chi2": found,
            "ndf": len(counts) - 1, "p": float(chi2.sf(found, len(counts) - 1))}
