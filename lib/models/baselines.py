"""What a sceptic would use instead: the jet mass, boosted trees, a linear model.

A new model is worth its cost only if it beats these on the same jets."""

import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lib.cms import CHANNELS
from lib.data.tokens import Hits, by_patch

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

    Of each channel: multiplicity, energy, share of the hottest pixel, mean radius, widths in eta
    and phi, angular mass √(2(ΣwΣwr² - |Σwr|²))/Σw; of the calorimeters the energy in rings and, for
    the three hottest well-separated HCAL towers, energies, distances and N-subjettiness with those
    towers as axes (arXiv:1011.2268). Sums use the encoding's own unit.

    jets: `JetImages` with the 8 channels of CMS. index: numbers of the jets, (n,)."""
    found = [_observables(jets.hits(some).to("cpu"), jets.grid)
             for some in torch.as_tensor(index).split(chunk)]
    rows = [torch.stack([*columns.values()], 1) for columns in found]
    return torch.cat(rows).float().numpy(), [*found[0]]


def _observables(hits: Hits, grid) -> dict[str, Tensor]:
    """Each observable of the jets, (n,), by its name."""
    count, channels = hits.images, len(CHANNELS)
    eta = (hits.row.double() - (grid.height - 1) / 2) * CRYSTAL
    phi = (hits.column.double() - (grid.width - 1) / 2) * CRYSTAL
    weight = hits.value.double().abs()
    radius = torch.hypot(eta, phi)
    key = hits.image * channels + hits.channel

    def sums(values: Tensor) -> Tensor:
        return _sums(values, key, count * channels).view(count, channels)

    energy = sums(weight)
    safe = energy.clamp(min=1e-12)
    hottest = torch.zeros(count * channels, dtype=weight.dtype)
    hottest = hottest.scatter_reduce(0, key, weight, "amax").view(count, channels)
    width_eta, width_phi = ((sums(weight * x**2) / safe - (sums(weight * x) / safe)**2).clamp(min=0)
                            for x in (eta, phi))
    per_channel = {
        "multiplicity": sums(torch.ones_like(weight)),
        "log energy": energy.log1p(),
        "hottest share": hottest / safe,
        "radius": sums(weight * radius) / safe,
        "width eta": width_eta.sqrt(),
        "width phi": width_phi.sqrt(),
        # 2(ΣwΣwr² - |Σwr|²) over (Σw)² is twice the variance of the position.
        "angular mass": (2 * (width_eta + width_phi)).sqrt(),
    }
    found = {f"{channel} {name}": column for name, values in per_channel.items()
             for channel, column in zip(CHANNELS, values.unbind(1))}
    for channel in (ECAL, HCAL):
        mine = hits.channel == channel
        for ring in RINGS:
            inside = _sums((weight * (radius < ring))[mine], hits.image[mine], count)
            found[f"{CHANNELS[channel]} share within {ring}"] = inside / safe[:, channel]
    return found | _subjets(hits, grid, weight, torch.stack([eta, phi], 1))


def _subjets(hits: Hits, grid, weight: Tensor, where: Tensor) -> dict[str, Tensor]:
    """Energies and distances of the hottest HCAL towers, N-subjettiness about them."""
    count, patches = hits.images, grid.patches
    mine = hits.channel == HCAL  # a tower is a patch
    patch, _, _ = by_patch(hits, grid)
    left = _sums(weight[mine], (hits.image * patches + patch)[mine], count * patches)
    left = left.view(count, patches)
    place = torch.cartesian_prod(*((torch.arange(n).double() - (n - 1) / 2)
                                   * (CRYSTAL * grid.patch_height)
                                   for n in (grid.rows, grid.columns)))
    total, axis, found = left.sum(1).clamp(min=1e-12), [], {}
    for number in (1, 2, 3):
        top = left.argmax(1)
        axis.append(place[top])
        found[f"tower {number} share"] = left.gather(1, top[:, None]).squeeze(1) / total
        left = left * ((place[None] - axis[-1][:, None]).norm(dim=-1) > 0.25)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        found[f"distance {a + 1}{b + 1}"] = (axis[a] - axis[b]).norm(dim=-1)
    for channel in (ECAL, HCAL):
        mine, name = hits.channel == channel, CHANNELS[channel]
        image, w = hits.image[mine], weight[mine]
        energy = _sums(w, image, count).clamp(min=1e-12)
        nearest, taus = torch.full_like(w, torch.inf), []
        for centre in axis:
            nearest = torch.minimum(nearest, (where[mine] - centre[image]).norm(dim=1))
            taus.append(_sums(w * nearest, image, count) / energy)
        found |= {f"{name} tau1": taus[0], f"{name} tau21": taus[1] / taus[0].clamp(min=1e-6),
                  f"{name} tau32": taus[2] / taus[1].clamp(min=1e-6)}
    return found


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
    regularised is chosen by cross-validation from ``strengths`` (C, the inverse)."""

    def __init__(self, strengths: Sequence[float] = tuple(np.logspace(-4, 2, 7))) -> None:
        self.strengths = np.array(strengths)

    def fit(self, x: np.ndarray, label: np.ndarray, mass: np.ndarray | None = None) -> Self:
        """As every `Pair`."""
        folds = int(min(5, np.bincount(label, minlength=2).min()))
        self.classifier = make_pipeline(StandardScaler(), LogisticRegressionCV(
            Cs=self.strengths, cv=folds, scoring="neg_log_loss", max_iter=300,
            l1_ratios=(0,), use_legacy_attributes=False))
        self.regressor = make_pipeline(StandardScaler(), RidgeCV(0.1 / self.strengths))
        return super().fit(x, label, mass)
