"""Augmentations on hits: each takes `Hits` and returns `Hits`, each with its physics reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lib.data.tokens import CHANNELS, Grid, Hits

DZ, D0 = CHANNELS.index("track dz"), CHANNELS.index("track d0")


@dataclass(frozen=True)
class Flips:
    """Mirror each jet in eta and in phi, each with probability one half.

    Proton-proton collisions are symmetric under z -> -z, so eta may change sign; dz does so
    with it. The detector is symmetric in azimuth and so is QCD, so phi may change sign; d0 does
    so with it (and the curvature of tracks, which the image shows no more than their charge).
    The 8-bit encoding keeps no signs: there the values of d0 and dz stay.
    """

    grid: Grid
    signed: bool = False  # True for the `gev` encoding

    def __call__(self, hits: Hits) -> Hits:
        eta, phi = (torch.rand(2, hits.images, device=hits.value.device) < 0.5)[:, hits.image]
        row = torch.where(eta, self.grid.height - 1 - hits.row, hits.row)
        column = torch.where(phi, self.grid.width - 1 - hits.column, hits.column)
        value = hits.value
        if self.signed:
            turned = (eta & (hits.channel == DZ)) ^ (phi & (hits.channel == D0))
            value = torch.where(turned, -value, value)
        return replace(hits, row=row, column=column, value=value)
