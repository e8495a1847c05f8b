"""The public quark and gluon jets: parquet files, a row group a jet, into one packed file.

Columns: ``X_jets`` nested lists (3, 125, 125), channels first: track pT, ECAL and HCAL in GeV, with
noise below zero, the energy of an HCAL tower shared by its 25 pixels; ``pt`` and ``m0`` in GeV;
``y``. What ``y`` means is told both ways: in the code of the makers 1 is quark
(github.com/mbandrews/MLAnalyzer), in notes of users 0. So it is measured: gluons give more tracks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.cms import PIXEL, SIZE
from lib.data.store import Chunk, Header, check_column, checked, sparse, write_packed
from lib.files import guarded, require

SHAPE = (3, SIZE, SIZE)
COLUMNS = {"y": "Y", "m0": "m", "pt": "pT"}  # there, and in a packed file
BATCH = 32  # jets in memory at once: 12 MB of float64
NEAR = 0.4  # of the axis: tracks there are the jet's
SURE = 5.0  # standard errors between the multiplicities of the classes
LIGHTEST = 1e-3  # GeV: the mass of a lone particle comes out as 0, or below by rounding
AGAIN, PUBLIC = "fetch it again", "give the public quark and gluon files"
NESTED = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list


def pack(sources: Sequence[str | Path], target: str | Path) -> Path:
    """Write the jets of parquet files to a packed file in ``gev``, Y = 1 is quark, or nothing;
    returns ``target``. Memory does not grow with the files. A line for each of them says which
    value of its ``y`` is the gluon, and by how much. A tenth of the jets is for the test.

    Raises: DataError that names the file for one that is cut off or foreign, other shapes, what is
    not a finite number, one class only, classes whose multiplicities cannot be told apart."""
    said = {"source": "public quark and gluon jets", "files": [Path(path).name for path in sources],
            "labels": "1, quark, is the class with fewer tracks", "test_share": 0.1}
    chunks = (chunk for path in sources for chunk in _read(Path(path)))
    return write_packed(target, chunks, SHAPE, "gev", said)


def _read(path: Path) -> Iterator[Chunk]:
    """The jets of a file. Its labels are put right at its end, when all multiplicities are known,
    in the arrays that the writer keeps until then."""
    with guarded(path, AGAIN, "no parquet file"):
        # With these settings a file of one large row group streams as well.
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        names = file.schema_arrow.names
    missing = sorted({"X_jets", *COLUMNS} - set(names))
    require(not missing, path,
            f"has no column {', '.join(missing)} (it has {', '.join(names)}); {PUBLIC}")
    header = Header(path, "parquet", file.metadata.num_rows, SHAPE, "gev")
    require(header.jets > 0, path, f"holds no jets; {AGAIN}")
    near = np.hypot(*np.indices((SIZE, SIZE)) - SIZE // 2) * PIXEL < NEAR
    labels, tracks, first = [], [], 0
    batches = file.iter_batches(BATCH, columns=["X_jets", *COLUMNS], use_threads=False)
    while first < header.jets:
        with guarded(path, AGAIN, f"cut off after {first} jets"):
            batch = next(batches)
        columns = {ours: check_column(_column(batch, name), ours, len(batch), path)
                   for name, ours in COLUMNS.items()}
        images = _images(batch["X_jets"], path)
        part = sparse(images)
        yield checked(Chunk(part.indptr, part.indices, part.data, columns), header, first)
        labels.append(columns["Y"])
        tracks.append((images[:, 0, near] != 0).sum(1))
        first += len(batch)
    if _ones_are_gluons(np.concatenate(labels), np.concatenate(tracks), path):
        for label in labels:
            label[:] = 1 - label


def _column(batch: pa.RecordBatch, name: str) -> np.ndarray:
    values = batch[name].to_numpy(zero_copy_only=False).copy()
    if name == "m0" and values.dtype.kind == "f":
        values[(values > -1) & (values < LIGHTEST)] = LIGHTEST
    return values


def _images(column: pa.Array, path: Path) -> np.ndarray:
    """Nested lists as an array (n, 3, 125, 125) float32; nan where there is no number."""
    jets = len(column)
    for size in SHAPE:
        good = any(kind(column.type) for kind in NESTED) and not column.null_count
        good = good and pc.all(pc.equal(pc.list_value_length(column), size)).as_py()
        require(good, path, f"`X_jets` is not nested lists of 3 × 125 × 125 numbers; {PUBLIC}")
        column = column.flatten()
    good = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    require(good, path, f"`X_jets` holds {column.type}, not numbers; {PUBLIC}")
    values = column.to_numpy(zero_copy_only=False)
    return values.astype(np.float32).reshape(jets, *SHAPE)


def _ones_are_gluons(label: np.ndarray, tracks: np.ndarray, path: Path) -> bool:
    """Whether the jets of label 1 have more tracks; prints what it found."""
    classes = [tracks[label == value] for value in (0, 1)]
    require(all(map(len, classes)), path, "all jets are of one class; give a file with both")
    zero, one = (tracks.mean() for tracks in classes)
    error = np.sqrt(sum(tracks.var() / len(tracks) for tracks in classes))
    said = (f"near the axis y = 0 has {zero:.1f} track pixels, y = 1 {one:.1f} (± {error:.1f}): "
            "which is the gluon cannot be told; give a file of more jets")
    require(abs(one - zero) > SURE * error, path, said)
    gluon = int(one > zero)
    print(f"{path.name}: {said.partition(': ')[0]}: y = {gluon} is the gluon, written as Y = 0"
          + (" (labels turned)" if gluon else ""), flush=True)
    return bool(gluon)
