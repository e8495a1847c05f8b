"""Processes that work side by side, and go when the block or the process that began them ends."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import torch


@contextlib.contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, all gone at the end, whatever happens."""
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        max(1, count), multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield executor
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # a training leaves a checkpoint
        executor.shutdown(cancel_futures=True)  # waits for them


def _begin() -> None:
    torch.set_num_threads(1)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
