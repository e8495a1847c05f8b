"""Augmentations on hits: each takes `Hits` and returns `Hits`, each with its physics reason.

The 8-bit encoding gives a channel in units of its hottest cell: what changes values there ends in
integers again, with every channel at the peak it had (`_encoded`). One reading of the detector is
changed as one: the 25 pixels of an HCAL tower; pT, dz and d0 of a track."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial, reduce, wraps
from typing import Any

import torch
from torch import Tensor

from lib.cms import CHANNELS, ECAL_RESOLUTION, HCAL_RESOLUTION, PIXEL, SIZE, TOWER
from lib.data.tokens import Grid, Hits
from lib.registry import Registry

TRACK, DZ, D0, ECAL, HCAL = (CHANNELS.index(n) for n in ("track pT", "track dz", "track d0",
                                                         "ECAL", "HCAL"))
Augment = Callable[[Hits], Hits]
AUGMENTATIONS = Registry("augment")  # name -> (grid, encoding, **strengths) -> Augment


def compose(steps: Iterable[Augment]) -> Augment:
    """One augmentation after the other."""
    steps = tuple(steps)
    return lambda hits: reduce(lambda changed, step: step(changed), steps, hits)


def augmentation(change: Callable[..., Hits]) -> Callable[..., Augment]:
    """Decorator of a function ``(hits, grid, encoding, strengths...) -> hits``: enters it under its
    name, to be called without the hits and then with them: ``drop_hits(grid, rate=0.1)(hits)``."""

    @wraps(change)
    def make(grid: Grid, encoding: str = "cms8", **strengths: Any) -> Augment:
        return partial(change, grid=grid, encoding=encoding, **strengths)

    AUGMENTATIONS[change.__name__] = make
    return make


def _encoded(change: Callable[..., Hits]) -> Callable[..., Hits]:
    """Decorator of what changes values: in `cms8` it gets them as they were before they were cut to
    integers, on average half a level more; then they are scaled to the channel's peak and cut. A
    channel that was empty keeps its new peak. What falls below level 1 is gone."""
    @wraps(change)
    def changed(hits: Hits, grid: Grid, encoding: str, **strengths: Any) -> Hits:
        if encoding == "gev":
            return change(hits, grid, encoding, **strengths)
        hits = replace(hits, value=hits.value + 0.5)
        after = change(hits, grid, encoding, **strengths)
        old, new = (torch.zeros(h.images * grid.channels, device=h.value.device).scatter_reduce(
            0, h.image * grid.channels + h.channel, h.value, "amax") for h in (hits, after))
        ratio = torch.where(old > 0, old, new) / new.clamp(min=0.5)
        level = after.value * ratio[after.image * grid.channels + after.channel] + 1e-3
        after = replace(after, value=level.floor().clamp(max=255))
        return after.select(after.value >= 1)

    return changed


def _moved(hits: Hits, grid: Grid, row: Tensor, column: Tensor) -> Hits:
    """Hits at new places; those that leave the image are lost."""
    inside = (row >= 0) & (row < grid.height) & (column >= 0) & (column < grid.width)
    return replace(hits, row=row, column=column).select(inside)


def _calorimeters(grid: Grid) -> tuple[int, int]:
    """Channels of ECAL and HCAL: of eight, or the last two of three (tracks, ECAL, HCAL)."""
    return (ECAL, HCAL) if grid.channels == len(CHANNELS) else (1, 2)


def _cells(hits: Hits, grid: Grid) -> Tensor:
    """The reading that each hit belongs to: equal for one HCAL tower and for one track."""
    tower = hits.channel == _calorimeters(grid)[1]
    row = torch.where(tower, hits.row - hits.row % TOWER, hits.row)
    column = torch.where(tower, hits.column - hits.column % TOWER, hits.column)
    part = hits.channel.clamp(min=max(D0, DZ)) if grid.channels == len(CHANNELS) else hits.channel
    return ((hits.image * grid.channels + part) * grid.height + row) * grid.width + column


def _draw(cells: Tensor, normal: bool = False) -> Tensor:
    """A random number for each cell, the same for equal cells: uniform in [0, 1) or normal. A table
    of 2^16 numbers that a hash of the cell points into (a multiplication by an odd number, of which
    the high bits are kept; Knuth, vol. 3, 6.4): no sorting, and no harm that a few far cells share
    a number."""
    table = (torch.randn if normal else torch.rand)(1 << 16, device=cells.device)
    mixed = (cells ^ (cells >> 15)) * 0x9E3779B1 & 0xFFFFFFFF
    return table[mixed >> (32 - 16)]


@augmentation
def flips(hits: Hits, grid: Grid, encoding: str, eta: bool = True, phi: bool = True) -> Hits:
    """Mirror each jet in eta and in phi, each with probability one half. Proton-proton collisions
    are symmetric under z -> -z, so eta may change sign, and dz with it. Detector and QCD are
    symmetric in azimuth, so phi may change sign, and d0 with it (and the curvature of tracks, which
    the image does not show). `cms8` keeps no signs: d0 and dz stay."""
    turn = (torch.rand(2, hits.images, device=hits.value.device) < 0.5)[:, hits.image]
    in_eta, in_phi = turn[0] & eta, turn[1] & phi
    row = torch.where(in_eta, grid.height - 1 - hits.row, hits.row)
    column = torch.where(in_phi, grid.width - 1 - hits.column, hits.column)
    value = hits.value
    if encoding == "gev" and grid.channels == len(CHANNELS):  # of three none has a sign to turn
        turned = (in_eta & (hits.channel == DZ)) ^ (in_phi & (hits.channel == D0))
        value = torch.where(turned, -value, value)
    return replace(hits, row=row, column=column, value=value)


@augmentation
def translation(hits: Hits, grid: Grid, encoding: str, towers: int = 2) -> Hits:
    """Shift by up to `towers` whole towers in eta and in phi; what leaves the image is lost.

    A jet may point anywhere: the cross-section is flat in phi and nearly so in eta, and the
    detector repeats itself tower by tower. Whole towers, because the HCAL knows no others. The
    image itself is not symmetric: it was centred on its hottest tower, and what should enter at
    the far edge is unknown and stays empty. So towers are few, and nothing comes round."""
    shift = torch.randint(-towers, towers + 1, (2, hits.images),
                          device=hits.value.device)[:, hits.image] * TOWER
    return _moved(hits, grid, hits.row + shift[0], hits.column + shift[1])


@augmentation
def rotation(hits: Hits, grid: Grid, encoding: str, degrees: float = 15.0) -> Hits:
    """Turn each jet about its axis by up to `degrees`, either way.

    Showers and decays have no preferred direction around the jet axis: JetCLR turns constituents
    by any angle (arXiv:2108.04253). An image has three: the field bends tracks in phi, pile-up and
    the acceptance of the pixel layers follow eta, and cells are square. So the angle is small: 15
    degrees move a subjet at ΔR = 0.4 by one tower. HCAL towers turn as towers. Three shears of
    whole cells make the turn (Paeth 1986): no two hits meet in a cell, and values stay."""
    draw = torch.rand(hits.images, device=hits.value.device)
    angle = (-degrees + 2 * degrees * draw)[hits.image] * (math.pi / 180)
    size = torch.where(hits.channel == _calorimeters(grid)[1], TOWER, 1)
    middle = [(n // size - 1) / 2 for n in (grid.height, grid.width)]
    y, x = hits.row // size - middle[0], hits.column // size - middle[1]
    along = -torch.tan(angle / 2)
    x = x + (along * y).round()
    y = y + (angle.sin() * x).round()
    x = x + (along * y).round()
    row, column = ((a + b).round().long() * size for a, b in zip((y, x), middle, strict=True))
    return _moved(hits, grid, row + hits.row % size, column + hits.column % size)


@augmentation
def phi_roll(hits: Hits, grid: Grid, encoding: str) -> Hits:
    """R1's: roll the image in phi by any number of pixels; what leaves comes in at the other side.
    Phi is periodic, but the image is a crop 2.18 wide out of 2π: a jet near the edge is cut in two.
    Steps of one pixel cut HCAL towers as well. Kept to measure what R1 did."""
    shift = torch.randint(0, grid.width, (hits.images,), device=hits.value.device)
    return replace(hits, column=(hits.column + shift[hits.image]) % grid.width)


@augmentation
def channel_dropout(hits: Hits, grid: Grid, encoding: str, least: int = 1, most: int = 2) -> Hits:
    """Take `least` to `most` channels away from each jet. Detector parts fail or are switched off,
    and a jet is the same jet without them. No symmetry of the data: it asks for features that do
    not hang on one subdetector."""
    device = hits.value.device
    count = torch.randint(least, most + 1, (hits.images, 1), device=device)
    rank = torch.rand(hits.images, grid.channels, device=device).argsort(1).argsort(1)
    return hits.select((rank >= count)[hits.image, hits.channel])


@augmentation
@_encoded
def noise(hits: Hits, grid: Grid, encoding: str, levels: float = 5.0,
          channels: tuple[int, ...] | str | None = "energies", by_cell: bool = True) -> Hits:
    """Gaussian noise on cells that hold something; empty cells stay empty, active ones active.

    Electronics add noise to what is read out, and zero suppression keeps it out of the rest.
    `cms8`: `levels` of the 255, a fraction of the channel's peak; the peak stays. `gev`: the same
    fraction of each reading, since the peak is no unit there. By default energies only, an HCAL
    tower as one: the levels of the pixel layers are counts. `channels=None`, `by_cell=False` is
    R1's, every pixel on its own."""
    draw = _draw(_cells(hits, grid), normal=True) if by_cell else torch.randn_like(hits.value)
    if channels == "energies":
        channels = (TRACK, *_calorimeters(grid))
    if channels is not None:
        draw = draw * torch.isin(hits.channel, torch.tensor(channels, device=draw.device))
    return replace(hits, value=hits.value * (1 + levels / 255 * draw).clamp(min=0.01)
                   if encoding == "gev" else (hits.value + levels * draw).clamp(min=1.5))


