"""DigiOccupancy maps of the CMS hadron calorimeter: how often each cell counted.

A map has H = 64 rows of ieta and W = 72 columns of iphi and belongs to one of N lumi-sections (23 s
of data taking). Row r is ieta r - 32 below row 32 and r - 31 from there on; column c is iphi c + 1.
In the public files (each (10000, 64, 72) float64, see ``NAMES``) only the first depth of the endcap
counts, |ieta| 19 to 29: 932 cells. The numbers are how often a cell was read out, out of a number
of events that the files do not hold."""

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lib.data.images import Images
from lib.data.tokens import HCAL, Batch, Grid, Hits, OnDevice, TokenBatch, tokenize
from lib.files import DataError, check_npy, guarded, read_npz, require
from lib.registry import check_choices

SHAPE = (64, 72)
RUNS = (355456, 357479)  # label 0 and label 1
ROWS = (*range(3, 14), *range(50, 61))  # rows with live cells in the public maps
COLUMNS = ("counts", "labels", "events", "strength")  # what has one entry a map
NAMES = ("Run{run}_Dataset*.npy", "Run{run}.npy", "Run{run}_Dataset*.npz", "Run{run}.npz")
BLOCK = 500  # maps read and checked at once: 18 MB
# what arrays of maps are called in an .npz
KEYS = ("maps", "counts", "occupancy", "digioccupancy", "digi_occupancy", "data", "arr_0")
EXACT = 2**24  # the largest integer up to which float32 holds them all
LIVE = torch.zeros(SHAPE, dtype=torch.bool)  # the cells that count in the public maps
LIVE[3:12, 0:72:2] = LIVE[52:61, 0:72:2] = True  # cells of 10 degrees
LIVE[12:14, :71] = LIVE[50:52, :71] = True  # of 5 degrees; column 71 never counts


def ieta(row: Any) -> Any:
    """ieta of a row (number, array or tensor): -32...-1 and 1...32."""
    return row - 32 + (row >= 32)


def row(ieta: Any) -> Any:
    """Row of an ieta, the inverse of ``ieta``; there is no ieta of 0."""
    return ieta + 31 + (ieta < 0)


def iphi(column: Any) -> Any:
    """iphi of a column: 1...72."""
    return column + 1


