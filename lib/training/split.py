"""Which jets a run trains and validates on, and its batches of them."""

import numpy as np
import torch
from torch import Tensor

from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.data.views import views
from lib.training.objectives import OBJECTIVES
from lib.training.recipe import Recipe


def indices(recipe: Recipe, jets: JetImages) -> tuple[Tensor, Tensor]:
    """Jets for training and for validation: the parts of ``jets.split(recipe.split)``.

    Without ``hold_out``, for jets whose test is a file of its own, the test part trains as well
    (90 % in all). With ``labels``, so many jets of the training part, drawn by the recipe's seed,
    and a fifth of them for validation. Of unlabelled jets a twentieth is for validation. Jets of
    one event are always on one side.

    ValueError: more labels than there are."""
    if jets.labels is None:
        order = torch.randperm(len(jets), generator=torch.Generator().manual_seed(42)).numpy()
        first = jets.first_of_events(order)
        held = np.isin(jets.event[order], jets.event[first[:max(1, len(first) // 20)]])
        return tuple(torch.from_numpy(np.sort(order[part])) for part in (~held, held))
    split, labels = jets.split(recipe.split), recipe.labels
    pool = split.train if recipe.hold_out else torch.cat([split.train, split.test])
    if labels is None:
        return pool, split.validation
    if not 4 <= labels <= len(pool):
        raise ValueError(f"labels={labels}: choose 4 to {len(pool)}, the training part")
    random = np.random.default_rng(recipe.seed)
    train, validation = [], []
    truth = jets.labels.cpu()[pool]
    first = min(max(round(labels * int((truth == 0).sum()) / len(truth)), 2), labels - 2)
    for label, count in ((0, first), (1, labels - first)):  # in proportion, both in both parts
        drawn = random.permutation(pool[truth == label].numpy())[:count]
        one = jets.first_of_events(drawn)
        held = np.isin(jets.event[drawn], jets.event[one[:max(1, round(len(one) / 5))]])
        validation.append(torch.from_numpy(drawn[held]))
        train.append(torch.from_numpy(drawn[~held]))
    return torch.cat(train), torch.cat(validation)


def make_batches(recipe: Recipe, jets: JetImages) -> tuple[Batches, Batches]:
    """Batches for training and for validation, as the recipe and its objective want them."""
    train, validation = indices(recipe, jets)
    size, objective = recipe.fit.batch_size, OBJECTIVES.find(recipe.objective)
    augment, check = None, None
    if recipe.augment is not None:
        augment = views(recipe.augment, jets.grid, jets.encoding)
    if hasattr(objective, "views"):
        damage = views(recipe.damage, jets.grid, jets.encoding)
        augment, check = objective.views(augment, damage)
    if getattr(objective, "whole_batches", False):
        validation = validation[: max(len(validation) // size * size, min(len(validation), size))]
    # Jets of one size in a batch would give a batch norm statistics that no other batch has.
    bucket = recipe.architecture == "vit" and recipe.model.get("lcm_norm") != "batch"
    return (Batches(jets, train, size, recipe.tokens, shuffle=True, seed=recipe.seed,
                    augment=augment, bucket=bucket),
            Batches(jets, validation, size, recipe.tokens, augment=check))
