"""Jet images on disk: the dense public format, the packed one, and the way between.

Dense file (the public CMS files): ``jet`` (N, 125, 125, 8) float32, channels last;
labelled files add ``Y`` (1 is top), ``m`` and ``pT`` (GeV), each (N, 1) float32.

Packed file: compressed sparse rows, one row an image. Group ``jet`` holds ``indptr`` (N+1,) int64,
``indices`` (hits,) int32 -- the flat pixel in (C, H, W) order -- and ``data`` (hits,), uint8 for
the ``cms8`` encoding, float32 for ``gev``; ``truth`` what only a simulation knows. Attributes:
``schema``, ``shape`` (C, H, W), ``encoding``, ``provenance`` (JSON). Everything streams.
"""

import contextlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

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
PACKED_JETS = 512  # images read at once from a packed file: a million hits
HDF5_CHUNK = 1 << 17  # hits in one compressed chunk: 512 kB of indices

AGAIN = "pack it again from its source"


def require(good: bool, path: str | Path, message: str) -> None:
    """A DataError that names the file, the cause and the next step, unless all is good."""
    if not good:
        raise DataError(f"{path}: {message}")


class _NotEightBit(Exception):
    """A dense file taken for cms8 holds a value that is not an integer of 0...255."""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive images: CSR arrays as in the packed file, indptr starting at 0, and arrays
    (n, ...) by their name in the file, those of Y, m, pT (float32) and truth/NAME that exist."""

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

    def __post_init__(self) -> None:
        known = isinstance(self.encoding, str) and self.encoding in ENCODINGS
        require(known, self.path, f"its encoding is {self.encoding!r}; use cms8 or gev: {AGAIN}")


def pack(source: str | Path, target: str | Path) -> Path:
    """Write the packed form of a dense file, without loss, or nothing; returns ``target``."""
    return scan(source, lambda header, chunks: write_packed(
        target, chunks, header.shape, header.encoding, header.attributes))


def unpack(source: str | Path, target: str | Path) -> Path:
    """Write the dense form (N, H, W, C), 500 kB a jet; the inverse of ``pack``."""
    return scan(source, lambda header, chunks: write_dense(target, header, chunks))


def scan(path: str | Path, consume: Callable[[Header, Iterator[Chunk]], Any]) -> Any:
    """The result of ``consume(header, chunks)`` on a dense or packed file.

    The public files do not say how they are encoded. They are read as ``cms8`` until a value is met
    that is not an integer of 0...255; then ``consume`` is called again from the start, with the
    encoding ``gev``. Raises: DataError for anything missing, damaged, foreign or inconsistent.
    """
    with opening(path) as (header, read):
        return in_its_encoding(header, lambda header: consume(header, read(header)))


@contextlib.contextmanager
def opening(path: str | Path) -> Iterator[tuple[Header, Callable[[Header], Iterator[Chunk]]]]:
    """A file's header, and what reads its images while the block lasts; see ``scan``."""
    path = Path(path)
    require(path.exists(), path,
            "no such file; make it with `python -m lib simulate` or `python -m lib download`")
    require(not path.is_dir(), path, "is a folder; give the HDF5 file in it")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        cause = "cut off before its end" if "truncated" in str(error) else "not an HDF5 file"
        raise DataError(f"{path}: {cause}; fetch or make it again ({error})") from error
    with file:
        yield read_header(file, path), partial(_read_chunks, file)


def in_its_encoding(header: Header, work: Callable[[Header], Any]) -> Any:
    """``work(header)``, done again as ``gev`` where the file proves not to be ``cms8``."""
    try:
        return work(header)
    except _NotEightBit:
        return work(replace(header, encoding="gev"))


@contextlib.contextmanager
def _reading(path: Path | str, part: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: {part} cannot be read, the file is damaged ({error}); fetch or "
                        "make it again") from error


def read_header(file: h5py.File, path: Path | str) -> Header:
    """Shape, encoding, columns and attributes of an open file, checked for consistency."""
    with _reading(path, "its table of contents"):
        jet, names = file.get("jet"), ", ".join(sorted(file)) or "nothing"
        attributes = {name: value.decode(errors="replace") if isinstance(value, bytes) else value
                      for name, value in file.attrs.items()}
    require(jet is not None, path,
            f"holds no `jet` (it holds {names}); this is not a file of jet images")
    dense = isinstance(jet, h5py.Dataset)
    shape, jets = _dense_shape(jet, path) if dense else _packed_shape(jet, attributes, path)
    encoding = attributes.get("encoding", "cms8" if dense else None)
    require(jets >= 1, path, "holds no images; make it again")
    try:
        provenance = json.loads(attributes.get("provenance", "{}"))
    except (TypeError, ValueError):
        provenance = None
    require(isinstance(provenance, dict), path,
            "its attribute `provenance` is not JSON of an object; make the file again")
    with _reading(path, "truth"):
        truth = list(file["truth"]) if isinstance(file.get("truth"), h5py.Group) else ()
    names = [name for name in COLUMNS if name in file] + [f"truth/{name}" for name in truth]
    columns = {name: _column(file, name, jets, path) for name in names}
    return Header(path, "dense" if dense else "packed", jets, shape, encoding,
                  not dense or "encoding" in attributes, columns, provenance)


