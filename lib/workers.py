"""Processes that work side by side, and go when the block or the process that began them ends; or,
where ``JETS_SCHEDULER`` has the address of a dask scheduler, the workers of its cluster."""

import contextlib
import functools
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from pathlib import Path

import filelock

TRIES = 3  # of work whose worker was killed


def one_at_a_time(path: Path, busy: str, say: Callable[[str], None] = print
                  ) -> contextlib.AbstractContextManager:
    """A lock that one process holds; another says that it is ``busy``, and waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"{busy}; waiting")
        return lock.acquire()


def scheduler() -> str | None:
    """The address of the cluster that takes the work; None: it is done here."""
    return os.environ.get("JETS_SCHEDULER") or None


def processes(count: int) -> contextlib.AbstractContextManager[Executor]:
    """An executor: ``count`` processes of one thread each, all gone at the end, whatever happens;
    or the cluster. A worker that was killed is a BrokenExecutor (dask tries again by itself)."""
    address = scheduler()
    return _cluster(address) if address else _here(count)


@contextlib.contextmanager
def _here(count: int) -> Iterator[Executor]:
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends us quietly
    import torch  # slow, and not everybody here needs it

    torch.set_num_threads(1)
    end_with(multiprocessing.parent_process().pid)


@functools.cache
def end_with(parent: int) -> None:
    """This process ends when its parent has, also where it hangs, waiting for the others."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.kill(os.getpid(), number)
            time.sleep(60)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    try:
        dask = importlib.import_module("distributed")  # for those only who have a cluster
    except ModuleNotFoundError as error:
        raise ValueError(f"--scheduler {address} needs dask; run: python -m pip install "
                         "distributed") from error
    with dask.Client(address, timeout=15, set_as_default=False) as client:
        try:
            yield client.get_executor(pure=False)
        except (dask.scheduler.KilledWorker, dask.CancelledError) as error:
            raise BrokenExecutor(str(error)) from error
