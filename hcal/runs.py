"""Telling two runs apart by their maps, as R3 does: its two models as published, three readings of
its patch size, and their training through the cache. Maps are log(1 + count)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hcal import experts  # noqa: F401, a model asks for them by name
from hcal.events import scaled
from hcal.maps import RUNS, HcalMaps, find, load
from hcal.simulation import simulate
from lib.data.batches import Batches
from lib.data.tokens import Grid
from lib.evaluation import metrics
from lib.evaluation.predictions import predict
from lib.files import DataError, require
from lib.models.vit import JetViT
from lib.profiles import Profile
from lib.report.numbers import with_interval
from lib.training import runs
from lib.training.recipe import Recipe
from lib.training.split import make_batches

_SHARED = dict(
    tokens="all", mlp_ratio=4.0, stem="linear", patch_energy=False, embed_norm=False,
    position="learned", attention="softmax", lcm_kernel=0, pool="cls", cls_position=True,
    summary=False, scale=1.0, dropout=0.1, mass_head=False, start=0.02,
)  # fmt: skip
# 266,178 and 117,610 parameters on 32 x 32 patches. The text calls the routing sparse; the code
# mixes both experts, weighted by the router ("soft").
R3_VIT = dict(dim=64, depth=4, heads=2, **_SHARED)
R3_MOE = dict(dim=32, depth=4, heads=2, experts=2, router="soft", **_SHARED)
# Three readings of "patch 32 (8×4 patch grid)": what the code does, a crop of 64 columns in 4
# patches; what the table says, 8 rows and 4 columns of patches; and patches of 8 x 4 cells.
R3_GRIDS = {"coded": Grid(1, 64, 64, 32, 32), "table": Grid(1, 64, 72, 8, 18),
            "fine": Grid(1, 64, 72, 8, 4)}  # fmt: skip
EPOCH = 250  # updates: R3's batches of 64 from 16,000 maps
# R3's own log: cross-entropy and accuracy on its 4,000 validation maps after epochs 1, 2, 3.
R3_LOG = {"vit": ((0.0915, 0.0552, 0.0302), (0.9972, 0.9975, 1.0)),
          "moe": ((0.6839, 0.3512, 0.3056), (0.6112, 0.9972, 0.9985))}
# A tenth of the 16,000 maps decides on plateaus and epoch, which R3 let its test maps do.
# Selected by loss: the AUC is soon 1 at any threshold.
_FIT = dict(updates=3 * EPOCH, batch_size=64, weight_decay=0.05, warmup=0.0, schedule="plateau",
            clip=None, select="loss")
R3_FIT = {"vit": dict(lr=3e-5, **_FIT), "moe": dict(lr=5e-6, **_FIT)}
R3_LOSS = dict(mass_weight=0.0, balance=0.0, z=0.0)  # cross-entropy alone
# Five validations an epoch; three epochs of them without progress lower the rate.
VALIDATE = dict(every=50, plateau_patience=15)
MODELS = {"vit": "vit", "moe_vit": "moe"}  # what the command line calls them
METRICS = ("accuracy", "auc", "loss_class")
SMOKE = dict(every=6, updates=12, batch_size=32, lr=1e-3)


def read_as(maps: HcalMaps, reading: str) -> HcalMaps:
    """Maps cut as one of ``R3_GRIDS``: "coded", "table" or "fine"."""
    grid = R3_GRIDS[reading]
    return maps.patches(grid.patch_height, grid.patch_width, grid.width)


def recipe(profile: Profile, kind: str = "vit", model: Mapping | None = None,
           loss: Mapping | None = None, epochs: float = 3, **fit: Any) -> dict:
    """Settings of a run: a published recipe ("vit" or "moe") with changes; smoke: few updates."""
    how = {**R3_FIT[kind], "updates": round(EPOCH * epochs), **VALIDATE, **fit,
           **(SMOKE if profile.name == "smoke" else {})}
    return {"objective": "hcal.experts:Routed",
            "model": {**(R3_VIT if kind == "vit" else R3_MOE), **(model or {})},
            "loss": dict(R3_LOSS if loss is None else loss), "fit": how, "hold_out": False}


@dataclass
class Trainer:
    """Trains models on one part of the maps and tests them on another."""

    maps: HcalMaps  # logarithms of counts, both runs
    train: Tensor  # numbers of maps, (n,)
    test: Tensor
    profile: Profile
    log: Callable[[str], None] = print

    def parts(self, reading: str) -> tuple[HcalMaps, HcalMaps]:
        """Maps for training and for the test, cut."""
        cut = read_as(self.maps, reading)
        return cut.subset(self.train), cut.subset(self.test)

    def __call__(self, name: str, settings: Mapping, reading: str = "coded", seed: int = 0,
                 watch: Callable[[nn.Module], dict] | None = None, **more: Any) -> runs.Run:
        """A run, through the cache; its history has the accuracy on validation maps and what
        ``watch(model)`` gives; ``more`` changes the recipe."""
        train, test = self.parts(reading)
        recipe = Recipe.of(settings, seed=seed, **more)
        return runs.train(name, recipe, train, test, runs=self.profile.runs_dir,
                          log=without_epochs(self.log), monitor=monitor(recipe, train, watch))


def without_epochs(log: Callable[[str], None]) -> Callable[[str], None]:
    """Of a training's log all but the epochs."""
    return lambda line: None if line.startswith("epoch") else log(line)


