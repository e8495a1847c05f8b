"""Losses on validation while training, and predictions for the metrics afterwards."""

import logging
import os
from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import nn

from lib.data.batches import Batches
from lib.data.tokens import Batch
from lib.evaluation.metrics import Predictions, auc


def make_fabric(precision: str, accelerator: str = "auto", **how: Any) -> Fabric:
    """A Fabric for this process alone, however many there are, made without a line in the log.
    precision, accelerator: as in ``FitSettings``; how: for several, what else Fabric takes."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for name in [name for name in os.environ if name.startswith("LT_")]:
        del os.environ[name]  # of `fabric run`: what it asks for it has started
    if accelerator == "auto":  # never MPS, unless it is asked for by name
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    here = f"cuda:{torch.cuda.current_device()}" if accelerator == "cuda" else accelerator
    how = how or {"devices": 1, "strategy": SingleDeviceStrategy(here),
                  "plugins": LightningEnvironment()}
    return Fabric(accelerator=accelerator, precision=resolve_precision(precision), **how)


def resolve_precision(precision: str) -> str:
    """What ``auto`` means on this machine; anything else stays."""
    if precision != "auto":
        return precision
    # A processor without these instructions emulates bfloat16, slowly.
    fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "bf16-mixed" if fast else "32-true"


@torch.no_grad()
def validate(objective: nn.Module, batches: Iterable[Batch], fabric: Fabric) -> dict[str, float]:
    """Mean loss and parts over the batches, AUC, mass error (GeV) where there are any. The random
    generator is set aside: a loss with chance in it is the same each time, and training goes on as
    if nothing had been."""
    was_training = objective.training
    objective.eval()
    sums, jets, scores, labels = {}, 0, [], []
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        torch.manual_seed(0)
        for batch in batches:
            batch = batch.to(fabric.device)
            with fabric.autocast():
                output = objective.predict(batch) if hasattr(objective, "predict") else None
                total, parts = objective.loss(batch, output) if output else objective.loss(batch)
            parts = {"loss": total, **parts}
            if output and batch.label is not None:
                scores.append(output["logits"].float().softmax(-1)[:, 1])
                labels.append(batch.label)
                if output.get("mass") is not None and batch.mass is not None:
                    parts["mae"] = (output["mass"].float() - batch.mass).abs().mean()
            for name, value in parts.items():
                sums[name] = sums.get(name, 0) + value.detach().float() * len(batch.index)
            jets += len(batch.index)
    objective.train(was_training)
    row = {f"val_{name}": float(value) / jets for name, value in sums.items()}
    if scores:
        row["val_auc"] = auc(torch.cat(labels).cpu().numpy(), torch.cat(scores).cpu().numpy())
    return row


@torch.no_grad()
def predict(objective: nn.Module, batches: Batches, precision: str = "32-true",
            accelerator: str = "auto") -> Predictions:
    """Predictions of an objective or a model, in the order of the batches. precision: as in
    ``FitSettings``. The objective is in evaluation mode and where it was."""
    fabric = make_fabric(precision, accelerator)
    place = next(objective.parameters(), torch.empty(0)).device
    objective = objective.to(fabric.device).eval()
    index, score, mass = [], [], []
    for batch in batches:
        batch = batch.to(fabric.device)
        with fabric.autocast():
            output = (objective.predict(batch) if hasattr(objective, "predict") else
                      dict(zip(("logits", "mass"), objective(batch.tokens))))
        index.append(batch.index)
        score.append(output["logits"].float().softmax(-1)[:, 1])
        mass += [output["mass"].float()] if output.get("mass") is not None else []
    objective.to(place)
    return Predictions.of(batches.jets, *(torch.cat(x) for x in (index, score, mass) if x))
