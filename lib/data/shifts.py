"""A detector that is not the one that was trained on: changes of jets at test time.

A change takes the hits of one jet, pixel numbers (k,) in (C, H, W) order and values (k,) in the
encoding's unit, and returns both.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lib.cms import CHANNELS, SIZE, TOWER
from lib.data.encoding import encode_cms8
from lib.data.images import JetImages

ENERGIES = (CHANNELS.index("ECAL"), CHANNELS.index("HCAL"))
Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def scaled(factor: float) -> Change:
    """Every energy in both calorimeters times a factor: a wrong energy scale."""
    def change(pixel: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energy = np.isin(pixel // SIZE**2, ENERGIES)
        return pixel, np.where(energy, value * np.float32(factor), value)
    return change


def miscalibrated(spread: float, seed: int = 0) -> Change:
    """The energies of every tower in both calorimeters times a factor of its own, the same for all
    jets: normal around 1 with width `spread`. Calibration constants that are off."""
    side = SIZE // TOWER
    factors = np.random.default_rng(seed).normal(1, spread, (2, side, side)).clip(0.05)

    def change(pixel: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        channel, place = np.divmod(pixel, SIZE**2)
        tower = np.stack(np.divmod(place, SIZE)) // TOWER
        energy = np.isin(channel, ENERGIES)
        part = np.where(energy, channel == ENERGIES[1], 0).astype(int)
        factor = np.where(energy, factors[part, tower[0], tower[1]], 1)
        return pixel, value * factor.astype(np.float32)
    return change


def dead_tower(row: int, column: int) -> Change:
    """No energy in the ECAL and HCAL cells of one tower (a patch of 5 x 5 pixels)."""
    def change(pixel: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        eta, phi = pixel % SIZE**2 // SIZE, pixel % SIZE
        there = (eta // TOWER == row) & (phi // TOWER == column)
        alive = ~(there & np.isin(pixel // SIZE**2, ENERGIES))
        return pixel[alive], value[alive]
    return change


def altered(jets: JetImages, change: Change, encoding: str = "cms8") -> JetImages:
    """Jets after a change of their hits. Jets in GeV become what `encoding` makes of them, as
    the detector's would; jets in 8 bits stay in 8 bits."""
    encode = jets.encoding == "gev" and encoding == "cms8"
    pixels, values, ends = [], [], [0]
    indptr = jets.indptr.tolist()
    for start, stop in pairwise(indptr):
        hits = change(jets.indices[start:stop].numpy(), jets.data[start:stop].numpy())
        pixel, value = encode_cms8(*hits) if encode else hits
        pixels.append(pixel)
        values.append(value)
        ends.append(ends[-1] + len(pixel))
    return JetImages.from_arrays(
        np.array(ends), np.concatenate(pixels), np.concatenate(values), jets.shape,
        "cms8" if encode else jets.encoding, jets.labels, jets.mass, jets.pt, jets.truth)


def in_common(a: JetImages, b: JetImages) -> Tensor:
    """Numbers (2, n) in both files of the jets from the same hard collision.

    The particle-level jet, which knows no pile-up, is their name; jets without one are left out.
    """
    def names(jets: JetImages) -> list[tuple[float, float]]:
        return list(zip(jets.truth["true_mass"].tolist(), jets.truth["true_pt"].tolist(),
                        strict=True))

    place = {name: number for number, name in enumerate(names(b)) if name[1] > 0}
    pairs = [(i, place[name]) for i, name in enumerate(names(a)) if name in place]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
