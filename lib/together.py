"""One training step that several processes make, each on its share of the batch. Fabric averages
their gradients, which is right for a mean over jets; what else a step needs of the whole batch
(negatives, statistics, numbers of patches) it asks for here. Outside of ``step`` each is alone."""

import contextlib
from collections.abc import Iterator

import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

_size = 1


@contextlib.contextmanager
def step(processes: int) -> Iterator[None]:
    """In the block ``processes`` work together."""
    global _size
    _size, before = processes, _size
    try:
        yield
    finally:
        _size = before


def size() -> int:
    """How many processes make this step."""
    return _size


def summed(x: Tensor) -> Tensor:
    """The sum of x over the processes; all have to ask for it, in the same order. What a process
    has goes into the losses of all: its gradient is the sum of theirs."""
    return all_reduce(x) if _size > 1 else x


def gathered(x: Tensor) -> tuple[Tensor, int]:
    """x (B, D) of every process, one after the other: (processes · B, D); and where one's own
    begins."""
    if _size == 1:
        return x, 0
    places, rank = x.new_zeros(_size, *x.shape), dist.get_rank()
    places[rank] = x
    return summed(places).flatten(0, 1), rank * len(x)


def mean(x: Tensor) -> Tensor:
    """What averages over the processes to the mean of all their x, however many each has."""
    return x.sum() * _size / summed(x.new_tensor(x.numel())).clamp(min=1)


def centre(x: Tensor) -> Tensor:
    """The mean row (D,) of x (N, D), the rows of all processes taken together; 0 of none."""
    return summed(x.sum(0)) / summed(x.new_tensor(float(len(x)))).clamp(min=1)