def _dense_shape(jet: h5py.Dataset, path: Path | str) -> tuple[tuple, int]:
    first = jet.ndim == 4 and jet.shape[1] < min(jet.shape[2:])
    for good, found, then in (
            (not first, "has the channels first", "write it as numpy.moveaxis(jet, 1, -1)"),
            (jet.shape[1:] in DENSE_SHAPES, f"has the shape {jet.shape}",
             "crop or reorder the images"),
            (jet.dtype == np.float32, f"is {jet.dtype}", "write it with astype('float32')")):
        require(good, path, f"`jet` {found}; expected is (N, 125, 125, 8) "
                            f"float32 with the channels last: {then}")
    jets, height, width, channels = jet.shape
    return (channels, height, width), jets


def _packed_shape(jet: h5py.Group, attributes: dict, path: Path | str) -> tuple[tuple, int]:
    schema = attributes.get("schema")
    require(isinstance(schema, (int, np.integer)), path,
            f"has no attribute `schema`, so it is no packed file; {AGAIN}")
    require(schema == SCHEMA, path, f"has schema version {schema}, this code knows {SCHEMA}; "
                                    f"update the code or {AGAIN}")
    shape = np.atleast_1d(attributes.get("shape", ()))
    good = (shape.shape == (3,) and shape.dtype.kind in "iu" and (shape >= 1).all()
            and math.prod(shape.tolist()) < 2**31)  # indices are int32
    require(good, path, f"its attribute `shape` is {shape.tolist()}, not (C, H, W); {AGAIN}")
    for name in ("indptr", "indices", "data"):
        stored = jet.get(name)
        require(isinstance(stored, h5py.Dataset) and stored.ndim == 1, path,
                f"lacks jet/{name}, one row of numbers; {AGAIN}")
        require(name == "data" or stored.dtype.kind in "iu", path,
                f"jet/indptr and jet/indices must be integers; {AGAIN}")
    wanted, found = ENCODINGS.get(str(attributes.get("encoding"))), jet["data"].dtype
    require(wanted in (None, found), path,
            f"jet/data is {found}, its encoding asks for {wanted}; {AGAIN}")
    return tuple(int(size) for size in shape), jet["indptr"].size - 1


def _column(file: h5py.File, name: str, jets: int, path: Path | str) -> np.ndarray:
    """Y, m or pT (N,) float32, or what is in the group ``truth`` (N, ...), as it is."""
    with _reading(path, f"`{name}`"):
        dataset = file[name]
        require(isinstance(dataset, h5py.Dataset), path,
                f"`{name}` is a group, not numbers; make the file again")
        values = np.asarray(dataset[()])
    if name in COLUMNS:
        require(values.shape in ((jets, 1), (jets,)), path,
                f"`{name}` has the shape {values.shape} for {jets} images, expected is "
                f"({jets}, 1); make the file again")
        values = values.reshape(-1)
    exact = check_column(values, name, jets, path)
    require(exact is values or np.array_equal(exact, values), path,
            f"`{name}` is {values.dtype} and would lose digits as float32; write it as float32")
    return exact


def check_column(values: np.ndarray, name: str, jets: int, path: str | Path) -> np.ndarray:
    """A column with one row an image, Y, m and pT as float32 (n,); DataError if not possible."""
    require(values.shape[:1] == (jets,), path,
            f"{name} has {(*values.shape, 'no')[0]} rows for {jets} images; give one for each")
    if name not in COLUMNS:
        return values
    require(values.dtype.kind in "fiub" and np.isfinite(values).all(), path,
            f"`{name}` holds something that is not a finite number; mend or leave out these jets")
    require(name != "Y" or np.isin(values, (0, 1)).all(), path,
            f"the labels `Y` hold {np.unique(values)[:5].tolist()}; they must be 0 (QCD, or gluon) "
            "or 1 (top, or quark)")
    return values.astype(np.float32)


def _read_chunks(file: h5py.File, header: Header) -> Iterator[Chunk]:
    """The images of an open file in chunks of bounded size, each one checked."""
    jet = file["jet"]
    if header.kind == "packed":
        with _reading(header.path, "jet/indptr"):
            indptr = jet["indptr"][()].astype(np.int64)
        yield from rows_of(indptr, jet["indices"], jet["data"], header)
        return
    for start in range(0, header.jets, DENSE_JETS):
        with _reading(header.path, f"`jet` from {start}"):
            images = np.moveaxis(jet[start:start + DENSE_JETS], -1, 1)
        yield checked(sparse(images), header, start)


