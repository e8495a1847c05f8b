"""What a sceptic would use instead: the jet mass, boosted trees, a linear model.

A new model is worth its cost only if it beats these on the same jets.
"""

import warnings
from typing import Self

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.pipeline import make_pipeline
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

    def fit(self, mass: np.ndarray, label: np.ndarray) -> Self:
        """mass (n,) GeV, label (n,) of 0 and 1."""
        self.edges = np.unique(np.quantile(mass, np.linspace(0, 1, self.bins + 1))[1:-1])
        bins, size = np.digitize(mass, self.edges), len(self.edges) + 1
        jets = np.bincount(bins, minlength=size)
        tops = np.bincount(bins[label == 1], minlength=size)
        self.share = (tops + 1) / (jets + 2)  # Laplace's rule keeps empty bins finite
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

    jets: `JetImages` with the 8 channels of CMS. index: numbers of the jets, (n,).
    """
    found = [_observables(jets.hits(some).to("cpu"), jets.grid)
             for some in torch.as_tensor(index).split(chunk)]
    return torch.cat([values for values, _ in found]).float().numpy(), found[0][1]


def _observables(hits: Hits, grid) -> tuple[Tensor, list[str]]:
    count, channels = hits.images, len(CHANNELS)
    eta = (hits.row.double() - (grid.height - 1) / 2) * CRYSTAL
    phi = (hits.column.double() - (grid.width - 1) / 2) * CRYSTAL
    weight = hits.value.double().abs()
    radius = torch.hypot(eta, phi)
    key = hits.image * channels + hits.channel

    def sums(values: Tensor) -> Tensor:
        return _sums(values, key, count * channels).view(count, channels)

    number, energy = sums(torch.ones_like(weight)), sums(weight)
    safe = energy.clamp(min=1e-12)
    hottest = torch.zeros(count * channels, dtype=weight.dtype)
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
    columns = [*per_channel.values()]
    names = [f"{channel} {name}" for name in per_channel for channel in CHANNELS]
    for channel in (ECAL, HCAL):
        mine = hits.channel == channel
        for ring in RINGS:
            inside = _sums((weight * (radius < ring))[mine], hits.image[mine], count)
            columns.append((inside / safe[:, channel]).unsqueeze(1))
            names.append(f"{CHANNELS[channel]} share within {ring}")
    extra, extra_names = _subjets(hits, grid, weight, eta, phi)
    return torch.cat([*columns, extra], 1), names + extra_names


def _subjets(hits, grid, weight, eta, phi) -> tuple[Tensor, list[str]]:
    """Energies and distances of the hottest HCAL towers, N-subjettiness about them."""
    count, patches = hits.images, grid.patches
    mine = hits.channel == HCAL  # a tower is a patch
    patch = (hits.row // grid.patch_height) * grid.columns + hits.column // grid.patch_width
    tower = _sums(weight[mine], (hits.image * patches + patch)[mine], count * patches)
    left = tower.view(count, patches)
    place = torch.cartesian_prod(*((torch.arange(n).double() - (n - 1) / 2)
                                   * (CRYSTAL * grid.patch_height)
                                   for n in (grid.rows, grid.columns)))
    total, axis, share = left.sum(1).clamp(min=1e-12), [], []
    for _ in range(3):
        top = left.argmax(1)
        axis.append(place[top])
        share.append(left.gather(1, top[:, None]).squeeze(1) / total)
        left = left * ((place[None] - axis[-1][:, None]).norm(dim=-1) > 0.25)
    columns = share + [(axis[a] - axis[b]).norm(dim=-1) for a, b in ((0, 1), (0, 2), (1, 2))]
    names = [f"tower {i} share" for i in (1, 2, 3)] + [f"distance {ab}" for ab in (12, 13, 23)]
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


class Pair:
    """A classifier and a regressor of scikit-learn on the same `observables`."""

    def fit(self, x: np.ndarray, label: np.ndarray, mass: np.ndarray | None = None) -> Self:
        """x (n, F) observables, label (n,) of 0 and 1, mass (n,) GeV or None."""
        self.has_mass = mass is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one that has not quite converged is a rival as well
            self.classifier.fit(x, label)
        if self.has_mass:
            self.regressor.fit(x, mass)
        return self

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """-> P(class 1) (n,) and mass (n,) in GeV or None."""
        score = self.classifier.predict_proba(x)[:, 1]
        return score, self.regressor.predict(x) if self.has_mass else None


class BoostedTrees(Pair):
    """Gradient-boosted trees."""

    def __init__(self, seed: int = 0) -> None:
        how = dict(max_iter=400, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=30,
                   l2_regularization=1.0, early_stopping=True, random_state=seed)
        self.classifier = HistGradientBoostingClassifier(**how)
        self.regressor = HistGradientBoostingRegressor(loss="absolute_error", **how)


class Linear(Pair):
    """Logistic regression and ridge regression on standardised observables; how much they are
    regularised is chosen by cross-validation."""

    def fit(self, x: np.ndarray, label: np.ndarray, mass: np.ndarray | None = None) -> Self:
        """As every `Pair`."""
        folds = int(min(5, np.bincount(label, minlength=2).min()))
        strengths = np.logspace(-4, 2, 7)
        self.classifier = make_pipeline(StandardScaler(), LogisticRegressionCV(
            Cs=strengths, cv=folds, scoring="neg_log_loss", max_iter=300,
            l1_ratios=(0,), use_legacy_attributes=False))
        self.regressor = make_pipeline(StandardScaler(), RidgeCV(0.1 / strengths))
        return super().fit(x, label, mass)
