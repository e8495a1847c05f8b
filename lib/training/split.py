"""Which jets a run trains and validates on, and its batches of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.data.views import Damaged, TwoViews, views


def indices(settings: Mapping, jets: JetImages) -> tuple[Tensor, Tensor]:
    """Jets for training and for validation.

    Labelled: the parts of ``jets.split(settings["split"])`` (42); with ``hold_out`` False, for
    jets whose test is a file of its own, its test part is for training too (90 % in all). Or
    ``settings["labels"]`` jets of the training part, drawn by the run's seed, a fifth of them for
    validation. Unlabelled: a twentieth is for validation.

    Raises:
        ValueError: more labels than there are.
    """
    if jets.labels is None:
        order = torch.randperm(len(jets), generator=torch.Generator().manual_seed(42))
        held = max(1, len(jets) // 20)
        return order[held:].sort().values, order[:held].sort().values
    split = jets.split(settings.get("split", 42))
    pool = split.train if settings.get("hold_out", True) else torch.cat([split.train, split.test])
    labels = settings.get("labels")
    if labels is None:
        return pool, split.validation
    if not 4 <= labels <= len(pool):
        raise ValueError(f"labels={labels}: choose 4 to {len(pool)}, the training part")
    random = np.random.default_rng(settings.get("seed", 0))
    train, validation = [], []
    truth = jets.labels.cpu()[pool]
    taken = 0
    for label in (0, 1):  # both classes in proportion, both in both parts
        members = pool[truth == label].numpy()
        count = round(labels * len(members) / len(truth)) if label == 0 else labels - taken
        taken += count
        drawn = random.permutation(members)[: max(count, 2)]
        held = max(1, round(len(drawn) / 5))
        validation.append(torch.from_numpy(drawn[:held]))
        train.append(torch.from_numpy(drawn[held:]))
    return torch.cat(train), torch.cat(validation)


def make_batches(settings: Mapping, jets: JetImages) -> tuple[Batches, Batches]:
    """Batches for training and for validation, as ``settings`` say."""
    train, validation = indices(settings, jets)
    keep = settings["model"].get("tokens", "active")
    size, seed = settings["fit"]["batch_size"], settings.get("seed", 0)
    names, kind = settings.get("augment"), settings.get("objective", "supervised")
    augment = None if names is None else views(names, jets.grid, jets.encoding)
    check = None
    if kind == "simclr":
        if augment is None:
            raise ValueError("objective='simclr' compares two views: give an augment, e.g. 'ours'")
        augment = check = TwoViews(augment)
        # The loss depends on how many jets are compared, so no smaller batch at the end.
        validation = validation[: max(len(validation) // size * size, min(len(validation), size))]
    elif kind == "denoising":
        damage = views(settings.get("damage", "damage"), jets.grid, jets.encoding)
        augment, check = Damaged(damage, augment), Damaged(damage)
    # Jets of one size in a batch would give a batch norm statistics that no other batch has.
    batch_norm = settings["model"].get("lcm_norm") == "batch"
    bucket = settings.get("architecture", "vit") == "vit" and not batch_norm
    return (Batches(jets, train, size, keep, shuffle=True, seed=seed, augment=augment,
                    bucket=bucket),
            Batches(jets, validation, size, keep, augment=check))
