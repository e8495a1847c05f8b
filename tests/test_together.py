"""Several processes train as one: the same loss and gradients, one lock, end and checkpoint."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_runs import alive, until

from lib.profiles import ROOT
from lib.training.fit import launched
from lib.training.optim import FitSettings

VIT = {"dim": 16, "depth": 1, "heads": 2}
ARMS = {
    "supervised": {"model": VIT, "loss": {"mass_loss": "gaussian"}},
    "no mass": {"model": VIT, "loss": {"mass_weight": 0.0}},
    "batch norm": {"model": VIT | {"lcm_norm": "batch", "tokens": "all"}},
    "resnet": {"architecture": "resnet15", "model": {"width": 4}},
    "experts": {"model": VIT | {"experts": 3}, "objective": "hcal.experts:Routed"},
    "simclr": {"model": VIT, "objective": "simclr", "augment": "flips"},
    "mae": {"model": VIT, "objective": "mae"},
    "mae, mse": {"model": VIT, "objective": "mae", "loss": {"reconstruct": "mse", "mask": "all"}},
    "denoising": {"model": VIT, "objective": "denoising"},
    "jepa": {"model": VIT, "objective": "jepa"},
    "jepa, own": {"model": VIT, "objective": "jepa", "loss": {"target": "own", "pixels": 0.3}},
}
# Chance is taken out of the objectives, for every process draws its own; gradients are kept.
SCRIPT = """
import json, os, sys
sys.path.insert(0, {tests!r})
import torch
from test_runs import make_jets
from test_together import ARMS
from lib.data.views import TwoViews
from lib.training import fit, jepa, masked, runs, split

def fewer(hits):
    return hits.select(hits.column % 5 != 0)

def hide(self, tokens, of=masked.MAE.hide):
    pool, _ = of(self, tokens)
    return pool, pool & (torch.arange(pool.shape[1]) % 3 > 0)

def hide_too(self, tokens):
    pool = masked.in_play(tokens, self.model.config)
    return pool, pool & (torch.arange(pool.shape[1]) % 3 > 0)

def step(self, *rest, of=torch.optim.AdamW.step):
    kept.append([p.grad.clone() for group in self.param_groups for p in group["params"]
                 if p.grad is not None])
    return of(self, *rest)

split.views = lambda *rest: fewer
TwoViews.__call__ = lambda self, hits: (hits, fewer(hits))
masked.MAE.hide, jepa.JEPA.hide, torch.optim.AdamW.step = hide, hide_too, step
how = dict(updates=2, every=1, lr=1e-4, batch_size=16, accelerator="cpu", devices=int(sys.argv[1]),
           select="loss")
for name, arm in ARMS.items():
    kept, folder = [], sys.argv[2] + "/" + name
    run = runs.train("a", dict(arm, fit=how), make_jets(), runs=folder, log=lambda line: None)
    torch.save([kept[-2], list(run.history)], folder + "/" + os.environ.get("LOCAL_RANK", "0"))
"""


def start(folder, text: str, *arguments: str, by: tuple[str, ...] = (), **changes: str):
    path = folder / "script.py"
    path.write_text(text)
    return subprocess.Popen(
        [*(by or (sys.executable,)), str(path), *arguments], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **changes})


def finished(process) -> str:
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folders of what one and two processes made."""
    folders = [tmp_path_factory.mktemp(n) for n in ("one", "two")]
    for number, folder in enumerate(folders, 1):
        finished(start(folder, SCRIPT.format(tests=str(ROOT / "tests")), str(number), str(folder)))
    return folders


@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_have_the_loss_and_the_gradients_of_one(both, arm):
    one, two, other = (torch.load(path, weights_only=True) for path in (
        both[0] / arm / "0", both[1] / arm / "0", both[1] / arm / "1"))
    for key in ("loss", "val_loss"):
        assert [row[key] for row in two[1]] == pytest.approx([row[key] for row in one[1]], rel=2e-5)
    assert [row["jets"] for row in two[1]] == [row["jets"] for row in one[1]]
    assert sum(bool(g.abs().max() > 0) for g in one[0]) > len(one[0]) / 2
    alone, mine, theirs = (torch.cat([g.flatten() for g in run[0]]) for run in (one, two, other))
    # rounding decides which empty pixels pass a ReLU behind a batch norm: with the jets of a batch
    # in another order, one process differs from itself by as much
    assert (mine - alone).norm() < (0.05 if arm == "resnet" else 1e-4) * alone.norm()
    assert torch.equal(mine, theirs)
    keys = [next((folder / arm).glob("a-*")).name for folder in both]
    assert keys[0] == keys[1], "it is the same run"


