"""Recipes by name: what is trained and how, as settings for ``lib.training.runs.train``.

``scratch``, ``finetune`` and the pretrainings ``simclr``, ``mae`` and ``dae`` are the course's own;
``r1_simclr``, ``r1_finetune`` and ``r1_scratch`` have R1's batch sizes, rates, weight decays and
patience, on the same model, for as many jets as the course's own (batches twice as large).
Notebooks, grids and the command line all ask here, so that equal names are equal runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib.data.images import JetImages
from lib.evaluation.probes import Monitor
from lib.profiles import Profile
from lib.training import runs
from lib.training.split import indices

PRETRAININGS: dict[str, dict[str, Any]] = {
    "simclr": {"objective": "simclr", "augment": "ours"},
    "mae": {"objective": "mae", "augment": "flips"},
    "dae": {"objective": "denoising", "augment": "flips", "damage": "damage"},
    "r1_simclr": {"objective": "simclr", "augment": "r1",
                  "loss": {"temperature": 0.5, "dim": 128}},
}
FROM_BACKBONE = ("finetune", "r1_finetune")
NAMES = (*PRETRAININGS, "scratch", "r1_scratch", *FROM_BACKBONE)
_HEADS = ("class_head", "mass_head", "hidden")
LABELS = {100: 100, 300: 200, 1_000: 300, 3_000: 600}  # label counts, and updates for so many
FEW = 300  # labels up to which seeds are many and frozen backbones are tried as well


def recipe(name: str, profile: Profile, seed: int | None = None,
           start: str | Path | Mapping | None = None) -> dict[str, Any]:
    """The settings of a recipe.

    Args:
        name: one of ``NAMES``.
        seed: default: the profile's first.
        start: for ``finetune`` and ``r1_finetune``: the pretrained run, see ``start.find``.

    Raises:
        ValueError: an unknown recipe; one that needs a start and has none, or the reverse.
    """
    if name not in NAMES:
        raise ValueError(f"unknown recipe {name!r}: choose one of {', '.join(NAMES)}")
    if (name in FROM_BACKBONE) != (start is not None):
        raise ValueError(f"{name}: " + ("give the pretrained run to start from, e.g. simclr"
                         if start is None else "starts from nothing; finetune takes a run"))
    seed = profile.seeds[0] if seed is None else seed
    if name in PRETRAININGS:
        fit = {**profile.train, **profile.pretrain}
        if name == "r1_simclr":  # the same number of jets, in batches twice as large
            fit |= {"batch_size": 2 * fit["batch_size"], "updates": max(1, fit["updates"] // 2),
                    "lr": 3e-4, "weight_decay": 0.05, "warmup": 0.1, "patience": 15, "ema": None}
        return {"seed": seed, "model": dict(profile.model), **PRETRAININGS[name], "fit": fit}
    settings = profile.settings(seed)
    if name.startswith("r1_"):
        fit = settings["fit"]
        settings["fit"] |= {"batch_size": 2 * fit["batch_size"],
                            "updates": max(1, fit["updates"] // 2), "lr": 3e-4,
                            "weight_decay": 0.01, "warmup": 0.06, "patience": 15, "ema": None}
        settings["loss"] = {}
    if start is not None:
        settings["start"] = start
    if name == "r1_finetune":
        settings["fit"] |= {"lr": 5e-5, "rates": dict.fromkeys(_HEADS, 1e-4)}
    return settings


def probe(profile: Profile, jets: JetImages, known: int = 1_000) -> Monitor:
    """The monitor of a pretraining: probes that learn from ``known`` of the labelled training jets
    and judge the validation jets."""
    train, validation = indices({"hold_out": profile.settings()["hold_out"]}, jets)
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:known]
    return Monitor(jets, train[chosen].sort().values, validation)


def pretrain(name: str, settings: Mapping, profile: Profile, unlabelled: JetImages | Path,
             labelled: JetImages | Path, **options: Any) -> runs.Run:
    """A pretraining through the cache, watched by ``probe``; ``options`` go to ``runs.train``."""
    return runs.train(name, settings, unlabelled, runs=profile.runs_dir,
                      monitor=probe(profile, runs.opened(labelled)), **options)


def label_arms(profile: Profile, start: Mapping[str, Mapping]) -> dict[str, dict[str, Any]]:
    """Arms of the label-efficiency grid, ``<system>_<labels>``, for ``lib.training.grids.grid``.

    Systems: ``scratch``, ``random_frozen`` (a backbone as it was initialised, heads trained) and a
    fine-tuning from every pretraining of ``start``; up to ``FEW`` labels also with a frozen
    backbone, ``<pretraining>_frozen``. With so many labels every system gets the same number of
    updates and, seed by seed, the same jets; validation is taken from the labels.

    Args:
        start: pretraining → seed → its run's folder. Seeds beyond those of the profile, see
            ``label_seeds``, take them in turn.
    """
    pool = int(0.9 * profile.labelled)
    arms = {}
    for count in (*(n for n in LABELS if n <= pool), None):
        fit = {} if count is None else {"updates": LABELS[count]}
        if count and profile.name == "smoke":
            fit = {"updates": max(1, profile.train["updates"] // 5)}
        subset = {} if count is None else {"labels": count}
        scratch = recipe("scratch", profile)
        systems = {"scratch": scratch, "random_frozen": {**scratch, "frozen": True}}
        for name, folders in start.items():
            given = {str(k): str(v) for k, v in folders.items()}
            turn = {str(s): given[str(profile.seeds[s % len(profile.seeds)])]
                    for s in label_seeds(profile, FEW)}
            systems[name] = recipe("finetune", profile, start=turn)
            if count and count <= FEW:
                systems[f"{name}_frozen"] = {**systems[name], "frozen": True}
        arms |= {f"{name}_{count or 'all'}": {**settings, **subset,
                                             "fit": {**settings["fit"], **fit}}
                 for name, settings in systems.items()}
    return arms


def label_seeds(profile: Profile, labels: int | None) -> tuple[int, ...]:
    """Seeds of the arms with so many labels (None: all): where labels are few, which of them were
    drawn matters most, and there are twice as many seeds."""
    more = 2 if labels is not None and labels <= FEW else 1
    return tuple(range(more * len(profile.seeds))) if more > 1 else profile.seeds
