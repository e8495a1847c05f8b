"""Learning what healthy maps of the calorimeter look like.

``MaskedCells`` is an objective for ``fit``: cells of a map are hidden and predicted from the
others. It is shown maps of one run only. So that the model works under conditions that it never
saw, three quarters of the maps are taken apart -- rings, pattern of the cells, noise -- and put
together again with other rings, a pattern rolled and mirrored as the geometry allows, another
number of events, and faults in what is visible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hcal.files import HcalMaps
from hcal.scores import GROUPS, ChannelModel, look, rings_and_offsets
from lib.data.tokens import Batch, densify

SETTINGS = {  # of ``runs.train`` with ``build`` below: a minute of one core
    "model": {},
    "loss": {"as_is": 0.25},
    "fit": dict(updates=700, batch_size=32, lr=2e-3, weight_decay=0.01, ema=0.99, select="loss",
                every=100, precision="32-true"),
}


def _uniform(low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape)


def rearranged(pattern: Tensor, count: int) -> Tensor:
    """The pattern (H, W) rolled by an even number of columns, mirrored in ieta, in phi and in
    sign, at random: (count, H, W). Even, for most rings have cells in even columns only."""
    height, width = pattern.shape
    rows = torch.arange(height).expand(count, -1)
    rows = torch.where(torch.rand(count, 1) < 0.5, rows, height - 1 - rows)
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns, -columns)
    columns = (columns + 2 * torch.randint(width // 2, (count, 1))) % width
    sign = torch.randint(2, (count, 1, 1)) * 2 - 1
    return pattern[rows[:, :, None], columns[:, None]] * sign


def random_strength(live: Tensor, count: int, boxes: int = 5) -> Tensor:
    """Faults of any strength in boxes of up to 3 x 5 cells: (count, H, W), 1 where healthy."""
    cells = live.nonzero()
    chosen = cells[torch.randint(len(cells), (count, boxes))]
    size = torch.stack([torch.randint(1, 4, (count, boxes)), torch.randint(1, 6, (count, boxes))],
                       -1)
    size[torch.rand(count, boxes) < 0.4] = 1  # single cells
    kind = torch.rand(count, boxes)
    strength = torch.where(kind < 0.2, 0.0, torch.where(kind < 0.8, torch.rand(count, boxes),
                                                        _uniform(1.05, 3.0, count, boxes)))
    strength = torch.where(torch.rand(count, boxes) < 0.4, strength, 1.0)
    row, column = (torch.arange(n) for n in live.shape)
    out = torch.ones(count, *live.shape)
    for box in range(boxes):
        top, left = chosen[:, box, 0, None], chosen[:, box, 1, None]
        inside = ((row >= top) & (row < top + size[:, box, 0, None]))[:, :, None]
        inside = inside & ((column - left) % live.shape[1] < size[:, box, 1, None])[:, None]
        out = torch.where(inside & live & (out == 1), strength[:, box, None, None], out)
    return out


def other_conditions(pattern: Tensor, rings: Tensor, live: Tensor,
                     count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maps as another run might have them: counts, offsets in a reference, strengths, (n, H, W).

    pattern: (H, W) offsets in theta of the run that is known. rings: (H,) theta of its rings.
    """
    height, width = live.shape
    spread = 1.4826 * pattern[live].abs().median().clamp(min=1e-3)
    shared = rearranged(pattern, count)
    reference = shared + _uniform(0, 0.5, count, 1, 1) * spread * torch.randn(count, height, width)
    # cells far off stay so, though not by as much; what is new has none
    wild = shared.abs() > 3 * spread
    shared = torch.where(wild, shared * _uniform(0.2, 2.0, count, height, width), shared)
    own = rearranged(pattern, count).clamp(-3 * spread, 3 * spread)
    rho = torch.where(torch.rand(count, 1, 1) < 0.2, 1.0, torch.rand(count, 1, 1))
    strong = (0.5 * torch.randn(count, 1, 1) + 0.25 * torch.randn(count, height, 1)).exp()
    shift = strong * torch.where(wild, shared, rho * shared + (1 - rho**2).sqrt() * own)

    known = rings[live.any(1)]
    theta = (_uniform(0.45, 1.45, count, 1)
             + _uniform(-0.3, 1.2, count, 1) * (rings - known.mean())
             + 0.03 * torch.randn(count, height)).clamp(0.15, 1.5)[:, :, None]
    p = (theta + shift).clamp(0.05, math.pi / 2).sin().square() * live
    strength = random_strength(live, count)
    events = _uniform(math.log(50), math.log(8000), count, 1, 1).exp().round()
    p = p * strength.clamp(max=1)
    expected = events * p
    drawn = torch.binomial(events.expand_as(p).contiguous(), p)
    counts = expected + _uniform(0.5, 1.0, count, 1, 1).sqrt() * (drawn - expected)
    counts = torch.where(torch.rand(count, 1, 1) < 0.5, counts.round(), counts)
    counts = counts.clamp(min=0) * strength.clamp(min=1)
    return counts, reference * live, strength


class MaskedCells(nn.Module):
    """Gaussian negative log likelihood of x of hidden, healthy cells given the visible ones:

        L = mean of ((x - mean) / sigma)² / 2 + log sigma

    A model that knew nothing but the ring (mean 0, sigma 1) has the loss ``trivial``. as_is: share
    of the maps that are shown as they are, not rearranged.
    """

    def __init__(self, model: ChannelModel, rings: Tensor, live: Tensor,
                 as_is: float = 0.25) -> None:
        super().__init__()
        self.model, self.as_is = model, as_is
        self.register_buffer("rings", rings.float())
        self.register_buffer("live", live)

    def loss(self, batch: Batch, output: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Of maps of counts; in evaluation always the same draw of masks and conditions."""
        if self.training:
            return self._loss(batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(batch.index[0]))
            return self._loss(batch)

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        device = self.live.device
        live, own = self.live.cpu(), self.model.offsets.cpu()
        real = densify(batch.tokens)[: max(1, round(self.as_is * len(batch))), 0].cpu()
        counts, reference, strength = other_conditions(own, self.rings.cpu(), live, len(batch))
        counts[: len(real)], strength[: len(real)], reference[: len(real)] = real, 1.0, own
        reference = reference * (torch.rand(len(batch), 1, 1) < 0.75)  # else there is none
        hidden = torch.randint(GROUPS, counts.shape) == 0
        scored = (hidden & live & (strength == 1)).to(device)

        maps = HcalMaps(counts.to(device), live.to(device))
        seen = look(maps)
        mean, sigma = self.model(seen, reference.to(device), ~hidden.to(device), maps.live)
        x, mean, sigma = (value[scored] for value in (seen.x.clamp(-10, 10), mean, sigma))
        loss = (((x - mean) / sigma).square() / 2 + sigma.log()).mean()
        return loss, {"trivial": x.square().mean() / 2}


def build(settings: Mapping, jets: HcalMaps | None = None, index: Any = None) -> MaskedCells:
    """The objective for ``runs.train(..., build=build)``; ``settings["model"]``: of ``MODEL``."""
    shape = settings["grid"]["height"], settings["grid"]["width"]
    empty = torch.zeros(shape)
    if jets is None:  # the weights come next, with what was measured
        return MaskedCells(ChannelModel(empty, settings["model"]), empty[:, 0], empty.bool(),
                           **settings.get("loss", {}))
    healthy = jets.subset(index)
    rings, offsets = rings_and_offsets(healthy)
    return MaskedCells(ChannelModel(offsets, settings["model"]), rings, healthy.live,
                       **settings.get("loss", {}))
