"""DigiOccupancy maps of the hadron calorimeter: files, and everything else under one name.

``hcal.maps`` holds the maps, ``hcal_events`` counts their events, ``hcal_simulation``
makes maps and faults. The public files are ``Run355456_Dataset*.npy`` and
``Run357479_Dataset*.npy``, each (10000, 64, 72) float64; R3 also writes ``Run355456.npy`` and
``.npz``.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hcal.events import estimate_events, estimate_scale, full_count
from hcal.maps import LIVE, ROWS, RUNS, SHAPE, HcalMaps, ieta, iphi, row, windows
from hcal.simulation import (
    CONDITIONS,
    STRENGTHS,
    Fault,
    closure,
    inject,
    occupancy,
    profile_between,
    random_faults,
    simulate,
)
from lib.data.images import DataError

__all__ = [
    "CONDITIONS", "LIVE", "ROWS", "RUNS", "SHAPE", "STRENGTHS", "DataError", "Fault", "HcalMaps",
    "closure", "estimate_events", "estimate_scale", "find", "full_count", "ieta", "inject", "iphi",
    "live_cells", "load", "occupancy", "profile_between", "random_faults", "row", "simulate",
    "windows",
]  # fmt: skip

BLOCK = 500  # maps read and checked at once: 18 MB
EXACT = 2**24  # the largest integer up to which float32 holds them all
NAMES = ("Run{run}_Dataset*.npy", "Run{run}.npy", "Run{run}_Dataset*.npz", "Run{run}.npz")


def find(folder: str | Path, run: int) -> Path:
    """The file of a run under any of its published names, the first in the order of ``NAMES``.

    Raises: DataError where there is none.
    """
    for name in NAMES:
        if found := sorted(Path(folder).glob(name.format(run=run))):
            return found[0]
    raise DataError(f"{folder}: no maps of run {run}; put one of "
                    f"{', '.join(name.format(run=run) for name in NAMES)} there")


def load(path: str | Path, live: Any = None, run: int | None = None) -> HcalMaps:
    """Read maps: .npy or .npz, (N, 64, 72) or a single (64, 72), integer or float.

    Args:
        live: (64, 72) bool, the cells that are read out, e.g. ``live_cells(reference)``; None for
            the published 932. Never taken from this file: a cell that is dead all along would be
            overlooked.
        run: its number; None takes it from the file's name. The two published runs give labels.

    Raises: DataError in one line, naming file, cause and next step, for a file that is missing,
        truncated, pickled or foreign, another geometry, no maps, a value that is negative or no
        number, and for maps without a single count. A single map without counts among others is
        kept: the detector was off.
    """
    path = Path(path)
    array = _array(path)
    if array.shape == SHAPE:
        array = array[None]
    if array.shape[1:] != SHAPE:
        raise DataError(f"{path}: an array of {array.shape}{_hint(array.shape)}; give (N, 64, 72), "
                        "lumi-sections x ieta x iphi")
    if not len(array):
        raise DataError(f"{path}: holds no maps; give at least one")
    if array.dtype.kind not in "iuf":
        raise DataError(f"{path}: values of type {array.dtype}; give integers or floats")
    counts = np.empty(array.shape, np.float32)
    for start in range(0, len(array), BLOCK):
        part = np.asarray(array[start:start + BLOCK])
        for wrong, what, advice in (
            (~np.isfinite(part), "is no finite number", "leave such lumi-sections out"),
            (part > EXACT, "is no count", "give how often a cell was read out"),
            (part < 0, "is negative", "give counts, neither standardised nor logarithms of them"),
        ):
            if wrong.any():
                n, r, c = (int(x) for x in np.argwhere(wrong)[0])
                raise DataError(f"{path}: {wrong.sum():,} bad values; that of map {start + n}, row "
                                f"{r}, column {c} {what} ({part[n, r, c]}); {advice}")
        counts[start:start + BLOCK] = part
    if not counts.any():
        raise DataError(f"{path}: not a single count in {len(counts):,} maps; give maps of a "
                        "lumi-section with data")
    if run is None and (named := re.search(r"Run(\d+)", path.name)):
        run = int(named[1])
    labels = torch.full((len(counts),), RUNS.index(run)) if run in RUNS else None
    return HcalMaps(torch.from_numpy(counts), _live(live, path), labels)


def _array(path: Path) -> np.ndarray:
    """The array of a file; of several in an .npz, the one that holds maps."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the .npy or .npz file of a run")
    try:
        with open(path, "rb") as file:
            archive = file.read(4) == b"PK\x03\x04"
        if not archive:
            return np.lib.format.open_memmap(path, mode="r")
        with np.load(path, allow_pickle=False) as members:
            arrays = {name: members[name] for name in members.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "Python objects" in cause or "Object arrays" in cause:
            cause = "it holds pickled objects, which are never loaded"
        raise DataError(f"{path}: is damaged, or no .npy or .npz file of numbers ({cause}); "
                        "download it again, or write the maps with numpy.save") from error
    maps = [name for name, array in arrays.items() if array.shape[1:] == SHAPE]
    maps = maps or [name for name, array in arrays.items()
                    if array.shape == SHAPE and array.dtype != bool]
    if len(maps) > 1 or (len(arrays) != 1 and not maps):
        raise DataError(f"{path}: {len(maps) or 'none'} of the arrays {', '.join(arrays) or '-'} "
                        "is (N, 64, 72); keep exactly one of that shape")
    return arrays[maps[0]] if maps else next(iter(arrays.values()))


def _hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[1:] == SHAPE[::-1]:
        return " has ieta and iphi swapped"
    if len(shape) == 3 and shape[:2] == SHAPE:
        return " has lumi-sections last"
    return " is no set of maps"


def _live(live: Any, path: Path | str) -> Tensor:
    if live is None:
        return LIVE.clone()
    live = torch.as_tensor(np.asarray(live))
    if tuple(live.shape) != SHAPE or live.dtype != torch.bool or not live.any():
        raise DataError(f"{path}: live cells of {live.dtype}, {tuple(live.shape)}; give a (64, 72) "
                        "array of booleans with at least one true")
    return live


def live_cells(reference: HcalMaps | Tensor | np.ndarray) -> Tensor:
    """The cells that are read out, from maps of a healthy detector: (64, 72) bool.

    A cell is live if it counts in at least half of the maps that hold counts, and over all of
    them at least 1 % of what the median of such cells does: a few spurious counts do not make a
    cell live, nor does a lumi-section in which it was off make it dead. Raises: DataError where
    no map holds a count.
    """
    counts = reference.counts if isinstance(reference, HcalMaps) else torch.as_tensor(reference)
    counts = counts.reshape(-1, *SHAPE)
    used = counts.flatten(1).any(1)
    if not used.any():
        raise DataError("the reference maps: not a single count; give maps of a healthy detector")
    often = (counts > 0).sum(0) >= 0.5 * used.sum()
    total = counts.sum(0)
    if not often.any():
        raise DataError("the reference maps: no cell counts in half of them; give maps of one "
                        "healthy detector")
    return often & (total >= 0.01 * total[often].median())
