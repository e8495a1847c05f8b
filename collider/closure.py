"""Closure: simulated jets against the published numbers of the public CMS files.

A row of the table is *fitted* (`collider.fit` has seen it), *predicted* (no fit has) or *held out*
(a published number that could have been fitted and was kept back on purpose)."""

import math
import tomllib
from pathlib import Path

import numpy as np
import torch
from scipy.stats import chi2
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from collider.course import course_files
from lib.cms import CHANNELS, PIXEL, TOWER
from lib.data.images import JetImages
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.files import require
from lib.models.baselines import BoostedTrees, observables
from lib.profiles import Profile
from lib.report.numbers import with_interval

PUBLISHED = tomllib.loads(Path(__file__).with_name("published.toml").read_text())
PIXELS, MEAN, SPREAD = "non-zero pixels", "mean pixel", "standard deviation (GeV)"
# All that the fit may use, with the bins of pT; what follows from it is no prediction either.
FITTED = (*(f"{name}: {PIXELS}" for name in CHANNELS), f"HCAL: {MEAN}", "m: mean (GeV)",
          "pT: mean (GeV)")
FOLLOWS = ("zeros", f"pT: {SPREAD}")
HELD_OUT = (*(f"{name}: {MEAN}" for name in ("track d0", "track dz")), f"m: {SPREAD}",
            "m: low mode (GeV)", "m: high mode (GeV)")
NEAR = 0.4  # of the centre, in η and φ: half the radius of a jet
READ_TO = 5.0  # jets, to which a bin of a published spectrum is known
MODE_SPLIT = 8  # bin of the mass spectrum between its two modes


