"""Jet images on disk: the dense public format, the packed one, and the way between.

Dense file (the public CMS files): ``jet`` (N, 125, 125, 8) float32, channels last;
labelled files add ``Y`` (1 is top), ``m`` and ``pT`` (GeV), each (N, 1) float32.

Packed file: compressed sparse rows, one row an image. Group ``jet`` holds ``indptr``
(N+1,) int64, ``indices`` (hits,) int32 -- the flat pixel in (C, H, W) order -- and
``data`` (hits,), uint8 for the ``cms8`` encoding, float32 for ``gev``. ``Y``, ``m``, ``pT``
are as above, a group ``truth`` holds what only a simulation knows. Attributes: ``schema``,
``shape`` (C, H, W), ``encoding``, ``provenance`` (JSON).

This module reads and checks, in chunks of a few megabytes; ``lib.data.packing`` writes.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lib.files import DataError

SCHEMA = 1
ENCODINGS = {"cms8": np.dtype("uint8"), "gev": np.dtype("float32")}
COLUMNS = ("Y", "m", "pT")
DENSE_SHAPES = ((125, 125, 8), (125, 125, 3))  # (H, W, C): top/QCD and quark/gluon
SIGNED = {8: (1, 2), 3: ()}  # channels that may be negative in gev: dz and d0
DENSE_JETS = 16  # images read at once from a dense file: 8 MB
PACKED_HITS = 1 << 20  # hits read at once from a packed file


class _NotEightBit(Exception):
    """A dense file taken for cms8 holds a value that is not an integer of 0...255."""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive images: CSR arrays as in the packed file, and their columns.

    indptr (n+1,) int64 starting at 0, indices (hits,) int32, data (hits,);
    columns: those of Y, m, pT that exist, each (n,) float32; truth: arrays (n, ...).
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    truth: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """What a file says about itself; ``encoding`` is a guess for an undeclared dense file."""

    path: Path | str  # or the address of a remote file
    kind: str  # "dense" or "packed"
    jets: int
    shape: tuple[int, int, int]  # (C, H, W)
    encoding: str
    declared: bool
    columns: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    attributes: dict[str, Any]


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
    if not path.exists():
        raise DataError(f"{path}: no such file; make it with `python -m lib simulate` or "
                        "fetch it with `python -m lib download`")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give the HDF5 file in it")
    try:
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise DataError(f"{path}: may not be read; change its permissions") from error
    except OSError as error:
        cause = ("cut off before its end" if "truncated" in str(error)
                 else "not an HDF5 file" if "signature" in str(error)
                 else f"not a readable HDF5 file ({error})")
        raise DataError(f"{path}: {cause}; fetch or make it again") from error
    with file:
        yield file


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: {what} cannot be read, the file is damaged ({error}); "
                        "fetch or make it again") from error


def read_header(file: h5py.File, path: Path | str) -> Header:
    """Shape, encoding, columns and attributes of an open file, checked for consistency."""
    with _reading(path, "its table of contents"):
        jet = file.get("jet")
        names = ", ".join(sorted(file)) or "nothing"
        attributes = {name: value.decode(errors="replace") if isinstance(value, bytes) else value
                      for name, value in file.attrs.items()}
    if jet is None:
        raise DataError(f"{path}: holds no `jet` (it holds {names}); this is not a file of "
                        "jet images")
    dense = isinstance(jet, h5py.Dataset)
    if dense:
        shape = _dense_shape(jet, path)
        jets, declared = jet.shape[0], "encoding" in attributes
        encoding = attributes.get("encoding", "cms8")
    else:
        shape, jets = _packed_shape(jet, attributes, path)
        encoding, declared = attributes.get("encoding"), True
    if not isinstance(encoding, str) or encoding not in ENCODINGS:
        raise DataError(f"{path}: its encoding is {encoding!r}; known are "
                        f"{' and '.join(ENCODINGS)}: pack it again from its source")
    if jets < 1:
        raise DataError(f"{path}: holds no images; make it again")
    try:
        provenance = json.loads(attributes.get("provenance", "{}"))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: its attribute `provenance` is not JSON; make the file "
                        "again") from error
    if not isinstance(provenance, dict):
        raise DataError(f"{path}: its attribute `provenance` is no JSON object; make the file "
                        "again")
    columns = {name: _column(file, name, jets, path) for name in COLUMNS if name in file}
    truth = {}
    with _reading(path, "truth"):
        known = list(file["truth"]) if isinstance(file.get("truth"), h5py.Group) else ()
    for name in known:
        truth[name] = _values(file, f"truth/{name}", path)
        if truth[name].shape[:1] != (jets,):
            rows = (*truth[name].shape, "no")[0]
            raise DataError(f"{path}: truth/{name} has {rows} rows for {jets} images; make the "
                            "file again")
    return Header(path, "dense" if dense else "packed", jets, shape, encoding, declared,
                  columns, truth, provenance)


def _dense_shape(jet: h5py.Dataset, path: Path) -> tuple[int, int, int]:
    wanted = "(N, 125, 125, 8) float32 with the channels last"
    if jet.ndim == 4 and jet.shape[1] < min(jet.shape[2:]):
        raise DataError(f"{path}: `jet` is {jet.shape}, channels first; expected is {wanted}: "
                        "write it as numpy.moveaxis(jet, 1, -1)")
    if jet.ndim != 4 or jet.shape[1:] not in DENSE_SHAPES:
        raise DataError(f"{path}: `jet` has the shape {jet.shape}; expected is {wanted}: crop "
                        "or reorder the images")
    if jet.dtype != np.float32:
        raise DataError(f"{path}: `jet` is {jet.dtype}; expected is {wanted}: write it with "
                        "astype('float32')")
    _, height, width, channels = jet.shape
    return channels, height, width


def _packed_shape(jet: h5py.Group, attributes: dict, path: Path) -> tuple[tuple, int]:
    schema = attributes.get("schema")
    again = "pack it again from its source"
    if not isinstance(schema, (int, np.integer)):
        raise DataError(f"{path}: has no attribute `schema`, so it is no packed file; {again}")
    if not 1 <= schema <= SCHEMA:
        raise DataError(f"{path}: has schema version {schema}, this code knows {SCHEMA}; update "
                        f"the code or {again}")
    shape = np.atleast_1d(attributes.get("shape", ()))
    if (shape.shape != (3,) or shape.dtype.kind not in "iu" or (shape < 1).any()
            or math.prod(shape.tolist()) >= 2**31):  # indices are int32
        raise DataError(f"{path}: its attribute `shape` is {shape.tolist()}, not (C, H, W); "
                        f"{again}")
    for name in ("indptr", "indices", "data"):
        stored = jet.get(name)
        if not isinstance(stored, h5py.Dataset) or stored.ndim != 1:
            raise DataError(f"{path}: lacks jet/{name}, one row of numbers; {again}")
    if jet["indices"].dtype.kind not in "iu" or jet["indptr"].dtype.kind not in "iu":
        raise DataError(f"{path}: jet/indptr and jet/indices must be integers; {again}")
    expected = ENCODINGS.get(str(attributes.get("encoding")))
    if expected is not None and jet["data"].dtype != expected:
        raise DataError(f"{path}: jet/data is {jet['data'].dtype}, its encoding asks for "
                        f"{expected}; {again}")
    return tuple(int(size) for size in shape), jet["indptr"].size - 1


def _values(file: h5py.File, name: str, path: Path | str) -> np.ndarray:
    with _reading(path, f"`{name}`"):
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"{path}: `{name}` is a group, not numbers; make the file again")
        return np.asarray(dataset[()])


def _column(file: h5py.File, name: str, jets: int, path: Path | str) -> np.ndarray:
    values = _values(file, name, path)
    if values.shape not in ((jets, 1), (jets,)):
        raise DataError(f"{path}: `{name}` has the shape {values.shape} for {jets} images, "
                        f"expected is ({jets}, 1); make the file again")
    exact = check_column(values.reshape(-1), name, path)
    if not np.array_equal(exact, values.reshape(-1)):
        raise DataError(f"{path}: `{name}` is {values.dtype} and would lose digits as float32; "
                        "write it as float32")
    return exact


def check_column(values: np.ndarray, name: str, path: str | Path) -> np.ndarray:
    """One of Y, m, pT as (n,) float32; DataError where that is not possible."""
    values = np.asarray(values)
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise DataError(f"{path}: `{name}` holds something that is not a finite number; mend or "
                        "leave out these jets")
    if name == "Y" and not np.isin(values, (0, 1)).all():
        raise DataError(f"{path}: the labels `Y` hold {np.unique(values)[:5].tolist()}; they must "
                        "be 0 (QCD, or gluon) or 1 (top, or quark)")
    return values.astype(np.float32)


def read_chunks(file: h5py.File, header: Header) -> Iterator[Chunk]:
    """The images of an open file in chunks of bounded size, each one checked."""
    if header.kind == "dense":
        jet = file["jet"]
        for start in range(0, header.jets, DENSE_JETS):
            stop = min(start + DENSE_JETS, header.jets)
            with _reading(header.path, f"`jet` [{start}:{stop}]"):
                images = jet[start:stop]
            yield with_columns(sparse(images, header, start), header.columns, header.truth,
                               start, stop)
        return
    group = file["jet"]
    with _reading(header.path, "jet/indptr"):
        indptr = group["indptr"][()].astype(np.int64).reshape(-1)
    check_indptr(indptr, group["indices"].size, group["data"].size, header.path)
    for start, stop in row_blocks(indptr):
        low, high = indptr[start], indptr[stop]
        with _reading(header.path, f"jet [{start}:{stop}]"):
            indices, data = group["indices"][low:high], group["data"][low:high]
        chunk = canonical(indptr[start:stop + 1] - low, indices, data, header.shape,
                          header.encoding, header.path)
        yield with_columns(chunk, header.columns, header.truth, start, stop)


def with_columns(chunk: Chunk, columns: dict, truth: dict, start: int, stop: int) -> Chunk:
    """The chunk with rows start...stop of the columns of the whole file."""
    return replace(chunk, columns={k: v[start:stop] for k, v in columns.items()},
                   truth={k: v[start:stop] for k, v in truth.items()})


def row_blocks(indptr: np.ndarray, hits: int = PACKED_HITS) -> Iterator[tuple[int, int]]:
    """Cut the rows into [start, stop) with at most ``hits`` hits each, at least one row."""
    start, rows = 0, len(indptr) - 1
    while start < rows:
        stop = int(np.searchsorted(indptr, indptr[start] + hits, side="right")) - 1
        stop = min(max(stop, start + 1), rows)
        yield start, stop
        start = stop


# ---------------------------------------------------------------- checking


def check_indptr(indptr: np.ndarray, indices: int, values: int, path: str | Path) -> None:
    """Row pointers must start at 0, never fall, and end at the number of hits."""
    again = "pack the file again from its source"
    if indptr.ndim != 1 or not indptr.size or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise DataError(f"{path}: jet/indptr does not start at 0 and grow; {again}")
    if not indptr[-1] == indices == values:
        raise DataError(f"{path}: jet/indptr ends at {indptr[-1]}, but there are {indices} "
                        f"indices and {values} values; {again}")


def sparse(images: np.ndarray, header: Header, start: int = 0) -> Chunk:
    """Dense images (n, H, W, C) float32 to CSR in (C, H, W) order, with their values checked."""
    channels, height, width = header.shape
    size = channels * height * width
    flat = np.flatnonzero(images)  # NaN counts as non-zero, so nothing escapes the check
    values = images.reshape(-1)[flat]
    image, inside = np.divmod(flat, size)
    pixel, channel = np.divmod(inside, channels)
    _check_values(values, channel, header, start + image)
    if header.encoding == "cms8":
        if values.size and (values.max() > 255 or (values != np.floor(values)).any()):
            if header.declared:
                raise DataError(f"{header.path}: declares cms8 but holds values that are not "
                                "integers of 0...255; correct its attribute `encoding`")
            raise _NotEightBit
        values = values.astype(np.uint8)
    order = np.argsort(flat + (channel * height * width + pixel) - inside)
    indices = (channel * (height * width) + pixel)[order].astype(np.int32)
    counts = np.bincount(image, minlength=len(images))
    return Chunk(np.concatenate([[0], np.cumsum(counts)]), indices, values[order])


def _check_values(values: np.ndarray, channel: np.ndarray, header: Header,
                  image: np.ndarray) -> None:
    """Finite everywhere, and negative only where an impact parameter has a sign."""
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(f"{header.path}: image {image[bad][0]} holds NaN or infinite pixels; "
                        "mend or leave out that image")
    signed = ()
    if header.encoding == "gev" and header.declared:
        signed = SIGNED.get(header.shape[0], range(header.shape[0]))
    bad = (values < 0) & ~np.isin(channel, tuple(signed))
    if bad.any():
        raise DataError(f"{header.path}: image {image[bad][0]} holds negative pixels in channel "
                        f"{channel[bad][0]}; only signed dz and d0 may be negative, in a file "
                        "with the attribute encoding = 'gev'")


def canonical(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray,
              shape: tuple[int, int, int], encoding: str, path: str | Path) -> Chunk:
    """CSR rows checked, sorted by pixel and without stored zeros: one form per content."""
    again = "pack the file again from its source"
    size = int(np.prod(shape))
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise DataError(f"{path}: jet/indices leave the image of {size} pixels; {again}")
    counts = np.diff(indptr)
    key = np.repeat(np.arange(len(counts)) * size, counts) + indices
    if (key[1:] <= key[:-1]).any():
        order = np.argsort(key, kind="stable")
        key, indices, data = key[order], indices[order], data[order]
        if (key[1:] == key[:-1]).any():
            raise DataError(f"{path}: a pixel is listed twice in one image; {again}")
    if not data.all():
        keep = data != 0
        image = key[keep] // size
        counts = np.bincount(image, minlength=len(counts))
        indptr = np.concatenate([[0], np.cumsum(counts)])
        key, indices, data = key[keep], indices[keep], data[keep]
    if encoding == "gev":
        header = Header(Path(path), "packed", len(counts), shape, encoding, True, {}, {}, {})
        _check_values(data, indices // (shape[1] * shape[2]), header, key // size)
    return Chunk(np.asarray(indptr, np.int64), indices.astype(np.int32, copy=False), data)
