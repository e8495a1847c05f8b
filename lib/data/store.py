"""Jet images on disk: the dense public format, the packed one, and the way between.

Dense file (the public CMS files): ``jet`` (N, 125, 125, 8) float32, channels last;
labelled files add ``Y`` (1 is top), ``m`` and ``pT`` (GeV), each (N, 1) float32.

Packed file: compressed sparse rows, one row an image. Group ``jet`` holds ``indptr`` (N+1,) int64,
``indices`` (hits,) int32 -- the flat pixel in (C, H, W) order -- and ``data`` (hits,), uint8 for
the ``cms8`` encoding, float32 for ``gev``; ``truth`` what only a simulation knows. Attributes:
``schema``, ``shape`` (C, H, W), ``encoding``, ``provenance`` (JSON). Everything streams."""

import contextlib
import importlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lib.cms import CHANNELS, SIZE
from lib.files import DataError, guarded, replacing, require

SCHEMA = 1
ENCODINGS = {"cms8": np.dtype("uint8"), "gev": np.dtype("float32")}
COLUMNS = ("Y", "m", "pT")
DENSE_SHAPES = ((SIZE, SIZE, 8), (SIZE, SIZE, 3))  # (H, W, C): top/QCD and quark/gluon
# Channels of gev with signs: dz and d0; of quark and gluon jets the noise of the calorimeters.
SIGNED = {8: (CHANNELS.index("track dz"), CHANNELS.index("track d0")), 3: (1, 2)}
DENSE_JETS = 16  # images read at once from a dense file: 8 MB
PACKED_JETS = 512  # images read at once from a packed file: a million hits
HDF5_CHUNK = 1 << 17  # hits in one compressed chunk: 512 kB of indices
LARGEST = 1024, 2**24  # channels, pixels of an image; batches of larger ones fill the memory
MOST = 14_000  # GeV, all that the LHC collides: no pixel and no jet has more
SMALLER = 4096  # no filter in use makes images smaller than by this
FORMATS = {b"PAR1": "parquet", b"\x93NUM": "a NumPy array", b"PK\3\4": "an archive (npz?)",
           b"root": "a ROOT file"}
ALIASES = {"Y": "y label labels is_signal isQuark", "m": "M mass jetMass jet_mass",
           "pT": "pt PT jetPt jet_pt"}  # what others call the columns

AGAIN = "pack it again from its source"


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
    """What a file says of itself; an undeclared dense file is taken for ``cms8``."""

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


def pack(source: str | Path, target: str | Path, encoding: str | None = None) -> Path:
    """Write the packed form of a dense file, without loss, or nothing; returns ``target``.
    encoding: that of a file that does not declare it; cms8 unless given."""
    with opening(source, encoding) as (header, chunks):
        return write_packed(target, chunks, header.shape, header.encoding, header.attributes)


def unpack(source: str | Path, target: str | Path) -> Path:
    """Write the dense form (N, H, W, C), uncompressed, in the public layout, 500 kB a jet; the
    inverse of ``pack``. Returns ``target``."""
    path, number = Path(target), 0
    with opening(source) as (header, chunks):
        channels, height, width = header.shape
        require((height, width, channels) in DENSE_SHAPES, header.path,
                f"images of {header.shape} have no dense format; dense files are for (8, 125, 125) "
                "and (3, 125, 125): keep it packed")
        room = 4 * header.jets * channels * height * width
        with _creating(path, header.encoding, header.attributes, room) as (file, disk):
            _write_columns(file, header.columns, header.jets, path)
            jet = file.create_dataset("jet", (header.jets, height, width, channels), np.float32)
            for chunk in chunks:
                for low, high in pairwise(chunk.indptr):
                    image = np.zeros(header.shape, np.float32)
                    image.reshape(-1)[chunk.indices[low:high]] = chunk.data[low:high]
                    jet[number] = np.moveaxis(image, 0, -1)
                    number += 1
                    disk.check()
    return path


@contextlib.contextmanager
def opening(path: str | Path, encoding: str | None = None,
            ) -> Iterator[tuple[Header, Iterator[Chunk]]]:
    """The header of a dense or packed file and, while the block lasts, its images in chunks. The
    public files do not say how they are encoded: they are ``cms8``; another ``encoding`` of a file
    that does not declare it must be given. Raises: DataError for anything missing, locked, damaged,
    foreign, inconsistent or out of range."""
    path = Path(path)
    require(path.exists(), path,
            "no such file; make it with `python -m lib simulate` or `python -m lib download`")
    require(not path.is_dir(), path, "is a folder; give the HDF5 file in it")
    with _opened(path) as file:
        header = read_header(file, path)
        if encoding not in (None, header.encoding):
            require(not header.declared, path, f"declares {header.encoding}, not {encoding}")
            header = replace(header, encoding=encoding, declared=True)
        yield header, _read_chunks(file, header)


