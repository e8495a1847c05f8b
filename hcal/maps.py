"""DigiOccupancy maps of the CMS hadron calorimeter: how often each cell counted.

A map has 64 rows of ieta and 72 columns of iphi and belongs to one lumi-section (23 s of data
taking). Row r is ieta r - 32 below row 32 and r - 31 from there on; column c is iphi c + 1. In the
public files only the first depth of the endcap counts, |ieta| 19 to 29: 932 cells. The numbers are
how often a cell was read out, out of a number of events that the files do not hold.

Shapes use N maps (lumi-sections), H rows, W columns, P patches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.data.images import DataError, Images
from lib.data.tokens import HCAL, Batch, Grid, Hits, TokenBatch, tokenize

SHAPE = (64, 72)
RUNS = (355456, 357479)  # label 0 and label 1
ROWS = (*range(3, 14), *range(50, 61))  # rows with live cells in the public maps
KINDS = ("raw", "log1p", "standard", "event")


def ieta(row: Any) -> Any:
    """ieta of a row (number, array or tensor): -32...-1 and 1...32."""
    return row - 32 + (row >= 32)


def row(ieta: Any) -> Any:
    """Row of an ieta, the inverse of ``ieta``; there is no ieta of 0."""
    return ieta + 31 + (ieta < 0)


def iphi(column: Any) -> Any:
    """iphi of a column: 1...72."""
    return column + 1


def _published_cells() -> Tensor:
    live = torch.zeros(SHAPE, dtype=torch.bool)
    live[3:12, 0:72:2] = live[52:61, 0:72:2] = True  # cells of 10 degrees
    live[12:14, :71] = live[50:52, :71] = True  # of 5 degrees; column 71 never counts
    return live


LIVE = _published_cells()


@dataclass
class HcalMaps(Images):
    """N maps (N, H, W), ready for everything that takes ``JetImages``.

    counts: float32. live: (H, W) bool, the cells that are read out -- a property of the detector,
    never of these values: a live cell that counts nothing is a finding. labels: (N,) int64, 0 for
    run 355456 and 1 for 357479, or None. events: (N,) float32, the true number of events where a
    simulation knows it. strength: (N, H, W), 1 for a healthy cell, where faults were injected.
    grid: how maps are cut into patches.
    """

    counts: Tensor
    live: Tensor
    labels: Tensor | None = None
    events: Tensor | None = None
    strength: Tensor | None = None
    grid: Grid = HCAL
    attributes: dict[str, Any] = field(default_factory=dict)
    encoding = "counts"
    kind = "map"

    def __post_init__(self) -> None:
        if self.counts.ndim != 3 or self.counts.shape[1:] != self.live.shape:
            raise DataError(f"maps of {tuple(self.counts.shape)} do not fit live cells of "
                            f"{tuple(self.live.shape)}; give (N, H, W) and (H, W)")
        if self.shape != self.grid.shape:
            raise DataError(f"maps of {self.shape} do not fit a grid of {self.grid.shape}")

    def __len__(self) -> int:
        return len(self.counts)

    def __repr__(self) -> str:
        cells = int(self.live.sum())
        named = "unlabelled" if self.labels is None else "labels"
        return f"HcalMaps({len(self):,} maps of {self.shape}, {cells} live cells; {named})"

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, *self.counts.shape[1:]

    @property
    def device(self) -> torch.device:
        return self.counts.device

    # ------------------------------------------------------------ what models are fed

    def dense(self, index: Any) -> Tensor:
        """Some maps as images: (n, 1, H, W) float32."""
        return self.counts[self.numbers(index)].unsqueeze(1)

    def hits(self, index: Any) -> Hits:
        """The cells of some maps that are not zero, sorted by map."""
        maps = self.counts[self.numbers(index)]
        image, row, column = maps.nonzero(as_tuple=True)
        return Hits(image, torch.zeros_like(image), row, column, maps[image, row, column],
                    len(maps))

    def batch(self, index: Any, keep: str = "active",
              augment: Callable[[Hits], Hits] | None = None) -> Batch:
        """Maps as tokens, one a patch.

        keep: "active" packs the patches with a live cell, "masked" gives all P patches and marks
        those as valid, "all" makes all of them valid. What ``tokenize(live=...)`` gives, without
        the way over hits.
        """
        index = self.numbers(index)
        if augment is not None:
            tokens = tokenize(augment(self.hits(index)), self.grid, keep, self.live)
        else:
            tokens = self._tokens(self.counts[index], keep)
        return Batch(tokens, None if self.labels is None else self.labels[index], None, None, index)

    def _tokens(self, maps: Tensor, keep: str) -> TokenBatch:
        if keep not in ("active", "masked", "all"):
            raise ValueError(f"keep={keep!r}: use 'active', 'masked' or 'all'")
        active = self._cut(self.live).any(-1)  # (P,)
        features = self._cut(maps) * active.unsqueeze(-1)  # (n, P, F)
        position = torch.arange(self.grid.patches, device=self.device)
        valid = active | (keep == "all")
        if keep == "active":
            chosen = active.nonzero().squeeze(1) if active.any() else position[:1]
            features, position, valid = features[:, chosen], position[chosen], valid[chosen]
        count = len(maps)
        return TokenBatch(features, position.expand(count, -1), valid.expand(count, -1), self.grid)

    def _cut(self, maps: Tensor) -> Tensor:
        """(..., H, W) -> patches (..., P, patch_height x patch_width), padded with zeros."""
        grid = self.grid
        tall, wide = grid.rows * grid.patch_height, grid.columns * grid.patch_width
        maps = torch.nn.functional.pad(maps, (0, wide - grid.width, 0, tall - grid.height))
        maps = maps.unflatten(-1, (grid.columns, -1)).unflatten(-3, (grid.rows, -1))
        return maps.transpose(-3, -2).flatten(-2).flatten(-3, -2)

    # ------------------------------------------------------------ choosing

    def _each(self, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor | None]:
        """The columns with one entry a map, each changed."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        return {name: None if value is None else change(value) for name, value in columns.items()}

    def with_(self, **changes: Any) -> HcalMaps:
        """The same maps but for some fields; provenance is dropped, for they are others now."""
        return replace(self, **{"attributes": {}, **changes})

    def subset(self, index: Any) -> HcalMaps:
        """The maps ``index`` in that order."""
        index = self.numbers(index)
        return self.with_(**self._each(lambda column: column[index]))

    def to(self, device: str | torch.device) -> HcalMaps:
        """The same maps with every tensor on ``device``."""
        columns = self._each(lambda column: column.to(device))
        return replace(self, live=self.live.to(device), **columns)

    @staticmethod
    def concat(parts: Sequence[HcalMaps]) -> HcalMaps:
        """Maps of several sets in one; a cell that is live in one of them is live.

        A column (labels, events, strength) that one of them lacks is dropped. Raises: ValueError
        for another grid.
        """
        first = parts[0]
        if any(part.grid != first.grid for part in parts):
            raise ValueError("these sets of maps have different grids: cut them alike first")
        columns = {}
        for name in COLUMNS:
            values = [getattr(part, name) for part in parts]
            columns[name] = None if any(v is None for v in values) else torch.cat(values)
        live = torch.stack([part.live for part in parts]).any(0)
        return first.with_(live=live, **columns)

    def patches(self, height: int, width: int) -> HcalMaps:
        """The same maps, cut into patches of ``height`` x ``width`` cells."""
        if not (0 < height <= self.grid.height and 0 < width <= self.grid.width):
            raise ValueError(f"patches of {height} x {width} do not fit maps of {self.shape[1:]}")
        return replace(self, grid=replace(self.grid, patch_height=height, patch_width=width))

    def cropped(self, columns: int = 64) -> HcalMaps:
        """Only the first columns, as R3's code has it: patches of 32 x 32 leave out 64...71."""
        strength = None if self.strength is None else self.strength[..., :columns]
        return self.with_(counts=self.counts[..., :columns], live=self.live[:, :columns],
                          strength=strength, grid=replace(self.grid, width=columns))

    def scaled(self, kind: str, training: HcalMaps | None = None) -> HcalMaps:
        """The maps with other values.

        kind: "raw"; "log1p"; "standard", minus the mean and over the standard deviation of the
        live cells of the ``training`` maps (cells that are not live stay zero); "event", over the
        number of events estimated from each map (``estimate_events``), so an occupancy.
        """
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: use one of {', '.join(KINDS)}")
        if kind == "raw":
            return self
        if kind == "log1p":
            return self.with_(counts=self.counts.log1p())
        if kind == "standard":
            if training is None:
                raise ValueError("kind='standard' needs the training maps")
            values = training.counts[:, training.live]
            counts = (self.counts - values.mean()) / values.std().clamp(min=1e-6) * self.live
            return self.with_(counts=counts)
        from hcal.events import estimate_events

        events = estimate_events(self).clamp(min=1)  # an empty map stays empty
        return self.with_(counts=self.counts / events[:, None, None])

    # ------------------------------------------------------------ splitting

    def split_random(self, test: float = 0.2, seed: int = 42) -> tuple[Tensor, Tensor]:
        """Numbers of the maps for training and for the test, drawn at random, runs in proportion.

        Neighbouring lumi-sections, which are alike, end up on both sides.
        """
        return tuple(map(torch.from_numpy, self.divide(test, seed)))

    def split_blocks(self, test: float = 0.2, blocks: int = 5,
                     seed: int = 42) -> tuple[Tensor, Tensor]:
        """As ``split_random``, but whole stretches of consecutive lumi-sections go one way.

        Each run is cut into stretches, ``blocks`` of which, drawn at random, are the test.
        """
        rng = np.random.default_rng(seed)
        labels = torch.zeros(len(self)) if self.labels is None else self.labels.cpu()
        held = torch.zeros(len(self), dtype=torch.bool)
        for label in labels.unique():
            members = (labels == label).nonzero().squeeze(1)
            stretches = np.array_split(members.numpy(), max(2, round(blocks / test)))
            count = max(1, round(test * len(stretches)))
            for number in rng.choice(len(stretches), count, replace=False):
                held[stretches[number]] = True
        return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)

    def columns(self) -> dict[str, Tensor | None]:
        """Everything that is the content of the maps, by name."""
        return {name: getattr(self, name) for name in ("live", *COLUMNS)}


COLUMNS = ("counts", "labels", "events", "strength")


def windows(maps: HcalMaps, width: int) -> HcalMaps:
    """Sums over ``width`` consecutive lumi-sections (what is left over at the end is dropped).

    Raises: ValueError where a window would hold two runs, or a fault that comes or goes: inject
    with the same ``width``.
    """
    number = len(maps) // width if width > 0 else 0
    if number < 1:
        raise ValueError(f"windows of {width} from {len(maps)} maps: choose 1 to {len(maps)}")
    parts = maps._each(lambda column: column[:number * width].unflatten(0, (number, width)))
    for name in ("labels", "strength"):
        if (part := parts[name]) is not None:
            if (part != part[:, :1]).any():
                raise ValueError(f"the {name} change within a window of {width} maps")
            parts[name] = part[:, 0]
    for name in ("counts", "events"):
        parts[name] = None if parts[name] is None else parts[name].sum(1)
    return maps.with_(**parts)
