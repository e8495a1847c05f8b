"""How many events are in a DigiOccupancy map: the files do not say, the map itself does."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.data.hcal_maps import HcalMaps


def estimate_scale(maps: HcalMaps, reference: Tensor | None = None) -> Tensor:
    """Number of events of each map relative to a reference: (N,) float32.

    The median, over live cells that count in the reference, of count / reference, so that up to
    half of the cells may be faulty. reference: (H, W) mean counts; None: the mean of these maps.
    """
    reference = maps.counts.mean(0) if reference is None else reference.to(maps.device)
    cells = maps.live & (reference > 0)
    if not cells.any():
        return torch.zeros(len(maps), device=maps.device)
    return torch.cat([(part[:, cells] / reference[cells]).median(1).values
                      for part in maps.counts.split(1000)])


def estimate_events(maps: HcalMaps) -> Tensor:
    """First version: the median of the fullest ring of each map."""
    rows = [r for r in range(maps.shape[1]) if maps.live[r].any()]
    rings = torch.stack([maps.counts[:, r][:, maps.live[r]].median(1).values for r in rows], 1)
    return rings.amax(1)