def per_jet(jets: JetImages) -> dict[str, np.ndarray]:
    """What can be said of one image (cms8) of any class: name → (N,), nan where undefined.

    Of each channel the number of non-zero pixels, their mean over all pixels, the share of them
    within `NEAR`, median level and share of ones; overlaps of channels; patches; of a pixel layer
    the hits of its fullest pixel, and |log| of the ratio of pixels in its two outer fifths in η."""
    channels, height, width = jets.shape
    n, hits = len(jets), jets.hits(slice(None))
    image, channel, row, column, value = (getattr(hits, k).cpu().numpy() for k in
                                          ("image", "channel", "row", "column", "value"))
    key, pixel = image * channels + channel, (image * height + row) * width + column

    def count(where: np.ndarray | slice = slice(None), weights: np.ndarray | None = None):
        return np.bincount(key[where], weights, n * channels).reshape(n, channels)

    pixels, ordered = count(), np.append(value[np.lexsort((value, key))], 0)
    first = np.cumsum(pixels).reshape(pixels.shape) - pixels
    middle = np.where(pixels > 0, ordered[first + np.maximum(pixels - 1, 0) // 2], np.nan)
    near = np.hypot(row - height // 2, column - width // 2) * PIXEL < NEAR
    safe = np.where(pixels > 0, pixels, np.nan)
    columns = {PIXELS: pixels, MEAN: count(weights=value) / (height * width),
               f"pixels within {NEAR}": count(near) / safe, "median level": middle[:, :5],
               "share of ones": (count(value == 1) / safe)[:, :5]}
    found = {f"{name}: {what}": each for what, values in columns.items()
             for name, each in zip(CHANNELS, values.T, strict=False)}
    for a, b in ((0, 1), (0, 2), (1, 2), (0, 3), (3, 4)):
        both = np.intersect1d(pixel[channel == a], pixel[channel == b], assume_unique=True)
        found[f"pixels of {CHANNELS[a]} and {CHANNELS[b]}"] = np.bincount(
            both // (height * width), minlength=n)
    patch = (image * (height // TOWER) + row // TOWER) * (width // TOWER) + column // TOWER
    for what, used in (("patches that are not empty", patch),
                       ("patches with more than pixel-layer hits", patch[channel < 5])):
        patches = np.bincount(used, minlength=n * height * width // TOWER**2) > 0
        found[what] = patches.reshape(n, -1).sum(1)
    ends = np.log((count(row < height // 5) + 1) / (count(row >= height - height // 5) + 1))
    for c in range(5, channels):  # levels are floor(255 k / kmax), and most pixels have k = 1
        found[f"{CHANNELS[c]}: hits of the fullest pixel"] = 255 // middle[:, c]
        found[f"{CHANNELS[c]}: rise along eta (log)"] = np.abs(ends[:, c])
    return {"zeros": 1 - pixels.sum(1) / (channels * height * width),
            **{name: np.asarray(values, float) for name, values in found.items()}}


def statistics(jets: JetImages) -> dict[str, tuple[float, float]]:
    """Every number of the table, and its standard error: name → (value, error). jets: of the
    labelled mixture, encoding cms8; mass and pT (GeV) are used where known."""
    found = {name: _mean(values, jets.event) for name, values in per_jet(jets).items()}
    for name, column in (("m", jets.mass), ("pT", jets.pt)):
        if column is not None:
            x = column.cpu().numpy().astype(float)
            found[f"{name}: mean (GeV)"] = _mean(x, jets.event)
            variance, error = _mean((x - x.mean()) ** 2, jets.event)
            found[f"{name}: {SPREAD}"] = variance**0.5, error / (2 * variance**0.5)
    if jets.mass is not None:
        mass = jets.mass.cpu().numpy()
        r = np.corrcoef(mass, np.diff(jets.indptr.cpu().numpy()))[0, 1]
        found["correlation of m with the number of pixels"] = r, (1 - r**2) / len(jets) ** 0.5
        found |= _modes(np.histogram(mass, _edges("mass"))[0])
    return found


def _mean(values: np.ndarray, event: np.ndarray) -> tuple[float, float]:
    """Mean and its error, where jets of one event are not independent; nan is left out."""
    known = np.isfinite(values)
    off = np.where(known, values - values[known].mean(), 0)
    of_event = np.bincount(np.unique(event, return_inverse=True)[1], off)
    return float(values[known].mean()), float(np.sqrt((of_event**2).sum()) / known.sum())


def _edges(name: str) -> np.ndarray:
    known = PUBLISHED[name]
    return known["low"] + known["width"] * np.arange(len(known["counts"]) + 1)


def _modes(counts: np.ndarray) -> dict[str, tuple[float, float]]:
    """The two modes of a mass spectrum in the published bins (GeV): vertices of the parabolas
    through the fullest bins and their neighbours; errors by drawing the counts again."""
    drawn = np.random.default_rng(0).poisson(counts, (200, len(counts)))
    drawn = np.concatenate([[counts], drawn]).astype(float)
    found, edges = {}, _edges("mass")
    for name, low, high in (("low", 1, MODE_SPLIT), ("high", MODE_SPLIT, len(counts) - 1)):
        top = low + drawn[:, low:high].argmax(1)
        a, b, c = (drawn[np.arange(len(drawn)), top + k] for k in (-1, 0, 1))
        bend = np.where(a - 2 * b + c == 0, -1, a - 2 * b + c)
        place = edges[top] + (0.5 + np.clip(0.5 * (a - c) / bend, -0.5, 0.5)) * np.diff(edges)[0]
        found[f"m: {name} mode (GeV)"] = float(place[0]), float(place[1:].std())
    return found


def closure(jets: JetImages, varied: JetImages | None = None) -> dict:
    """Compare jets of the labelled mixture (cms8 encoding) with the published statistics.

    jets: at least 2,000 for the errors to mean something; with mass and pT where known.
    varied: jets of a varied detector. The root mean square of their relative shifts beyond their
        errors, over the rows of one sort (pixels, mean pixels, m, pT), is what is not known of such
        a row: its allowance.
    Returns `rows`, dict(quantity, kind, published, published_error, measured, error, allowance,
    pull, tolerance, ok): pull and tolerance (two standard deviations) with all three errors; and
    `histograms` {"mass", "pt"}, see `spectrum`."""
    found, other = statistics(jets), statistics(varied if varied is not None else jets)
    modes = {k: (v, 0.0, 10_000) for k, (v, _) in _modes(PUBLISHED["mass"]["counts"]).items()}
    published = {k: v for k, v in {**PUBLISHED["means"], **modes}.items() if k in found}
    sort = {k: next((s for s in (PIXELS, MEAN) if s in k), k.split(":")[0]) for k in published}
    rows = []
    for name, (value, digit, sample) in published.items():
        measured, error = found[name]
        # Of the published sample only the number of jets is known: they are taken to be as far
        # from the mean as ours. The rounding of a digit is uniform.
        theirs = np.hypot(error * np.sqrt(len(jets) / sample), digit / np.sqrt(3))
        shifts = [(other[k][0] / found[k][0] - 1) ** 2 - sum((e / x) ** 2 for x, e in
                  (other[k], found[k])) for k in published if sort[k] == sort[name]]
        allowance = value * np.sqrt(max(np.mean(shifts), 0))
        total, off = float(np.sqrt(theirs**2 + error**2 + allowance**2)), measured - value
        kind = ("fitted" if name in FITTED + FOLLOWS else
                "held out" if name in HELD_OUT else "predicted")
        rows.append({"quantity": name, "kind": kind, "published": float(value),
                     "published_error": float(theirs), "measured": measured, "error": error,
                     "allowance": float(allowance), "pull": off / total,
                     "tolerance": f"±{2 * total:.2g}", "ok": abs(off) <= 2 * total})
    return {"rows": rows, "histograms": {
        name: spectrum(values.cpu().numpy(), name) for name in ("mass", "pt")
        if (values := getattr(jets, name)) is not None}}


def spectrum(values: np.ndarray, name: str) -> dict:
    """A spectrum (GeV) beside the published one, bin by bin, scaled to its total in this range.
    name: "mass" or "pt". Returns edges, published, measured, error, pull; `outside`, the share of
    our jets beyond the range; `chi2` of the shape with errors of both samples, `ndf` and `p`."""
    edges, published = _edges(name), np.array(PUBLISHED[name]["counts"], dtype=float)
    counts = np.histogram(values, edges)[0]
    scale = published.sum() / max(counts.sum(), 1)
    # An empty bin is as uncertain as the count that was expected there.
    error = np.sqrt(np.maximum(counts, published / scale) * scale**2 + published + READ_TO**2 / 3)
    pull = (counts * scale - published) / error
    found, ndf = float((pull**2).sum()), len(counts) - 1
    return {"edges": edges.tolist(), "published": published.tolist(),
            "measured": (counts * scale).tolist(), "error": error.tolist(), "pull": pull.tolist(),
            "outside": float(1 - counts.sum() / max(len(values), 1)),
            "chi2": found, "ndf": ndf, "p": float(chi2.sf(found, ndf))}


def closure_quark_gluon(jets: JetImages) -> list[dict]:
    """Rows as `closure` has them, for quark and gluon jets (gev) against their public set.

    Zeros have statistical errors. Ranges were printed without saying of how many jets: `measured`
    is the median over jets, and a row is within where 95 % of the jets have the published value
    between them. What multiplicity alone can do has a bound, the published networks on images."""
    n, known, hits = len(jets), PUBLISHED["quark_gluon"], jets.hits(slice(None))
    key, value = (hits.image * 3 + hits.channel).numpy(), hits.value.numpy()
    most, least = np.zeros((2, 3 * n))
    np.maximum.at(most, key, value)
    np.minimum.at(least, key, value)
    zeros = 1 - np.bincount(key, minlength=3 * n) / math.prod(jets.shape[1:])
    found = {}  # quantity → kind, measured, error, and what is within
    for c, name in enumerate(("track pT", "ECAL", "HCAL")):
        share, error = _mean(zeros[c::3], jets.event)
        reach = 2 * error + known["digit"]
        found[f"{name}: zeros"] = ("fitted" if c else "predicted", share, error, share - reach,
                                   share + reach)
        for what, extreme in (("largest", most), ("smallest", least)):
            low, s, middle, t, high = np.quantile(extreme[c::3], (0.025, 0.16, 0.5, 0.84, 0.975))
            found[f"{name}: {what} pixel (GeV)"] = ("held out", middle, (t - s) / 2, low, high)
    beyond = int((jets.pt > known["pT: largest (GeV)"]).sum())
    found["pT: share above 337.1 GeV"] = ("held out", beyond / n, (beyond + 1) ** 0.5 / n, 0,
                                          (beyond + 2 * (beyond + 1) ** 0.5) / n)
    near = torch.hypot(hits.row - 62.0, hits.column - 62.0) * PIXEL < NEAR
    tracks = torch.bincount(hits.image[near & (hits.channel == 0)], minlength=n).numpy()
    auc = metrics.summary(Predictions.of(jets, np.arange(n), -tracks), ["auc"])["auc"]
    found["multiplicity alone: AUC, at most"] = (
        "predicted", auc["mean"], (auc["high"] - auc["low"]) / 4, auc["low"], 1)
    return [{"quantity": name, "kind": kind, "published": known[name], "measured": float(x),
             "error": float(error), "pull": float((x - known[name]) / error) if error else 0.0,
             "tolerance": f"{low:.3g} to {high:.3g}", "ok": bool(low <= known[name] <= high)}
            for name, (kind, x, error, low, high) in found.items()]


def tell_apart(ours: JetImages, theirs: JetImages) -> dict:
    """Can boosted trees tell two samples of jets (cms8) apart by their images?

    Returns `auc` (of cross-validated scores, with a 95 % bootstrap interval; one half where they
    cannot), `jets` of each sample, and `telling`: the ten observables that alone differ most, by
    name the AUC of each (above one half: larger in ours)."""
    columns = []
    for jets in (ours, theirs):
        (known, names), more = observables(jets, range(len(jets))), per_jet(jets)
        columns.append(np.column_stack([known, *more.values()]))
    x, y = np.concatenate(columns), np.repeat([1.0, 0.0], [len(ours), len(theirs)])
    event = np.concatenate([ours.event, theirs.event + ours.event.max() + 1])
    found = cross_validated(x, y, event)
    alone = {name: float(roc_auc_score(y, np.nan_to_num(column, nan=-1.0)))
             for name, column in zip([*names, *more], x.T, strict=True)}
    telling = sorted(alone, key=lambda name: -abs(alone[name] - 0.5))[:10]
    return {"auc": metrics.summary(found, ["auc"])["auc"],
            "jets": [len(ours), len(theirs)], "telling": {name: alone[name] for name in telling}}


def cross_validated(x: np.ndarray, y: np.ndarray, event: np.ndarray) -> Predictions:
    """What boosted trees on observables x (n, F) say of the classes y (n,) of jets none of whose
    event (n,) they were trained on."""
    cut = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    score = cross_val_predict(BoostedTrees().classifier, x, y, groups=event, cv=cut,
                              method="predict_proba")[:, 1]
    return Predictions(np.arange(len(y)), y, np.float32(score), event=event)


def main(file: Path, profile: Profile) -> str:
    """How far the simulated labelled jets of a profile are from those of `file`, as text."""
    theirs, ours = JetImages.open(file), JetImages.open(course_files(profile)["labelled"])
    require((theirs.shape, theirs.encoding) == (ours.shape, ours.encoding), file,
            f"holds {theirs.shape} images in {theirs.encoding}; the course's are {ours.shape} in "
            f"{ours.encoding}: give jets of that kind")
    found = tell_apart(ours.subset(range(min(len(ours), 10 * len(theirs)))), theirs)
    return "\n".join([
        f"{found['jets'][0]} jets of the course against {found['jets'][1]} of {file}: trees reach "
        f"an AUC of {with_interval(found['auc'])}; 0.5 is closure",
        "what tells most, alone (above one half: larger in the course's):",
        *(f"  {auc:.3f}  {name}" for name, auc in found["telling"].items())])
