"""Negative controls: what image recognition does to its views, and a jet does not survive.

R1 rules these out; a classifier should find each of them at once (`lib.training.symmetry`).
They go through the dense image, so they are slower than `lib.data.augment`. In `cms8` values are
rounded to integers, and pixels that round to 0 are empty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.augment import D0, DZ
from lib.data.tokens import Grid, Hits


def dense(hits: Hits, grid: Grid) -> Tensor:
    """Hits as images (B, C, H, W)."""
    images = torch.zeros(hits.images, *grid.shape, device=hits.value.device)
    where = hits.image, hits.channel, hits.row, hits.column
    return images.index_put_(where, hits.value, accumulate=True)


def sparse(images: Tensor, encoding: str) -> Hits:
    """Images (B, C, H, W) as hits: `cms8` rounded to 0...255, `gev` with signs for dz and d0."""
    if encoding == "cms8":
        images = images.round().clamp(0, 255)
    else:
        images = torch.cat([images[:, :DZ].clamp(min=0), images[:, DZ:D0 + 1],
                            images[:, D0 + 1:].clamp(min=0)], 1)
    places = images.nonzero(as_tuple=True)
    return Hits(*places, images[places], len(images))


@dataclass(frozen=True)
class QuarterTurn:
    """Rotate by 90 degrees: swaps eta and phi, although the magnet bends in phi alone."""

    grid: Grid

    def __call__(self, hits: Hits) -> Hits:
        if self.grid.height != self.grid.width:
            raise ValueError(f"a quarter turn needs square images, these are {self.grid.shape}")
        return replace(hits, row=hits.column, column=self.grid.height - 1 - hits.row)


@dataclass(frozen=True)
class RandomCrop:
    """A random part of the image, enlarged to its size: changes ΔR, which masses are made of."""

    grid: Grid
    encoding: str = "cms8"
    smallest: float = 0.5  # side of the part

    def __call__(self, hits: Hits) -> Hits:
        images, device = dense(hits, self.grid), hits.value.device
        side = self.smallest + (1 - self.smallest) * torch.rand(hits.images, 1, device=device)
        corner = torch.rand(2, hits.images, 1, device=device) * (1 - side)
        row, column = (((torch.arange(n, device=device) + 0.5) / n * side + start) * n
                       for n, start in zip(self.grid.shape[1:], corner, strict=True))
        image = torch.arange(hits.images, device=device)[:, None, None]
        cut = images.permute(0, 2, 3, 1)[image, row.long()[:, :, None], column.long()[:, None]]
        return sparse(cut.permute(0, 3, 1, 2), self.encoding)


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur of `sigma` pixels: fills the empty cells around every hit."""

    grid: Grid
    encoding: str = "cms8"
    sigma: float = 1.0

    def __call__(self, hits: Hits) -> Hits:
        channels, half = self.grid.channels, round(3 * self.sigma)
        line = torch.arange(-half, half + 1, device=hits.value.device) / self.sigma
        line = (-line.square() / 2).exp()
        line = (line / line.sum()).expand(channels, 1, -1)
        images = F.conv2d(dense(hits, self.grid), line[:, :, :, None], padding=(half, 0),
                          groups=channels)
        images = F.conv2d(images, line[:, :, None], padding=(0, half), groups=channels)
        if self.encoding == "gev":  # tails of no energy at all are no hits
            images = images * (images.abs() > 1e-3)
        return sparse(images, self.encoding)


@dataclass(frozen=True)
class ChannelMixing:
    """Each channel takes a random share, up to `share`, of the others, as colour jitter does."""

    grid: Grid
    encoding: str = "cms8"
    share: float = 0.5

    def __call__(self, hits: Hits) -> Hits:
        channels, device = self.grid.channels, hits.value.device
        mixed = torch.rand(hits.images, channels, channels, device=device)
        mixed = mixed / mixed.sum(2, keepdim=True)
        share = self.share * torch.rand(hits.images, 1, 1, device=device)
        matrix = (1 - share) * torch.eye(channels, device=device) + share * mixed
        images = dense(hits, self.grid).flatten(2)
        return sparse((matrix @ images).view(-1, *self.grid.shape), self.encoding)


@dataclass(frozen=True)
class ChannelAveraging:
    """Every channel becomes the mean of all, as a grey image: subdetectors are lost."""

    grid: Grid
    encoding: str = "cms8"

    def __call__(self, hits: Hits) -> Hits:
        images = dense(hits, self.grid)
        return sparse(images.mean(1, keepdim=True).expand_as(images), self.encoding)
