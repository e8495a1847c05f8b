"""What a model is trained on: each objective is a small module around it.

The loop (``lib.training.fit``) asks for little:

``loss(batch, output=None) -> (scalar, {part: scalar})``
    the loss to minimise, and its parts for the log;
``predict(batch) -> {...}``, optional
    outputs for the metrics; in validation they are handed back to ``loss`` as ``output``;
``after_update(progress)``, optional
    called after each update with the fraction of training done (momentum targets).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.images import JetImages
from lib.data.tokens import Batch, Grid
from lib.models.resnet import ResNet15
from lib.models.vit import JetViT, ViTConfig
from lib.registry import Registry
from lib.training import pretraining
from lib.training.pretraining import MAE, Denoising, SimCLR

__all__ = ["MAE", "Denoising", "SimCLR", "Supervised", "build", "make_model"]

MASS_LOSSES = ("huber", "mse", "l1", "gaussian")


class Supervised(nn.Module):
    """Cross-entropy plus a weighted loss on the jet mass.

    L = CE(logits, label) + w · ℓ((m_hat - m) / s), with s the standard deviation of m in the
    training data (``model.mass_std``): the model speaks GeV, the loss has no unit, and predicting
    the mean gives ℓ = 1 for ``mse``. Kinds of ℓ, with e the scaled error:

    ``mse``       e²
    ``l1``        |e|
    ``huber``     e²/2 below |e| = 0.5, linear beyond: the rare badly measured jet pulls less
    ``gaussian``  e²/(2σ²) + log σ with one learned σ (Kendall et al., arXiv:1705.07115), which
                  sets the balance between the two heads by itself

    Args:
        model: ``forward(tokens) -> (logits (B,2), mass (B,) GeV or None)``.
        mass_weight: w; 0 leaves the mass out.
        mass_loss: kind of ℓ.
        smoothing: label smoothing of the cross-entropy.
    """

    def __init__(
        self, model: nn.Module, mass_weight: float = 1.0, mass_loss: str = "huber",
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if mass_loss not in MASS_LOSSES:
            raise ValueError(f"mass_loss={mass_loss!r}: choose one of {', '.join(MASS_LOSSES)}")
        self.model, self.mass_weight, self.mass_loss = model, mass_weight, mass_loss
        self.smoothing, self._said = smoothing, False
        self.log_sigma = nn.Parameter(torch.zeros(())) if mass_loss == "gaussian" else None

    def mass_term(self, m_hat: Tensor, m: Tensor) -> Tensor:
        """ℓ, the mean over the batch; m_hat and m (B,) in GeV."""
        e = (m_hat.float() - m.float()) / self.model.mass_std
        if self.mass_loss == "huber":
            return F.huber_loss(e, torch.zeros_like(e), delta=0.5)
        if self.mass_loss == "l1":
            return e.abs().mean()
        if self.mass_loss == "gaussian":
            return (e**2 * torch.exp(-2 * self.log_sigma) / 2).mean() + self.log_sigma
        return (e**2).mean()

    def predict(self, batch: Batch) -> dict[str, Tensor | None]:
        """``logits`` (B,2) and ``mass`` (B,) in GeV, None without a mass head."""
        logits, mass = self.model(batch.tokens)
        return {"logits": logits, "mass": mass}

    def loss(
        self, batch: Batch, output: dict[str, Tensor | None] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch and its parts, ``class`` and ``mass``.

        Raises:
            ValueError: jets without labels.
        """
        if batch.label is None:
            raise ValueError("these jets have no labels: pretrain on them, or give a labelled file")
        output = output or self.predict(batch)
        total = F.cross_entropy(output["logits"].float(), batch.label,
                                label_smoothing=self.smoothing if self.training else 0.0)
        parts = {"class": total.detach()}
        if self.mass_weight and output["mass"] is not None and batch.mass is not None:
            mass = self.mass_term(output["mass"], batch.mass)
            parts["mass"] = mass.detach()
            total = total + self.mass_weight * mass
        elif self.mass_weight and not self._said:
            why = "the jets have no mass" if batch.mass is None else "the model has no mass head"
            warnings.warn(f"{why}: training on the labels alone", stacklevel=2)
            self._said = True
            if self.log_sigma is not None:  # several GPUs want a gradient for every parameter
                total = total + 0 * self.log_sigma
        return total, parts


SCALE_JETS = 512  # training jets that the scaling layers are fitted on (the mass: on all)


def make_model(settings: Mapping, jets: JetImages | None = None, index: Any = None) -> nn.Module:
    """The model of ``settings``: ``architecture`` (``vit`` or ``resnet15``) with the arguments
    ``model``; its scaling layers are fitted on the training jets ``index`` where jets are given.

    Raises:
        ValueError: an unknown architecture or argument.
    """
    architecture, arguments = settings.get("architecture", "vit"), settings.get("model", {})
    grid = Grid(**settings["grid"])
    if architecture == "vit":
        model = JetViT(ViTConfig.of(grid, **arguments))
    elif architecture == "resnet15":
        model = ResNet15(grid.channels, **{k: v for k, v in arguments.items() if k != "tokens"})
    else:
        raise ValueError(f"architecture={architecture!r}: choose vit or resnet15")
    if jets is not None:
        some = index[torch.linspace(0, len(index) - 1, min(len(index), SCALE_JETS)).long()]
        tokens = jets.batch(some, arguments.get("tokens", "active")).tokens
        mass = None if jets.mass is None else jets.mass[index.to(jets.mass.device)]
        model.fit_scales(jets.hits(some), tokens, mass)
    return model


def build(settings: Mapping, jets: JetImages | None = None, index: Any = None) -> nn.Module:
    """The objective of ``settings``: ``objective`` (``supervised``, or one of
    ``lib.training.pretraining``: ``simclr``, ``mae``, ``denoising``) with the arguments ``loss``.

    Args:
        settings: plain JSON, completed by ``lib.training.runs.complete``.
        jets, index: training jets, to fit scales on; left out where weights are loaded next.

    Raises:
        ValueError: an unknown objective.
    """
    kind = settings.get("objective", "supervised")
    if kind in pretraining.OBJECTIVES:
        model = make_model(settings, jets, index)
        return pretraining.build(kind, model, settings.get("loss", {}))
    known = Registry("objective", {"supervised": Supervised, **pretraining.OBJECTIVES})
    return known.find(kind)(make_model(settings, jets, index), **settings.get("loss", {}))
