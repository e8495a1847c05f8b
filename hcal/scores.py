"""Sick cells of the hadron calorimeter: how unlikely is a count, given its surroundings?

``pulls`` puts maps on a scale on which all healthy cells are alike. A count k of N events with
probability p has theta = asin √p with a variance of f/(4N) whatever p is (f: noise in units of the
binomial one), so that a cell's pull ``x``, theta minus that of its ring over the spread of the
whole map, has unit variance in any ring, run and lumi-section. Read off it are simple scores
(``SIMPLE``), the rule without a network (``pattern_odds``), a masked model (``hcal.masked``), and
the odds that a cell is sick when its neighbours may be, too (``log_odds``).

Every score is (N, H, W) of N maps, larger is sicker, 0 where not live."""

import math
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hcal.events import NOISE, estimate_events
from hcal.maps import HcalMaps

ALONE = 1.5  # spreads of the map: a ring that scatters more has a spread of its own


def angle(counts: Tensor, events: Tensor) -> Tensor:
    """theta of counts (..., H, W) of events (...): asin √((k + 3/8) / (N + 3/4)) (Anscombe 1948),
    which goes on beyond N: that is a hot cell, or N estimated too low."""
    events = events[..., None, None].clamp(min=1.0)
    return _from_missing((events - counts + 0.375) / (events + 0.75))


def _from_missing(q: Tensor) -> Tensor:
    """theta = asin √p of q = 1 - p, which may be negative."""
    return math.pi / 2 - q.sign() * q.abs().clamp(max=1).sqrt().asin()


def ring_median(values: Tensor, known: Tensor) -> Tensor:
    """Median over the known cells of each ring: (N, H, W) -> (N, H, 1); 0 where none is known."""
    return values.masked_fill(~known, math.nan).nanmedian(-1, keepdim=True).values.nan_to_num()


def ring_centre(theta: Tensor, live: Tensor) -> Tensor:
    """Centre of each ring, (N, H, 1): median, then two means of what is within three spreads, where
    beyond 1.5 counts as 1.5. Nearly half of a ring may be sick; the means make it continuous, which
    a median of few integer counts is not. 0 for a ring without live cells."""
    centre = ring_median(theta, live)
    reach = 1.5 * 1.4826 * ring_median((theta - centre).abs(), live)
    for _ in range(2):
        near = ((theta - centre).abs() <= 2 * reach) & live
        step = (theta - centre).clamp(-reach, reach) * near
        centre = centre + step.sum(-1, keepdim=True) / near.sum(-1, keepdim=True).clamp(min=1)
    return centre


class Pulls(NamedTuple):
    """Maps on the common scale."""
    theta: Tensor  # (N, H, W)
    ring: Tensor  # (N, H, 1), theta of the ring
    spread: Tensor  # (N, 1, 1), of theta - ring over the live cells of a map, robust
    x: Tensor  # (N, H, W), (theta - ring) / spread, 0 where not live
    events: Tensor  # (N,)


def pulls(maps: HcalMaps) -> Pulls:
    """Maps on the scale on which healthy cells are alike; no labels and no reference needed."""
    events = estimate_events(maps).clamp(min=1.0)
    theta, live = angle(maps.counts, events), maps.live
    ring = ring_centre(theta, live)
    away = (theta - ring) * live
    spread = spread_of(away, live, events)
    return Pulls(theta, ring, spread, away / spread, events)


def spread_of(away: Tensor, live: Tensor, events: Tensor) -> Tensor:
    """Robust standard deviation over the live cells of a map, (N, 1, 1): two thirds are below it.
    No less than the noise: of seven events most cells count all."""
    ordered = away[:, live].abs().sort(1).values
    spread = ordered[:, round(0.683 * (ordered.shape[1] - 1))]
    least = (0.25 * NOISE / events.clamp(min=1)).sqrt().clamp(min=1e-3)
    return spread.maximum(least)[:, None, None]


