"""Views of a jet: augmentations by name, in sets, in pairs, and applied to a whole data set."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lib.data.augment import AUGMENTATIONS, Augment, compose
from lib.data.encoding import encode_cms8
from lib.data.images import JetImages
from lib.data.tokens import Grid, Hits

R1 = ("phi_flip", "eta_flip", "phi_roll", "channel_dropout", "pixel_noise")
OURS = ("flips", "rotation", "translation", "smearing", "pile_up", "channel_dropout")
DAMAGE = ("noise", "drop_hits", "pile_up")  # what denoising has to undo
SETS = {"flips": ("flips",), "r1": R1, "ours": OURS, "damage": DAMAGE}


def transforms(grid: Grid, encoding: str) -> dict[str, Augment]:
    """Every augmentation by its name, with its default strength."""
    return {name: make(grid, encoding) for name, make in AUGMENTATIONS.items()}


def views(names: str | Sequence[str | Mapping], grid: Grid, encoding: str) -> Augment:
    """The augmentation of ``names``, one after the other; ValueError for an unknown one. names: a
    set (``flips``, ``r1``: R1's five, ``ours``, ``damage``), or a list of names of
    ``AUGMENTATIONS``; ``{"rotation": {"degrees": 30}}`` in it changes a strength."""
    if isinstance(names, str):
        names = SETS.get(names, (names,))
    steps = []
    for item in names:
        for name, changes in (item.items() if isinstance(item, Mapping) else [(item, {})]):
            make = AUGMENTATIONS.find(name)
            known = set(inspect.signature(make).parameters) - {"hits", "grid", "encoding"}
            if wrong := set(changes) - known:
                raise ValueError(f"augment={name!r} has no {', '.join(sorted(wrong))}; it has "
                                 f"{', '.join(sorted(known))}")
            steps.append(make(grid, encoding, **changes))
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


def transformed(jets: JetImages, augment: Augment, seed: int = 0,
                encoding: str | None = None) -> JetImages:
    """The jets after a change of their hits, as a store of their own, the same for the same seed.
    encoding: jets in `gev` become what `cms8` makes of them, as the detector's would; None leaves
    them as they are. Raises: DataError for values that the encoding cannot hold."""
    encode = jets.encoding == "gev" and encoding == "cms8"
    counts, pixels, values, size = [[0]], [], [], math.prod(jets.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in torch.arange(len(jets)).split(256):
            hits = augment(jets.hits(part).to("cpu"))
            place = (hits.image, hits.channel, hits.row, hits.column)
            flat = np.ravel_multi_index([n.numpy() for n in place], (len(part), *jets.shape))
            value = hits.value.numpy()
            if encode:
                flat, value = encode_cms8(flat, value)
            pixels.append(flat % size)
            values.append(value)
            counts.append(np.bincount(flat // size, minlength=len(part)))
    return JetImages.from_arrays(
        np.concatenate(counts).cumsum(), np.concatenate(pixels), np.concatenate(values),
        jets.shape, "cms8" if encode else jets.encoding, jets.labels, jets.mass, jets.pt,
        jets.truth)
