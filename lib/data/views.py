"""Views of a jet: augmentations by name, in sets, in pairs, and applied to a whole data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lib.data import controls
from lib.data.augment import (
    Augment,
    ChannelDropout,
    DropHits,
    EnergySmearing,
    Flips,
    Noise,
    PhiRoll,
    PileUp,
    Rotation,
    Translation,
    compose,
)
from lib.data.images import JetImages
from lib.data.tokens import Grid, Hits

R1 = ("phi_flip", "eta_flip", "phi_roll", "channel_dropout", "pixel_noise")
OURS = ("flips", "rotation", "translation", "smearing", "pile_up", "channel_dropout")
DAMAGE = ("noise", "drop_hits", "pile_up")  # what denoising has to undo
SETS = {"flips": ("flips",), "r1": R1, "ours": OURS, "damage": DAMAGE}
CONTROLS = ("quarter_turn", "random_crop", "blur", "channel_mixing", "channel_averaging")


def transforms(grid: Grid, encoding: str) -> dict[str, Augment]:
    """Every augmentation and control by its name, with its default strength."""
    signed = encoding == "gev"
    return {
        "flips": Flips(grid, signed),
        "eta_flip": Flips(grid, signed, phi=False),
        "phi_flip": Flips(grid, signed, eta=False),
        "translation": Translation(grid),
        "rotation": Rotation(grid),
        "phi_roll": PhiRoll(grid),
        "channel_dropout": ChannelDropout(grid),
        "noise": Noise(grid, encoding),
        "pixel_noise": Noise(grid, encoding, channels=None, by_cell=False),
        "smearing": EnergySmearing(grid, encoding),
        "drop_hits": DropHits(grid, encoding),
        "pile_up": PileUp(grid, encoding),
        "quarter_turn": controls.QuarterTurn(grid),
        "random_crop": controls.RandomCrop(grid, encoding),
        "blur": controls.Blur(grid, encoding),
        "channel_mixing": controls.ChannelMixing(grid, encoding),
        "channel_averaging": controls.ChannelAveraging(grid, encoding),
    }


def views(names: str | Sequence[str | Mapping], grid: Grid, encoding: str) -> Augment:
    """The augmentation of ``names``, one after the other.

    Args:
        names: a set (``flips``, ``r1``: R1's five, ``ours``, ``damage``), or a list of names of
            ``transforms``; ``{"rotation": {"degrees": 30}}`` in the list changes a strength.

    Raises:
        ValueError: an unknown name or argument.
    """
    known, steps = transforms(grid, encoding), []
    if isinstance(names, str):
        if names not in SETS and names not in known:
            raise ValueError(f"augment={names!r}: choose {', '.join(SETS)}, or a list of "
                             f"{', '.join(known)}")
        names = SETS.get(names, (names,))
    for item in names:
        name, changes = next(iter(item.items())) if isinstance(item, Mapping) else (item, {})
        if name not in known:
            raise ValueError(f"augment {name!r}: choose from {', '.join(known)}")
        step = known[name]
        if wrong := set(changes) - set(vars(step)):
            raise ValueError(f"augment {name!r} has no {', '.join(sorted(wrong))}; it has "
                             f"{', '.join(sorted(set(vars(step)) - {'grid', 'encoding'}))}")
        steps.append(type(step)(**{**vars(step), **changes}))
    return steps[0] if len(steps) == 1 else compose(steps)


@dataclass(frozen=True)
class TwoViews:
    """Two views of each jet, drawn independently, for a contrastive objective."""

    augment: Augment

    def __call__(self, hits: Hits) -> tuple[Hits, Hits]:
        return self.augment(hits), self.augment(hits)


@dataclass(frozen=True)
class Damaged:
    """A damaged jet and the jet itself, for a denoising objective; `augment` is for both alike."""

    damage: Augment
    augment: Augment | None = None

    def __call__(self, hits: Hits) -> tuple[Hits, Hits]:
        clean = self.augment(hits) if self.augment else hits
        return self.damage(clean), clean


def transformed(jets: JetImages, augment: Augment, seed: int = 0, block: int = 256) -> JetImages:
    """The jets after an augmentation, as a store of their own (on the CPU); same seed, same jets.

    Raises:
        DataError: values that the encoding cannot hold.
    """
    counts, pixels, values = [np.zeros(1, np.int64)], [], []
    channels, height, width = jets.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in torch.arange(len(jets)).split(block):
            hits = augment(jets.hits(part).to("cpu"))
            flat = ((hits.image * channels + hits.channel) * height + hits.row) * width
            flat, order = (flat + hits.column).sort()
            pixels.append((flat % (channels * height * width)).numpy())
            values.append(hits.value[order].numpy())
            counts.append(torch.bincount(hits.image, minlength=len(part)).numpy())
    return JetImages.from_arrays(
        np.concatenate(counts).cumsum(), np.concatenate(pixels), np.concatenate(values),
        jets.shape, jets.encoding, jets.labels, jets.mass, jets.pt,
        {name: column.numpy() for name, column in jets.truth.items()})
