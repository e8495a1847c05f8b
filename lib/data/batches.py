"""Batches of jets of similar size, the same ones for the same seed and epoch.

Active tokens are padded to the longest jet of a batch, a factor of 1.8 in batches drawn blindly; to
sort all jets by size would give batches of one class. So an epoch draws a permutation, orders each
stretch of ``CHUNK`` batches by size -- each class on its own, the classes interleaved in proportion
-- and shuffles the batches cut from that, which leaves a factor of 1.2."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.data.images import Images
from lib.data.tokens import Batch, Hits, by_patch

CHUNK = 8  # batches that are ordered by size together


class Batches:
    """Batches of the jets ``index`` (all if None); iterating yields ``Batch`` objects.

    keep: as in ``tokenize``. augment: hits -> hits, or two views of them. shuffle=False goes
    through ``index`` in its order and leaves nothing out. shuffle=True draws a new order for each
    epoch, from ``seed`` and the number given to ``set_epoch`` alone, so a resumed run sees what an
    uninterrupted one would; the jets left over after the last full batch wait for another epoch
    (with fewer jets than ``batch_size`` there is one small batch). bucket=False shuffles without
    regard to size. Raises: ValueError for an empty index or a batch size below 1."""

    def __init__(self, jets: Images, index: Any, batch_size: int, keep: str = "active",
                 shuffle: bool = False, seed: int = 0,
                 augment: Callable[[Hits], Hits] | None = None, bucket: bool = True) -> None:
        index = torch.arange(len(jets)) if index is None else torch.as_tensor(index).cpu().long()
        if batch_size < 1 or not len(index):
            raise ValueError(f"batches of {batch_size} from {len(index)} jets: use 1 or more")
        self.jets, self.index, self.batch_size, self.keep = jets, index, batch_size, keep
        self.shuffle, self.seed, self.augment, self.bucket = shuffle, seed, augment, bucket
        self.epoch = 0
        self._sizes: np.ndarray | None = None

    def __len__(self) -> int:
        count, size = len(self.index), self.batch_size
        return max(1, count // size) if self.shuffle else -(-count // size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order (and nothing else) of the next pass through the data."""
        self.epoch = epoch

    def plan(self) -> list[Tensor]:
        """The jets of each batch of this epoch, without reading them: long tensors."""
        if not self.shuffle:
            return list(self.index.split(self.batch_size))
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.index))[:len(self) * self.batch_size]
        if not (self.bucket and self.keep in ("active", "two_scale")):
            return [self.index[part] for part in np.array_split(order, len(self))]
        if self._sizes is None:
            self._sizes = active_patches(self.jets, self.index).numpy()
        labels = np.zeros(len(self.index)) if self.jets.labels is None else (
            self.jets.labels.cpu()[self.index].numpy())
        step = CHUNK * self.batch_size
        order = np.concatenate([chunk[_by_size(self._sizes[chunk], labels[chunk])]
                                for chunk in np.split(order, range(step, len(order), step))])
        batches = np.array_split(order, len(self))
        return [self.index[batches[number]] for number in rng.permutation(len(self))]

    def __iter__(self) -> Iterator[Batch]:
        yield from map(self.read, self.plan())

    def read(self, index: Tensor) -> Batch:
        """The batch of some jets, augmented and cut into tokens."""
        return self.jets.batch(index, self.keep, self.augment)


def _by_size(sizes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """An order by size in which every stretch has the class mix of the whole."""
    quantile = np.empty(len(sizes))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(sizes[members], kind="stable")]
        quantile[ranked] = (np.arange(len(ranked)) + 0.5) / len(ranked)
    return np.argsort(quantile, kind="stable")


def active_patches(jets: Images, index: Any = None) -> Tensor:
    """How many patches of each jet hold a hit: (n,) int64 on the CPU."""
    grid = jets.grid
    index = torch.arange(len(jets)) if index is None else torch.as_tensor(index).cpu()
    counts = []
    for part in index.split(512):
        hits = jets.hits(part)
        patches = (hits.image * grid.patches + by_patch(hits, grid)[0]).unique()
        counts.append((patches // grid.patches).bincount(minlength=len(part)).cpu())
    return torch.cat(counts)
