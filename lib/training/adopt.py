"""Runs and weights from before canonical keys (2026-11-26): their recipes, their fingerprints."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.tokens import Batch, Grid
from lib.training.optim import parameter_groups
from lib.training.recipe import Recipe

SAMPLE = 4  # jets of an old fingerprint


def recipe_of(record: Mapping, like: Recipe) -> Recipe | None:
    """The recipe of a record. One without a key did not say which functions made objective and
    batches, so those of ``like`` are taken; the fingerprint tells whether they fit."""
    settings = dict(record["settings"])
    if "key" not in record:
        settings.pop("maps", None)
        settings = {"objective": like.objective, **settings, "batches": like.batches}
    try:
        return Recipe.of(settings)
    except ValueError:
        return None


def first_jets(value: Any, count: int) -> Any:
    """The first ``count`` jets of a batch, whatever it holds."""
    if isinstance(value, Tensor):
        return value[:count]
    if dataclasses.is_dataclass(value) and not isinstance(value, Grid):
        return type(value)(**{k: first_jets(v, count) for k, v in vars(value).items()})
    return value


def fingerprint(recipe: Recipe, objective: nn.Module, batch: Batch) -> list[float]:
    """Losses of three plain updates on the first jets of the first batch, and in evaluation
    afterwards: float32, on the CPU. Uses up ``objective``."""
    batch = first_jets(batch, SAMPLE).to("cpu")
    objective = objective.cpu().train()
    settings = dataclasses.replace(recipe.fit, lr=1e-4, rates={})
    optimizer = torch.optim.AdamW(parameter_groups(objective, settings))
    losses = []
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        for update in range(3):
            loss, _ = objective.loss(batch)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if hasattr(objective, "after_update"):
                objective.after_update(update / 3)
        with torch.no_grad():
            losses.append(objective.eval().loss(batch)[0].item())
    return losses
