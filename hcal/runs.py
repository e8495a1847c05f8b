"""Telling two runs apart by their maps, as R3 does: rules of one number, readings of its patch
size, and its two models trained through the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hcal.experts import active_parameters
from hcal.files import HcalMaps
from hcal.published import R3_FIT, R3_GRIDS, R3_LOSS, R3_MOE, R3_VIT
from lib.data.batches import Batches
from lib.data.tokens import Hits
from lib.evaluation import metrics
from lib.evaluation.predictions import predict
from lib.profiles import Profile
from lib.training import runs
from lib.training.split import make_batches

INNER, OUTER = (12, 13, 50, 51), (3, 4, 5, 6, 57, 58, 59, 60)  # rows: |ieta| 19-20 and 26-29
# Five looks at validation an epoch; R3's rate falls after an epoch without progress, so three
# epochs of looks without progress leave it alone.
LOOKS = dict(every=45, plateau_patience=15)
SMOKE = dict(every=6, updates=12, batch_size=32, lr=1e-3)


# --- rules ----------------------------------------------------------------------------------------


def maximum(maps: HcalMaps) -> np.ndarray:
    """Largest count of a live cell: (N, 1)."""
    return (maps.counts * maps.live).amax((1, 2)).unsqueeze(1).numpy()


def ratio(maps: HcalMaps) -> np.ndarray:
    """Counts of the inner rings over those of the outer ones, whatever the events: (N, 1)."""
    x = maps.counts * maps.live
    inner, outer = (x[:, rows].sum((1, 2)) for rows in (INNER, OUTER))
    return (inner / outer.clamp(min=1)).unsqueeze(1).numpy()


def cells(maps: HcalMaps) -> np.ndarray:
    """Logarithms of all live cells: (N, cells)."""
    return maps.counts[:, maps.live].log1p().numpy()


RULES = {"maximum": maximum, "ratio": ratio, "logistic": cells}


def fit_rule(name: str, maps: HcalMaps, most: int = 4000) -> Callable[[HcalMaps], np.ndarray]:
    """Logistic regression on one of ``RULES``: maps -> probability of the second run (N,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    some = maps.subset(slice(0, None, max(1, len(maps) // most)))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=100))
    model.fit(RULES[name](some), some.labels.numpy())
    return lambda maps: model.predict_proba(RULES[name](maps))[:, 1]


# --- models ---------------------------------------------------------------------------------------


def read_as(maps: HcalMaps, reading: str) -> HcalMaps:
    """Maps cut as one of ``R3_GRIDS``: "coded", "table" or "fine"."""
    grid = R3_GRIDS[reading]
    if grid.width < maps.grid.width:
        maps = maps.cropped(grid.width)
    return maps.patches(grid.patch_height, grid.patch_width)


def recipe(profile: Profile, kind: str = "vit", model: Mapping | None = None,
           loss: Mapping | None = None, epochs: float = 3, **fit: Any) -> dict:
    """Settings of a run: a published recipe ("vit" or "moe") with changes.

    epochs: R3's are three; the smoke profile makes a few updates instead.
    """
    base = R3_VIT if kind == "vit" else R3_MOE
    updates = round(R3_FIT[kind]["updates"] * epochs / 3)
    how = {**R3_FIT[kind], "updates": updates, **LOOKS, **fit}
    if profile.name == "smoke":
        how |= SMOKE
    return {"objective": "hcal.experts:Routed", "model": {**base, **(model or {})},
            "loss": dict(R3_LOSS if loss is None else loss),
            "fit": how, "hold_out": False}


@dataclass
class Trainer:
    """Trains models on one part of the maps and judges them on another.

    maps: logarithms of counts, both runs. train, test: numbers of maps, (n,).
    """

    maps: HcalMaps
    train: Tensor
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
        ``watch(model)`` gives."""
        train, test = self.parts(reading)
        settings = runs.complete({**settings, "seed": seed}, train)
        accuracy = accuracy_on(settings, train)

        def monitor(objective: nn.Module) -> dict:
            return {**accuracy(objective), **(watch(objective.model) if watch else {})}

        return runs.train(name, settings, train, test, runs=self.profile.runs_dir, log=self.brief,
                          monitor=monitor, **more)

    def brief(self, line: str) -> None:
        """Of a training's log all but the epochs; its jets are maps here."""
        if not line.startswith("epoch"):
            self.log(line.replace(" jets", " maps"))


def accuracy_on(settings: Mapping, maps: HcalMaps, most: int = 512) -> Callable:
    """A monitor for ``fit``: accuracy on validation maps."""
    index = make_batches(settings, maps)[1].index
    held = list(Batches(maps, index[:most], 256, "all"))

    @torch.no_grad()
    def accuracy(objective: nn.Module) -> dict[str, float]:
        device = next(objective.parameters()).device
        right = [(objective.model(batch.to(device).tokens)[0].argmax(1).cpu() == batch.label)
                 for batch in held]
        return {"accuracy": torch.cat(right).float().mean().item()}

    return accuracy


def epochs_to(run: runs.Run, wanted: float = 0.99) -> float:
    """Epochs until the accuracy on validation is there to stay; NaN: not so at the end."""
    below = np.flatnonzero([row["accuracy"] < wanted for row in run.history])
    first = below[-1] + 1 if len(below) else 0
    return run.history[first]["epoch"] if first < len(run.history) else math.nan


def errors(run: runs.Run) -> int:
    """Test maps on the wrong side of one half."""
    p = run.predictions
    return int(((p.score > 0.5) != (p.y > 0.5)).sum())


def table_row(found: list[runs.Run]) -> dict[str, Any]:
    """A row of a table for the seeds of one system: column -> number or text."""
    scored = [metrics.evaluate(run.predictions) for run in found]
    return {
        "parameters": found[0].parameters, "active": active_parameters(found[0].model()),
        "rate": f"{found[0].settings['fit']['lr']:.0e}",
        "seconds": round(float(np.mean([run.train_seconds for run in found]))),
        "epochs to 0.99": ", ".join("never" if math.isnan(e := epochs_to(run)) else f"{e:.1f}"
                                    for run in found),
        "validation loss": round(float(np.mean([run.history[-1]["val_loss"] for run in found])), 3),
        "accuracy": round(float(np.mean([m["accuracy"] for m in scored])), 5),
        "AUC": round(float(np.mean([m["auc"] for m in scored])), 5),
        "errors, by seed": ", ".join(str(errors(run)) for run in found),
    }


def answers(run: runs.Run, reading: str = "coded") -> Callable[[HcalMaps], np.ndarray]:
    """A trained model as a rule: maps of counts -> probability of the second run (N,)."""
    objective = run.objective()

    def says(maps: HcalMaps) -> np.ndarray:
        cut = read_as(maps.scaled("log1p"), reading)
        return predict(objective, Batches(cut, None, 256, "all")).score

    return says


# --- flips and rotations --------------------------------------------------------------------------


@dataclass(frozen=True)
class Turns:
    """Mirror each map with probability one half, then turn it by 0, 90, 180 or 270 degrees: what
    R3 calls inappropriate. Square maps of ``side`` cells."""

    side: int

    def __call__(self, hits: Hits) -> Hits:
        turn = torch.randint(0, 8, (hits.images,), device=hits.row.device)[hits.image]
        last = self.side - 1
        row = torch.where(turn >= 4, last - hits.row, hits.row)
        ways = torch.stack([row, hits.column, last - row, last - hits.column])
        here = torch.arange(len(row), device=row.device)
        return replace(hits, row=ways[turn % 4, here], column=ways[(turn + 1) % 4, here])


def turned_batches(settings: Mapping, maps: HcalMaps) -> tuple[Batches, Batches]:
    """``make_batches`` with training maps turned at random."""
    train, validation = make_batches(settings, maps)
    train.augment = Turns(maps.grid.height)
    return train, validation
