"""A file of simulated jets in shards, which any hosts make in any order, and ``pack`` merges.

A shard holds consecutive chunks of the whole and says how that is made. All of them together give
the very bytes that one run would have written."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.data import store
from lib.data.store import Chunk, opening
from lib.files import DataError, require

# Settings of a simulation that are options of the command line, beside its process and labels.
OPTIONS = ("jets", "seed", "encoding", "pool", "pool_events", "pile_up", "pile_up_removal",
           "detector")


def numbers(shard: str, chunks: int) -> tuple[int, int, range]:
    """K and N of the shard "K/N", K from 1 on, and which of the chunks of the whole it holds.
    Raises: DataError for anything else, and for more shards than chunks."""
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard)
    k, n = map(int, match.groups()) if match else (1, 0)
    require(k <= n <= chunks, f"shard {shard!r}", "a shard is made of whole chunks: give K/N, K "
            f"from 1 to N and N at most {chunks}")
    return k, n, range((k - 1) * chunks // n, k * chunks // n)


def command(whole: Mapping[str, Any], shard: int, folder: Path) -> str:
    """The command that makes a shard of a file, which says of itself what is in ``whole``."""
    options = [f"--{name.replace('_', '-')} {whole[name]}" for name in OPTIONS
               if whole[name] is not None]
    options += [] if whole["labelled"] else ["--unlabelled"]
    return " ".join(["python -m lib simulate", whole["process"], *options,
                     f"--shard {shard}/{whole['shards']} --out {folder}"])


def pack(sources: Sequence[Path], out: Path | None = None, encoding: str | None = None) -> Path:
    """Pack a dense file, without loss, or the public parquet files of quark and gluon jets, or
    merge the shards of a simulation; ``out`` is the file to write, without it the second of two, or
    the last after parquet files. Raises: DataError that names the file at fault."""
    public = sources[0].is_file() and store.foreign(sources[0]) == "parquet"
    if out is None:
        if not public and len(sources) != 2:
            raise DataError("give one file and the file to write; or shards, with --out")
        *sources, out = sources
    if public:
        from collider import parquet  # pyarrow is slow to import, and needed only here

        return parquet.pack(sources, out)
    if len(sources) == 1:
        with opening(sources[0]) as (header, _):
            if "shard" not in header.attributes:
                return store.pack(sources[0], out, encoding)
    return merge(sources, out)


def merge(sources: Sequence[Path], out: Path) -> Path:
    """Write the file whose shards are ``sources``; returns its path. Raises: DataError that names
    each shard that is missing, damaged, doubled or of another simulation, and what makes it."""
    found, whole, faults = _sorted(sources)
    missing = [k for k in range(1, whole["shards"] + 1) if k not in found]
    if missing:
        those = ", ".join(f"{k}/{whole['shards']}" for k in missing)
        again = command(whole, missing[0], sources[0].parent)
        faults.append(f"missing: shard {those}; make it with `{again}`")
    if faults:
        raise DataError("; ".join(faults))

    def chunks() -> Iterator[Chunk]:
        for shard, path in sorted(found.items()):
            try:
                with opening(path) as (_, images):
                    yield from images
            except DataError as error:
                again = command(whole, shard, path.parent)
                raise DataError(f"{error}; make it again with `{again}`") from error

    with opening(found[1]) as (header, _):
        said = {k: v for k, v in header.attributes.items() if k not in ("shard", "shards")}
    return store.write_packed(out, chunks(), header.shape, header.encoding, said)


def _sorted(sources: Sequence[Path]) -> tuple[dict[int, Path], dict[str, Any], list[str]]:
    """Shards by number, what most of them say of the whole, and what is wrong with the others."""
    about, found, faults = {}, {}, []
    for path in sources:
        try:
            with opening(path) as (header, _):
                about[path] = {"shard": None, **header.attributes, "encoding": header.encoding,
                               "labelled": "Y" in header.columns}
        except DataError as error:
            faults.append(str(error))
    shards = {path: said.pop("shard") for path, said in about.items()}
    wholes = Counter(json.dumps(a, sort_keys=True) for a in about.values() if "shards" in a)
    if not wholes:
        raise DataError("; ".join(faults) or f"{sources[0]} is no shard of a simulation")
    whole = json.loads(wholes.most_common(1)[0][0])
    for path, said in about.items():
        apart = [f"{k} {said.get(k)}, not {whole[k]}" for k in whole if said.get(k) != whole[k]]
        if "shards" not in said:
            faults.append(f"{path} is no shard of a simulation: leave it out")
        elif apart:
            faults.append(f"{path} is of another simulation ({', '.join(apart)}): leave it out")
        elif (first := found.setdefault(shards[path], path)) != path:
            faults.append(f"{first} and {path} are the same shard: leave one out")
    return found, whole, faults
