"""Telling two runs apart by their maps, as R3 does: its two models as published, three readings of
its patch size, and their training through the cache. Maps are log(1 + count)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hcal import experts  # noqa: F401, a model asks for them by name
from hcal.events import scaled
from hcal.maps import HcalMaps
from lib.data.batches import Batches
from lib.data.tokens import Grid
from lib.evaluation.predictions import predict
from lib.profiles import Profile
from lib.training import runs
from lib.training.recipe import Recipe
from lib.training.split import make_batches

_SHARED = dict(
    tokens="all", mlp_ratio=4.0, stem="linear", patch_energy=False, embed_norm=False,
    position="learned", attention="softmax", lcm_kernel=0, pool="cls", cls_position=True,
    summary=False, scale=1.0, dropout=0.1, mass_head=False,
)  # fmt: skip
# 266,178 and 117,610 parameters on 32 x 32 patches. The text calls the routing sparse; the code
# mixes both experts, weighted by the router ("soft").
R3_VIT = dict(dim=64, depth=4, heads=2, **_SHARED)
R3_MOE = dict(dim=32, depth=4, heads=2, experts=2, router="soft", **_SHARED)
# Three readings of "patch 32 (8×4 patch grid)". The first is what the code does: a crop of 64
# columns in 4 patches. The second is what the table says: 8 rows and 4 columns of patches.
R3_GRIDS = {"coded": Grid(1, 64, 64, 32, 32), "table": Grid(1, 64, 72, 8, 18),
            "fine": Grid(1, 64, 72, 8, 4)}  # fmt: skip
# Three passes over 14,400 maps: a tenth of the 16,000 decides on the plateaus and the epoch,
# which R3 let its test maps do. Selected by loss, for the AUC is soon 1 at any threshold.
_FIT = dict(updates=675, batch_size=64, weight_decay=0.05, warmup=0.0, schedule="plateau",
            clip=None, select="loss")
R3_FIT = {"vit": dict(lr=3e-5, **_FIT), "moe": dict(lr=5e-6, **_FIT)}
R3_LOSS = dict(mass_weight=0.0, balance=0.0, z=0.0)  # cross-entropy alone
# Five validations an epoch; R3's rate falls after an epoch without progress, so three epochs of
# validations without progress leave it alone.
VALIDATE = dict(every=45, plateau_patience=15)
SMOKE = dict(every=6, updates=12, batch_size=32, lr=1e-3)


def read_as(maps: HcalMaps, reading: str) -> HcalMaps:
    """Maps cut as one of ``R3_GRIDS``: "coded", "table" or "fine"."""
    grid = R3_GRIDS[reading]
    return maps.patches(grid.patch_height, grid.patch_width, grid.width)


def recipe(profile: Profile, kind: str = "vit", model: Mapping | None = None,
           loss: Mapping | None = None, epochs: float = 3, **fit: Any) -> dict:
    """Settings of a run: a published recipe ("vit" or "moe") with changes; the smoke profile makes
    a few updates instead of R3's three epochs."""
    base = R3_VIT if kind == "vit" else R3_MOE
    updates = round(R3_FIT[kind]["updates"] * epochs / 3)
    how = {**R3_FIT[kind], "updates": updates, **VALIDATE, **fit}
    if profile.name == "smoke":
        how |= SMOKE
    return {"objective": "hcal.experts:Routed", "model": {**base, **(model or {})},
            "loss": dict(R3_LOSS if loss is None else loss), "fit": how, "hold_out": False}


@dataclass
class Trainer:
    """Trains models on one part of the maps and tests them on another."""

    maps: HcalMaps  # logarithms of counts, both runs
    train: Tensor  # numbers of maps, (n,)
    test: Tensor
    profile: Profile
    log: Callable[[str], None] = print
    _cut: dict[str, tuple[HcalMaps, HcalMaps]] = field(default_factory=dict)

    def parts(self, reading: str) -> tuple[HcalMaps, HcalMaps]:
        """Maps for training and for the test, cut; the last reading is kept: it is large."""
        if reading not in self._cut:
            cut = read_as(self.maps, reading)
            self._cut = {reading: (cut.subset(self.train), cut.subset(self.test))}
        return self._cut[reading]

    def __call__(self, name: str, settings: Mapping, reading: str = "coded", seed: int = 0,
                 watch: Callable[[nn.Module], dict] | None = None, **more: Any) -> runs.Run:
        """A run, through the cache; its history has the accuracy on validation maps and what
        ``watch(model)`` gives; ``more`` changes the recipe."""
        train, test = self.parts(reading)
        recipe = Recipe.of(settings, seed=seed, **more)
        accuracy = accuracy_on(recipe, train)

        def monitor(objective: nn.Module) -> dict:
            return {**accuracy(objective), **(watch(objective.model) if watch else {})}

        return runs.train(name, recipe, train, test, runs=self.profile.runs_dir,
                          log=without_epochs(self.log), monitor=monitor)


def without_epochs(log: Callable[[str], None]) -> Callable[[str], None]:
    """Of a training's log all but the epochs."""
    return lambda line: None if line.startswith("epoch") else log(line)


def accuracy_on(recipe: Recipe, maps: HcalMaps) -> Callable:
    """A monitor for ``fit``: accuracy on 512 validation maps."""
    held = list(Batches(maps, make_batches(recipe, maps)[1].index[:512], 256, "all"))

    @torch.no_grad()
    def accuracy(objective: nn.Module) -> dict[str, float]:
        device = next(objective.parameters()).device
        right = [(objective.model(batch.to(device).tokens)[0].argmax(1).cpu() == batch.label)
                 for batch in held]
        return {"accuracy": torch.cat(right).float().mean().item()}

    return accuracy


def answers(run: runs.Run, reading: str = "coded") -> Callable[[HcalMaps], np.ndarray]:
    """A trained model as a rule: maps of counts -> probability of the second run (N,)."""
    objective = run.objective()
    return lambda maps: predict(objective, Batches(read_as(scaled(maps, "log1p"), reading), None,
                                                   256, "all")).score
