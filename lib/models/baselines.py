"""What a sceptic would use instead: the jet mass, boosted trees, a linear model.

A new model is worth its cost only if it beats these on the same jets.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lib.cms import CHANNELS
from lib.data.tokens import Hits

CRYSTAL = 0.01745  # size of a pixel in eta and phi, rounded as in all published observables
RINGS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)  # radii in eta-phi
ECAL, HCAL = CHANNELS.index("ECAL"), CHANNELS.index("HCAL")


class MassCut:
    """The jet mass alone: a likelihood ratio from mass histograms of the training jets."""

    def __init__(self, bins: int = 40) -> None:
        self.bins = bins

    def fit(self, mass: np.ndarray, label: np.ndarray) -> MassCut:
        """mass (n,) GeV, label (n,) of 0 and 1."""
        self.edges = np.unique(np.quantile(mass, np.linspace(0, 1, self.bins + 1))[1:-1])
        bins = np.digitize(mass, self.edges)
        count = np.stack([np.bincount(bins[label == c], minlength=len(self.edges) + 1)
                          for c in (0, 1)])
        self.share = (count[1] + 1) / (count.sum(0) + 2)  # Laplace's rule keeps empty bins finite
        return self

    def predict(self, mass: np.ndarray) -> np.ndarray:
        """P(class 1) of each jet, (n,)."""
        return self.share[np.digitize(mass, self.edges)]


def _sums(weight: Tensor, key: Tensor, groups: int) -> Tensor:
    return torch.zeros(groups, dtype=weight.dtype).index_add_(0, key, weight)


def observables(jets, index, chunk: int = 2000) -> tuple[np.ndarray, list[str]]:
    """Observables read from the image: (n, F) float32 and their F names.

    Of each channel: multiplicity, energy, share of the hottest pixel, mean radius, widths in
    eta and phi, angular mass √(2(ΣwΣwr² - |Σwr|²))/Σw; of the calorimeters the energy in rings
    and, for the three hottest well-separated HCAL towers, energies, distances and N-subjettiness
    with those towers as axes (arXiv:1011.2268). Sums use the encoding's own unit.

    jets: `JetImages` with 8 channels. index: numbers of the jets, (n,).
    """
    index = torch.as_tensor(index)
    parts, names = [], []
    for start in range(0, len(index), chunk):
        part, names = _observables(jets.hits(index[start : start + chunk]).to("cpu"), jets.grid)
        parts.append(part)
    if not parts:
        return np.zeros((0, 0), np.float32), names
    return torch.cat(parts).float().numpy(), names


def _observables(hits: Hits, grid) -> tuple[Tensor, list[str]]:
    count, channels = hits.images, grid.channels
    eta = (hits.row.double() - (grid.height - 1) / 2) * CRYSTAL
    phi = (hits.column.double() - (grid.width - 1) / 2) * CRYSTAL
    weight = hits.value.double().abs()
    radius = torch.hypot(eta, phi)
    key = hits.image * channels + hits.channel
    groups = count * channels

    def sums(values: Tensor) -> Tensor:
        return _sums(values, key, groups).view(count, channels)

    number, energy = sums(torch.ones_like(weight)), sums(weight)
    safe = energy.clamp(min=1e-12)
    hottest = torch.zeros(groups, dtype=weight.dtype)
    hottest = hottest.scatter_reduce(0, key, weight, "amax").view(count, channels)
    mean_eta, mean_phi = sums(weight * eta) / safe, sums(weight * phi) / safe
    width_eta = (sums(weight * eta**2) / safe - mean_eta**2).clamp(min=0)
    width_phi = (sums(weight * phi**2) / safe - mean_phi**2).clamp(min=0)
    per_channel = {
        "multiplicity": number,
        "log energy": energy.log1p(),
        "hottest share": hottest / safe,
        "radius": sums(weight * radius) / safe,
        "width eta": width_eta.sqrt(),
        "width phi": width_phi.sqrt(),
        # 2(ΣwΣwr² - |Σwr|²) over (Σw)² is twice the variance of the position.
        "angular mass": (2 * (width_eta + width_phi)).sqrt(),
    }
    columns, names = [], []
    for name, values in per_channel.items():
        columns.append(values)
        names += [f"{CHANNELS[c] if channels == 8 else c} {name}" for c in range(channels)]
    for channel in (ECAL, HCAL) if channels == 8 else ():
        mine = hits.channel == channel
        for ring in RINGS:
            inside = _sums((weight * (radius < ring))[mine], hits.image[mine], count)
            columns.append((inside / safe[:, channel]).unsqueeze(1))
            names.append(f"{CHANNELS[channel]} share within {ring}")
    if channels == 8:
        extra, extra_names = _subjets(hits, grid, weight, eta, phi)
        columns.append(extra)
        names += extra_names
    return torch.cat(columns, 1), names


def _subjets(hits, grid, weight, eta, phi, axes: int = 3, apart: float = 0.25):
    """Energies and distances of the hottest HCAL towers, N-subjettiness about them."""
    count, patches = hits.images, grid.patches
    mine = hits.channel == HCAL
    patch = (hits.row // grid.patch_height) * grid.columns + hits.column // grid.patch_width
    tower = _sums(weight[mine], (hits.image * patches + patch)[mine], count * patches)
    tower = tower.view(count, patches)
    middle = (torch.arange(patches) // grid.columns, torch.arange(patches) % grid.columns)
    size = CRYSTAL * grid.patch_height
    place = torch.stack([(m.double() - (n - 1) / 2) * size
                         for m, n in zip(middle, (grid.rows, grid.columns), strict=True)], 1)
    left, total = tower.clone(), tower.sum(1).clamp(min=1e-12)
    axis, share = [], []
    for _ in range(axes):
        top = left.argmax(1)
        axis.append(place[top])
        share.append(left.gather(1, top[:, None]).squeeze(1) / total)
        left = left * ((place[None] - axis[-1][:, None]).norm(dim=-1) > apart)
    columns = share + [(axis[a] - axis[b]).norm(dim=-1) for a, b in ((0, 1), (0, 2), (1, 2))]
    names = [f"tower {i + 1} share" for i in range(axes)]
    names += ["distance 12", "distance 13", "distance 23"]
    for channel in (ECAL, HCAL):
        chosen = hits.channel == channel
        image, w = hits.image[chosen], weight[chosen]
        where = torch.stack([eta[chosen], phi[chosen]], 1)
        energy = _sums(w, image, count).clamp(min=1e-12)
        nearest, taus = torch.full_like(w, torch.inf), []
        for axis_n in axis:
            nearest = torch.minimum(nearest, (where - axis_n[image]).norm(dim=1))
            taus.append(_sums(w * nearest, image, count) / energy)
        columns += [taus[0], taus[1] / taus[0].clamp(min=1e-6), taus[2] / taus[1].clamp(min=1e-6)]
        names += [f"{CHANNELS[channel]} {tau}" for tau in ("tau1", "tau21", "tau32")]
    return torch.stack(columns, 1), names


class BoostedTrees:
    """Gradient-boosted trees on `observables`: one model for the class, one for the mass."""

    def __init__(self, seed: int = 0) -> None:
        common = dict(
            max_iter=400, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=30,
            l2_regularization=1.0, early_stopping=True, random_state=seed,
        )  # fmt: skip
        self.classifier = HistGradientBoostingClassifier(**common)
        self.regressor = HistGradientBoostingRegressor(loss="absolute_error", **common)
        self.has_mass = False

    def fit(self, x: np.ndarray, label: np.ndarray, mass: np.ndarray | None = None) -> BoostedTrees:
        """x (n, F) observables, label (n,), mass (n,) GeV or None."""
        self.classifier.fit(x, label)
        self.has_mass = mass is not None
        if self.has_mass:
            self.regressor.fit(x, mass)
        return self

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """-> P(class 1) (n,) and mass (n,) in GeV or None."""
        score = self.classifier.predict_proba(x)[:, 1]
        return score, self.regressor.predict(x) if self.has_mass else None


class Linear:
    """Logistic regression for the class and ridge regression for the mass on `observables`, both
    standardised; how much they are regularised is chosen by cross-validation."""

    def fit(self, x: np.ndarray, label: np.ndarray, mass: np.ndarray | None = None) -> Linear:
        """x (n, F) observables, label (n,), mass (n,) GeV or None."""
        folds = int(min(5, np.bincount(label, minlength=2).min()))
        strengths = np.logspace(-4, 2, 7)
        self.scaler = StandardScaler().fit(x)
        x = self.scaler.transform(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one that has not quite converged is a rival as well
            self.classifier = LogisticRegressionCV(
                Cs=strengths, cv=folds, scoring="neg_log_loss", max_iter=300,
                l1_ratios=(0,), use_legacy_attributes=False).fit(x, label)
        self.regressor = None if mass is None else RidgeCV(0.1 / strengths).fit(x, mass)
        return self

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """-> P(class 1) (n,) and mass (n,) in GeV or None."""
        x = self.scaler.transform(x)
        score = self.classifier.predict_proba(x)[:, 1]
        return score, None if self.regressor is None else self.regressor.predict(x)