@augmentation
@_encoded
def smearing(hits: Hits, grid: Grid, encoding: str,
             peak: tuple[float, float] = (31.0, 70.0)) -> Hits:
    """Measure the calorimeters again: σ/E = stochastic/√E ⊕ constant, per crystal and tower. The
    same shower would give another reading within the resolution (`lib.cms`), but two are wider than
    one, by √2: a symmetry only as far as the resolution is small. `cms8` lost the energies: there
    the hottest cell is taken to hold `peak` GeV, the median of simulated jets. Images of three
    channels share the energy of an HCAL tower among its pixels."""
    draw, relative = _draw(_cells(hits, grid), normal=True), torch.zeros_like(hits.value)
    terms = (ECAL_RESOLUTION[0], ECAL_RESOLUTION[2]), HCAL_RESOLUTION
    for channel, (stochastic, constant), hottest in zip(_calorimeters(grid), terms, peak):
        energy = hits.value if encoding == "gev" else hits.value * (hottest / 255.5)
        if grid.channels < len(CHANNELS) and channel == _calorimeters(grid)[1]:
            energy = energy * TOWER**2
        sigma = (stochastic**2 / energy.abs().clamp(min=1e-3) + constant**2).sqrt()
        relative = torch.where(hits.channel == channel, sigma, relative)
    return replace(hits, value=hits.value * (1 + relative * draw).clamp(min=0.01))