def spread_by_ring(away: Tensor, live: Tensor, events: Tensor) -> Tensor:
    """``spread_of``, but a ring's own where its cells, and those of its mirror image, scatter much
    more than those of the map: (N, H, W). As real maps do next to the beam."""
    usual = spread_of(away, live, events)
    apart = (away - ring_median(away, live)).abs()
    both = torch.cat([apart, apart.flip(1)], 2), torch.cat([live, live.flip(0)], 1)
    own = 1.4826 * ring_median(*both)
    return torch.where(own > ALONE * usual, own, usual).expand_as(away)


def rings_and_offsets(healthy: HcalMaps) -> tuple[Tensor, Tensor]:
    """theta of the rings of a run, (H,), and of each cell minus its ring's, (H, W)."""
    events = estimate_events(healthy, together=True).mean(0, keepdim=True)
    theta = angle(healthy.counts.mean(0, keepdim=True), events)
    ring = ring_centre(theta, healthy.live)
    return ring[0, :, 0], ((theta - ring) * healthy.live)[0]


def ring_ratio(maps: HcalMaps) -> Tensor:
    """|count / median of the ring - 1|."""
    return (maps.counts / ring_median(maps.counts, maps.live).clamp(min=1e-6) - 1).abs() * maps.live


def ring_z(maps: HcalMaps) -> Tensor:
    """|count - median of the ring| over the ring's robust spread, no less than binomial noise."""
    middle, events = ring_median(maps.counts, maps.live), estimate_events(maps)[:, None, None]
    away, p = (maps.counts - middle).abs(), (middle / events.clamp(min=1.0)).clamp(0, 1)
    noise = (events.clamp(min=1.0) * p * (1 - p)).clamp(min=1.0).sqrt()
    return away / (1.4826 * ring_median(away, maps.live)).maximum(noise) * maps.live


def ring_ratio_odds(maps: HcalMaps) -> Tensor:
    """``ring_ratio`` with the prior of boxes: one relative spread about the rings, the map's."""
    seen = pulls(maps)
    spread = ring_ratio(maps)[:, maps.live].quantile(0.683, 1)[:, None, None]
    sigma = (spread / 2 * seen.ring.tan().clamp(0, 50)).clamp(min=1e-3)  # of theta: tan/2 dp/p
    return log_odds(seen.theta, seen.ring, sigma, seen.events, maps.live)


def ring_z_odds(maps: HcalMaps) -> Tensor:
    """``ring_z`` with the prior of boxes: on the scale of ``pulls``."""
    seen = pulls(maps)
    return log_odds(seen.theta, seen.ring, seen.spread, seen.events, maps.live)


def pattern_odds(maps: HcalMaps, offsets: Tensor) -> Tensor:
    """The rule without a network: what cells of another run are off their rings (``offsets``, (H,
    W), see ``rings_and_offsets``), times one slope fitted to each map, with the prior of boxes."""
    seen = pulls(maps)
    mean, sigma = from_pattern(seen.theta, seen.ring, offsets, seen.events, maps.live)
    return log_odds(seen.theta, mean, sigma, seen.events, maps.live)


