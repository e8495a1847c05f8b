"""Files of simulated jets: in parallel, reproducible, whole or not at all.

A file is made of chunks. The content of a chunk depends on the settings and its number alone, so a
file is the same whatever the number of workers, or of hosts (``collider.shards``)."""

import contextlib
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from collider import events, shards
from collider.detector import DETECTORS
from lib.cms import CHANNELS, SIZE
from lib.data.encoding import encode_cms8
from lib.data.store import ENCODINGS, Chunk, unpack, write_packed
from lib.files import DataError, replacing, require
from lib.profiles import cores
from lib.workers import TRIES, processes, scheduler

CHUNK = 250  # jets per chunk: small enough to share out, large enough to hide Pythia's start
AHEAD = 64  # chunks begun and not yet written, at most: some 2 MB each
# What a file is known by. The version is that of its sample: a change to one sample does not touch
# the files of another. Versions of Pythia and FastJet are recorded, but are not part of it.
KNOWN_BY = ("process", "jets", "seed", "pool", "pool_events", "pile_up", "pile_up_removal",
            "detector", "settings", "version")
# What only a simulation knows. true_mass, true_pt: particle level without pile-up (GeV), 0 where
# there is no such jet; z: cm, of the hard collision; event: its number in the file.
TRUTH = {"label": np.int32, "parton": np.int32, "true_mass": np.float32, "true_pt": np.float32,
         "eta": np.float32, "z": np.float32, "vertices": np.int32, "event": np.int64}


@dataclass(frozen=True)
class Settings:
    """What a file of simulated jets holds: equal settings, equal content. Raises: DataError for an
    unknown process, encoding or pool, no jets, a negative seed."""

    process: str  # "top_qcd" (label 1 is top) or "quark_gluon" (3 channels, label 1 is quark)
    jets: int
    seed: int = 1  # files of different seeds share no event
    encoding: str | None = None  # "cms8" or "gev"; by default that of the public files
    labelled: bool = True  # False leaves out Y, m and pT (the label stays in the group `truth`)
    pool: str = "train"  # pile-up pool; or "test"
    pool_events: int | None = None  # its size (tests use a small one)
    pile_up: float | None = None  # mean, not the run's distribution; the hard events are the same
    pile_up_removal: str = "none"  # or "chs": jets without the tracks of other vertices
    detector: str = "nominal"  # or "varied": more noise, more material, worse tracks

    def __post_init__(self) -> None:
        if self.encoding is None and self.process in events.SAMPLES:
            object.__setattr__(self, "encoding", self.sample.encoding)
        for what, given, known in (("process", self.process, events.SAMPLES),
                                   ("encoding", self.encoding, ENCODINGS),
                                   ("pile-up pool", self.pool, events.POOL_SEEDS),
                                   ("pile-up removal", self.pile_up_removal, ("chs", "none")),
                                   ("detector", self.detector, DETECTORS)):
            require(given in known, f"unknown {what} {given!r}", f"choose from {', '.join(known)}")
        require(self.jets >= 1, f"cannot simulate {self.jets} jets", "ask for at least one")
        require(self.seed >= 0, f"the seed is {self.seed}", "give 0 or a larger whole number")

    @property
    def sample(self) -> events.Sample:
        return events.SAMPLES[self.process]

    @property
    def conditions(self) -> events.Conditions:
        given = {"pile_up_removal": self.pile_up_removal, "detector": DETECTORS[self.detector]}
        if self.pile_up is not None:
            given |= {"pile_up": self.pile_up, "spread": 0.0}
        return events.Conditions(**given)

    def provenance(self) -> dict[str, Any]:
        """What the file says about its making."""
        return {
            "generator": "simulated: Pythia 8, FastJet, parametrised CMS-like detector",
            "process": self.process, "jets": self.jets, "seed": self.seed, "pool": self.pool,
            "pool_events": self.pool_events or events.POOL_EVENTS[self.pool],
            "pile_up": self.pile_up, "pile_up_removal": self.pile_up_removal,
            "detector": self.detector,
            "settings": [list(p.settings) for p in self.sample.processes],
            "version": self.sample.version,
            **{name: version(name) for name in ("pythia8mc", "fastjet") if events.pythia8mc},
        }


def holds(path: Path, settings: Settings) -> bool:
    """Whether a file is there and holds what `settings` would make."""
    try:
        with h5py.File(path) as file:
            made, wanted = json.loads(file.attrs["provenance"]), settings.provenance()
            return (file.attrs["encoding"] == settings.encoding
                    and ("Y" in file) == settings.labelled and "shard" not in made
                    and all(made.get(name) == wanted[name] for name in KNOWN_BY))
    except (OSError, KeyError, ValueError):
        return False


