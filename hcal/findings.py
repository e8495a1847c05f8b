"""From maps of any run to a list of sick cells and regions, with or without healthy maps to compare
with. No training: the statistics of ``hcal.scores`` on the sum of all sections."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from hcal import scores
from hcal.events import estimate_events, estimate_scale
from hcal.maps import LIVE, HcalMaps, ieta, iphi, live_cells
from hcal.scores import SICK, angle, log_odds, ring_centre, spread_by_ring, spread_of
from hcal.simulation import NAMED, NAMED_SHIFTS
from lib.files import DataError

KINDS = ("fine", "dead", "degraded", "hot")
THRESHOLD = 3.0  # log odds of 20:1; healthy maps of a run: see tests/test_channels.py
DEAD = 0.05  # below this share of what is expected
OTHER = 0.03  # rings off by so much, in the median: the reference has other conditions
MANY = 30  # expected counts: no cell misses so many by chance
CROWD = 0.1  # silent cells above this share would pass for the spread of healthy ones
ASYMMETRY = 0.25  # of a ring and its mirror image; healthy ones differ by up to 0.1


@dataclass
class Region:
    """Neighbouring sick cells of one kind. score: the largest log odds."""
    kind: str
    rows: list[int]
    columns: list[int]
    ratio: float
    score: float

    @property
    def where(self) -> str:
        """Its ends in ieta and in iphi; columns start after the largest gap: 71 to 1."""
        columns = sorted({iphi(c) for c in self.columns})
        first = int(np.argmax([(b - a) % 72 for a, b in zip(columns[-1:] + columns, columns)]))
        return ", ".join(f"{name} {a}" if a == b else f"{name} {a} to {b}" for name, a, b in (
            ("ieta", ieta(min(self.rows)), ieta(max(self.rows))),
            ("iphi", columns[first], columns[first - 1])))


@dataclass
class Findings:
    """What ``judge`` found, (H, W) arrays."""
    score: np.ndarray  # log odds that a cell is sick, all sections together
    ratio: np.ndarray  # count over expected
    kind: np.ndarray  # 0...3, see ``KINDS``
    live: np.ndarray
    sections: np.ndarray  # (N, H, W) log odds of each section alone
    regions: list[Region]
    notes: list[str]  # what a reader should know


def regions(score: np.ndarray, ratio: np.ndarray, kind: np.ndarray, live: np.ndarray,
            ) -> list[Region]:
    """Sick cells of a kind that touch, joined: (H, W) arrays -> regions, the largest score first. A
    cell covers the next column, too, where that is not live: most rings have cells of 10 degrees.
    Columns close around phi; corners touch."""
    found = []
    wide = live & ~np.roll(live, -1, 1)
    for wanted in (1, 2, 3):  # what is missing and what is weak have different causes
        sick = kind == wanted
        covered = np.pad(sick | np.roll(sick & wide, 1, 1), ((0, 0), (0, 1)), mode="wrap")
        label = ndimage.label(covered, np.ones((3, 3)))[0]
        for r in np.flatnonzero(covered[:, 0]):  # the last column is the first one again
            label[label == label[r, -1]] = label[r, 0]
        label = label[:, :-1] * sick
        for number in np.unique(label[sick]):
            r, c = np.nonzero(label == number)
            found.append(Region(KINDS[wanted], r.tolist(), c.tolist(),
                                float(ratio[r, c].mean()), float(score[r, c].max())))
    return sorted(found, key=lambda region: -region.score)


def cells_there(total: Tensor, reference: HcalMaps | None) -> tuple[Tensor, list[str]]:
    """Cells that must be read out, by healthy maps or the sum of the maps: (H, W) bool, and notes.
    By the sum, a column pattern (even or odd columns) of a ring is there if half of it counts, or
    if it is a published one and half of its mirror image counts. A silent cell of it is live, and
    dead, if it is a published one, or if its column counts in half of the rings of that pattern;
    else it is not there, as is column 71."""
    seen, live, notes = total > 0, torch.zeros_like(LIVE), []
    if reference is not None:
        live = live_cells(reference.counts)
        if not total[live].any():
            raise DataError("the maps count nowhere where the reference does: another detector?")
        if more := int((seen & ~live).sum()):
            notes.append(f"{more} cells count that the reference lacks; they are left out")
        return live, notes
    for parity, name in enumerate(("even", "odd")):
        column = slice(parity, None, 2)
        known = LIVE[:, column].float().mean(1) > 0.5
        counts = seen[:, column].float().mean(1) >= 0.5
        there = counts | known & counts.flip(0)
        elsewhere = seen[counts][:, column].float().mean(0) >= 0.5
        live[:, column] = there[:, None] & (seen[:, column] | LIVE[:, column] | elsewhere)
        for r in (known & ~counts).nonzero().flatten().tolist():
            notes.append(f"ieta {ieta(r)}: fewer than half of its cells in {name} iphi count; "
                         + ("most of its mirror image does" if there[r] else "they are left out"))
    if not live.any():
        raise DataError("no ring counts in half of its cells; give more maps, or a reference")
    if odd := int((seen & ~live).sum()):
        notes.append(f"{odd} cells count where their ring is not read out; they are left out")
    return live, notes


def silent(total: Tensor, live: Tensor, reference: HcalMaps | None) -> Tensor:
    """What live cells without a count should have counted, where that is many: (H, W), else 0; such
    a cell is dead whatever the spread. Expected is the median of what cells count in the ring and
    in its mirror image, or what the reference has, scaled to these maps."""
    counting = live & (total > 0)
    if reference is None:
        both = torch.cat([total, total.flip(0)], 1), torch.cat([counting, counting.flip(0)], 1)
        expected = scores.ring_median(*both).expand_as(total)
    else:
        mean = reference.counts.mean(0)
        expected = mean * (total[counting] / mean[counting]).median()
    return expected * ((expected >= MANY) & live & ~counting)


def _by_ring(total: HcalMaps, events: Tensor) -> tuple[Tensor, Tensor, list[str]]:
    """Expected theta and its standard deviation, (1, H, W), from ring and mirror image."""
    live = total.live
    theta = angle(total.counts, events)
    ring = ring_centre(theta, live)
    # Healthy cells far off their ring in the published runs. The uncertainty is wide enough for
    # what they show in either run and for another detector, where they are as others.
    both = torch.zeros(*LIVE.shape, 2)
    both[tuple(np.transpose(list(NAMED)))] = torch.from_numpy(NAMED_SHIFTS).float()
    known, unsure = both.mean(-1) / 2, both.abs().amax(-1) / 2
    away = (theta - ring - known) * live
    mirror, both = away.flip(1), live & live.flip(0)
    # How much the mirror image says about a cell is measured on the map itself.
    limit = 2.5 * spread_of(away, live, events)
    a, b = (v.clamp(-limit, limit)[:, both] for v in (away, mirror))
    weight = float(((a * b).sum() / (a * a).sum().clamp(min=1e-9)).clamp(0, 0.9))
    weight = weight if weight > 2 / max(int(both.sum()), 1) ** 0.5 else 0.0
    mean = ring + known + weight * mirror.clamp(-limit, limit) * both
    sigma = spread_by_ring((theta - mean) * live, live, events)
    notes = []
    for r in both.any(1).nonzero().flatten().tolist()[:both.any(1).sum() // 2]:
        ratio = float((ring[0, r].sin() / ring[0, -1 - r].sin()).square())
        if not 1 - ASYMMETRY < ratio < 1 / (1 - ASYMMETRY):
            notes.append(f"ieta {ieta(r)} counts {ratio:.2f} of its mirror image {-ieta(r)}: one "
                         "of the two rings is sick; a reference tells which")
    return mean, (sigma.square() + unsure.square()).sqrt(), notes


def _by_reference(total: HcalMaps, events: Tensor, sections: Tensor, reference: HcalMaps,
                  ) -> tuple[Tensor, Tensor, list[str]]:
    """The same from healthy maps: reference mean x scale of the sections."""
    live, mean = total.live, reference.counts.mean(0)
    expected, notes = sections.sum() * mean[None], []
    share = (total.counts / expected.clamp(min=1e-6)).masked_fill(~live, math.nan)
    rings = share.nanmedian(-1, keepdim=True).values.nan_to_num(1.0)
    other = float((rings[:, live.any(1)] - 1).abs().median()) > OTHER
    noise = (0.25 / events + 0.25 / (mean.max() * len(reference)).clamp(min=1))[:, None, None]
    theta = angle(total.counts, events)
    if other:
        notes.append("the rings of the reference have other occupancies (another run?): it is "
                     "scaled ring by ring, and a ring that is sick as a whole is not seen")
        healthy = scores.rings_and_offsets(reference.with_(live=live))[1]
        mean, sigma = scores.from_pattern(theta, ring_centre(theta, live), healthy, events, live)
    else:
        mean = angle(expected, events)
        sigma = spread_by_ring((theta - mean) * live, live, events)
    return mean, sigma.square().maximum(noise).sqrt(), notes


def judge(maps: HcalMaps, reference: HcalMaps | None = None,
          threshold: float = THRESHOLD) -> Findings:
    """Sick cells in maps of one run; with ``reference`` (healthy maps) or by ring and mirror image:
    those with log odds over all sections above ``threshold``. DataError where nothing counts."""
    used = maps.counts.flatten(1).any(1)
    if not used.any():
        raise DataError("not a single count in these maps; give maps of lumi-sections with data")
    notes = [f"{int((~used).sum())} of {len(maps)} lumi-sections hold no count; they are left out"
             ] * (not used.all())
    summed = maps.counts[used].sum(0)
    live, more = cells_there(summed, reference)
    notes += more
    if declared := int((maps.declared & live).sum()) if maps.declared is not None else 0:
        notes.append(f"{declared} cells hold no number in any map: dead, as declared")

    missed = silent(summed, live, reference)
    crowd = (missed > 0).sum() > CROWD * live.sum()
    kept = live & (missed == 0) if crowd else live  # the cells that say what is usual
    good, total = maps.subset(used).with_(live=kept), HcalMaps(summed[None], kept)
    single = estimate_events(good)  # each section alone: they may be of different runs
    events = single.sum(0, keepdim=True).clamp(min=1)
    mean, sigma, more = _by_ring(total, events) if reference is None else _by_reference(
        total, events, estimate_scale(good, reference.counts.mean(0)), reference)
    theta = angle(total.counts, events)
    score = log_odds(theta, mean, sigma, events, kept)[0]
    expected = events * mean[0].clamp(max=math.pi / 2).sin().square()
    # Each section by itself: its own rings, the cells' offsets from all of them.
    alone = torch.zeros_like(maps.counts)
    alone[used] = _alone(good, single, mean - ring_centre(theta, kept), sigma)

    # A silent cell whose odds say nothing: the probability of no count is e^-expected.
    dead = (missed > 0) & (score <= threshold)
    if maps.declared is not None:
        dead |= maps.declared & live & (score <= threshold)
    certain = (missed + math.log(SICK)).clamp(min=threshold + 1)
    score = torch.where(dead, certain, score)
    alone[used] = torch.where(dead, (single / events)[:, None, None] * certain, alone[used])
    ratio = torch.where(live & ~dead, summed / expected.clamp(min=1e-6), 1.0 - dead.float())
    kind = torch.where(ratio < DEAD, 1, torch.where(ratio < 1, 2, 3)) * (live & (score > threshold))
    arrays = [v.cpu().numpy() for v in (score, ratio, kind.to(torch.int8), live)]
    return Findings(*arrays, alone.cpu().numpy(), regions(*arrays), notes + more)


def _alone(maps: HcalMaps, events: Tensor, away: Tensor, sigma: Tensor) -> Tensor:
    out = []
    for part in torch.arange(len(maps)).split(1000):
        theta = angle(maps.counts[part], events[part])
        mean = ring_centre(theta, maps.live) + away
        spread = spread_of(theta - mean, maps.live, events[part]).maximum(sigma)
        out.append(log_odds(theta, mean, spread, events[part].clamp(min=1), maps.live))
    return torch.cat(out)
