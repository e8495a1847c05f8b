"""Work on a cluster: the same results as here, and a worker that is killed at it costs no more than
its task. A cluster of two processes on this machine, where dask is installed."""

from __future__ import annotations

import os
import signal
from concurrent.futures import BrokenExecutor
from importlib import import_module

import pytest
from test_runs import SETTINGS, make_jets

from collider import simulate as simulation
from lib import workers
from lib.training.runs import grid


@pytest.fixture
def cluster(monkeypatch):
    dask = pytest.importorskip("distributed")
    import_module("dask").config.set({"distributed.scheduler.allowed-failures": 1})
    with dask.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as made:
        monkeypatch.setenv("JETS_SCHEDULER", made.scheduler_address)
        yield made


def pids(cluster) -> list[int]:
    return [worker.pid for worker in cluster.workers.values()]


def killed_once(path: str) -> int:
    """Kills its worker the first time."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return 7
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def killed(path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_of_the_cluster_that_is_killed_costs_only_its_task(cluster, tmp_path):
    before = pids(cluster)
    with workers.processes(2) as pool:
        assert pool.submit(killed_once, str(tmp_path / "once")).result() == 7
    assert pids(cluster) != before
    with pytest.raises(BrokenExecutor), workers.processes(2) as pool:
        pool.submit(killed, "").result()


def test_a_grid_and_a_simulation_are_the_same_on_a_cluster(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    make_jets().save(tmp_path / "jets.h5")
    lines = []
    there = grid("g", {"a": SETTINGS}, [1, 2], tmp_path / "jets.h5", runs=tmp_path / "there",
                 log=lines.append)
    assert all(run.cached for run in there["a"])
    options = dict(pool_events=20, progress=False)
    made = simulation.simulate("top_qcd", 4, tmp_path / "there.h5", **options)
    monkeypatch.delenv("JETS_SCHEDULER")
    here = grid("g", {"a": SETTINGS}, [1, 2], tmp_path / "jets.h5", runs=tmp_path / "here",
                log=lines.append)
    for one, other in zip(there["a"], here["a"], strict=True):
        assert one.record["key"] == other.record["key"]
        assert one.predictions.score == pytest.approx(other.predictions.score, abs=1e-5)
    simulation.simulate("top_qcd", 4, tmp_path / "here.h5", workers=1, **options)
    assert made.read_bytes() == (tmp_path / "here.h5").read_bytes()


def test_without_a_cluster_one_line_says_so(monkeypatch):
    monkeypatch.setattr(workers.importlib, "import_module", lambda name: __import__("no_" + name))
    monkeypatch.setenv("JETS_SCHEDULER", "tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="needs dask"), workers.processes(2):
        pass


def test_ctrl_c_is_left_to_the_parent():
    """Workers do not print that they were interrupted."""
    with workers.processes(1) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
