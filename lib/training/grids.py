"""Many runs: every arm with every seed, through the cache, one after another or side by side."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from lib.data.images import JetImages
from lib.training import backbone as start
from lib.training.objectives import build as build_objective
from lib.training.runs import Log, Run, complete, identity, key_of, opened, record_of, train
from lib.training.split import make_batches


def grid(
    name: str, arms: Mapping[str, Mapping], seeds: Sequence[int], jets: Path | JetImages,
    test: Path | JetImages | None = None, *, runs: Path | str, jobs: int = 1, log: Log = print,
    build: Callable = build_objective, batches: Callable = make_batches,
) -> dict[str, list[Run]]:
    """Every arm with every seed, through the cache: what is finished is skipped, what was
    interrupted resumes.

    Args:
        arms: settings of each arm, without the seed.
        jobs: processes at a time, of one thread each; needs files for ``jets`` and ``test``, and
            ``build`` and ``batches`` that can be imported.

    Returns:
        the runs of each arm, in the order of the seeds.
    """
    wanted = [(arm, seed, {**settings, "seed": seed})
              for seed in seeds for arm, settings in arms.items()]
    done: dict[str, list[Run]] = {arm: [] for arm in arms}
    files, (jets, test) = (jets, test), (opened(jets), opened(test))
    if jobs > 1:  # a process for each run that is still to be made
        todo = [w for w in wanted if not _finished(w[2], jets, Path(runs))]
        _in_processes(name, todo, *files, Path(runs), jobs, log, build, batches)
    for number, (arm, seed, settings) in enumerate(wanted, 1):
        log(f"[{number}/{len(wanted)}] {name}: {arm}, seed {seed}")
        done[arm].append(train(f"{name}-{arm}-{seed}", settings, jets, test, runs=runs, log=log,
                               build=build, batches=batches))
    return done


def _finished(settings: Mapping, jets: JetImages, runs: Path) -> bool:
    """Whether the cache has the run, stale or not."""
    if "start" in settings:  # the key knows a backbone by its content
        weights = start.find(settings["start"], runs, settings.get("seed", 0))
        settings = {**settings, "start": start.content(weights)}
    key = key_of(complete(settings, jets), identity(jets))
    return any((record_of(folder) or {}).get("finished") for folder in runs.glob(f"*-{key}"))


def _in_processes(name: str, wanted: list, jets: Path, test: Path | None, runs: Path, jobs: int,
                  log: Log, build: Callable, batches: Callable) -> None:
    """Train in processes of one thread; a signal reaches them all, and each leaves a checkpoint."""
    if not isinstance(jets, (str, Path)) or isinstance(test, JetImages):
        raise ValueError("jobs: give the files of the jets, for each process opens them itself")
    if "__main__" in (build.__module__, batches.__module__):
        raise ValueError("jobs: build and batches must come from a module, not from a notebook")
    runs.mkdir(parents=True, exist_ok=True)
    waiting, running, failed = list(wanted), [], []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                arm, seed, settings = waiting.pop(0)
                title = f"{name}-{arm}-{seed}"
                job = {"name": title, "settings": settings, "jets": str(jets), "runs": str(runs),
                       "test": str(test) if test else None,
                       "build": f"{build.__module__}:{build.__qualname__}",
                       "batches": f"{batches.__module__}:{batches.__qualname__}"}
                output = open(runs / f".{title}.log", "w+")
                running.append((title, output, time.time(), subprocess.Popen(
                    [sys.executable, "-m", "lib.training.grids", json.dumps(job)],
                    env=environment, stdout=output, stderr=subprocess.STDOUT)))
            for entry in [e for e in running if e[3].poll() is not None]:
                title, output, began, process = entry
                running.remove(entry)
                output.seek(0)
                lines = output.read().strip().splitlines() or [""]
                output.close()
                Path(output.name).unlink()
                log(f"{title}: {time.time() - began:.0f} s, {lines[-1]}")
                failed += [title] if process.returncode else []
            time.sleep(0.2)
    except BaseException:
        for *_, process in running:
            process.send_signal(signal.SIGTERM)
        for *_, process in running:
            process.wait()
        raise
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(wanted)} runs failed: {', '.join(failed)}")


def _imported(path: str) -> Callable:
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    _job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    train(_job["name"], _job["settings"], _job["jets"], _job["test"], runs=_job["runs"],
          build=_imported(_job["build"]), batches=_imported(_job["batches"]))