def from_pattern(theta: Tensor, ring: Tensor, offsets: Tensor, events: Tensor,
                 live: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of healthy theta, (N, H, W): ring + slope · offset.
    The slope of each map is fitted with residuals beyond 2.5 spreads counting as that, and without
    cells far off their ring. Half of an offset counts as unknown: other conditions move each cell
    by its own share."""
    offsets = offsets * live
    away = (theta - ring) * live
    usual = offsets * (offsets.abs() <= 4.5 * offsets[live].abs().median())
    power, slope = usual.square().sum().clamp(min=1e-9), torch.zeros_like(ring[:, :1])
    for _ in range(4):
        rest = away - slope * offsets
        limit = 2.5 * spread_of(rest, live, events)
        step = rest.clamp(-limit, limit) * usual
        slope = (slope + step.sum((1, 2), keepdim=True) / power).clamp(0, 1.5)
    mean = ring + slope * offsets
    spread = spread_by_ring((theta - mean) * live, live, events)
    return mean, (spread.square() + (0.5 * offsets).square()).sqrt()


SIMPLE = {"ratio to ring": ring_ratio, "ring z": ring_z, "ratio to ring, boxes": ring_ratio_odds,
          "ring z, boxes": ring_z_odds}  # fmt: skip
FAULTS = (0.0, 0.25, 0.5, 0.7, 0.82, 0.9, 1.15, 1.5, 2.0, 3.0)  # strengths that are tried
BOXES = ((1, 3), (1, 5), (2, 1), (2, 3), (3, 1), (3, 3), (3, 5))  # rows x columns, likewise
SICK, BOX, INSIDE = 1e-3, 1e-4, 0.5  # how likely: a cell; a box of one kind; a cell inside one


def _normal(value: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    return -((value - mean) / sigma).square() / 2 - sigma.log() - 0.9189


def _slide(x: Tensor, size: int, dim: int, how: Callable, sign: int) -> Tensor:
    """``how`` over x and its ``size`` - 1 neighbours along dim; columns close around phi, and
    beyond the rows are zeros."""
    around = x if dim == -1 else F.pad(x, (0, 0, size - 1, size - 1))
    moved = [around.roll(-sign * step, dim) for step in range(size)]
    if dim == -2:
        moved = [part[..., size - 1:size - 1 + x.shape[-2], :] for part in moved]
    return reduce(how, moved)


def log_odds(theta: Tensor, mean: Tensor, sigma: Tensor, events: Tensor, live: Tensor) -> Tensor:
    """Log odds that a cell is sick, given what a healthy one would show: (N, H, W).

    Healthy: theta is normal with ``mean`` and ``sigma``. Sick with strength s: normal around the
    theta of s times the healthy p, or (any s) flat. A sick cell is rare (``SICK``) unless the rest
    of some box around it speaks for a common strength s: with R the log likelihood ratio of the
    rest, capped cell by cell so that no cell convinces alone, the prior becomes

        (SICK + INSIDE · BOX · e^R) / (1 + BOX · e^R)

    and the cell's own count decides from there. Weak faults of many cells so become visible where
    no cell stands out, and healthy neighbours of a dead cell stay healthy."""
    out, mean, sigma = torch.zeros_like(theta), mean.expand_as(theta), sigma.expand_as(theta)
    for half in torch.arange(len(live), device=live.device).chunk(2):  # boxes end with an endcap
        rows = half[live[half].any(1)]
        if len(rows):
            rows = slice(int(rows[0]), int(rows[-1]) + 1)
            for part in torch.arange(len(theta)).split(500):
                p = slice(int(part[0]), int(part[-1]) + 1)
                out[p, rows] = _half_log_odds(theta[p, rows], mean[p, rows], sigma[p, rows],
                                              events[p, None, None], live[rows])
    return out * live


def _half_log_odds(theta: Tensor, mean: Tensor, sigma: Tensor, events: Tensor,
                   live: Tensor) -> Tensor:
    p = mean.sin().square() * (mean < math.pi / 2) + (mean >= math.pi / 2)
    healthy = _normal(theta, mean, sigma)
    flat = math.log(0.5)  # density of theta of a cell with any fault
    background = torch.logaddexp(healthy, torch.full_like(healthy, math.log(SICK) + flat))
    total = flat + math.log(SICK) - healthy
    for strength in FAULTS:
        sick = _from_missing(1 - p * strength)
        blur = (sigma.square() + 0.25 / events + (0.08 * (sick - mean)).square()).sqrt()
        like = _normal(theta, sick, blur)
        capped = (like - background) * live
        best = torch.full_like(theta, -math.inf)
        tall = {1: capped}
        for height, width in BOXES:
            if height not in tall:
                tall[height] = _slide(capped, height, -2, torch.add, 1)
            box = _slide(tall[height], width, -1, torch.add, 1)
            around = _slide(_slide(box, width, -1, torch.maximum, -1), height, -2,
                            torch.maximum, -1)
            best = torch.maximum(best, around)
        rest = best - capped + math.log(BOX)
        raised = torch.logaddexp(torch.full_like(rest, math.log(SICK)), rest + math.log(INSIDE))
        total = torch.logaddexp(total, like - healthy + raised - F.softplus(rest)
                                - math.log(len(FAULTS)))
    return total
