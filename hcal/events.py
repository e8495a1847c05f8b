"""How many events are in a DigiOccupancy map: the files do not say, the map itself does.

A cell that is read out in every event counts N, and neither chance nor differences between cells
can move it: both have a variance proportional to p (1 - p), that is to m (N - m) for a mean count
m. So N is where the spread vanishes, seen from rings of different m."""

import numpy as np
import torch
from torch import Tensor

from hcal.maps import HcalMaps
from lib.registry import check_choices

SIGMA = 0.0175  # spread of arcsin(sqrt(p)) between the cells of a ring: published mean maps
NOISE = 0.6  # variance of a count in units of the binomial one, as published
TOGETHER = 20  # maps from which on fluctuations in time say more than differences in space
RING = 8  # live cells below which a row has no spread to speak of
KINDS = ("raw", "log1p", "standard", "event")


def scaled(maps: HcalMaps, kind: str, training: HcalMaps | None = None) -> HcalMaps:
    """The maps with other values: "raw"; "log1p"; "standard", minus the mean and over the standard
    deviation of the live cells of the ``training`` maps (others stay zero); "event", over the
    number of events estimated from each map (``estimate_events``), so an occupancy."""
    check_choices(kind=(kind, KINDS))
    if kind == "raw":
        return maps
    if kind == "log1p":
        return maps.with_(counts=maps.counts.log1p())
    if kind == "event":  # an empty map stays empty
        return maps.with_(counts=maps.counts / estimate_events(maps).clamp(min=1)[:, None, None])
    if training is None:
        raise ValueError("kind='standard' needs the training maps")
    values = training.counts[:, training.live]
    return maps.with_(counts=(maps.counts - values.mean()) / values.std().clamp(min=1e-6)
                      * maps.live)


def estimate_scale(maps: HcalMaps, reference: Tensor | None = None) -> Tensor:
    """Number of events of each map relative to a reference, (N,) float32: the median, over live
    cells that count there, of count / reference, so that up to half of the cells may be faulty. On
    maps of one run it is good to 0.1-0.2 %. reference: (H, W) mean counts; None: of these maps."""
    reference = maps.counts.mean(0) if reference is None else reference.to(maps.device)
    cells = maps.live & (reference > 0)
    if not cells.any() or not len(maps):
        return torch.zeros(len(maps), device=maps.device)
    return torch.cat([(part[:, cells] / reference[cells]).quantile(0.5, 1)
                      for part in maps.counts.split(1000)])


def estimate_events(maps: HcalMaps, together: bool = False) -> Tensor:
    """Number of events of each map: (N,) float32; 0 for an empty map. Each map alone, good to a few
    per cent: for every ring the median m and the spread v of its cells, and of all N the most
    likely for v = (4 SIGMA² + NOISE / N) m (N - m). together, for maps of one run: ``full_count``
    from the fluctuations in time and the scale of each map, 1 % or better; with fewer than 20 maps
    their mean is taken as one map."""
    if not len(maps):
        return maps.counts.new_zeros(0)
    if not together:
        return torch.cat([_alone(part, maps.live) for part in maps.counts.split(1000)])
    if len(maps) < TOGETHER:
        return estimate_scale(maps) * _alone(maps.counts.mean(0, keepdim=True), maps.live)
    return estimate_scale(maps) * full_count(maps)[0]


def _alone(counts: Tensor, live: Tensor) -> Tensor:
    """Each map by itself, see ``estimate_events``: (N, H, W) -> (N,)."""
    rings = [r for r in range(len(live)) if live[r].sum() >= RING]
    if not rings:
        return counts.new_zeros(len(counts))
    cells = [counts[:, r, live[r]] for r in rings]
    middle = torch.stack([ring.quantile(0.5, 1) for ring in cells], 1)  # (N, R)
    spread = torch.stack([(ring - m[:, None]).abs().quantile(0.5, 1) * 1.4826
                          for ring, m in zip(cells, middle.unbind(1))], 1)
    weight = torch.stack([live[r].sum() for r in rings]).float() * (middle > 0)
    top = middle.amax(1, keepdim=True)
    best = torch.full_like(top[:, 0], torch.inf)
    events = torch.zeros_like(best)
    for excess in torch.logspace(-3, 0.5, 90).tolist():
        n = top * (1 + excess)
        variance = (4 * SIGMA**2 + NOISE / n.clamp(min=1)) * middle * (n - middle) + 1 / 12
        cost = (weight * (variance.log() + spread.square() / variance)).sum(1)
        events = torch.where(cost < best, n[:, 0], events)
        best = torch.minimum(cost, best)
    return events


def full_count(maps: HcalMaps) -> tuple[float, float]:
    """Count of a cell that is read out in every event, at the mean scale of maps of one run, and
    the variance of a count in units of the binomial one.
    Fits variance / mean = noise (1 - mean / N), a straight line, to the live cells. Variances are
    taken from the 90 % quantile of the deviations and cells far off the line are left out: faults
    that come and go, or stay, do no harm while they are few."""
    scale = estimate_scale(maps)
    good = scale > 0.02 * scale.median()  # an empty map says nothing
    cells = maps.live & (maps.counts.mean(0) > 0)
    counts, scale = maps.counts[good][:, cells].cpu().numpy(), scale[good].cpu().numpy()[:, None]
    m = np.median(counts / scale, 0)
    deviation = np.quantile(np.abs(counts - scale * m) / np.sqrt(scale), 0.9, 0) / 1.645
    ratio = deviation.astype(float)[m > 0] ** 2 / m[m > 0]
    m = m[m > 0].astype(float)
    weight, slope, start = np.ones_like(m), 0.0, float(np.median(ratio))
    for _ in range(10):  # the error of a variance is proportional to it: weights from the fit
        slope, start = np.polyfit(m, ratio, 1, w=weight)
        line = np.maximum(start + slope * m, 0.002)
        far = np.abs(ratio / line - 1) > 9 / np.sqrt(len(counts)) + 0.3
        weight = np.where(far, 1e-6, 1 / line)
    if slope >= 0:  # no curvature to be seen: all cells far below N
        return float(m.max()), float(start)
    return float(max(-start / slope, np.quantile(m, 0.99))), float(start)
