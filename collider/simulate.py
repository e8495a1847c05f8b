"""Files of simulated jets: in parallel, reproducible, whole or not at all.

A file is made of chunks. The content of a chunk depends on the seed and its number alone, so a
file is the same whatever the number of workers.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from collider import detector, events, particles
from lib.data.encoding import encode_cms8
from lib.data.images import JetImages
from lib.data.store import ENCODINGS, Chunk, unpack, write_packed
from lib.files import DataError, replacing
from lib.profiles import Profile

CHUNK = 250  # jets per chunk: small enough to share out, large enough to hide Pythia's start
SEEDS = {"labelled": 1, "test": 2, "unlabelled": 3}  # seeds of the course's own files
VERSION = 2  # raise it when the same seed and constants would give other jets

_pools: dict[tuple[str, int | None], events.PileUp] = {}


def simulate(
    process: str, jets: int, out: str | Path, seed: int = 1, workers: int | None = None,
    encoding: str = "cms8", dense: bool = False, labelled: bool = True, progress: bool = True,
    pool: str = "train", pile_up: float | None = None, pool_events: int | None = None,
) -> Path:
    """Simulate a file of jets.

    Args:
        process: "top_qcd" (8 channels, label 1 is top) or "quark_gluon" (3 channels: track pT,
            ECAL, HCAL; label 1 is quark).
        jets: how many.
        out: file to write (HDF5, packed form; the public dense form with `dense`).
        seed: same seed, same file. Files of different seeds share no event.
        workers: processes; default one per core.
        encoding: "cms8" (the published 8-bit pipeline) or "gev".
        labelled: False leaves out Y, m and pT (the label stays in the group `truth`).
        pool: pile-up pool, "train" or "test".
        pile_up: mean number of pile-up collisions, in place of the run's distribution; the hard
            events of a seed stay the same.
        pool_events: size of the pile-up pool (tests use a small one).
    Raises:
        DataError: unknown process or encoding, no jets, full disk.
    """
    if process not in events.SAMPLES:
        raise DataError(f"unknown process {process!r}; choose from {', '.join(events.SAMPLES)}")
    if encoding not in ENCODINGS:
        raise DataError(f"unknown encoding {encoding!r}; choose from {', '.join(ENCODINGS)}")
    if jets < 1:
        raise DataError(f"{out}: cannot simulate {jets} jets; ask for at least one")
    if seed < 0:
        raise DataError(f"{out}: the seed is {seed}; give 0 or a larger whole number")
    out = Path(out)
    sample = events.SAMPLES[process]
    attributes = provenance(process, jets, seed, pool, pile_up, pool_events)
    events.pile_up_pool(pool, pool_events)  # made once, before the workers need it
    make = partial(_chunk, process=process, jets=jets, seed=seed, encoding=encoding,
                   labelled=labelled, pool=pool, pile_up=pile_up, pool_events=pool_events,
                   size=CHUNK)
    shape = (len(sample.channels), detector.SIZE, detector.SIZE)
    numbers = range(-(-jets // CHUNK))
    workers = min(workers or os.cpu_count() or 1, len(numbers))
    with _mapped(make, numbers, workers) as chunks:
        chunks = _reported(chunks, jets, out.name, progress)
        if not dense:
            return write_packed(out, chunks, shape, encoding, attributes)
        with replacing(out) as whole:
            packed = whole.with_name(f"{whole.name}.packed")
            try:
                write_packed(packed, chunks, shape, encoding, attributes)
                unpack(packed, whole)
            finally:
                packed.unlink(missing_ok=True)
    return out


def provenance(process: str, jets: int, seed: int, pool: str, pile_up: float | None,
               pool_events: int | None = None) -> dict:
    """What a simulated file says about its making; equal provenance, equal content."""
    return {
        "generator": "simulated: Pythia 8, FastJet, parametrised CMS-like detector",
        "process": process, "jets": jets, "seed": seed, "pool": pool,
        "pool_events": pool_events or events.POOL_EVENTS[pool],
        "pile_up": list(events.PILE_UP) if pile_up is None else pile_up,
        "settings": [list(p.settings) for p in events.SAMPLES[process].processes],
        "version": VERSION, "constants": _constants(), "numpy": np.__version__,
        "pythia8mc": version("pythia8mc"), "fastjet": version("fastjet"),
    }


def _constants() -> str:
    """A short hash of every constant of the detector and of the event selection."""
    values = {f"{module.__name__}.{name}": repr(value)
              for module in (particles, detector, events)
              for name, value in vars(module).items() if name.isupper()}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def quotas(number: int, jets: int, fraction: float, size: int = CHUNK) -> tuple[int, int]:
    """How many jets of label 0 and of label 1 chunk `number` holds.

    The two processes are generated in the proportion of the public file; within a file the
    proportion is exact to one jet.
    """
    first, last = number * size, min((number + 1) * size, jets)
    ones = round(last * fraction) - round(first * fraction)
    return last - first - ones, ones


def _chunk(number: int, process: str, jets: int, seed: int, encoding: str, labelled: bool,
           pool: str, pile_up: float | None, pool_events: int | None, size: int) -> Chunk:
    sample = events.SAMPLES[process]
    if (pool, pool_events) not in _pools:
        _pools[pool, pool_events] = events.pile_up_pool(pool, pool_events)
    root = np.random.SeedSequence([seed, number, *process.encode()])
    accepted = []
    wanted = quotas(number, jets, sample.fraction, size)
    for kind, n, child in zip(sample.processes, wanted, root.spawn(2), strict=True):
        stream = events.jets(sample, kind, _pools[pool, pool_events], child, pile_up)
        accepted += [next(stream) for _ in range(n)]
    order = np.random.default_rng(root.spawn(1)[0]).permutation(len(accepted))
    accepted = [accepted[i] for i in order]
    images = [_encode(jet, encoding, sample.channels) for jet in accepted]
    column = {name: np.array([getattr(j, name) for j in accepted]) for name in (
        "label", "mass", "pt", "true_mass", "true_pt", "parton", "vertices")}
    columns = {"Y": column["label"], "m": column["mass"], "pT": column["pt"]} if labelled else {}
    # true_mass and true_pt: particle level without pile-up (GeV), 0 where there is no such jet.
    truth = {name: column[name].astype(np.float32) for name in ("true_mass", "true_pt")}
    truth |= {name: column[name].astype(np.int32) for name in ("label", "parton", "vertices")}
    return Chunk(
        np.concatenate([[0], np.cumsum([len(i) for i, _ in images])]).astype(np.int64),
        np.concatenate([i for i, _ in images]).astype(np.int32),
        np.concatenate([v for _, v in images]),
        {k: v.astype(np.float32) for k, v in columns.items()}, truth,
    )


def _encode(jet: events.Jet, encoding: str,
            channels: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    indices, values = jet.indices, jet.values
    if encoding == "cms8":
        indices, values = encode_cms8(indices, values)
    if len(channels) == detector.CHANNELS:
        return indices, values
    pixels = detector.SIZE**2
    place = np.full(detector.CHANNELS, -1)
    place[list(channels)] = np.arange(len(channels))
    channel, pixel = np.divmod(indices, pixels)
    keep = place[channel] >= 0
    return (place[channel] * pixels + pixel)[keep].astype(np.int32), values[keep]


class _mapped:
    """Chunks in order, from this process or from several workers, which end with the block."""

    def __init__(self, make: partial, numbers: range, workers: int):
        self.make, self.numbers, self.pool = make, numbers, None
        if workers > 1:
            self.pool = multiprocessing.get_context("spawn").Pool(workers)

    def __enter__(self) -> Iterable[Chunk]:
        run = self.pool.imap if self.pool else map
        return run(self.make, self.numbers)

    def __exit__(self, *_) -> None:
        if self.pool:
            self.pool.terminate()
            self.pool.join()


def _reported(chunks: Iterable[Chunk], jets: int, name: str, progress: bool) -> Iterator[Chunk]:
    """A bar on a terminal, a line now and then in a log."""
    bar = tqdm(total=jets, unit="jet", desc=name, disable=not (progress and sys.stderr.isatty()))
    start = last = time.monotonic()
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk.indptr) - 1
        bar.update(len(chunk.indptr) - 1)
        now = time.monotonic()
        if progress and bar.disable and (now - last > 20 or done == jets):
            last = now
            print(f"{name}: {done} of {jets} jets, {done / (now - start):.0f} jets/s", flush=True)
    bar.close()


# --- the course's files -----------------------------------------------------------------------
def course_files(profile: Profile) -> dict[str, Path | None]:
    """The labelled, test and unlabelled file of a profile; simulated ones are made if missing.

    With the public data `test` is None (split A of the labelled file is used), and `unlabelled`
    where it was not downloaded. Raises: DataError where the public labelled file is missing.
    """
    if profile.data == "cms":
        labelled, unlabelled = (profile.data_dir / f"{n}.h5" for n in ("labelled", "unlabelled"))
        if not labelled.exists():
            raise DataError(f"{labelled}: the public labelled file is not here; run "
                            "`python -m lib download labelled`")
        # 30 GB that supervised lessons do not need.
        return {"labelled": labelled, "test": None,
                "unlabelled": unlabelled if unlabelled.exists() else None}
    files = {}
    for name in ("labelled", "test", "unlabelled"):
        files[name] = more_jets(profile, name, labelled=name != "unlabelled")
    return files


def more_jets(profile: Profile, like: str, name: str | None = None, jets: int | None = None,
              pile_up: float | None = None, **changes: Any) -> Path:
    """A simulated file with the events of one of the course's files; made if it is missing.

    like: "labelled", "test" or "unlabelled": its seed and pile-up pool are used.
    name: of the file; jets: how many, the first ones. Whole chunks (250 jets) of the same events.
    changes: of `simulate`, as ``encoding="gev"``.
    """
    path = profile.data_dir / f"{name or like}.h5"
    pool = "test" if like == "test" else "train"
    jets = jets or getattr(profile, like)
    wanted = provenance("top_qcd", jets, SEEDS[like], pool, pile_up)
    if not (path.exists() and _same_making(path, wanted)):
        simulate("top_qcd", jets, path, seed=SEEDS[like], pool=pool, pile_up=pile_up, **changes)
    return path


class CourseJets(NamedTuple):
    """The labelled jets of a profile and the parts they are used in: image numbers, long tensors.

    `test` are numbers within `test_jets`. Simulated data have a test file of their own, so 90 %
    of the labelled file is for training and 10 % for validation; the public data are split
    70/10/20 (the test part is split A), and `test_jets` is `jets` itself.
    """

    jets: JetImages
    train: Tensor
    validation: Tensor
    test_jets: JetImages
    test: Tensor
    hold_out: bool  # whether the test is a part of the labelled file: a setting of the runs


def course_jets(profile: Profile) -> CourseJets:
    """Training, validation and test jets of a profile, as every notebook uses them.

    `lib.training.runs` makes the same parts where its settings say the same `hold_out`.
    """
    files = course_files(profile)
    jets = JetImages.open(files["labelled"])
    train, validation, test = jets.split()
    if files["test"] is None:
        return CourseJets(jets, train, validation, jets, test, True)
    test_jets = JetImages.open(files["test"])
    return CourseJets(jets, torch.cat([train, test]), validation, test_jets,
                      torch.arange(len(test_jets)), False)


def _same_making(path: Path, wanted: dict) -> bool:
    """Whether a file was made with the present settings."""
    try:
        with h5py.File(path) as file:
            return json.loads(file.attrs["provenance"]) == json.loads(json.dumps(wanted))
    except (OSError, KeyError, ValueError):
        return False