def simulate(process: str, jets: int, out: str | Path, *, dense: bool = False,
             shard: str | None = None, workers: int | None = None, progress: bool = True,
             **settings: Any) -> Path:
    """Simulate a file of jets, for `process`, `jets` and `settings` see `Settings`.

    out: file to write (HDF5, packed form; the public dense form with `dense`).
    shard: "3/16" makes the third of sixteen parts of the file, in the folder `out`.
    workers: processes; by default one for each core that this one may use.
    Raises: DataError for settings that cannot be, a full disk, a worker that died."""
    made, out = Settings(process, jets, **settings), Path(out)
    events.pile_up_pool(made.pool, made.pool_events)  # made once, before the workers need it
    numbers, said = range(-(-jets // CHUNK)), made.provenance()
    if shard and dense:
        raise DataError("a shard is packed: leave out `dense`, merge all, and unpack that file")
    if shard:
        k, n, numbers = shards.numbers(shard, len(numbers))
        said |= {"shard": k, "shards": n}
        out = out / f"{process}-seed{made.seed}-{k:0{len(str(n))}}-of-{n}.h5"
    shape, make = (len(made.sample.channels), SIZE, SIZE), partial(chunk, settings=made, size=CHUNK)
    workers = min(workers or cores(), len(numbers))
    with contextlib.closing(_chunks(make, numbers, workers)) as chunks:
        jets = min(numbers.stop * CHUNK, jets) - numbers.start * CHUNK
        content = _reported(chunks, jets, out.name, progress), shape, made.encoding
        if not dense:
            return write_packed(out, *content, said)
        with replacing(out) as whole, tempfile.TemporaryDirectory(dir=out.parent) as folder:
            unpack(write_packed(Path(folder) / "packed", *content, said), whole)
    return out


def quotas(number: int, jets: int, fraction: float, size: int = CHUNK) -> tuple[int, int]:
    """How many jets of label 0 and of label 1 chunk `number` holds: in the proportion of the public
    file, exact to one jet within a file."""
    first, last = number * size, min((number + 1) * size, jets)
    ones = round(last * fraction) - round(first * fraction)
    return last - first - ones, ones


def chunk(number: int, settings: Settings, size: int) -> Chunk:
    """Chunk `number` of a file that is made in chunks of `size` jets."""
    sample = settings.sample
    pool = events.pile_up_pool(settings.pool, settings.pool_events)
    root = np.random.SeedSequence([settings.seed, number, *settings.process.encode()])
    accepted, wanted = [], quotas(number, settings.jets, sample.fraction, size)
    for kind, n, child in zip(sample.processes, wanted, root.spawn(2), strict=True):
        stream = events.jets(sample, kind, pool, child, settings.conditions)
        several = [next(stream) for _ in range(n)]
        for jet in several:  # a number of its own for every event of a file
            jet.event += (2 * number + kind.label) * 1_000_000
        accepted += several
    shuffle = np.random.default_rng(root.spawn(1)[0])
    accepted = [accepted[i] for i in shuffle.permutation(len(accepted))]
    indices, values = zip(*(_encode(jet, settings.encoding, sample.channels) for jet in accepted),
                          strict=True)

    def column(name: str, dtype: type) -> np.ndarray:
        return np.array([getattr(jet, name) for jet in accepted]).astype(dtype)

    names = {"Y": "label", "m": "mass", "pT": "pt"} if settings.labelled else {}
    columns = {key: column(name, np.float32) for key, name in names.items()}
    columns |= {f"truth/{name}": column(name, dtype) for name, dtype in TRUTH.items()}
    starts = np.cumsum([0, *map(len, indices)], dtype=np.int64)
    return Chunk(starts, np.concatenate(indices).astype(np.int32), np.concatenate(values), columns)


def _encode(jet: events.Jet, encoding: str, channels: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    indices, values = jet.indices, jet.values
    if encoding == "cms8":
        indices, values = encode_cms8(indices, values)
    if channels == CHANNELS:
        return indices, values
    place = np.array([channels.index(name) if name in channels else -1 for name in CHANNELS])
    channel, pixel = np.divmod(indices, SIZE**2)
    keep = place[channel] >= 0
    return (place[channel] * SIZE**2 + pixel)[keep].astype(np.int32), values[keep]


def _chunks(make: partial, numbers: range, workers: int) -> Iterator[Chunk]:
    """Chunks in order, from this process or from several workers, which end with the generator.
    Where one is killed, others go on from the last chunk that was taken. Few are begun before they
    are taken: memory does not grow with the file."""
    if workers == 1 and not scheduler():
        yield from map(make, numbers)
        return
    done, most = 0, max(AHEAD, 2 * workers)
    for left in reversed(range(TRIES)):
        try:
            with processes(workers) as pool:
                for part in _ahead(pool, make, numbers[done:], most):
                    yield part
                    done += 1
            return
        except BrokenExecutor as error:
            if not left:
                raise DataError("a worker that simulated jets was killed (out of memory?); run "
                                "again with fewer workers") from error
            print("a worker that simulated jets was killed; others go on", file=sys.stderr)


def _ahead(executor: Executor, make: partial, numbers: range, most: int) -> Iterator[Chunk]:
    waiting = deque()
    for number in numbers:
        waiting.append(executor.submit(make, number))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _reported(chunks: Iterable[Chunk], jets: int, name: str, progress: bool) -> Iterator[Chunk]:
    """The chunks, with a line about them now and then."""
    start = last = time.monotonic()
    done = 0
    for part in chunks:
        yield part
        done += len(part.indptr) - 1
        now = time.monotonic()
        if progress and (now - last > (2 if sys.stdout.isatty() else 20) or done == jets):
            last = now
            print(f"{name}: {done} of {jets} jets, {done / (now - start):.0f} jets/s", flush=True)
