"""What a model is trained on: each objective is a small module around it.

A class joins with ``@OBJECTIVES.register("name")``, or is named as ``module:Class`` in the recipe.
It is made with a model and the recipe's ``loss`` as arguments, and has ``loss(batch, output=None)
-> (scalar, {part: scalar})``, what to minimise and its parts for the log. All else is optional:

``predict(batch) -> {...}``: outputs for the metrics; in validation ``loss`` gets them back;
``after_update(progress)``: called after each update with the fraction of training done;
``views(augment, damage)``: what happens to the hits in its batches for training and for validation
(``lib.data.views``); else ``augment`` in training;
``whole_batches``: its loss depends on the number of jets, so validation has no smaller last batch;
``shown``: the parts of the loss that the log prints; ``model_type``: the class of its model;
``build(recipe, jets, index)``: a class method, where the model is none of ``ARCHITECTURES``."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.tokens import Batch
from lib.models.vit import HEADS
from lib.registry import Registry, check_choices

OBJECTIVES = Registry("objective")
MASS_LOSSES = {"huber": lambda e, zero: F.huber_loss(e, zero, delta=0.5), "mse": F.mse_loss,
               "l1": F.l1_loss, "gaussian": None}  # None: with a learned σ


def resting(module: nn.Module, *parts: str) -> nn.Module:
    """The module with its heads and ``parts`` at rest: no gradients, no weight decay."""
    for name, parameter in module.named_parameters():
        if any(part in name.split(".") for part in (*HEADS, *parts)):
            parameter.requires_grad_(False)
    return module


@OBJECTIVES.register("supervised")
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
        class_weight: of the cross-entropy; 0 learns the mass alone."""

    shown = ("class", "mass")

    def __init__(self, model: nn.Module, mass_weight: float = 1.0, mass_loss: str = "huber",
                 smoothing: float = 0.0, class_weight: float = 1.0) -> None:
        super().__init__()
        check_choices(mass_loss=(mass_loss, MASS_LOSSES))
        self.model, self.mass_weight, self.mass_loss = model, mass_weight, mass_loss
        self.smoothing, self.class_weight, self._said = smoothing, class_weight, False
        self.log_sigma = nn.Parameter(torch.zeros(())) if mass_loss == "gaussian" else None

    def mass_term(self, m_hat: Tensor, m: Tensor) -> Tensor:
        """ℓ, the mean over the batch; m_hat and m (B,) in GeV."""
        e = (m_hat.float() - m.float()) / self.model.mass_std
        if self.mass_loss == "gaussian":
            return (e**2 * torch.exp(-2 * self.log_sigma) / 2).mean() + self.log_sigma
        return MASS_LOSSES[self.mass_loss](e, torch.zeros_like(e))

    def predict(self, batch: Batch) -> dict[str, Tensor | None]:
        """``logits`` (B,2) and ``mass`` (B,) in GeV, None without a mass head."""
        logits, mass = self.model(batch.tokens)
        return {"logits": logits, "mass": mass}

    def loss(self, batch: Batch, output: dict[str, Tensor | None] | None = None
             ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch and its parts, ``class`` and ``mass``. ValueError for jets without
        labels."""
        if batch.label is None:
            raise ValueError("these jets have no labels: pretrain on them, or give a labelled file")
        output = output or self.predict(batch)
        total = F.cross_entropy(output["logits"].float(), batch.label,
                                label_smoothing=self.smoothing if self.training else 0.0)
        parts, total = {"class": total.detach()}, self.class_weight * total
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
