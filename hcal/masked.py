"""Learning what healthy maps of the calorimeter look like, and scoring maps with it.

``CellModel`` predicts the pulls of hidden cells from those of the visible ones; ``MaskedCells`` is
its objective. It is shown maps of one run only. So that it works under conditions that it never
saw, three quarters of them are taken apart (rings, pattern of the cells, noise) and put together
again with other rings, a pattern rolled and mirrored as the geometry allows, another number of
events, and faults in what is visible."""

import math
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hcal.maps import SHAPE, HcalMaps
from hcal.scores import Pulls, log_odds, pulls, rings_and_offsets
from lib import together
from lib.data.tokens import Batch, Grid, TokenBatch, densify
from lib.files import guarded, read_json, read_tensors, write_json, write_tensors, write_text
from lib.models.vit import JetViT, ViTConfig
from lib.training.recipe import Recipe

GROUPS = 3  # complementary sets of hidden cells: every cell is predicted from others
BLOCK = 250  # maps scored at once
GRID = Grid(5, 64, 72, 8, 4)
MODEL = dict(tokens="active", dim=64, depth=2, heads=4, mlp_ratio=2.0, stem="mlp",
             patch_energy=False, position="factorised", pool="mean", summary=False, scale=1.0,
             mass_head=False)
SETTINGS = {  # a recipe: a minute of one core
    "objective": "hcal.masked:MaskedCells", "model": {}, "loss": {"as_is": 0.25},
    "fit": dict(updates=700, batch_size=32, lr=2e-3, weight_decay=0.01, ema=0.99, select="loss",
                every=100, precision="32-true"),
}


