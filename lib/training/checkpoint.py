"""Checkpoints that are whole or not there, and signals that wait for the end of an update."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lib.files import read_tensors


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM: the loop looks at them between two updates, so that nothing is
    cut in half. A second signal is not collected. Only the main thread may do this."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What ``write_tensors`` wrote: tensors and notes. DataError if the file is missing, damaged or
    something else."""
    return read_tensors(path, "train the run again, in a new folder", "not a checkpoint")


def random(fabric: Fabric) -> dict[str, Tensor]:
    """State of torch's generators, on the CPU and, where one is used, on the GPU; of several
    processes, a row each. All have to ask for it."""
    device = fabric.device
    state = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["random.cuda"] = torch.cuda.get_rng_state(device)
    if fabric.world_size == 1:
        return state
    states = [state] * fabric.world_size
    torch.distributed.all_gather_object(states, state)
    return {name: torch.stack([each[name] for each in states]) for name in state}


def stored(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser as flat tensors, ``optimizer.<parameter>.<quantity>``."""
    return {f"optimizer.{number}.{key}": torch.as_tensor(value)
            for number, quantities in optimizer.state_dict()["state"].items()
            for key, value in quantities.items()}


def restore(tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer, fabric: Fabric) -> None:
    """The inverse of ``stored`` and ``random``; groups, and a generator that was not saved, stay as
    they are. After another number of processes chance begins anew: the batches are the same, but
    dropout and the like are drawn by others."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in part(tensors, "optimizer.").items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    rows = {k: v.view(-1, v.shape[-1]) for k, v in part(tensors, "random.").items()}
    if len(rows["cpu"]) != fabric.world_size:
        return
    torch.set_rng_state(rows["cpu"][fabric.global_rank].clone())
    if fabric.device.type == "cuda" and "cuda" in rows:
        torch.cuda.set_rng_state(rows["cuda"][fabric.global_rank].clone(), fabric.device)


def part(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``start``, without it."""
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