def _opened(path: Path, locking: bool | str = "best-effort") -> h5py.File:
    try:
        return h5py.File(path, "r", locking=locking)
    except (OSError, RuntimeError) as error:
        if locking and "lock" in str(error):
            require("errno = 11," not in str(error), path, "is locked, for another program writes "
                    "it: wait for that, or end it and run again")
            return _opened(path, False)  # a network disk without locks
        kind = foreign(path)
        todo = (f"python -m lib pack {path} packed.h5 makes one of the public quark and gluon jets"
                if kind == "parquet" else "write `jet` into one with h5py")
        require(kind is None, path, f"is {kind}, not an HDF5 file; {todo}")
        cause = "cut off before its end" if "truncated" in str(error) else "not an HDF5 file"
        raise DataError(f"{path}: {cause}; fetch or make it again ({error})") from error


def foreign(path: Path) -> str | None:
    """The format of a file by its first bytes, where it is known and none of ours. Raises: OSError
    that names the path, where it may not be read."""
    with path.open("rb") as file:
        return FORMATS.get(file.read(4))


def _reading(path: Path | str, part: str) -> contextlib.AbstractContextManager:
    return guarded(path, "fetch or make it again", f"{part} cannot be read")


def _member(file: h5py.File, name: str, path: Path | str) -> h5py.Dataset | h5py.Group | None:
    """A group or dataset; DataError for a dataset that is not numbers, all of them in this file."""
    with _reading(path, f"`{name}`"):
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise DataError(f"{path}: `{name}` is a link to {link.path} in {link.filename}; give "
                            "that file, or copy it into this one")
        found = file.get(name)
        if found is None or isinstance(found, h5py.Group):
            require(found is not None or link is None, path,
                    f"`{name}` is a link to nothing; make the file again")
            return found
        require(isinstance(found, h5py.Dataset), path,
                f"`{name}` is a type, not numbers; make the file again")
        _check_dataset(found, name, path)
        return found


