"""Which transformation is a symmetry? A classifier tries to tell original from changed jets.

A classifier two-sample test (Lopez-Paz and Oquab, arXiv:1610.06545). Jets are cut in two halves;
one is transformed. If the transformation is a symmetry of the *distribution* of jets, the halves
are samples of the same one, and no classifier can beat an AUC of 0.5 on jets that it has not seen.
An AUC above it proves the opposite; 0.5 proves nothing but that this classifier saw nothing, so
there are two: boosted trees on observables, which see shapes and energies, and a small JetViT,
which sees where things are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lib.cms import CHANNELS
from lib.data.augment import Augment
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.data.views import transformed
from lib.evaluation.metrics import Predictions, summary
from lib.evaluation.predictions import predict
from lib.models.vit import JetViT, ViTConfig
from lib.training.fit import FitSettings, fit
from lib.training.objectives import Supervised

MODEL = dict(dim=32, depth=1, heads=2, mlp_ratio=2.0, position="factorised", pool="energy",
             mass_head=False)
FIT = FitSettings(updates=200, batch_size=64, lr=3e-3, ema=0.98, accelerator="cpu",
                  precision="auto")


def _halves(jets: JetImages, augment: Augment, seed: int) -> JetImages:
    """All jets, the second half transformed: label 1."""
    half = len(jets) // 2
    order = torch.randperm(len(jets), generator=torch.Generator().manual_seed(seed))
    parts = jets.subset(order[:half]), transformed(jets.subset(order[half : 2 * half]), augment,
                                                   seed)
    ends = torch.cat([parts[0].indptr, parts[0].indptr[-1] + parts[1].indptr[1:]])
    return JetImages(ends, torch.cat([p.indices for p in parts]),
                     torch.cat([p.data for p in parts]), jets.shape, jets.encoding,
                     torch.arange(2 * half).div(half, rounding_mode="floor"))


def two_sample(jets: JetImages, augment: Augment, classifier: str = "trees", seed: int = 0,
               settings: FitSettings = FIT) -> dict[str, float]:
    """How well a classifier tells transformed from original jets.

    Args:
        jets: at least 40; their own labels are not used.
        augment: hits -> hits.
        classifier: ``trees`` on observables (8 channels), or ``vit``, a small JetViT.
        settings: of the JetViT's training.

    Returns:
        ``auc`` on the 40 % of jets that it was not trained on, ``low`` and ``high`` (95 %,
        bootstrap over jets), ``jets``, their number.

    Raises:
        ValueError: too few jets, or an unknown classifier.
    """
    if len(jets) < 40:
        raise ValueError(f"{len(jets)} jets are too few to tell two samples apart: give 40 or more")
    if classifier not in ("trees", "vit"):
        raise ValueError(f"classifier={classifier!r}: choose trees or vit")
    both = _halves(jets, augment, seed)
    order = torch.randperm(len(both), generator=torch.Generator().manual_seed(seed + 1))
    train, test = order[: int(0.6 * len(both))], order[int(0.6 * len(both)) :].sort().values
    score = _trees(both, train, test, seed) if classifier == "trees" else _vit(
        both, train, test, replace(settings, seed=seed))
    p = Predictions(test.numpy(), both.labels[test].numpy(), score)
    row = summary(p, ["auc"])["auc"]
    return {"auc": row["mean"], "low": row["low"], "high": row["high"], "jets": len(test)}


def _trees(both: JetImages, train: torch.Tensor, test: torch.Tensor, seed: int) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier

    from lib.models.baselines import observables

    x, _ = observables(both, torch.arange(len(both)))
    trees = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.1, max_leaf_nodes=8,
                                           l2_regularization=1.0, random_state=seed)
    trees.fit(x[train], both.labels[train])
    return trees.predict_proba(x[test])[:, 1]


def _vit(both: JetImages, train: torch.Tensor, test: torch.Tensor,
         settings: FitSettings) -> np.ndarray:
    keep = "two_scale" if both.shape[0] == len(CHANNELS) else "active"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = JetViT(ViTConfig.of(both.grid, tokens=keep, **MODEL))
        some = train[:512]
        model.fit_scales(both.hits(some), both.batch(some, keep).tokens)
        batches = Batches(both, train, settings.batch_size, keep, shuffle=True, seed=settings.seed)
        fit(Supervised(model, mass_weight=0), batches, settings=settings, log=lambda line: None)
        return predict(model, Batches(both, test, 256, keep), settings.precision,
                       settings.accelerator).score
