"""What a backbone has learned, without training it: collapse and probes.

Everything looks at the learned features (N, D) of jets, without the model's fixed summary, which
would say much about a jet behind a backbone that has learned nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.evaluation.metrics import auc
from lib.models.vit import JetViT

STRENGTHS = (1e-3, 1e-2, 1e-1)  # inverse regularisations (C) that a linear probe chooses from


@torch.no_grad()
def embed(model: JetViT, jets: JetImages, index: Any = None) -> np.ndarray:
    """Learned features of jets (all, or those of ``index``), in evaluation mode: (N, D) float32."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    batches = Batches(jets, index, 256, model.config.tokens)
    parts = [model.features(batch.tokens.to(device), summary=False).cpu() for batch in batches]
    model.train(training)
    return torch.cat(parts).numpy()


def collapse(features: np.ndarray) -> dict[str, float]:
    """Three numbers that tell when all jets get the same features, (N, D).

    ``feature_std``: standard deviation of unit-length features, times √D; about 1 where they fill
    the sphere, 0 where they are one point (SimSiam, arXiv:2011.10566, fig. 2). ``effective_rank``:
    exp of the entropy of the normalised singular values, after the mean is taken off: how many
    directions are in use, at most D (RankMe, arXiv:2210.02885). ``mean_cosine``: of two different
    jets; 1 where they are one point."""
    x = torch.from_numpy(features).double()
    unit, count = F.normalize(x, dim=1), len(x)
    singular = torch.linalg.svdvals(x - x.mean(0))
    share = singular / singular.sum().clamp(min=1e-12)
    entropy = -(share * share.clamp(min=1e-12).log()).sum()
    together = (unit.sum(0).square().sum() - unit.square().sum()) / max(count * (count - 1), 1)
    return {"feature_std": float(unit.std(0, correction=0).mean() * x.shape[1] ** 0.5),
            "effective_rank": float(entropy.exp()), "mean_cosine": float(together)}


def linear_probe(features: np.ndarray, label: np.ndarray, others: np.ndarray) -> np.ndarray:
    """P(class 1) of other jets (N, D) by logistic regression on standardised features (n, D) with
    labels (n,). Its regularisation is that of three which is best in five folds of those jets:
    features of 256 directions want another than 32 sums."""
    from lib.models.baselines import Linear  # takes seconds to import, and few need it

    label = np.asarray(label, int)
    if np.bincount(label, minlength=2).min() < 2:
        raise ValueError("a probe needs two jets or more of each class to learn from")
    return Linear(STRENGTHS).fit(features, label).predict(others)[0]


def neighbour_probe(features: np.ndarray, label: np.ndarray, others: np.ndarray,
                    neighbours: int = 20, temperature: float = 0.1) -> np.ndarray:
    """P(class 1) of other jets: their nearest neighbours by cosine vote with exp(cosine/T), after
    centring: ReLU-like features share a direction that says nothing."""
    mean = features.mean(0)
    known, new = (F.normalize(torch.from_numpy(x - mean), dim=1) for x in (features, others))
    cosine, nearest = (new @ known.T).topk(min(neighbours, len(known)), dim=1)
    weight = (cosine / temperature).softmax(1)
    return (weight * torch.from_numpy(np.asarray(label))[nearest]).sum(1).numpy()


@dataclass
class Monitor:
    """Collapse and probes of a backbone, for ``monitor=`` of ``fit`` and ``runs.train``.

    Its numbers enter the history: ``collapse`` and, with labels, ``probe_auc`` (linear) and
    ``neighbour_auc``. Nothing is trained with labels here; but choosing weights by these numbers
    (``select="high:probe_auc"``) is using them."""

    jets: JetImages
    known: Any  # numbers of the jets that the probes learn from
    held: Any  # and of those that they judge

    def __call__(self, objective: nn.Module) -> dict[str, float]:
        held = embed(objective.model, self.jets, self.held)
        row = collapse(held)
        if self.jets.labels is None:
            return row
        learned, label = (self.jets.labels.cpu()[torch.as_tensor(part)].numpy()
                          for part in (self.known, self.held))
        if np.bincount(learned, minlength=2).min() > 1:
            known = embed(objective.model, self.jets, self.known)
            row["probe_auc"] = auc(label, linear_probe(known, learned, held))
            row["neighbour_auc"] = auc(label, neighbour_probe(known, learned, held))
        return row