@augmentation
@_encoded
def drop_hits(hits: Hits, grid: Grid, encoding: str, rate: float = 0.2) -> Hits:
    """Lose each reading (pixel, track or tower) with probability `rate`: inefficiency."""
    return hits.select(_draw(_cells(hits, grid)) >= rate)


@augmentation
@_encoded
def pile_up(hits: Hits, grid: Grid, encoding: str, rate: float = 0.2, radius: float = 0.5) -> Hits:
    """Exchange single hits far from the axis: lose some, gain some of another jet of the batch.

    Pile-up is independent of the jet it lies under; farther than `radius` from the axis most hits
    are of it. What another jet has there is a sample with the right channels, values and fall in
    eta, and as many come as go, up to those that find their place taken. Readings stay whole. A
    batch of one jet only loses hits. In `cms8` hits keep their level, of the other jet's peak."""
    y = (hits.row - (grid.height - 1) / 2) * PIXEL
    x = (hits.column - (grid.width - 1) / 2) * PIXEL
    side = TOWER * PIXEL  # a tower is far or near as a whole
    hcal = hits.channel == _calorimeters(grid)[1]
    y, x = (torch.where(hcal, a.div(side).round() * side, a) for a in (y, x))
    far = y.square() + x.square() > radius**2
    goes = far & (_draw(_cells(hits, grid)) < rate)
    left, gone = (~goes).nonzero().squeeze(1), goes.nonzero().squeeze(1)
    image = hits.image.index_select(0, left)
    if hits.images > 1:
        pixels = grid.channels * grid.height * grid.width
        plane = hits.image * grid.channels + hits.channel
        number = (plane * grid.height + hits.row) * grid.width + hits.column
        taken = torch.zeros(hits.images * pixels, dtype=torch.bool, device=far.device)
        taken[number[left]] = True
        free = ~taken[(number[gone] + pixels) % len(taken)]
        gone = gone[free]
        left = torch.cat([left, gone])
        image = torch.cat([image, (hits.image[gone] + 1) % hits.images])
        image, order = image.sort(stable=True)
        left = left[order]
    return Hits(image, *(part.index_select(0, left) for part in
                         (hits.channel, hits.row, hits.column, hits.value)), hits.images)


AUGMENTATIONS["eta_flip"] = partial(flips, phi=False)
AUGMENTATIONS["phi_flip"] = partial(flips, eta=False)
AUGMENTATIONS["pixel_noise"] = partial(noise, channels=None, by_cell=False)
DropHits, Noise = drop_hits, noise  # as notebooks 06 and 12 call them


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
