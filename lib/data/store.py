"""Jet images on disk: the dense public format, the packed one, and the way between.

Dense file (the public CMS files): ``jet`` (N, 125, 125, 8) float32, channels last;
labelled files add ``Y`` (1 is top), ``m`` and ``pT`` (GeV), each (N, 1) float32.

Packed file: compressed sparse rows, one row an image. Group ``jet`` holds ``indptr``
(N+1,) int64, ``indices`` (hits,) int32 -- the flat pixel in (C, H, W) order -- and
``data`` (hits,), uint8 for the ``cms8`` encoding, float32 for ``gev``. ``Y``, ``m``, ``pT``
are as above, a group ``truth`` holds what only a simulation knows. Attributes: ``schema``,
``shape`` (C, H, W), ``encoding``, ``provenance`` (JSON).

Everything streams: 30 GB take no more memory than 30 jets. A file is checked from end to end as it
is read, and appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from lib.cms import CHANNELS, SIZE
from lib.files import DataError, replacing

SCHEMA = 1
ENCODINGS = {"cms8": np.dtype("uint8"), "gev": np.dtype("float32")}
COLUMNS = ("Y", "m", "pT")
DENSE_SHAPES = ((SIZE, SIZE, 8), (SIZE, SIZE, 3))  # (H, W, C): top/QCD and quark/gluon
SIGNED = {8: (CHANNELS.index("track dz"), CHANNELS.index("track d0")), 3: ()}  # in gev
DENSE_JETS = 16  # images read at once from a dense file: 8 MB
PACKED_HITS = 1 << 20  # hits read at once from a packed file
HDF5_CHUNK = 1 << 17  # hits in one compressed chunk: 512 kB of indices

REFUSED = {  # everything that is refused: the cause and the next step
    "missing": "no such file; make it with `python -m lib simulate` or fetch it with "
               "`python -m lib download`",
    "folder": "is a folder; give the HDF5 file in it",
    "permission": "may not be read; change its permissions",
    "foreign": "{cause}; fetch or make it again",
    "damaged": "{part} cannot be read, the file is damaged ({cause}); fetch or make it again",
    "jet": "holds no `jet` (it holds {names}); this is not a file of jet images",
    "dense": "`jet` {found}; expected is (N, 125, 125, 8) float32 with the channels last: {then}",
    "images": "holds no images; make it again",
    "encoding": "its encoding is {found!r}; use cms8 or gev: {again}",
    "provenance": "its attribute `provenance` is not JSON of an object; make the file again",
    "no schema": "has no attribute `schema`, so it is no packed file; {again}",
    "schema": "has schema version {found}, this code knows 1; update the code or {again}",
    "packed shape": "its attribute `shape` is {found}, not (C, H, W); {again}",
    "lacks": "lacks jet/{name}, one row of numbers; {again}",
    "integers": "jet/indptr and jet/indices must be integers; {again}",
    "data": "jet/data is {found}, its encoding asks for {expected}; {again}",
    "pointers": "jet/indptr does not start at 0 and grow; {again}",
    "ends": "jet/indptr ends at {found}, but there are {indices} indices and {values} values; "
            "{again}",
    "leave": "jet/indices leave the image of {size} pixels; {again}",
    "twice": "a pixel is listed twice in one image; {again}",
    "group": "`{name}` is a group, not numbers; make the file again",
    "column": "`{name}` has the shape {found} for {jets} images, expected is ({jets}, 1); make the "
              "file again",
    "rows": "{name} has {found} rows for {jets} images; make the file again",
    "values": "{name} has {found} values for {jets} images; give one for each",
    "finite": "`{name}` holds something that is not a finite number; mend or leave out these jets",
    "digits": "`{name}` is {found} and would lose digits as float32; write it as float32",
    "labels": "the labels `Y` hold {found}; they must be 0 (QCD, or gluon) or 1 (top, or quark)",
    "declared": "declares {encoding} but holds other values: cms8 has integers of 0...255, gev "
                "float32; correct the encoding",
    "nan": "image {image} holds NaN or infinite pixels; mend or leave out that image",
    "negative": "image {image} holds negative pixels in channel {channel}; only signed dz and d0 "
                "may be negative, in a file with the attribute encoding = 'gev'",
    "no dense": "images of {found} have no dense format; dense files are for (8, 125, 125) and "
                "(3, 125, 125): keep it packed",
}
AGAIN = "pack it again from its source"


def refuse(path: str | Path, what: str, **facts: Any) -> NoReturn:
    """A DataError that names the file: the message ``what`` of ``REFUSED``, with its facts."""
    raise DataError(f"{path}: {REFUSED[what].format(again=AGAIN, **facts)}")


def require(good: bool, path: str | Path, what: str, **facts: Any) -> None:
    """``refuse`` unless something is as it should be."""
    if not good:
        refuse(path, what, **facts)


class _NotEightBit(Exception):
    """A dense file taken for cms8 holds a value that is not an integer of 0...255."""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive images: CSR arrays as in the packed file, and their columns.

    indptr (n+1,) int64 starting at 0, indices (hits,) int32, data (hits,). columns: arrays (n, ...)
    by their name in the file, those of Y, m, pT (float32) and truth/NAME that exist.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """What a file says about itself; ``encoding`` is a guess for an undeclared dense file."""

    path: Path | str  # or the address of a remote file
    kind: str  # "dense" or "packed"
    jets: int
    shape: tuple[int, int, int]  # (C, H, W)
    encoding: str
    declared: bool = True
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    def with_columns(self, chunk: Chunk, start: int, stop: int) -> Chunk:
        """The chunk with rows start...stop of the columns of the whole file."""
        return replace(chunk, columns={k: v[start:stop] for k, v in self.columns.items()})


# ---------------------------------------------------------------- from file to file


def pack(source: str | Path, target: str | Path) -> Path:
    """Write the packed form of a dense (or packed) file; returns the path of ``target``.

    Lossless, bounded in memory, all or nothing. Raises: DataError.
    """
    return scan(source, lambda header, chunks: write_packed(
        target, chunks, header.shape, header.encoding, header.attributes))


def unpack(source: str | Path, target: str | Path) -> Path:
    """Write the dense form (N, H, W, C) of a packed (or dense) file; the inverse of ``pack``.

    A dense file takes 500 kB a jet; too little room is an error before the start. DataError.
    """
    return scan(source, lambda header, chunks: write_dense(target, header, chunks))


def inspect(path: str | Path) -> dict[str, Any]:
    """What a file holds, read and checked from end to end: a dict that JSON can hold.

    kind, jets, shape, encoding, bytes, bytes_per_jet, smaller_than_dense, zeros (fraction of
    the pixels), nonzero_per_image and mean_pixel (one number a channel), columns present,
    top (number of jets with Y = 1), mass_gev and pt_gev (min, mean, max), truth, attributes.
    """
    return scan(path, _describe_content)


def _describe_content(header: Header, chunks: Iterable[Chunk]) -> dict[str, Any]:
    channels, height, width = header.shape
    hits, total = np.zeros(channels, np.int64), np.zeros(channels)
    for chunk in chunks:
        channel = chunk.indices // (height * width)
        hits += np.bincount(channel, minlength=channels)
        total += np.bincount(channel, weights=chunk.data, minlength=channels)
    size, pixels = header.path.stat().st_size, header.jets * height * width
    facts = {
        "path": str(header.path), "kind": header.kind, "jets": header.jets,
        "shape": list(header.shape), "encoding": header.encoding, "bytes": size,
        "bytes_per_jet": size / header.jets, "smaller_than_dense": 4 * pixels * channels / size,
        "zeros": 1 - int(hits.sum()) / (pixels * channels),
        "nonzero_per_image": (hits / header.jets).tolist(),
        "mean_pixel": (total / pixels).tolist(), "attributes": header.attributes,
        "columns": sorted(name for name in header.columns if name in COLUMNS),
        "truth": sorted(name[6:] for name in header.columns if name not in COLUMNS),
    }
    if "Y" in header.columns:
        facts["top"] = int(header.columns["Y"].sum())
    for name, key in (("m", "mass_gev"), ("pT", "pt_gev")):
        if name in header.columns:
            values = header.columns[name].astype(float)
            facts[key] = [float(values.min()), float(values.mean()), float(values.max())]
    return facts


# ---------------------------------------------------------------- reading


def scan(path: str | Path, consume: Callable[[Header, Iterator[Chunk]], Any]) -> Any:
    """Call ``consume(header, chunks)`` on a dense or packed file and return its result.

    The public files do not say how they are encoded. They are read as ``cms8`` until a
    value is met that is not an integer of 0...255; then ``consume`` is called again from
    the start, with the encoding ``gev``.

    Raises: DataError for anything missing, damaged, foreign or inconsistent.
    """
    path = Path(path)
    with opened(path) as file:
        return in_its_encoding(read_header(file, path),
                               lambda header: consume(header, read_chunks(file, header)))


def in_its_encoding(header: Header, work: Callable[[Header], Any]) -> Any:
    """``work(header)``, done again as ``gev`` where the file proves not to be ``cms8``."""
    try:
        return work(header)
    except _NotEightBit:
        return work(replace(header, encoding="gev"))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file opened for reading, with the usual accidents explained."""
    require(path.exists(), path, "missing")
    require(not path.is_dir(), path, "folder")
    try:
        file = h5py.File(path, "r")
    except PermissionError:
        refuse(path, "permission")
    except OSError as error:
        cause = ("cut off before its end" if "truncated" in str(error)
                 else "not an HDF5 file" if "signature" in str(error)
                 else f"not a readable HDF5 file ({error})")
        refuse(path, "foreign", cause=cause)
    with file:
        yield file