def monitor(recipe: Recipe, maps: HcalMaps, watch: Callable | None) -> Callable:
    """For ``fit``: accuracy on 512 validation maps, and what ``watch(model)`` gives."""
    held = Batches(maps, make_batches(recipe, maps)[1].index[:512], 256, "all")

    def accuracy(objective: nn.Module) -> dict[str, float]:
        found = metrics.evaluate(predict(objective.model, held))
        return {"accuracy": found["accuracy"], **(watch(objective.model) if watch else {})}

    return accuracy


def both_runs(profile: Profile, files: Sequence[Path] = ()) -> HcalMaps:
    """Maps of both runs: counts with labels, of ``files`` or of a folder that holds the published
    ones; without any simulated, or the public ones of the profile. DataError."""
    if not files and profile.data == "simulated":
        count = 240 if profile.name == "smoke" else 10_000
        return HcalMaps.concat([simulate(run, count, seed=0) for run in RUNS])
    first = files[0] if files else profile.data_dir
    found = {file: load(file) for file in (
        [find(first, run) for run in RUNS] if first.is_dir() else files)}
    if odd := [file for file, maps in found.items() if maps.labels is None]:
        raise DataError(f"{odd[0]}: its name says no run; call it Run{RUNS[0]} or Run{RUNS[1]}")
    maps = HcalMaps.concat(list(found.values()))
    require(min(maps.labels.bincount(minlength=2)) >= 10, first,
            f"give at least ten maps of each run, {RUNS[0]} and {RUNS[1]}")
    return maps


def train(name: str, profile: Profile, seed: int = 0, files: Sequence[Path] = ()) -> Path:
    """Train one of ``MODELS`` as published, or load it, and print how it does; the run's folder."""
    maps = both_runs(profile, files)
    parts = map(torch.from_numpy, maps.divide(0.2, seed=42))  # R3's split at random
    run = Trainer(scaled(maps, "log1p"), *parts, profile)(
        name, recipe(profile, MODELS[name]), seed=seed)
    for metric, row in metrics.summary(run.predictions, METRICS).items():
        print(f"{metric:<12} {with_interval(row)}  on {len(run.predictions.y):,} test maps")
    return run.folder


def held_out(profile: Profile, files: Sequence[Path] = ()) -> HcalMaps:
    """Maps as R3's models take them: all of ``files``; without any the test part."""
    maps = both_runs(profile, files)
    maps = maps if files else maps.subset(maps.divide(0.2, seed=42)[1])
    return read_as(scaled(maps, "log1p"), "coded")


def measured(folder: Path) -> dict[str, dict]:
    """What a card of R3's models states: metric -> mean, low, high, on 1,000 maps of each run."""
    maps = scaled(HcalMaps.concat([simulate(run, 1000, seed=77) for run in RUNS]), "log1p")
    model = JetViT.from_pretrained(folder)
    return metrics.summary(predict(model, Batches(read_as(maps, "coded"), None, 256, "all")),
                           METRICS)