RESUMED = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_fit import *
from lib.training.fit import launched

folder, two, kept = Path(sys.argv[1]), settings(devices=2), []
first, lines = launched(two).is_global_zero, []

class Stopping(Supervised):
    made = 0

    def after_update(self, progress):
        self.made += 1
        if self.made == 13 and first:  # one of them is told, all stop
            os.kill(os.getpid(), signal.SIGTERM)

whole = toy()
fit(whole, ToyBatches(200), ToyBatches(64), two, folder / "whole", quiet)
torch.manual_seed(0)
with pytest.raises(SystemExit):
    fit(Stopping(Toy()), ToyBatches(200), ToyBatches(64), two, folder / "cut", quiet)
if first:
    shutil.copytree(folder / "cut", folder / "copy")
again = toy()
torch.manual_seed(99)
fit(again, ToyBatches(200), ToyBatches(64), two, folder / "cut", lines.append)
assert_equal(weights(whole), weights(again))
if first:
    assert "resuming at update 13/40" in lines[0]
    rows = checkpoint.read(folder / "copy/last.safetensors")[0]["random.cpu"]
    assert len(rows) == 2 and not torch.equal(*rows)
    alone = fit(toy(), ToyBatches(200), ToyBatches(64), settings(), folder / "copy", lines.append)
    assert alone.updates == 40 and any("resuming at update 13/40" in line for line in lines[1:])
else:
    assert not lines
"""


def test_one_signal_stops_all_and_they_go_on_as_if_nothing_had_been(tmp_path):
    """Bit for bit; and one process may take up what two began."""
    finished(start(tmp_path, RESUMED.format(tests=str(ROOT / "tests")), str(tmp_path)))


LONG = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from test_runs import SETTINGS, Recipe, make_jets, train
how = dict(updates=int(sys.argv[2]), every=2, devices=int(sys.argv[3]))
run = train("a", Recipe.of(SETTINGS, fit=how), make_jets(), runs=sys.argv[1],
            log=lambda line: print(line, flush=True))
# in one piece: without a buffer print writes its parts one by one, among those of the other process
sys.stdout.write(f"ended {{run.history.updates}}\\n")
sys.stdout.flush()
"""
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.parametrize("at_once", [True, False])
def test_none_stays_where_the_first_is_killed(tmp_path, at_once):
    """Before the processes have met, when the others would wait for half a day, or in training."""
    process = start(tmp_path, LONG, str(tmp_path), "1000000", "2")

    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def second() -> int | None:  # not a child that only looks at the machine, and is gone again
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                if b"\0LOCAL_RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes():
                    return int(pid)
        return None

    other = until(second)
    for line in () if at_once else process.stdout:
        if line.startswith("epoch"):
            break
    assert alive(other)
    process.kill()
    process.communicate(timeout=60)
    until(lambda: not alive(other))


def test_torchrun_trains_one_run(tmp_path):
    said = finished(start(tmp_path, LONG, str(tmp_path), "4", "1", by=TORCHRUN))
    assert said.count("processes: 2") == 1
    assert said.count("ended 4") == 2
    assert len(list(tmp_path.glob("a-*"))) == 1


@pytest.mark.parametrize(("variables", "devices", "said"), [
    (dict(TORCHELASTIC_RUN_ID="1", WORLD_SIZE="4", LOCAL_WORLD_SIZE="2"), 4, "torchrun has start"),
    (dict(SLURM_STEP_NUM_TASKS="4", SLURM_STEP_NUM_NODES="2"), 4, "srun has started 4 processes"),
    (dict(SLURM_STEP_NUM_TASKS="3", SLURM_STEP_NUM_NODES="2"), 1, "srun has started 3"),
    (dict(TORCHELASTIC_RUN_ID="1", WORLD_SIZE="4", LOCAL_WORLD_SIZE="2", SLURM_STEP_NUM_TASKS="2",
          SLURM_STEP_NUM_NODES="1"), 1, "one task per node")])
def test_numbers_of_processes_that_disagree_are_refused(monkeypatch, variables, devices, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said):
        launched(FitSettings(devices=devices))
    assert launched(FitSettings(devices=0)).world_size == 1, "a fingerprint is taken alone"