def rows_of(indptr: np.ndarray, indices: Any, data: Any, header: Header) -> Iterator[Chunk]:
    """CSR arrays, in memory or in a file, in checked chunks. Raises: DataError."""
    good = indptr.ndim == 1 and indptr.size and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    require(good, header.path, f"jet/indptr does not start at 0 and grow; {AGAIN}")
    require(indptr[-1] == indices.size == data.size, header.path,
            f"jet/indptr ends at {indptr[-1]}, but there are {indices.size} indices and "
            f"{data.size} values; {AGAIN}")
    for start in range(0, len(indptr) - 1, PACKED_JETS):
        ends = indptr[start:start + PACKED_JETS + 1]
        with _reading(header.path, f"jet from {start}"):
            chunk = Chunk(ends - ends[0], *(part[ends[0]:ends[-1]] for part in (indices, data)))
        yield checked(chunk, header, start)


def sparse(images: np.ndarray) -> Chunk:
    """Dense images (n, C, H, W) to CSR; NaN counts as a hit, so that no check misses it."""
    rows = images.reshape(len(images), -1)
    image, pixel = np.nonzero(rows)
    counts = np.bincount(image, minlength=len(rows))
    return Chunk(np.concatenate([[0], np.cumsum(counts)]), pixel, rows[image, pixel])


def checked(chunk: Chunk, header: Header, first: int = 0) -> Chunk:
    """Rows sorted by pixel, without stored zeros, in the dtype of the encoding: one form per
    content. first: the number of the first image within the file, for messages and for the
    columns, which are the chunk's own where the header has none. Raises: DataError."""
    path, (channels, height, width) = header.path, header.shape
    size = channels * height * width
    require(((chunk.indices >= 0) & (chunk.indices < size)).all(), path,
            f"jet/indices leave the image of {size} pixels; {AGAIN}")
    with np.errstate(invalid="ignore"):
        data = chunk.data.astype(ENCODINGS[header.encoding], copy=False)
    if not np.array_equal(data, chunk.data, equal_nan=True):
        require(not header.declared, path, f"declares {header.encoding} but holds other values: "
                "cms8 has integers of 0...255, gev float32; correct the encoding")
        raise _NotEightBit
    counts = np.diff(chunk.indptr)
    columns = {name: values[first:first + len(counts)] for name, values in header.columns.items()}
    key = np.repeat(np.arange(len(counts)) * size, counts) + chunk.indices
    if (key[1:] <= key[:-1]).any():
        order = np.argsort(key, kind="stable")
        key, data = key[order], data[order]
        require((key[1:] > key[:-1]).all(), path, f"a pixel is listed twice in one image; {AGAIN}")
    if not data.all():
        key, data = key[data != 0], data[data != 0]
        counts = np.bincount(key // size, minlength=len(counts))
    if header.encoding == "gev":  # bytes can be neither NaN nor negative
        channel = key % size // (height * width)
        signed = SIGNED.get(channels, range(channels)) if header.declared else ()
        finite = np.isfinite(data)
        bad = ~finite | (data < 0) & ~np.isin(channel, tuple(signed))
        for place in bad.nonzero()[0][:1]:
            what = f"negative pixels in channel {channel[place]}" if finite[place] else (
                "NaN or infinite pixels")
            raise DataError(
                f"{path}: image {first + key[place] // size} holds {what}; mend or leave out that "
                "image: only dz and d0 have signs, in a file with the attribute encoding = 'gev'")
    return Chunk(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                 (key % size).astype(np.int32), data, columns or chunk.columns)


class _Disk(io.FileIO):
    """A file for HDF5 to write to, which keeps its first failure to itself until ``check``, for the
    library crashes the process where it cannot write out what it holds as it closes a file."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest):]
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        try:
            return size if self.error else super().truncate(size)
        except OSError as error:
            self.error = error
            return size

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
        stored = [file.create_dataset(f"jet/{name}", (0,), dtype, shuffle=name == "indices",
                                      **options)
                  for name, dtype in (("indices", np.int32), ("data", ENCODINGS[encoding]))]
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
        _write_columns(file, {name: np.concatenate(parts) for name, parts in columns.items()},
                       rows, path)
    return path


def _append(datasets: list[h5py.Dataset], arrays: list[np.ndarray]) -> None:
    for dataset, values in zip(datasets, arrays, strict=True):
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[len(dataset) - len(values):] = values


def _write_columns(file: h5py.File, columns: dict, jets: int, path: Path) -> None:
    for name in sorted(columns):
        values = check_column(columns[name], name, jets, path)
        if name in COLUMNS:
            file[name] = values[:, None]
        else:
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)


def write_dense(path: str | Path, header: Header, chunks: Iterable[Chunk]) -> Path:
    """Write chunks to a dense file in the public layout, uncompressed; returns its path."""
    path, (channels, height, width) = Path(path), header.shape
    require((height, width, channels) in DENSE_SHAPES, header.path,
            f"images of {header.shape} have no dense format; dense files are for (8, 125, 125) and "
            "(3, 125, 125): keep it packed")
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