def _check_dataset(data: h5py.Dataset, name: str, path: Path | str) -> None:
    plist = data.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if not all(map(h5py.h5z.filter_avail, filters)):
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")  # brings the filters that h5py lacks
    missing = [code for code in filters if not h5py.h5z.filter_avail(code)]
    known = data.dtype.kind in "fiub" and data.shape is not None
    kept, chunks = data.id.get_storage_size(), data.chunks or ()
    due = math.prod(-(-size // step) for size, step in zip(data.shape or (), chunks))
    for good, what in (
            (known, f"is {data.dtype}, not numbers; make the file again"),
            (not data.is_virtual and not data.external,
             "lies in other files, by parts; copy it into one file"),
            (not missing, f"needs the HDF5 filters {missing}; pip install hdf5plugin, or write it "
                          "with gzip"),
            (not known or (data.id.get_num_chunks() == due if chunks else kept >= data.nbytes),
             "has rows that were never written: its writer stopped; make the file again"),
            (not known or data.nbytes <= SMALLER * kept + HDF5_CHUNK,
             f"claims {data.size:,} numbers in {kept:,} bytes; make the file again"),
            (math.prod(chunks) * data.dtype.itemsize < 1 << 28,
             f"has chunks of {chunks}; write smaller ones")):
        require(good, path, f"`{name}` {what}")


def read_header(file: h5py.File, path: Path | str) -> Header:
    """Shape, encoding, columns and attributes of an open file, checked for consistency."""
    with _reading(path, "its table of contents"):
        names = ", ".join(sorted(file)) or "nothing"
        attributes = {name: value.decode(errors="replace") if isinstance(value, bytes) else value
                      for name, value in file.attrs.items()}
    jet = _member(file, "jet", path)
    require(jet is not None, path,
            f"holds no `jet` (it holds {names}); this is not a file of jet images")
    dense = isinstance(jet, h5py.Dataset)
    shape, jets = _dense_shape(jet, path) if dense else _packed_shape(file, attributes, path)
    encoding = attributes.get("encoding", "cms8" if dense else None)
    require(jets >= 1, path, "holds no images; make it again")
    with guarded(path, "make the file again", "its attribute `provenance` is not JSON"):
        provenance = dict(json.loads(attributes.get("provenance", "{}")))
    patch = provenance.get("patch")
    require(patch is None or (isinstance(patch, list) and len(patch) == 2 and all(
        isinstance(side, int) and 0 < side <= max(shape) for side in patch)), path,
        "its attribute `patch` is not the height and width of a patch; make the file again")
    with _reading(path, "truth"):
        truth = _member(file, "truth", path)
        truth = sorted(truth) if isinstance(truth, h5py.Group) else ()
    for name, others in ALIASES.items():
        other = [alias for alias in others.split() if alias in file and name not in file]
        require(not other, path, f"calls `{name}` {other}: rename it with file.move(old, new)")
    names = [name for name in COLUMNS if name in file] + [f"truth/{name}" for name in truth]
    columns = {name: _column(file, name, jets, path) for name in names}
    return Header(path, "dense" if dense else "packed", jets, shape, encoding,
                  not dense or "encoding" in attributes, columns, provenance)


def _dense_shape(jet: h5py.Dataset, path: Path | str) -> tuple[tuple, int]:
    first, shape = jet.ndim == 4 and jet.shape[1] < min(jet.shape[2:]), jet.shape
    for good, found, then in (
            (not first, "has the channels first", "write it as numpy.moveaxis(jet, 1, -1)"),
            (shape[1:] in DENSE_SHAPES, f"has the shape {shape}", "crop or reorder the images"),
            (jet.dtype == np.float32, f"is {jet.dtype}", "write it with astype('float32')")):
        require(good, path, f"`jet` {found}; expected is (N, 125, 125, 8) "
                            f"float32 with the channels last: {then}")
    return (shape[3], *shape[1:3]), shape[0]


def _packed_shape(file: h5py.File, attributes: dict, path: Path | str) -> tuple[tuple, int]:
    schema = attributes.get("schema")
    require(isinstance(schema, (int, np.integer)), path,
            f"has no attribute `schema`, so it is no packed file; {AGAIN}")
    require(schema == SCHEMA, path, f"has schema version {schema}, this code knows {SCHEMA}; "
                                    f"update the code or {AGAIN}")
    shape = np.atleast_1d(attributes.get("shape", ()))
    require(shape.shape == (3,) and shape.dtype.kind in "iu" and (shape >= 1).all()
            and shape[0] <= LARGEST[0] and math.prod(shape.tolist()) <= LARGEST[1], path,
            f"its attribute `shape` is {shape.tolist()}, not (C, H, W) of at most {LARGEST[0]} "
            f"channels and {LARGEST[1]:,} pixels in all; {AGAIN}")
    jet = {name: _member(file, f"jet/{name}", path) for name in ("indptr", "indices", "data")}
    for name, stored in jet.items():
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
    dataset = _member(file, name, path)
    require(isinstance(dataset, h5py.Dataset), path,
            f"`{name}` is a group, not numbers; make the file again")
    require(name not in COLUMNS or dataset.shape in ((jets, 1), (jets,)), path,
            f"`{name}` has the shape {dataset.shape} for {jets} images, expected is ({jets}, 1); "
            "make the file again")
    _check_rows(dataset, name, jets, path)
    with _reading(path, f"`{name}`"):
        values = dataset[()]
    values = values.reshape(-1) if name in COLUMNS else values
    exact = check_column(values, name, jets, path)
    require(exact is values or np.array_equal(exact, values), path,
            f"`{name}` is {values.dtype} and would lose digits as float32; write it as float32")
    return exact


def _check_rows(values: Any, name: str, jets: int, path: str | Path) -> None:
    require(values.shape[:1] == (jets,), path,
            f"{name} has {(*values.shape, 'no')[0]} rows for {jets} images; give one for each")


def check_column(values: np.ndarray, name: str, jets: int, path: str | Path) -> np.ndarray:
    """A column with one row an image, Y, m and pT as float32 (n,); DataError if not possible."""
    _check_rows(values, name, jets, path)
    if name not in COLUMNS:
        return values
    require(values.dtype.kind in "fiub" and np.isfinite(values).all(), path,
            f"`{name}` holds something that is not a finite number; mend or leave out these jets")
    if name == "Y":
        require(np.isin(values, (0, 1)).all(), path, "the labels `Y` hold "
                f"{np.unique(values)[:5].tolist()}; each must be 0 (QCD, gluon) or 1 (top, quark)")
    else:
        low, high = (float(values.min()), float(values.max())) if jets else (1, 1)
        require(low > 0 and high < MOST, path, f"`{name}` goes from {low:.4g} to {high:.4g}: it "
                f"must be above 0 and below {MOST:,} GeV; mend or leave out these jets")
    return values.astype(np.float32)


def _read_chunks(file: h5py.File, header: Header) -> Iterator[Chunk]:
    """The images of an open file in chunks of bounded size, each one checked."""
    jet = file["jet"]
    if header.kind == "packed":
        with _reading(header.path, "jet/indptr"):
            indptr = jet["indptr"][()].astype(np.int64)
        yield from rows_of(indptr, jet["indices"], jet["data"], header)
    for start in range(0, header.jets, DENSE_JETS) if header.kind == "dense" else ():
        with _reading(header.path, f"`jet` from {start}"):
            images = np.moveaxis(jet[start:start + DENSE_JETS], -1, 1)
        yield checked(sparse(images), header, start)


def rows_of(indptr: np.ndarray, indices: Any, data: Any, header: Header) -> Iterator[Chunk]:
    """CSR arrays, in memory or in a file, in checked chunks. Raises: DataError."""
    path, pixels = header.path, math.prod(header.shape)
    good = indptr.ndim == 1 and indptr.size and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    require(good, path, f"jet/indptr does not start at 0 and grow; {AGAIN}")
    require(np.diff(indptr).max(initial=0) <= pixels, path,
            f"jet/indptr has more hits than an image of {pixels} pixels; {AGAIN}")
    require(indptr[-1] == indices.size == data.size, path,
            f"jet/indptr ends at {indptr[-1]}, but there are {indices.size} indices and "
            f"{data.size} values; {AGAIN}")
    for start in range(0, len(indptr) - 1, PACKED_JETS):
        ends = indptr[start:start + PACKED_JETS + 1]
        with _reading(path, f"jet from {start}"):
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
    counts = np.diff(chunk.indptr)
    columns = {name: values[first:first + len(counts)] for name, values in header.columns.items()}
    key, data = np.repeat(np.arange(len(counts)) * size, counts) + chunk.indices, chunk.data
    if (key[1:] <= key[:-1]).any():
        order = np.argsort(key, kind="stable")
        key, data = key[order], data[order]
        require((key[1:] > key[:-1]).all(), path, f"a pixel is listed twice in one image; {AGAIN}")
    if not data.all():
        key, data = key[data != 0], data[data != 0]
        counts = np.bincount(key // size, minlength=len(counts))
    data = _in_range(data, key, header, first)
    return Chunk(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                 (key % size).astype(np.int32), data, columns or chunk.columns)


def _in_range(data: np.ndarray, key: np.ndarray, header: Header, first: int) -> np.ndarray:
    """Values in the dtype of the encoding; DataError for one that cannot be. key: image x size +
    pixel."""
    wanted, path, (channels, height, width) = ENCODINGS[header.encoding], header.path, header.shape
    if data.dtype == wanted == np.uint8:
        return data
    with np.errstate(invalid="ignore"):
        exact = data.astype(wanted, copy=False)
    fits = np.array_equal(exact, data, equal_nan=True)
    require(fits or not header.declared, path, f"declares {header.encoding} but holds other "
            "values: cms8 has integers of 0...255, gev float32; correct the encoding")
    signed = header.encoding == "gev" and header.declared
    free = SIGNED.get(channels, range(channels)) if signed else ()
    channel = key // (height * width) % channels
    bad = ~(np.abs(data) < MOST) | (data < 0) & ~np.isin(channel, tuple(free))
    for place in bad.nonzero()[0][:1]:
        value = data[place]
        what = (f"negative pixels in channel {channel[place]}" if -MOST < value < 0 else
                f"a pixel of {value:.3g}" if np.isfinite(value) else "NaN or infinite pixels")
        raise DataError(
            f"{path}: image {first + key[place] // math.prod(header.shape)} holds {what}; mend or "
            "leave out that image: only dz, d0 and noise have signs, in a file with the attribute "
            f"encoding = 'gev', and nothing reaches {MOST:,}")
    require(fits, path, "does not declare its encoding and holds values that are no integers of "
            "0...255, so it is not cms8; if they are energies in GeV, say so: python -m lib pack "
            f"{path} packed.h5 --encoding gev")
    return exact


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
    """Write chunks of images, as they come, to a packed file; returns its path. The bytes of the
    file depend on the images only, not on how they are cut into chunks. shape (C, H, W); encoding
    "cms8" or "gev"; attributes: provenance, anything JSON can hold. Raises: DataError for
    inconsistent chunks and for a full disk, leaving nothing."""
    path, rows, counts, columns = Path(path), 0, [[0]], defaultdict(list)
    header = Header(path, "packed", rows, shape, encoding)
    options = dict(maxshape=(None,), chunks=(HDF5_CHUNK,), compression="gzip", compression_opts=6)
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