@dataclass
class HcalMaps(Images, OnDevice):
    """N maps, ready for everything that takes ``JetImages``. Live cells are a property of the
    detector, never of these values: a live cell that counts nothing is a finding."""

    counts: Tensor  # (N, H, W) float32
    live: Tensor  # (H, W) bool, the cells that are read out
    labels: Tensor | None = None  # (N,) int64, 0 for run 355456 and 1 for 357479
    events: Tensor | None = None  # (N,) float32, the true number where a simulation knows it
    strength: Tensor | None = None  # (N, H, W), 1 for a healthy cell, where faults were injected
    grid: Grid = HCAL  # how maps are cut into patches
    declared: Tensor | None = None  # (H, W) bool, cells that their file calls dead
    attributes: dict[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()  # how their file was read where it could mean something else
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
        return (f"HcalMaps({len(self):,} maps of {self.shape}, {int(self.live.sum())} live cells; "
                f"{'unlabelled' if self.labels is None else 'labels'})")

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, *self.counts.shape[1:]

    @property
    def device(self) -> torch.device:
        return self.counts.device

    def hits(self, index: Any) -> Hits:
        """The cells of some maps that are not zero, sorted by map."""
        return _hits(self.counts[self.numbers(index)])

    def batch(self, index: Any, keep: str = "active",
              augment: Callable[[Hits], Hits] | None = None) -> Batch:
        """Maps as tokens: one for each patch with a live cell, for a dead cell is a signal. keep:
        "active" packs these patches, "masked" gives all P and marks these, "all" has all valid."""
        check_choices(keep=(keep, ("active", "masked", "all")))
        index = self.numbers(index)
        hits = augment(self.hits(index)) if augment else self.hits(index)
        active = tokenize(_hits(self.live[None].float()), self.grid, "masked").valid[0]  # (P,)
        whole = tokenize(hits, self.grid, "all")
        features, position = whole.features * active.unsqueeze(-1), whole.position  # (n, P, F)
        valid = (active | (keep == "all")).expand_as(position)
        if keep == "active":
            chosen = active.nonzero().squeeze(1) if active.any() else position[0, :1]
            features, position, valid = (x[:, chosen] for x in (features, position, valid))
        tokens = TokenBatch(features, position, valid, self.grid)
        return Batch(tokens, None if self.labels is None else self.labels[index], None, None, index)

    def with_(self, **changes: Any) -> Self:
        """The same maps but for some fields; provenance is dropped, for they are others now."""
        return replace(self, **{"attributes": {}, **changes})

    def subset(self, index: Any) -> Self:
        """The maps ``index`` in that order."""
        index = self.numbers(index)
        return self.with_(**{name: column[index] for name in COLUMNS
                             if (column := getattr(self, name)) is not None})

    @staticmethod
    def concat(parts: Sequence[Self]) -> Self:
        """Maps of several sets in one; a cell that is live in one of them is live, and a column
        that one of them lacks is dropped. Raises: ValueError for another grid."""
        if any(part.grid != parts[0].grid for part in parts):
            raise ValueError("these sets of maps have different grids: cut them alike first")
        values = {name: [getattr(part, name) for part in parts] for name in COLUMNS}
        return parts[0].with_(live=torch.stack([part.live for part in parts]).any(0), **{
            name: None if any(v is None for v in found) else torch.cat(found)
            for name, found in values.items()})

    def patches(self, height: int, width: int, columns: int = 0) -> Self:
        """The same maps, cut into patches of ``height`` x ``width`` cells; columns: only the first,
        as R3's code has it, whose 32 x 32 leave out 64...71; 0 for all."""
        grid = replace(self.grid, patch_height=height, patch_width=width)
        if not (0 < height <= grid.height and 0 < width <= grid.width):
            raise ValueError(f"patches of {height} x {width} do not fit maps of {self.shape[1:]}")
        if columns in (0, grid.width):
            return replace(self, grid=grid)
        strength = None if self.strength is None else self.strength[..., :columns]
        return self.with_(counts=self.counts[..., :columns], live=self.live[:, :columns],
                          strength=strength, declared=None, grid=replace(grid, width=columns))

    def columns(self) -> dict[str, Tensor | None]:
        """Everything that is the content of the maps, by name."""
        return {name: getattr(self, name) for name in ("live", *COLUMNS)}


def _hits(maps: Tensor) -> Hits:
    """The cells of maps (n, H, W) that are not zero, sorted by map."""
    image, row, column = maps.nonzero(as_tuple=True)
    values = maps[image, row, column]
    return Hits(image, torch.zeros_like(image), row, column, values, len(maps))


def find(folder: str | Path, run: int) -> Path:
    """The file of a run under the first of its published ``NAMES``; DataError without any."""
    names = [name.format(run=run) for name in NAMES]
    for name in names:
        if found := sorted(Path(folder).glob(name)):
            return found[0]
    raise DataError(f"{folder}: no maps of run {run}; put one of {', '.join(names)} there")


def load(path: str | Path) -> HcalMaps:
    """Read maps of one run, integer or float: .npy, .npz, or FILE.npz:KEY.

    (N, 64, 72), a single (64, 72), (64, 72, N), and axes of one entry, as of a channel; of several
    arrays of maps the one of KEY, or with a usual name (``KEYS``). ``assumed`` says what was not
    certain. The live cells are the published 932, whatever counts here: a cell that is dead all
    along would be overlooked. A published run in the file's name gives labels. A cell that is NaN,
    or masked (an array ``mask`` beside the maps, True for no value), in all maps is ``declared``
    dead and counts 0. A map without counts among others is kept: the detector was off.

    Raises: DataError in one line, naming file, cause and next step, for all else."""
    path = Path(path)
    array, assumed = _array(path)
    counts, declared = np.empty(array.shape, np.float32), np.ones(SHAPE, bool)
    for start in range(0, len(array), BLOCK):
        declared &= np.isnan(array[start:start + BLOCK]).all(0)
    require((declared & LIVE.numpy()).sum() <= LIVE.sum() / 2, path, "most live cells hold no "
            "number in any map; NaN, and True in a mask, stand for dead cells")
    for start in range(0, len(array), BLOCK):
        part = np.where(declared, 0, array[start:start + BLOCK])
        for wrong, what in (
                (~np.isfinite(part), "is no finite number ({}); leave such lumi-sections out"),
                (part > EXACT, "is no count ({}); give how often a cell was read out"),
                (part < 0, "is negative ({}); give counts, not standardised nor logarithms")):
            for n, r, c in np.argwhere(wrong)[:1].tolist():
                raise DataError(f"{path}: {wrong.sum():,} bad values; that of map {start + n}, row "
                                f"{r}, column {c} {what.format(part[n, r, c])}")
        counts[start:start + BLOCK] = part
    require(counts.any(), path, f"not a single count in {len(counts):,} maps; give maps of a "
            "lumi-section with data")
    require(counts.max() > 1 or not (counts % 1).any(), path, f"values of 0 to {counts.max():.3g} "
            "are occupancies; give counts, how often a cell was read out")
    run = re.search(r"Run(\d+)|$", path.name)[1]
    label = [str(known) for known in RUNS].index(run) if run in map(str, RUNS) else None
    labels = None if label is None else torch.full((len(counts),), label)
    return HcalMaps(torch.from_numpy(counts), LIVE.clone(), labels, assumed=tuple(assumed),
                    declared=torch.from_numpy(declared) if declared.any() else None)


def _ordered(array: np.ndarray) -> tuple[np.ndarray, list[str]] | str:
    """An array as (N, 64, 72), and what was assumed of its axes; or why it cannot be."""
    given, notes = array.shape, []
    if array.ndim > 3:
        array = array.squeeze(tuple(n for n in range(1, array.ndim) if array.shape[n] == 1))
    array = array[None] if array.shape == SHAPE else array
    if array.ndim == 3 and array.shape[:2] == SHAPE and array.shape[1:] != SHAPE[::-1]:
        array = np.moveaxis(array, 2, 0)
    if array.shape[1:] == SHAPE and len(given) > 2 and given != array.shape:
        notes = [f"{given} was read as ieta x iphi x lumi-sections" if given[:2] == SHAPE else
                 f"{given} was read as {array.shape}, without its axes of one entry"]
    if array.shape[1:] == SHAPE:
        return array, notes
    hint = ("has ieta and iphi swapped (numpy.swapaxes turns them), or is another geometry"
            if array.shape[-2:] == SHAPE[::-1] else "is no set of maps")
    return f"an array of {given} {hint}; give (N, 64, 72), lumi-sections x ieta x iphi"


def file_and_key(path: Path) -> tuple[Path, str]:
    """FILE.npz:KEY -> the file and the key, which is empty where none is given."""
    name, _, key = path.name.rpartition(":")
    return (path, "") if path.is_file() or not name else (path.with_name(name), key)


def _array(path: Path) -> tuple[np.ndarray, list[str]]:
    """The maps of a file, (N, 64, 72), NaN where masked; and what was assumed of them."""
    file, key = file_and_key(path)
    require(file.is_file(), path, "no such file; give the .npy or .npz file of a run")
    arrays = _members(file)
    maps = [name for name, array in arrays.items() if (name == key if key else
        name != "mask" and array.dtype != bool and not isinstance(_ordered(array), str))]
    usual = [name for name in maps if name.lower() in KEYS]
    notes = [f"of the arrays {', '.join(maps)} the maps are {''.join(usual)}"] * (
        len(maps) > 1 and len(usual) == 1)
    maps = usual if notes else maps or list(arrays)[:len(arrays) == 1]  # its shape is told below
    require(len(maps) == 1, path, f"{len(maps) or 'none'} of the arrays {', '.join(arrays) or '-'} "
            "is (N, 64, 72); keep exactly one of that shape, or name it: FILE.npz:KEY")
    array, mask = arrays[maps[0]], arrays.get("mask")
    found = _ordered(array)
    require(not isinstance(found, str), path, found)
    require(len(array), path, "holds no maps; give at least one")
    require(array.dtype.kind in "iuf", path,
            f"values of type {array.dtype}; give integers or floats")
    if mask is not None and maps != ["mask"]:
        hidden = _ordered(mask)
        fits = not isinstance(hidden, str) and len(hidden[0]) in (1, len(found[0]))
        require(fits and np.isin(mask, (0, 1)).all(), path,
                f"the mask of {mask.shape} does not fit the maps; give one of their shape, or "
                "(64, 72), True where there is no value")
        found = np.where(hidden[0] != 0, np.nan, found[0]), found[1]
        notes.append("cells that the array mask calls True have no value, as in numpy.ma")
    return found[0], notes + found[1]


def _members(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of an .npy has none."""
    todo, what = "download it again, or write it with numpy.save", "no .npy or .npz of numbers"
    if zipfile.is_zipfile(path):
        return read_npz(path, todo, what)
    with guarded(path, todo, what), path.open("rb") as file:
        check_npy(file, path.stat().st_size)
        return {"": np.lib.format.open_memmap(path, mode="r")}


def live_cells(counts: Tensor) -> Tensor:
    """The cells that are read out, (64, 72) bool, from maps (N, 64, 72) of a healthy detector: they
    count in half of the maps with counts, and in all at least 1 % of what the median of such cells
    does. A few spurious counts make no cell live. Raises: DataError."""
    used, total = counts.flatten(1).any(1), counts.sum(0)
    often = (counts > 0).sum(0) >= 0.5 * used.sum()
    require(used.any(), "the reference maps", "not a single count; give maps of a healthy detector")
    require(often.any(), "the reference maps", "no cell counts in half of them; give maps of one "
            "healthy detector")
    return often & (total >= 0.01 * total[often].median())
