"""Augmentations on hits: each takes `Hits` and returns `Hits`, each with its physics reason.

One draw of `torch`'s generator a jet (or a detector cell), no loop over jets. The 8-bit encoding
gives a channel in units of its hottest cell: whatever changes values there ends in integers again,
with every channel at the peak it had (`Step.encoded`). What is one reading of the detector is
changed as one: the 25 pixels of an HCAL tower, and pT, dz and d0 of a track.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from lib.cms import CHANNELS, ECAL_RESOLUTION, HCAL_RESOLUTION, PIXEL, SIZE, TOWER
from lib.data.tokens import Grid, Hits
from lib.registry import Registry

TRACK, DZ, D0, ECAL, HCAL = (CHANNELS.index(n) for n in ("track pT", "track dz", "track d0",
                                                         "ECAL", "HCAL"))
ENERGIES = (TRACK, ECAL, HCAL)
Augment = Callable[[Hits], Hits]
AUGMENTATIONS = Registry("augment")  # name -> (grid, encoding, **strengths) -> Augment


def compose(steps: Iterable[Augment]) -> Augment:
    """One augmentation after the other."""
    steps = tuple(steps)
    return lambda hits: reduce(lambda changed, step: step(changed), steps, hits)


@dataclass(frozen=True)
class Step:
    """A change of hits: knows the grid and the encoding of what it gets; fields are strengths."""

    grid: Grid
    encoding: str = "cms8"

    @property
    def gev(self) -> bool:
        return self.encoding == "gev"

    def moved(self, hits: Hits, row: Tensor, column: Tensor) -> Hits:
        """Hits at new places; those that leave the image are lost."""
        inside = (row >= 0) & (row < self.grid.height) & (column >= 0) & (column < self.grid.width)
        return replace(hits, row=row, column=column).select(inside)

    def values(self, hits: Hits) -> Tensor:
        """Values before they were cut to integers, on average: half a level more in `cms8`."""
        return hits.value if self.gev else hits.value + 0.5

    def encoded(self, hits: Hits, value: Tensor, before: Hits) -> Hits:
        """Hits with new `values`: in `cms8` scaled to the channel's peak of `before` and cut.

        A channel that was empty keeps its peak. What falls below level 1 is gone.
        """
        if self.gev:
            return replace(hits, value=value)
        channels = self.grid.channels
        group = hits.image * channels + hits.channel
        peaks = _peaks(before, before.value, channels)
        if not peaks[group].all():
            peaks = torch.where(peaks > 0, peaks, _peaks(hits, hits.value, channels))
        ratio = (peaks + 0.5) / _peaks(hits, value, channels).clamp(min=0.5)
        hits = replace(hits, value=(value * ratio[group] + 1e-3).floor().clamp(max=255))
        active = hits.value >= 1
        return hits if active.all() else hits.select(active)


def _peaks(hits: Hits, value: Tensor, channels: int) -> Tensor:
    """The largest |value| of each jet and channel, (images · channels,)."""
    peaks = torch.zeros(hits.images * channels, device=value.device)
    return peaks.scatter_reduce(0, hits.image * channels + hits.channel, value.abs(), "amax")


def _calorimeters(grid: Grid) -> tuple[int, int]:
    """Channels of ECAL and HCAL: of eight, or the last two of three (tracks, ECAL, HCAL)."""
    return (ECAL, HCAL) if grid.channels == len(CHANNELS) else (1, 2)


def _cells(hits: Hits, grid: Grid) -> Tensor:
    """The reading that each hit belongs to: equal for one HCAL tower and for one track."""
    tower = hits.channel == _calorimeters(grid)[1]
    row = torch.where(tower, hits.row - hits.row % TOWER, hits.row)
    column = torch.where(tower, hits.column - hits.column % TOWER, hits.column)
    part = hits.channel.clamp(min=D0) if grid.channels == len(CHANNELS) else hits.channel
    return ((hits.image * grid.channels + part) * grid.height + row) * grid.width + column


def _draw(cells: Tensor, normal: bool = False) -> Tensor:
    """A random number for each cell, the same for equal cells: uniform in [0, 1) or normal.

    A table of 2^16 numbers that a hash of the cell points into (a multiplication by an odd number,
    of which the high bits are kept; Knuth, vol. 3, 6.4): no sorting, and no harm that a few far
    cells share a number.
    """
    table = (torch.randn if normal else torch.rand)(1 << 16, device=cells.device)
    mixed = (cells ^ (cells >> 15)) * 0x9E3779B1 & 0xFFFFFFFF
    return table[mixed >> (32 - 16)]


@AUGMENTATIONS.register("flips")
@dataclass(frozen=True)
class Flips(Step):
    """Mirror each jet in eta and in phi, each with probability one half.

    Proton-proton collisions are symmetric under z -> -z, so eta may change sign, and dz with it.
    Detector and QCD are symmetric in azimuth, so phi may change sign, and d0 with it (and the
    curvature of tracks, which the image does not show). `cms8` keeps no signs: d0 and dz stay.
    """

    eta: bool = True  # False: never mirrored in eta
    phi: bool = True

    def __call__(self, hits: Hits) -> Hits:
        eta, phi = (torch.rand(2, hits.images, device=hits.value.device) < 0.5)[:, hits.image]
        eta, phi = eta & self.eta, phi & self.phi
        row = torch.where(eta, self.grid.height - 1 - hits.row, hits.row)
        column = torch.where(phi, self.grid.width - 1 - hits.column, hits.column)
        value = hits.value
        if self.gev:
            turned = (eta & (hits.channel == DZ)) ^ (phi & (hits.channel == D0))
            value = torch.where(turned, -value, value)
        return replace(hits, row=row, column=column, value=value)


@AUGMENTATIONS.register("translation")
@dataclass(frozen=True)
class Translation(Step):
    """Shift by up to `towers` whole towers in eta and in phi; what leaves the image is lost.

    A jet may point anywhere: the cross-section is flat in phi and nearly so in eta, and the
    detector repeats itself tower by tower. Whole towers, because the HCAL knows no others. The
    image itself is not symmetric: it was centred on its hottest tower, and what should enter at
    the far edge is unknown and stays empty. So towers are few, and nothing comes round.
    """

    towers: int = 2

    def __call__(self, hits: Hits) -> Hits:
        shift = torch.randint(-self.towers, self.towers + 1, (2, hits.images),
                              device=hits.value.device)[:, hits.image] * TOWER
        return self.moved(hits, hits.row + shift[0], hits.column + shift[1])


@AUGMENTATIONS.register("rotation")
@dataclass(frozen=True)
class Rotation(Step):
    """Turn each jet about its axis by up to `degrees`, either way.

    Showers and decays have no preferred direction around the jet axis: JetCLR turns constituents
    by any angle (arXiv:2108.04253). An image has three: the field bends tracks in phi, pile-up and
    the acceptance of the pixel layers follow eta, and cells are square. So the angle is small: 15
    degrees move a subjet at ΔR = 0.4 by one tower. HCAL towers turn as towers. Three shears of
    whole cells make the turn (Paeth 1986): no two hits meet in a cell, and values stay.
    """

    degrees: float = 15.0

    def __call__(self, hits: Hits) -> Hits:
        draw = torch.rand(hits.images, device=hits.value.device)
        angle = (-self.degrees + 2 * self.degrees * draw)[hits.image] * (math.pi / 180)
        size = torch.where(hits.channel == _calorimeters(self.grid)[1], TOWER, 1)
        middle = [(n // size - 1) / 2 for n in (self.grid.height, self.grid.width)]
        y, x = hits.row // size - middle[0], hits.column // size - middle[1]
        along = -torch.tan(angle / 2)
        x = x + (along * y).round()
        y = y + (angle.sin() * x).round()
        x = x + (along * y).round()
        row, column = ((a + b).round().long() * size for a, b in zip((y, x), middle, strict=True))
        return self.moved(hits, row + hits.row % size, column + hits.column % size)


@AUGMENTATIONS.register("phi_roll")
@dataclass(frozen=True)
class PhiRoll(Step):
    """R1's: roll the image in phi by any number of pixels; what leaves comes in at the other side.

    Phi is periodic, but the image is a crop 2.18 wide out of 2π: a jet near the edge is cut in
    two. Steps of one pixel cut HCAL towers as well. Kept to measure what R1 did.
    """

    def __call__(self, hits: Hits) -> Hits:
        shift = torch.randint(0, self.grid.width, (hits.images,), device=hits.value.device)
        return replace(hits, column=(hits.column + shift[hits.image]) % self.grid.width)


@AUGMENTATIONS.register("channel_dropout")
@dataclass(frozen=True)
class ChannelDropout(Step):
    """Take `least` to `most` channels away from each jet.

    Detector parts fail or are switched off, and a jet is the same jet without them. No symmetry
    of the data: it asks for features that do not hang on one subdetector.
    """

    least: int = 1
    most: int = 2

    def __call__(self, hits: Hits) -> Hits:
        device, channels = hits.value.device, self.grid.channels
        count = torch.randint(self.least, self.most + 1, (hits.images, 1), device=device)
        rank = torch.rand(hits.images, channels, device=device).argsort(1).argsort(1)
        return hits.select((rank >= count)[hits.image, hits.channel])


@AUGMENTATIONS.register("noise")
@dataclass(frozen=True)
class Noise(Step):
    """Gaussian noise on cells that hold something; empty cells stay empty, active ones active.

    Electronics add noise to what is read out, and zero suppression keeps it out of the rest.
    `cms8`: `levels` of the 255, a fraction of the channel's peak; the peak stays. `gev`: the same
    fraction of each reading, since the peak is no unit there. By default energies only, an HCAL
    tower as one: the levels of the pixel layers are counts. `channels=None`, `by_cell=False` is
    R1's, every pixel on its own.
    """

    levels: float = 5.0
    channels: tuple[int, ...] | None = ENERGIES
    by_cell: bool = True

    def __call__(self, hits: Hits) -> Hits:
        noise = (_draw(_cells(hits, self.grid), normal=True) if self.by_cell
                 else torch.randn_like(hits.value))
        if self.channels is not None:
            mine = torch.tensor(self.channels, device=hits.value.device)
            noise = noise * torch.isin(hits.channel, mine)
        if self.gev:
            value = hits.value * (1 + self.levels / 255 * noise).clamp(min=0.01)
        else:
            value = (self.values(hits) + self.levels * noise).clamp(min=1.5)
        return self.encoded(hits, value, hits)


@AUGMENTATIONS.register("smearing")
@dataclass(frozen=True)
class EnergySmearing(Step):
    """Measure the calorimeters again: σ/E = stochastic/√E ⊕ constant, per crystal and tower.

    The same shower would give another reading within the resolution (`lib.cms`), but two are wider
    than one, by √2: a symmetry only as far as the resolution is small. `cms8` lost the energies:
    there the hottest cell is taken to hold `peak` GeV, the median of simulated jets.
    """

    peak: tuple[float, float] = (31.0, 70.0)  # GeV: ECAL, HCAL

    def __call__(self, hits: Hits) -> Hits:
        noise = _draw(_cells(hits, self.grid), normal=True)
        value = self.values(hits)
        relative = torch.zeros_like(value)
        terms = (ECAL_RESOLUTION[0], ECAL_RESOLUTION[2]), HCAL_RESOLUTION
        for channel, (stochastic, constant), peak in zip(_calorimeters(self.grid), terms,
                                                         self.peak, strict=True):
            energy = value if self.gev else value * (peak / 255.5)
            sigma = (stochastic**2 / energy.abs().clamp(min=1e-3) + constant**2).sqrt()
            relative = torch.where(hits.channel == channel, sigma, relative)
        return self.encoded(hits, value * (1 + relative * noise).clamp(min=0.01), hits)


@AUGMENTATIONS.register("drop_hits")
@dataclass(frozen=True)
class DropHits(Step):
    """Lose each reading (pixel, track or tower) with probability `rate`: inefficiency."""

    rate: float = 0.2

    def __call__(self, hits: Hits) -> Hits:
        left = hits.select(_draw(_cells(hits, self.grid)) >= self.rate)
        return self.encoded(left, self.values(left), hits)


@AUGMENTATIONS.register("pile_up")
@dataclass(frozen=True)
class PileUp(Step):
    """Exchange single hits far from the axis: lose some, gain some of another jet of the batch.

    Pile-up is independent of the jet it lies under; farther than `radius` from the axis most hits
    are of it. What another jet has there is a sample with the right channels, values and fall in
    eta, and as many come as go, up to those that find their place taken. Readings stay whole. A
    batch of one jet only loses hits. In `cms8` hits keep their level, of the other jet's peak.
    """

    rate: float = 0.2
    radius: float = 0.5

    def __call__(self, hits: Hits) -> Hits:
        y = (hits.row - (self.grid.height - 1) / 2) * PIXEL
        x = (hits.column - (self.grid.width - 1) / 2) * PIXEL
        side = TOWER * PIXEL  # a tower is far or near as a whole
        hcal = hits.channel == _calorimeters(self.grid)[1]
        y, x = (torch.where(hcal, a.div(side).round() * side, a) for a in (y, x))
        far = y.square() + x.square() > self.radius**2
        goes = far & (_draw(_cells(hits, self.grid)) < self.rate)
        left, gone = (~goes).nonzero().squeeze(1), goes.nonzero().squeeze(1)
        image = hits.image.index_select(0, left)
        if hits.images > 1:
            pixels = self.grid.channels * self.grid.height * self.grid.width
            plane = hits.image * self.grid.channels + hits.channel
            number = (plane * self.grid.height + hits.row) * self.grid.width + hits.column
            taken = torch.zeros(hits.images * pixels, dtype=torch.bool, device=far.device)
            taken[number[left]] = True
            free = ~taken[(number[gone] + pixels) % len(taken)]
            gone = gone[free]
            left = torch.cat([left, gone])
            image = torch.cat([image, (hits.image[gone] + 1) % hits.images])
            image, order = image.sort(stable=True)
            left = left[order]
        after = Hits(image, *(part.index_select(0, left) for part in
                              (hits.channel, hits.row, hits.column, hits.value)), hits.images)
        return self.encoded(after, self.values(after), hits)


AUGMENTATIONS["eta_flip"] = partial(Flips, phi=False)
AUGMENTATIONS["phi_flip"] = partial(Flips, eta=False)
AUGMENTATIONS["pixel_noise"] = partial(Noise, channels=None, by_cell=False)


def recalibrated(factors: Any) -> Augment:
    """Another detector than that of the training: all energies (GeV) in ECAL and HCAL times a
    factor, or the towers' own (2, 25, 25), where 0 is a dead tower; the same fault for all jets."""
    table = torch.tensor(factors, dtype=torch.float32).expand(2, SIZE // TOWER, SIZE // TOWER)

    def change(hits: Hits) -> Hits:
        energy = (hits.channel == ECAL) | (hits.channel == HCAL)
        part = (hits.channel == HCAL).long()
        factor = table.to(part.device)[part, hits.row // TOWER, hits.column // TOWER]
        changed = replace(hits, value=torch.where(energy, hits.value * factor, hits.value))
        return changed.select(changed.value != 0)

    return change
