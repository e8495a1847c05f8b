"""Jet images in memory: ``JetImages``, the sparse store every model reads from.

Of 125,000 pixels 98.8 % are zero. ``JetImages`` keeps the others as compressed sparse rows on any
device: 60,000 jets take half a gigabyte instead of thirty. N images, n selected images, C channels,
H rows (eta), W columns (phi)."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from lib.data import store
from lib.data.store import Chunk, Header
from lib.data.tokens import Batch, Grid, Hits, tokenize
from lib.files import DataError, tensor_hash

Index = Tensor | Sequence[int] | slice
BLOCK = 1024  # images handled at once where there may be very many
CSR = ("indptr", "indices", "data")


class Split(NamedTuple):
    """Three disjoint sets of image numbers, each a long tensor."""

    train: Tensor
    validation: Tensor
    test: Tensor


class Images:
    """N images to learn from: what jets and calorimeter maps have in common. A subclass has a
    length, ``shape`` (C, H, W), ``grid``, ``encoding``, ``device``, what is below where it is
    known, ``hits(index)``, and ``columns()``: all its content, tensors by name."""

    kind = "image"  # what one of them is called in messages
    labels: Tensor | None = None  # (N,) int64
    mass: Tensor | None = None  # (N,) float32, GeV
    pt: Tensor | None = None  # (N,) float32, GeV

    def numbers(self, index: Index) -> Tensor:
        """Image numbers (n,) int64 of an index, a slice or a mask; IndexError beyond the last."""
        if isinstance(index, slice):
            return torch.arange(len(self), device=self.device)[index]
        index = torch.as_tensor(index, device=self.device)
        if index.dtype == torch.bool:
            if len(index) != len(self):
                raise IndexError(f"a mask of {len(index)} for {len(self)} {self.kind}s")
            index = index.nonzero().squeeze(1)
        index = index.long().reshape(-1)
        if index.numel() and not (0 <= index.min() and index.max() < len(self)):
            raise IndexError(f"{self.kind} numbers must be 0...{len(self) - 1}, got "
                             f"{int(index.min())}...{int(index.max())}")
        return index

    def batch(self, index: Index, keep: str = "active",
              augment: Callable[[Hits], Hits | tuple[Hits, Hits]] | None = None) -> Batch:
        """What a model is fed: hits as tokens (keep: see ``tokenize``), with their columns.
        augment: changes the hits, or gives two views of them; the second becomes
        ``Batch.other``."""
        index = self.numbers(index)
        hits = augment(self.hits(index)) if augment else self.hits(index)
        tokens, *other = (tokenize(view, self.grid, keep)
                          for view in (hits if isinstance(hits, tuple) else (hits,)))
        return Batch(tokens, *(None if column is None else column[index]
                               for column in (self.labels, self.mass, self.pt)), index, *other)

    def divide(self, size: float, seed: int, index: np.ndarray | None = None) -> list[np.ndarray]:
        """The image numbers ``index`` (all) cut in two at random: the rest, and ``size`` of them, a
        fraction or a number. Events stay whole, so that they count for the size. Classes stay in
        proportion; it warns where there are too few."""
        from sklearn.model_selection import train_test_split  # slow to import, needed only here

        index = np.arange(len(self)) if index is None else index
        first = self.first_of_events(index)
        others = np.setdiff1d(index, first)
        size = size if size < 1 else max(1, round(size * len(first) / len(index)))
        cut = partial(train_test_split, first, test_size=size, random_state=seed)
        try:
            parts = cut(stratify=None if self.labels is None else to_numpy(self.labels)[first])
        except ValueError:
            warnings.warn(f"too few {self.kind}s of a class among {len(index)} to keep the "
                          "classes in proportion: split at random", stacklevel=3)
            parts = cut()
        return [np.append(part, others[np.isin(self.event[others], self.event[part])])
                for part in parts]

    @property
    def event(self) -> np.ndarray:
        """The number (N,) of each image's event; an event of its own where none is known."""
        truth = getattr(self, "truth", {})
        return to_numpy(truth["event"]) if "event" in truth else np.arange(len(self))

    def first_of_events(self, index: np.ndarray) -> np.ndarray:
        """The first of each event among the image numbers ``index``."""
        return index[np.sort(np.unique(self.event[index], return_index=True)[1])]

    def split(self, seed: int = 42) -> Split:
        """70 % for training, 10 % for validation, 20 % for the test, or the share of the attribute
        ``test_share``, taken from the training; see ``divide``.

        On the 10,000 published jets with seed 42 the test part is that of the published results:
        ``train_test_split(arange(N), test_size=0.2, stratify=Y, random_state=42)``. DataError below
        3 images, or 3 events."""
        if (count := len(self.first_of_events(np.arange(len(self))))) < 3:
            raise DataError(f"{count} {self.kind}s cannot be split in three; give more events")
        rest, test = self.divide(getattr(self, "attributes", {}).get("test_share", 0.2), seed)
        train, validation = self.divide(max(1, round(0.1 * len(self))), seed, rest)
        return Split(*map(torch.from_numpy, (train, validation, test)))

    def fingerprint(self) -> str:
        """A hash of the images and their columns, anew at each call, for columns may be changed."""
        known = [(name, part) for name, part in self.columns().items() if part is not None]
        return tensor_hash(f"{self.shape} {self.encoding}", known)


