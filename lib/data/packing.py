"""Packed and dense files written, and one made from the other.

A file appears under its name only when it is complete, and everything streams: packing the
30 GB of the unlabelled public file takes no more memory than packing 30 jets. Formats and
reading: ``lib.data.store``.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lib.data.store import (
    COLUMNS,
    DENSE_JETS,
    DENSE_SHAPES,
    ENCODINGS,
    SCHEMA,
    Chunk,
    Header,
    canonical,
    check_column,
    row_blocks,
    scan,
)
from lib.files import DataError, replacing

HDF5_CHUNK = 1 << 17  # hits in one compressed chunk: 512 kB of indices


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
        "mean_pixel": (total / pixels).tolist(), "columns": sorted(header.columns),
        "truth": sorted(header.truth), "attributes": header.attributes,
    }
    if "Y" in header.columns:
        facts["top"] = int(header.columns["Y"].sum())
    for name, key in (("m", "mass_gev"), ("pT", "pt_gev")):
        if name in header.columns:
            values = header.columns[name].astype(float)
            facts[key] = [float(values.min()), float(values.mean()), float(values.max())]
    return facts


class _Disk(io.FileIO):
    """A file for HDF5 to write to, which keeps a failure to itself until ``check``.

    The HDF5 library crashes the whole process when it cannot write out what it holds as it
    closes a file. So the first failure is remembered, and everything after it is dropped.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while self.error is None and written < len(view):
            try:
                written += super().write(view[written:])
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self.tell() if self.error else super().truncate(size)
        except OSError as error:
            self.error = error
            return self.tell()

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def _creating(path: Path, room: int = 0) -> Iterator[tuple[h5py.File, _Disk]]:
    """A new HDF5 file that appears under its name when complete; see ``replacing``."""
    with replacing(path, room) as temporary, _Disk(temporary, "w+") as disk:
        with h5py.File(disk, "w") as file:
            yield file, disk
        disk.check()


def write_packed(path: str | Path, chunks: Iterable[Chunk], shape: tuple[int, int, int],
                 encoding: str, attributes: dict[str, Any] | None = None) -> Path:
    """Write chunks of images, as they come, to a packed file; returns its path.

    The bytes of the file depend on the images only, not on how they are cut into chunks.
    shape (C, H, W); encoding "cms8" or "gev"; attributes: provenance, anything JSON can hold.
    Raises: DataError for inconsistent chunks and for a full disk, leaving nothing.
    """
    path, dtype = Path(path), ENCODINGS[encoding]
    counts, columns, truth = [], {}, {}
    options = dict(maxshape=(None,), chunks=(HDF5_CHUNK,), compression="gzip", compression_opts=6)
    with _creating(path) as (file, disk):
        _describe(file, encoding, attributes, schema=SCHEMA, shape=np.array(shape, np.int64))
        # Shuffled bytes halve the rising indices, but would hide that a tower repeats its value.
        stored = [file.create_dataset(f"jet/{name}", (0,), kind, shuffle=shuffle, **options)
                  for name, kind, shuffle in (("indices", np.int32, True), ("data", dtype, False))]
        waiting = [np.empty(0, np.int32), np.empty(0, dtype)]
        for number, chunk in enumerate(chunks):
            rows = len(chunk.indptr) - 1
            checked = canonical(chunk.indptr, chunk.indices, chunk.data, shape, encoding, path)
            counts.append(np.diff(checked.indptr))
            _collect(columns, chunk.columns, rows, number, path)
            _collect(truth, chunk.truth, rows, number, path)
            waiting = [np.concatenate(pair) for pair in
                       zip(waiting, (checked.indices, checked.data), strict=True)]
            while waiting[0].size >= HDF5_CHUNK:
                for dataset, values in zip(stored, waiting, strict=True):
                    _append(dataset, values[:HDF5_CHUNK])
                disk.check()
                waiting = [values[HDF5_CHUNK:] for values in waiting]
        for dataset, values in zip(stored, waiting, strict=True):
            _append(dataset, values)
        total = np.concatenate([[0], *counts]).astype(np.int64)
        file.create_dataset("jet/indptr", data=np.cumsum(total), compression="gzip", shuffle=True)
        _write_columns(file, {k: np.concatenate(v) for k, v in columns.items()},
                       {k: np.concatenate(v) for k, v in truth.items()}, path)
    return path


def _append(dataset: h5py.Dataset, values: np.ndarray) -> None:
    start = dataset.shape[0]
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def _collect(parts: dict[str, list], new: dict, rows: int, number: int, path: Path) -> None:
    """Append the columns of a chunk; every chunk must bring the same ones, of its length."""
    if number and set(parts) != set(new):
        raise DataError(f"{path}: the chunks have different columns: {sorted(parts)} and then "
                        f"{sorted(new)}; give every chunk the same")
    for name, values in new.items():
        if len(values) != rows:
            raise DataError(f"{path}: {name} has {len(values)} values for {rows} images")
        parts.setdefault(name, []).append(np.asarray(values))


def _describe(file: h5py.File, encoding: str, attributes: dict | None, **more: Any) -> None:
    file.attrs["encoding"] = encoding
    file.attrs["provenance"] = json.dumps(attributes or {}, sort_keys=True)
    for name, value in more.items():
        file.attrs[name] = value


def _write_columns(file: h5py.File, columns: dict, truth: dict, path: Path) -> None:
    for name in (name for name in COLUMNS if columns.get(name) is not None):
        file.create_dataset(name, data=check_column(columns[name], name, path)[:, None])
    for name, values in sorted(truth.items()):
        file.create_dataset(f"truth/{name}", data=values, compression="gzip", shuffle=True)


def write_dense(path: str | Path, header: Header, chunks: Iterable[Chunk]) -> Path:
    """Write chunks to a dense file in the public layout, uncompressed; returns its path."""
    path, (channels, height, width) = Path(path), header.shape
    if (height, width, channels) not in DENSE_SHAPES:
        raise DataError(f"{header.path}: images of {header.shape} have no dense format; dense "
                        "files are for (8, 125, 125) and (3, 125, 125): keep it packed")
    layout = (header.jets, height, width, channels)
    with _creating(path, room=4 * int(np.prod(layout))) as (file, disk):
        _describe(file, header.encoding, header.attributes)
        _write_columns(file, header.columns, header.truth, path)
        jet, start = file.create_dataset("jet", layout, np.float32), 0
        for chunk in chunks:
            for low, high in row_blocks(np.arange(len(chunk.indptr)), DENSE_JETS):
                jet[start:start + high - low] = densify(chunk, low, high, header.shape)
                start += high - low
                disk.check()
    return path


def densify(chunk: Chunk, start: int, stop: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Images start...stop of a chunk as (n, H, W, C) float32."""
    channels, height, width = shape
    low, high = chunk.indptr[start], chunk.indptr[stop]
    image = np.repeat(np.arange(stop - start), np.diff(chunk.indptr[start:stop + 1]))
    channel, pixel = np.divmod(chunk.indices[low:high], height * width)
    images = np.zeros((stop - start, height * width, channels), np.float32)
    images[image, pixel, channel] = chunk.data[low:high]
    return images.reshape(stop - start, height, width, channels)