@contextlib.contextmanager
def _reading(path: Path | str, part: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        refuse(path, "damaged", part=part, cause=error)


def read_header(file: h5py.File, path: Path | str) -> Header:
    """Shape, encoding, columns and attributes of an open file, checked for consistency."""
    with _reading(path, "its table of contents"):
        jet, names = file.get("jet"), ", ".join(sorted(file)) or "nothing"
        attributes = {name: value.decode(errors="replace") if isinstance(value, bytes) else value
                      for name, value in file.attrs.items()}
    require(jet is not None, path, "jet", names=names)
    dense = isinstance(jet, h5py.Dataset)
    shape, jets = _dense_shape(jet, path) if dense else _packed_shape(jet, attributes, path)
    encoding = attributes.get("encoding", "cms8" if dense else None)
    require(isinstance(encoding, str) and encoding in ENCODINGS, path, "encoding", found=encoding)
    require(jets >= 1, path, "images")
    try:
        provenance = json.loads(attributes.get("provenance", "{}"))
    except (TypeError, ValueError):
        provenance = None
    require(isinstance(provenance, dict), path, "provenance")
    columns = {name: _column(file, name, jets, path) for name in COLUMNS if name in file}
    with _reading(path, "truth"):
        truth = list(file["truth"]) if isinstance(file.get("truth"), h5py.Group) else ()
    for name in (f"truth/{name}" for name in truth):
        values = columns[name] = _values(file, name, path)
        require(values.shape[:1] == (jets,), path, "rows", name=name, jets=jets,
                found=(*values.shape, "no")[0])
    return Header(path, "dense" if dense else "packed", jets, shape, encoding,
                  not dense or "encoding" in attributes, columns, provenance)


def _dense_shape(jet: h5py.Dataset, path: Path | str) -> tuple[tuple, int]:
    first = jet.ndim == 4 and jet.shape[1] < min(jet.shape[2:])
    require(not first, path, "dense", found=f"is {jet.shape}, channels first",
            then="write it as numpy.moveaxis(jet, 1, -1)")
    known = jet.ndim == 4 and jet.shape[1:] in DENSE_SHAPES
    require(known, path, "dense", found=f"has the shape {jet.shape}",
            then="crop or reorder the images")
    require(jet.dtype == np.float32, path, "dense", found=f"is {jet.dtype}",
            then="write it with astype('float32')")
    jets, height, width, channels = jet.shape
    return (channels, height, width), jets


def _packed_shape(jet: h5py.Group, attributes: dict, path: Path | str) -> tuple[tuple, int]:
    schema = attributes.get("schema")
    require(isinstance(schema, (int, np.integer)), path, "no schema")
    require(1 <= schema <= SCHEMA, path, "schema", found=schema)
    shape = np.atleast_1d(attributes.get("shape", ()))
    good = (shape.shape == (3,) and shape.dtype.kind in "iu" and (shape >= 1).all()
            and math.prod(shape.tolist()) < 2**31)  # indices are int32
    require(good, path, "packed shape", found=shape.tolist())
    for name in ("indptr", "indices", "data"):
        stored = jet.get(name)
        require(isinstance(stored, h5py.Dataset) and stored.ndim == 1, path, "lacks", name=name)
    integers = all(jet[name].dtype.kind in "iu" for name in ("indptr", "indices"))
    require(integers, path, "integers")
    wanted, found = ENCODINGS.get(str(attributes.get("encoding"))), jet["data"].dtype
    require(wanted in (None, found), path, "data", found=found, expected=wanted)
    return tuple(int(size) for size in shape), jet["indptr"].size - 1


def _values(file: h5py.File, name: str, path: Path | str) -> np.ndarray:
    with _reading(path, f"`{name}`"):
        dataset = file[name]
        require(isinstance(dataset, h5py.Dataset), path, "group", name=name)
        return np.asarray(dataset[()])


def _column(file: h5py.File, name: str, jets: int, path: Path | str) -> np.ndarray:
    values = _values(file, name, path)
    require(values.shape in ((jets, 1), (jets,)), path, "column", name=name, jets=jets,
            found=values.shape)
    exact = check_column(values.reshape(-1), name, path)
    require(np.array_equal(exact, values.reshape(-1)), path, "digits", name=name,
            found=values.dtype)
    return exact


def check_column(values: np.ndarray, name: str, path: str | Path) -> np.ndarray:
    """One of Y, m, pT as (n,) float32; DataError where that is not possible."""
    values = np.asarray(values)
    require(values.dtype.kind in "fiub" and np.isfinite(values).all(), path, "finite", name=name)
    if name == "Y":
        require(np.isin(values, (0, 1)).all(), path, "labels", found=np.unique(values)[:5].tolist())
    return values.astype(np.float32)


def read_chunks(file: h5py.File, header: Header) -> Iterator[Chunk]:
    """The images of an open file in chunks of bounded size, each one checked."""
    jet = file["jet"]
    if header.kind == "packed":
        with _reading(header.path, "jet/indptr"):
            indptr = jet["indptr"][()].astype(np.int64).reshape(-1)
        yield from rows_of(indptr, jet["indices"], jet["data"], header)
        return
    for start in range(0, header.jets, DENSE_JETS):
        stop = min(start + DENSE_JETS, header.jets)
        with _reading(header.path, f"`jet` [{start}:{stop}]"):
            images = np.moveaxis(jet[start:stop], -1, 1)
        yield header.with_columns(checked(sparse(images), header, start), start, stop)


def rows_of(indptr: np.ndarray, indices: Any, data: Any, header: Header) -> Iterator[Chunk]:
    """CSR arrays, in memory or in a file, in checked chunks of at most ``PACKED_HITS`` hits (or of
    one image), with their columns. Raises: DataError."""
    good = indptr.ndim == 1 and indptr.size and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    require(good, header.path, "pointers")
    require(indptr[-1] == indices.size == data.size, header.path, "ends", found=indptr[-1],
            indices=indices.size, values=data.size)
    start, count = 0, len(indptr) - 1
    while start < count:
        stop = int(np.searchsorted(indptr, indptr[start] + PACKED_HITS, side="right")) - 1
        stop = min(max(stop, start + 1), count)
        low, high = indptr[start], indptr[stop]
        with _reading(header.path, f"jet [{start}:{stop}]"):
            chunk = Chunk(indptr[start:stop + 1] - low, indices[low:high], data[low:high])
        yield header.with_columns(checked(chunk, header, start), start, stop)
        start = stop


# ---------------------------------------------------------------- checking


def sparse(images: np.ndarray) -> Chunk:
    """Dense images (n, C, H, W) to CSR; NaN counts as a hit, so that no check misses it."""
    rows = images.reshape(len(images), -1)
    image, pixel = np.nonzero(rows)
    counts = np.bincount(image, minlength=len(rows))
    return Chunk(np.concatenate([[0], np.cumsum(counts)]), pixel, rows[image, pixel])


def checked(chunk: Chunk, header: Header, first: int = 0) -> Chunk:
    """Rows sorted by pixel, without stored zeros, in the dtype of the encoding: one form per
    content. first: the number of the first image, for messages. Raises: DataError."""
    indices, path, (channels, height, width) = chunk.indices, header.path, header.shape
    size = channels * height * width
    inside = not indices.size or (indices.min() >= 0 and indices.max() < size)
    require(inside, path, "leave", size=size)
    with np.errstate(invalid="ignore"):
        data = chunk.data.astype(ENCODINGS[header.encoding], copy=False)
    if not np.array_equal(data, chunk.data, equal_nan=True):
        require(not header.declared, path, "declared", encoding=header.encoding)
        raise _NotEightBit
    counts = np.diff(chunk.indptr)
    key = np.repeat(np.arange(len(counts)) * size, counts) + indices
    if (key[1:] <= key[:-1]).any():
        order = np.argsort(key, kind="stable")
        key, data = key[order], data[order]
        require((key[1:] > key[:-1]).all(), path, "twice")
    if not data.all():
        key, data = key[data != 0], data[data != 0]
        counts = np.bincount(key // size, minlength=len(counts))
    if header.encoding == "gev":  # bytes can be neither NaN nor negative
        channel = key % size // (height * width)
        signed = SIGNED.get(channels, range(channels)) if header.declared else ()
        for what, bad in (("nan", ~np.isfinite(data)),
                          ("negative", (data < 0) & ~np.isin(channel, tuple(signed)))):
            if bad.any():
                refuse(path, what, image=first + key[bad][0] // size, channel=channel[bad][0])
    return replace(chunk, indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                   indices=(key % size).astype(np.int32), data=data)


# ---------------------------------------------------------------- writing


class _Disk(io.FileIO):
    """A file for HDF5 to write to, which keeps a failure to itself until ``check``.

    The HDF5 library crashes the whole process when it cannot write out what it holds as it
    closes a file. So the first failure is remembered, and everything after it is dropped.
    """

    error: OSError | None = None

    def _unless_failed(self, work: Callable[[Any], int], argument: Any) -> int | None:
        try:
            return work(argument) if self.error is None else None
        except OSError as error:
            self.error = error

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self._unless_failed(super().write, rest) or len(rest):]
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        return self._unless_failed(super().truncate, size) or self.tell()

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def _creating(path: Path, encoding: str, attributes: dict | None,
              room: int = 0) -> Iterator[tuple[h5py.File, _Disk]]:
    """A new HDF5 file that appears under its name when complete; see ``replacing``."""
    with replacing(path, room) as temporary, _Disk(temporary, "w+") as disk:
        with h5py.File(disk, "w") as file:
            file.attrs["encoding"] = encoding
            file.attrs["provenance"] = json.dumps(attributes or {}, sort_keys=True)
            yield file, disk
        disk.check()


def write_packed(path: str | Path, chunks: Iterable[Chunk], shape: tuple[int, int, int],
                 encoding: str, attributes: dict[str, Any] | None = None) -> Path:
    """Write chunks of images, as they come, to a packed file; returns its path.

    The bytes of the file depend on the images only, not on how they are cut into chunks.
    shape (C, H, W); encoding "cms8" or "gev"; attributes: provenance, anything JSON can hold.
    Raises: DataError for inconsistent chunks and for a full disk, leaving nothing.
    """
    path, rows = Path(path), 0
    header = Header(path, "packed", rows, shape, encoding)
    options = dict(maxshape=(None,), chunks=(HDF5_CHUNK,), compression="gzip", compression_opts=6)
    counts, columns = [[0]], defaultdict(list)
    with _creating(path, encoding, attributes) as (file, disk):
        file.attrs["schema"], file.attrs["shape"] = SCHEMA, np.array(shape, np.int64)
        # Shuffled bytes halve the rising indices, but would hide that a tower repeats its value.
        stored = [file.create_dataset(f"jet/{name}", (0,), dtype, shuffle=shuffle, **options)
                  for name, dtype, shuffle in (("indices", np.dtype("int32"), True),
                                               ("data", ENCODINGS[encoding], False))]
        waiting = [np.empty(0, dataset.dtype) for dataset in stored]
        for chunk in chunks:
            chunk = checked(chunk, header, rows)
            counts.append(np.diff(chunk.indptr))
            rows += len(counts[-1])
            for name, values in chunk.columns.items():
                columns[name].append(values)
            waiting = [np.concatenate(pair) for pair in
                       zip(waiting, (chunk.indices, chunk.data), strict=True)]
            while waiting[0].size >= HDF5_CHUNK:
                _append(stored, [values[:HDF5_CHUNK] for values in waiting])
                waiting = [values[HDF5_CHUNK:] for values in waiting]
            disk.check()
        _append(stored, waiting)
        file.create_dataset("jet/indptr", data=np.cumsum(np.concatenate(counts).astype(np.int64)),
                            compression="gzip", shuffle=True)
        columns = {name: np.concatenate(parts) for name, parts in columns.items()}
        _write_columns(file, columns, rows, path)
    return path


def _append(datasets: list[h5py.Dataset], arrays: list[np.ndarray]) -> None:
    for dataset, values in zip(datasets, arrays, strict=True):
        start = dataset.shape[0]
        dataset.resize(start + len(values), axis=0)
        dataset[start:] = values


def _write_columns(file: h5py.File, columns: dict, jets: int, path: Path) -> None:
    for name in (*COLUMNS, *sorted(set(columns) - set(COLUMNS))):
        if (values := columns.get(name)) is not None:
            require(len(values) == jets, path, "values", name=name, found=len(values), jets=jets)
            if name in COLUMNS:
                file.create_dataset(name, data=check_column(values, name, path)[:, None])
            else:
                file.create_dataset(name, data=values, compression="gzip", shuffle=True)


def write_dense(path: str | Path, header: Header, chunks: Iterable[Chunk]) -> Path:
    """Write chunks to a dense file in the public layout, uncompressed; returns its path."""
    path, (channels, height, width) = Path(path), header.shape
    require((height, width, channels) in DENSE_SHAPES, header.path, "no dense", found=header.shape)
    room = 4 * header.jets * channels * height * width
    with _creating(path, header.encoding, header.attributes, room) as (file, disk):
        _write_columns(file, header.columns, header.jets, path)
        jet = file.create_dataset("jet", (header.jets, height, width, channels), np.float32)
        number = 0
        for chunk in chunks:
            for low, high in pairwise(chunk.indptr):
                image = np.zeros(header.shape, np.float32)
                image.reshape(-1)[chunk.indices[low:high]] = chunk.data[low:high]
                jet[number] = np.moveaxis(image, 0, -1)
                number += 1
                disk.check()
    return path