@dataclass(eq=False, repr=False)
class JetImages(Images):
    """N sparse images of shape (C, H, W) with labels, masses and momenta where known.

    indptr (N+1,) int64, indices (hits,) int32 (flat pixel in (C, H, W) order, rising within an
    image), data (hits,) uint8 for ``cms8`` or float32 for ``gev``. labels (N,) int64, 1 is top (or
    quark); mass and pt (N,) float32 in GeV. truth: what only a simulation knows, (N, ...) by name.
    attributes: provenance. Make one with ``open``, ``from_arrays`` or ``from_dense``."""

    indptr: Tensor
    indices: Tensor
    data: Tensor
    shape: tuple[int, int, int]
    encoding: str
    labels: Tensor | None = None
    mass: Tensor | None = None
    pt: Tensor | None = None
    truth: dict[str, Tensor] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    kind = "jet"

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a packed or a dense file; warns of empty images, which a writer that stopped leaves.
        Raises: DataError for anything unusable."""
        with store.opening(path) as (header, chunks):
            jets = cls._assemble(header, chunks)
        if empty := int((jets.indptr.diff() == 0).sum()):
            warnings.warn(f"{path}: {empty:,} of {len(jets):,} images are empty; look for what "
                          "wrote the file", stacklevel=2)
        return jets

    @classmethod
    def from_arrays(cls, indptr: Any, indices: Any, data: Any, shape: tuple[int, int, int],
                    encoding: str, labels: Any = None, mass: Any = None, pt: Any = None,
                    truth: dict[str, Any] | None = None,
                    attributes: dict[str, Any] | None = None) -> Self:
        """CSR arrays (NumPy or tensors; shapes as in the class), rows sorted, stored zeros dropped.
        Raises: DataError where they do not fit together."""
        indptr, where = to_numpy(indptr).astype(np.int64), "the arrays"
        columns = {name: to_numpy(column).reshape(-1) for name, column in
                   zip(store.COLUMNS, (labels, mass, pt)) if column is not None}
        columns |= {f"truth/{name}": to_numpy(column) for name, column in (truth or {}).items()}
        rows = len(indptr) - 1
        header = Header(where, "packed", rows, tuple(shape), encoding, True, {
            name: store.check_column(column, name, rows, where)
            for name, column in columns.items()}, attributes or {})
        return cls._assemble(header, store.rows_of(indptr, *map(to_numpy, (indices, data)), header))

    @classmethod
    def from_dense(cls, images: Any, encoding: str = "cms8", **columns: Any) -> Self:
        """Dense images (N, C, H, W), with the columns of ``from_arrays``."""
        chunk = store.sparse(to_numpy(images))
        return cls.from_arrays(chunk.indptr, chunk.indices, chunk.data, images.shape[1:], encoding,
                               **columns)

    @classmethod
    def _assemble(cls, header: Header, chunks: Iterator[Chunk]) -> Self:
        counts, indices, data = zip(*((np.diff(part.indptr), part.indices, part.data)
                                      for part in chunks))
        columns = {"indptr": np.concatenate([[0], *counts]).cumsum(dtype=np.int64),
                   "indices": np.concatenate(indices), "data": np.concatenate(data),
                   **{name: values.astype(np.int64 if name == "Y" else values.dtype)
                      for name, values in header.columns.items()}}
        return cls._of(header, {name: torch.from_numpy(v) for name, v in columns.items()})

    @classmethod
    def _of(cls, like: "Header | JetImages", columns: dict[str, Tensor]) -> Self:
        truth = {k.removeprefix("truth/"): v for k, v in columns.items() if k.startswith("truth/")}
        return cls(*map(columns.get, CSR), like.shape, like.encoding,
                   *map(columns.get, store.COLUMNS), truth, like.attributes)

    def columns(self) -> dict[str, Tensor]:
        """Hits, labels, masses, momenta and truth, by their names in a file."""
        named = dict(zip((*CSR, *store.COLUMNS), (self.indptr, self.indices, self.data, self.labels,
                                                  self.mass, self.pt), strict=True))
        named |= {f"truth/{name}": self.truth[name] for name in sorted(self.truth)}
        return {name: column for name, column in named.items() if column is not None}

    def save(self, path: str | Path) -> Path:
        """Write a packed file, whole or not at all; returns its path."""
        columns = {name: to_numpy(column) for name, column in self.columns().items()}
        csr = [columns.pop(name) for name in CSR]
        header = Header(path, "packed", len(self), self.shape, self.encoding, True, columns)
        return store.write_packed(path, store.rows_of(*csr, header), self.shape, self.encoding,
                                  self.attributes)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __repr__(self) -> str:
        known = [name for name in ("labels", "mass", "pt") if getattr(self, name) is not None]
        return (f"JetImages({len(self):,} images of {self.shape}, {self.encoding}, "
                f"{self.data.numel():,} hits; {', '.join(known) or 'unlabelled'})")

    @property
    def grid(self) -> Grid:
        """Patches of 5x5 pixels, or of the attribute ``patch``."""
        return Grid(*self.shape, *self.attributes.get("patch", (5, 5)))

    @property
    def device(self) -> torch.device:
        return self.indptr.device

    def hits(self, index: Index) -> Hits:
        """The non-zero pixels of some images, sorted by image, which ``Hits.image`` counts 0...n-1
        in the order of ``index``: numbers (n,), a slice or a mask (N,). Raises: IndexError."""
        index = self.numbers(index)
        image, where = self._gather(index)
        flat, (_, height, width) = self.indices[where].long(), self.shape
        line = flat // width
        return Hits(image, line // height, line % height, flat % width, self.data[where].float(),
                    len(index))

    def dense(self, index: Index) -> Tensor:
        """Some images (see ``hits``) as a dense tensor (n, C, H, W) float32."""
        return self.hits(index).dense(self.shape)

    def _gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """For each hit of the images: number within ``index``, position in ``indices``."""
        start = self.indptr[index]
        counts = self.indptr[index + 1] - start
        image = torch.repeat_interleave(counts)
        shift = start - (counts.cumsum(0) - counts)  # from the place in the result to that in self
        return image, torch.arange(len(image), device=self.device) + shift[image]

    def subset(self, index: Index) -> Self:
        """The images ``index`` (see ``hits``), in that order, as a store of their own."""
        index = self.numbers(index)
        counts = self.indptr[index + 1] - self.indptr[index]
        # In blocks: the positions of all hits at once would take gigabytes.
        parts = [(self.indices[where], self.data[where]) for _, where in
                 map(self._gather, index.split(BLOCK))]
        columns = {k: v if k in CSR else v[index] for k, v in self.columns().items()}
        columns["indptr"] = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        columns["indices"], columns["data"] = map(torch.cat, zip(*parts, strict=True))
        return self._of(self, columns)

    def to(self, device: str | torch.device) -> Self:
        """The same images with every tensor on ``device``."""
        return self._of(self, {name: v.to(device) for name, v in self.columns().items()})


def to_numpy(values: Any) -> np.ndarray:
    """Contiguous NumPy array of a tensor (on any device) or of anything array-like."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.ascontiguousarray(values)