class CellModel(nn.Module):
    """A masked model on JetViT's backbone: x of the hidden cells from x of the visible ones.

    In come five channels a cell: x (0 where hidden or not live), whether it is visible, the offset
    of the cell in a reference run (0 where unknown) in units of the map's spread, theta of the
    ring, and how much of the spread is binomial noise. Out come, for the hidden cells,

        mean = a · offset + b,    variance = e^(2c) + (d · offset)²

    with a, b, c, d read from the token and its cells. a says how far the reference holds here."""

    def __init__(self, offsets: Tensor, settings: dict | None = None) -> None:
        super().__init__()
        self.vit = JetViT(ViTConfig.of(GRID, **{**MODEL, **(settings or {})}))
        self.vit.class_head = nn.Identity()
        self.head = nn.Sequential(nn.Linear(self.vit.config.dim + GRID.patch_dim, 128), nn.GELU(),
                                  nn.Linear(128, 4 * GRID.patch_height * GRID.patch_width))
        nn.init.zeros_(self.head[2].weight)
        nn.init.zeros_(self.head[2].bias)
        self.register_buffer("offsets", offsets.clone().float())
        self.settings = dict(settings or {})

    def forward(self, seen: Pulls, offset: Tensor, visible: Tensor,
                live: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x: (N, H, W) each, of use where ``visible`` is False.
        offset: (N, H, W) in units of theta. visible: (N, H, W) bool. live: (H, W) bool."""
        offset = (offset / seen.spread).clamp(-12, 12) * live
        noise = 0.5 * (0.25 / seen.events[:, None, None]).log() - seen.spread.log()
        size, inputs = (GRID.patch_height, GRID.patch_width), torch.stack(torch.broadcast_tensors(
            torch.asinh(seen.x) * visible, (visible & live).float(), torch.asinh(offset),
            (seen.ring - 1) * live, noise.clamp(-4, 2) * live), 1)
        cut = F.unfold(inputs, size, stride=size).transpose(1, 2)  # (N, P, 5·p·q)
        active = F.unfold(live[None, None].float(), size, stride=size)[0].any(0).nonzero()[:, 0]
        features = cut[:, active]
        position = active.expand(len(cut), -1)
        tokens = TokenBatch(features, position, torch.ones_like(position, dtype=torch.bool), GRID)
        encoded = torch.cat([self.vit.encode(tokens), features], -1)
        out = features.new_zeros(len(cut), GRID.patches, self.head[2].out_features)
        out = out.index_copy(1, active, self.head(encoded).float())
        out = F.fold(out.transpose(1, 2), GRID.shape[1:], size, stride=size)  # (N, 4, H, W)
        a, b, c, d = out.unbind(1)
        return a * offset + b, ((2 * c.clamp(-3, 2)).exp() + (d * offset).square()).sqrt()

    def save_pretrained(self, folder: Path, card: str = "") -> Path:
        """Write config.json, model.safetensors and a card to ``folder``."""
        write_json(folder / "config.json", {"cells": self.settings})
        write_text(folder / "README.md", card)
        write_tensors(folder / "model.safetensors", self.state_dict())
        return folder

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Rebuild what ``save_pretrained`` wrote. DataError for anything else."""
        file, todo = Path(folder) / "config.json", "take the whole folder from where it came"
        with guarded(folder, todo, "it holds no model of healthy maps"):
            model = cls(torch.zeros(SHAPE), read_json(file, todo)["cells"])
            model.load_state_dict(read_tensors(file.with_name("model.safetensors"), todo)[0])
            return model.eval()

    @torch.no_grad()
    def score(self, maps: HcalMaps) -> Tensor:
        """Log odds that a cell is sick (``log_odds``), each cell predicted while hidden."""
        seen, live = pulls(maps), maps.live
        # Which set a cell is in is pseudo-random, and always the same.
        order = torch.randperm(live.numel(), generator=torch.Generator().manual_seed(0))
        groups = (torch.arange(live.numel()) % GROUPS)[order].view(live.shape).to(live.device)
        mean, sigma = torch.zeros_like(seen.x), torch.ones_like(seen.x)
        for start in range(0, len(maps), BLOCK):
            part = slice(start, start + BLOCK)
            some = Pulls(*(value[part] for value in seen))
            for group in range(GROUPS):
                hidden = groups == group
                m, s = self(some, self.offsets.expand_as(some.x), (~hidden).expand_as(some.x), live)
                mean[part] = torch.where(hidden, m, mean[part])
                sigma[part] = torch.where(hidden, s, sigma[part])
        return log_odds(seen.theta, seen.ring + mean * seen.spread, sigma * seen.spread,
                        seen.events, live)


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
    return pattern[rows[:, :, None], columns[:, None]] * (torch.randint(2, (count, 1, 1)) * 2 - 1)


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
    (row, column), out = map(torch.arange, live.shape), torch.ones(count, *live.shape)
    for box in range(boxes):
        top, left = chosen[:, box, 0, None], chosen[:, box, 1, None]
        inside = ((row >= top) & (row < top + size[:, box, 0, None]))[:, :, None]
        inside = inside & ((column - left) % live.shape[1] < size[:, box, 1, None])[:, None]
        out = torch.where(inside & live & (out == 1), strength[:, box, None, None], out)
    return out


def other_conditions(pattern: Tensor, rings: Tensor, live: Tensor,
                     count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maps as another run might have them: counts, offsets in a reference, strengths, (n, H, W).
    pattern: (H, W) offsets in theta of the run that is known. rings: (H,) theta of its rings."""
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

    Knowing only the ring (mean 0, sigma 1) has the loss ``trivial``. as_is: share of the maps that
    are shown as they are, not rearranged."""

    def __init__(self, model: CellModel, rings: Tensor, live: Tensor, as_is: float = 0.25) -> None:
        super().__init__()
        self.model, self.as_is = model, as_is
        self.register_buffer("rings", rings.float())
        self.register_buffer("live", live)

    @classmethod
    def build(cls, recipe: Recipe, jets: HcalMaps | None = None, index: Any = None) -> Self:
        """The objective of a recipe; ``recipe.model``: changes to ``MODEL``."""
        if jets is None:  # the weights come next, with what was measured
            empty = torch.zeros(SHAPE)
            return cls(CellModel(empty, recipe.model), empty[:, 0], empty.bool(), **recipe.loss)
        rings, offsets = rings_and_offsets(jets.subset(index))
        return cls(CellModel(offsets, recipe.model), rings, jets.live, **recipe.loss)

    def loss(self, batch: Batch, output: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Of maps of counts; in evaluation always the same draw of masks and conditions."""
        live, own, device = self.live.cpu(), self.model.offsets.cpu(), self.live.device
        real = densify(batch.tokens)[: max(1, round(self.as_is * len(batch))), 0].cpu()
        with torch.random.fork_rng(devices=[], enabled=not self.training):
            if not self.training:
                torch.manual_seed(int(batch.index[0]))
            counts, reference, strength = other_conditions(own, self.rings.cpu(), live, len(batch))
            known = torch.rand(len(batch), 1, 1) < 0.75  # else there is no reference
            hidden = torch.randint(GROUPS, counts.shape) == 0
        counts[: len(real)], strength[: len(real)], reference[: len(real)] = real, 1.0, own
        reference, scored = reference * known, (hidden & live & (strength == 1)).to(device)
        maps = HcalMaps(counts.to(device), live.to(device))
        seen = pulls(maps)
        mean, sigma = self.model(seen, reference.to(device), ~hidden.to(device), maps.live)
        x, mean, sigma = (value[scored] for value in (seen.x.clamp(-10, 10), mean, sigma))
        loss = together.mean(((x - mean) / sigma).square() / 2 + sigma.log())
        return loss, {"trivial": x.square().mean() / 2}
