"""The cache of runs: loaded when the code would still make it, trained again when not."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from lib import workers
from lib.data.images import JetImages
from lib.evaluation import metrics
from lib.models.vit import JetViT
from lib.profiles import ROOT
from lib.training import fit as fit_module
from lib.training import objectives, runs
from lib.training import split as parts
from lib.training.recipe import Recipe
from lib.training.runs import Run, grid, train

SETTINGS = {
    "seed": 1,
    "model": {"dim": 16, "depth": 1, "heads": 2},
    "fit": {"updates": 6, "batch_size": 16, "lr": 1e-3, "every": 3, "accelerator": "cpu"},
}


def make_jets(number: int = 80, seed: int = 0, labelled: bool = True, **attributes) -> JetImages:
    """Images on the full grid; the hits of class 1 lie a little wider, and the mass says so."""
    random = np.random.default_rng(seed)
    labels = np.arange(number) % 2
    dense = np.zeros((number, 8, 125, 125), np.float32)
    for image, label in enumerate(labels):
        row, column = (62 + (4 + 6 * label) * random.normal(size=(2, 60))).astype(int).clip(0, 124)
        dense[image, random.integers(0, 8, 60), row, column] = random.integers(1, 255, 60)
    mass = (100 + 60 * labels + 5 * random.normal(size=number)).astype(np.float32)
    columns = {"labels": labels, "mass": mass}
    return JetImages.from_dense(dense, attributes=attributes, **(columns if labelled else {}))


@pytest.fixture(scope="module")
def jets() -> JetImages:
    return make_jets()


@pytest.fixture(scope="module")
def test_jets() -> JetImages:
    return make_jets(40, seed=1)


def test_trained_once_then_loaded(tmp_path, jets, test_jets):
    first = train("scratch", SETTINGS, jets, test_jets, runs=tmp_path, log=lambda line: None)
    lines = []
    again = train("scratch", SETTINGS, jets, test_jets, runs=tmp_path, log=lines.append)
    assert not first.cached
    assert again.cached
    assert len(lines) == 1
    for part in ("from the cache", *(first.record[k] for k in ("created", "machine", "commit"))):
        assert part in lines[0]
    np.testing.assert_array_equal(first.predictions.score, again.predictions.score)
    assert again.history == first.history
    assert len(again.predictions) == 40
    assert again.parameters == sum(p.numel() for p in again.model().parameters())
    record = json.loads((again.folder / "run.json").read_text())
    assert record["settings"]["fit"]["updates"] == 6
    assert os.uname().nodename not in (again.folder / "run.json").read_text()


def test_what_was_predicted_is_what_the_saved_model_says(tmp_path, jets, test_jets):
    run = train("scratch", SETTINGS, jets, test_jets, runs=tmp_path, log=lambda line: None)
    model = JetViT.from_pretrained(run.folder)
    with torch.no_grad():
        logits, mass = model(test_jets.batch(range(40)).tokens)
    np.testing.assert_allclose(logits.softmax(-1)[:, 1], run.predictions.score, atol=1e-5)
    np.testing.assert_allclose(mass, run.predictions.m_hat, rtol=1e-4)
    np.testing.assert_allclose(test_jets.mass, run.predictions.m)
    assert run.predictions.y.tolist() == test_jets.labels.tolist()
    assert metrics.evaluate(run.predictions)["auc"] > 0.3


def test_published_weights_predict_as_their_run_and_stay_as_they_are(tmp_path, jets, test_jets):
    run = train("a", SETTINGS, jets, test_jets, runs=tmp_path, log=lambda line: None)
    for path in run.folder.iterdir():
        if path.name not in ("run.json", "history.json", "model.safetensors", "config.json"):
            path.unlink()
    before = sorted(run.folder.iterdir())
    again = Run.open(run.folder).predict(test_jets)
    np.testing.assert_array_equal(again.score, run.predictions.score)
    np.testing.assert_array_equal(again.m_hat, run.predictions.m_hat)
    assert sorted(run.folder.iterdir()) == before


def test_without_a_test_file_the_test_part_is_predicted(tmp_path, jets):
    run = train("scratch", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    assert run.predictions.index.tolist() == jets.split(42).test.tolist()


def test_other_settings_data_or_seed_are_other_runs_and_a_name_is_not(tmp_path, jets):
    def folder(name="a", data=jets, **changes):
        return train(name, {**SETTINGS, **changes}, data, runs=tmp_path,
                     log=lambda line: None).folder

    first = folder()
    others = {folder(seed=2), folder(data=make_jets(80, seed=3)), folder(labels=20),
              folder(loss={"mass_weight": 0.5})}
    assert len(others | {first}) == 5
    assert folder(name="b") == first


def test_data_are_known_by_their_content(tmp_path):
    """However they say that they were made: a permuted subset does not pass as the original."""
    made = {"generator": "simulated", "version": 1, "jets": 80}
    whole = make_jets(80, **made)
    quiet = {"runs": tmp_path, "log": lambda line: None}
    first = train("a", SETTINGS, whole, **quiet)
    assert train("a", SETTINGS, make_jets(80, **{**made, "version": 2}), **quiet).cached
    turned = whole.subset(torch.arange(80).flip(0))
    turned.attributes = dict(whole.attributes)
    for other in (turned, make_jets(80, seed=9, **made)):
        run = train("a", SETTINGS, other, **quiet)
        assert not run.cached
        assert run.folder != first.folder


def test_a_run_of_another_key_is_left_alone(tmp_path, jets):
    first = train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    record = json.loads((first.folder / "run.json").read_text())
    del record["key"]  # of a time before there were any
    (first.folder / "run.json").write_text(json.dumps(record))
    other = first.folder.rename(tmp_path / "a-0123456789")
    assert runs.Order(SETTINGS, jets, tmp_path).folder() is None
    assert not train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None).cached
    assert other.is_dir()


def test_labels_that_were_asked_for_and_jets_that_trained(tmp_path, jets):
    some = train("a", {**SETTINGS, "labels": 20}, jets, runs=tmp_path, log=lambda line: None)
    assert (some.labels, some.record["train_jets"]) == (20, 16)
    every = train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    assert (every.labels, every.record["train_jets"]) == (64, 56)


def test_changed_code_makes_a_run_stale(tmp_path, jets, monkeypatch):
    first = train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    loss = objectives.Supervised.loss

    def changed(self, batch, output=None):
        total, parts = loss(self, batch, output)
        return 1.01 * total, parts

    monkeypatch.setattr(objectives.Supervised, "loss", changed)
    lines = []
    again = train("a", SETTINGS, jets, runs=tmp_path, log=lines.append)
    assert "stale" in lines[0]
    assert "the code has changed" in lines[0]
    assert not again.cached
    assert again.folder == first.folder
    assert (tmp_path / "stale" / first.folder.name / "run.json").exists()
    assert train("a", SETTINGS, jets, runs=tmp_path, log=lines.append).cached


@pytest.mark.parametrize("what", ["schedule", "average", "clipping", "selection", "decay"])
def test_the_fingerprint_sees_the_whole_loop(tmp_path, jets, monkeypatch, what):
    recipe = Recipe.of(SETTINGS, fit={"ema": 0.9, "clip": 0.05, "weight_decay": 1.0})
    train("a", recipe, jets, runs=tmp_path, log=lambda line: None)
    change = {
        "schedule": (fit_module, "learning_rate", lambda progress, settings: 1 - progress),
        "average": (fit_module, "_averaging", lambda state: None),
        "clipping": (fit_module.Fabric, "clip_gradients", lambda *a, **k: torch.zeros(())),
        "selection": (fit_module, "goodness", lambda row, select: row["update"]),
        "decay": (fit_module, "parameter_groups", lambda objective, settings: [
            {"params": list(objective.parameters()), "base_lr": settings.lr,
             "weight_decay": 0.0}]),
    }[what]
    monkeypatch.setattr(*change)
    lines = []
    assert not train("a", recipe, jets, runs=tmp_path, log=lines.append).cached
    assert "the code has changed" in lines[0]


def test_a_cache_hit_plans_no_epoch_of_all_jets(tmp_path, jets, monkeypatch):
    train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    planned = []
    plan = runs.Batches.plan
    monkeypatch.setattr(runs.Batches, "plan", lambda self: planned.append(
        len(self.index)) or plan(self))
    grid("", {"a": SETTINGS}, [1], jets, runs=tmp_path, log=lambda line: None)
    assert 0 < max(planned) <= runs.SAMPLE


def test_changed_default_makes_a_run_stale(tmp_path, jets):
    run = train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    record = json.loads((run.folder / "run.json").read_text())
    record["fit"]["weight_decay"] = 0.123  # as if that had been the default then
    (run.folder / "run.json").write_text(json.dumps(record))
    lines = []
    assert not train("a", SETTINGS, jets, runs=tmp_path, log=lines.append).cached
    assert "another weight_decay" in lines[0]


def test_fresh_ignores_the_cache(tmp_path, jets, monkeypatch):
    train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    monkeypatch.setenv("JETS_FRESH", str(time.time()))
    assert not train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None).cached
    assert train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None).cached


@pytest.mark.parametrize(("damage", "left"), [("run.json", 20), ("predictions", 20),
                                              ("predictions", 0)])
def test_damaged_files(tmp_path, jets, test_jets, damage, left):
    run = train("a", SETTINGS, jets, test_jets, runs=tmp_path, log=lambda line: None)
    path = run.folder / "run.json" if damage == "run.json" else next(
        run.folder.glob("predictions*"))
    path.write_bytes(path.read_bytes()[:left])
    again = train("a", SETTINGS, jets, test_jets, runs=tmp_path, log=lambda line: None)
    np.testing.assert_array_equal(again.predictions.score, run.predictions.score)


def test_interrupted_run_resumes_and_ends_the_same(tmp_path, jets, test_jets, monkeypatch):
    whole = train("a", SETTINGS, jets, test_jets, runs=tmp_path / "whole", log=lambda line: None)

    class Cut(Exception):
        pass

    validate = fit_module.validate
    calls = []

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 3 + 2:  # three are of the fingerprint
            raise Cut
        return validate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "validate", cut)
        with pytest.raises(Cut):
            train("a", SETTINGS, jets, test_jets, runs=tmp_path / "cut", log=lambda line: None)
    with pytest.raises(ValueError, match="not a finished run"):
        Run.open(next((tmp_path / "cut").glob("a-*")))
    lines = []
    again = train("a", SETTINGS, jets, test_jets, runs=tmp_path / "cut", log=lines.append)
    assert any("resuming at update 3/6" in line for line in lines)
    np.testing.assert_array_equal(again.predictions.score, whole.predictions.score)
    np.testing.assert_array_equal(again.predictions.m_hat, whole.predictions.m_hat)


def script(folder, text: str, **options) -> subprocess.Popen:
    path = folder / "script.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\n"
                    "from test_runs import *\n" + text)
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT, cwd=ROOT, **options,
                            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


def test_killed_process_leaves_a_run_that_resumes(tmp_path):
    """SIGTERM to a real process in mid-training: it saves and goes; the next call finishes."""
    process = script(tmp_path, f"""
long = Recipe.of(SETTINGS, fit=dict(updates=100_000, every=2))
train("a", long, make_jets(), runs={str(tmp_path)!r}, log=lambda line: print(line, flush=True))
""")
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert "resumes from" in rest
    folder = next(tmp_path.glob("a-*"))
    assert (folder / "last.safetensors").exists()
    assert not json.loads((folder / "run.json").read_text())["finished"]


def test_two_processes_train_one_run_and_each_reads_its_share(tmp_path):
    """Through the cache: no lock is held while the second process is launched."""
    process = script(tmp_path, f"""
import itertools, types
from lib.training.runs import Order
read, of = [], JetImages.batch
def batch(self, index, *rest):
    read.extend(index.tolist() if len(index) == 4 else [])
    return of(self, index, *rest)
JetImages.batch = batch
two = Recipe.of(SETTINGS, fit=dict(devices=2, updates=4, every=4, batch_size=8))
jets = make_jets()
Order.fingerprint = lambda order: [0.0]
run = train("a", two, jets, make_jets(40, seed=1), runs={str(tmp_path)!r}, log=lambda line: None)
again = train("a", two, jets, make_jets(40, seed=1), runs={str(tmp_path)!r}, log=lambda line: None)
trained = [i for i in read if i in set(jets.split(42).train.tolist())]
# clocks that differ: a limit in minutes ends both at the same update
ticks = itertools.count(step=1 + int(os.environ.get("LOCAL_RANK", 0)))
fit_module.time = types.SimpleNamespace(perf_counter=lambda: next(ticks))
timed = train("timed", two.but(fit=dict(updates=1000, every=1000, minutes=0.2)), jets,
              make_jets(40, seed=1), runs={str(tmp_path)!r}, log=lambda line: None)
assert timed.history.stopped == "minutes"
said = ["rank", os.environ.get("LOCAL_RANK"), run.history.updates, again.cached,
        again.record["key"], sorted(trained[:16])]
os.write(1, (" ".join(map(str, said)) + "\\n").encode())  # at once: two processes write here
""")
    said = process.communicate(timeout=120)[0]
    lines = sorted(line for line in said.splitlines() if line.startswith("rank"))
    assert process.returncode == 0, said
    assert len(lines) == 2, said
    key = json.loads(next(tmp_path.glob("a-*/run.json")).read_text())["key"]
    shares = []
    for rank, line in enumerate(lines):
        assert line.startswith(f"rank {rank} 4 True {key} ")
        shares.append(set(json.loads(line.split(key)[1])))
    assert all(len(share) == 16 for share in shares)
    assert not shares[0] & shares[1]


TOY = """
import torch
from torch import nn
from lib.training.objectives import OBJECTIVES

@OBJECTIVES.register("toy")
class Energy(nn.Module):
    def __init__(self, model, power: float = 1.0):
        super().__init__()
        self.model, self.power = model, power

    @staticmethod
    def views(augment, damage):
        return damage, damage

    def loss(self, batch, output=None):
        guess = self.model(batch.tokens)[0][:, 0]
        gap = (guess - batch.tokens.features.sum((1, 2)).log()).abs().pow(self.power).mean()
        return gap, {"gap": gap.detach()}
"""


def test_a_toy_objective_joins_with_one_file(tmp_path, jets, monkeypatch):
    (tmp_path / "toy_objective.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    lines = []
    for name in ("toy_objective:Energy", "toy"):
        recipe = {**SETTINGS, "objective": name, "loss": {"power": 2.0}, "damage": "noise"}
        run = train("toy", recipe, jets, runs=tmp_path / "runs", log=lines.append)
        assert not run.cached
        assert train("toy", recipe, jets, runs=tmp_path / "runs", log=lines.append).cached
        assert run.history[-1]["val_gap"] > 0
        assert run.objective().power == 2.0
    assert any("(gap " in line for line in lines)
    with pytest.raises(ValueError, match=r"unknown loss setting pwer \(did you mean power"):
        Recipe.of({"objective": "toy", "loss": {"pwer": 1}})
    with pytest.raises(ValueError, match="cannot be imported"):
        Recipe.of({"objective": "toy_objective:Missing"})


def turned_batches(recipe, jets):
    batches, validation = parts.make_batches(recipe, jets)
    batches.seed += 1
    return batches, validation


def test_what_makes_the_batches_is_part_of_the_key(tmp_path, jets):
    plain = train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    named = {**SETTINGS, "batches": f"{__name__}:turned_batches"}
    assert train("a", named, jets, runs=tmp_path, log=lambda line: None).folder != plain.folder
    with pytest.raises(ValueError, match="batches="):
        train("a", {**SETTINGS, "batches": "nothing"}, jets, runs=tmp_path)


def same_batches(recipe, jets):
    return parts.make_batches(recipe, jets)


def test_a_run_of_another_recipe_is_another_though_it_begins_the_same(tmp_path, jets):
    plain = train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    named = {**SETTINGS, "batches": f"{__name__}:same_batches"}
    other = train("a", named, jets, runs=tmp_path, log=lambda line: None)
    assert not other.cached
    assert plain.folder.is_dir()
    assert train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None).folder == plain.folder


def test_two_names_for_a_run_train_it_once(tmp_path, jets):
    """The second waits for the first: the lock is the run's, not the name's."""
    begun, go, found = threading.Event(), threading.Event(), {}

    def second():
        found["b"] = train("b", SETTINGS, jets, runs=tmp_path, log=waits)

    def waits(line):
        if "waiting" in line:
            go.set()

    def first(line):
        if line.startswith("epoch") and not begun.is_set():
            begun.set()
            other.start()
            assert go.wait(60)

    other = threading.Thread(target=second)
    found["a"] = train("a", SETTINGS, jets, runs=tmp_path, log=first)
    other.join(60)
    assert not found["a"].cached
    assert found["b"].cached
    assert found["b"].folder == found["a"].folder


def test_label_subsets(jets):
    settings = Recipe.of(SETTINGS, labels=20)
    train_index, validation = parts.indices(settings, jets)
    assert len(train_index) + len(validation) == 20
    assert not set(train_index.tolist()) & set(validation.tolist())
    part = set(jets.split(42).train.tolist())
    assert set(train_index.tolist()) | set(validation.tolist()) <= part
    assert set(jets.labels[train_index].tolist()) == set(jets.labels[validation].tolist()) == {0, 1}
    other = parts.indices(settings.but(seed=2), jets)[0]
    assert set(other.tolist()) != set(train_index.tolist())
    with pytest.raises(ValueError, match="choose 4 to 56"):
        parts.indices(settings.but(labels=1000), jets)


def test_settings_that_make_no_sense(tmp_path, jets):
    for changes, message in [({"fit": {"epochs": 3}}, "unknown fit setting epochs"),
                             ({"model": {"layers": 3}}, "unknown model setting layers"),
                             ({"objective": "guess"}, "objective='guess'"),
                             ({"architecture": "mlp"}, "architecture='mlp'"),
                             ({"seed": object()}, "plain JSON")]:
        changed = {**SETTINGS, **changes}
        if changes.get("fit"):
            changed["fit"] = {**SETTINGS["fit"], **changes["fit"]}
        with pytest.raises(ValueError, match=message):
            train("a", changed, jets, runs=tmp_path, log=lambda line: None)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_resnet_and_jets_without_mass(tmp_path, jets):
    resnet = {**SETTINGS, "architecture": "resnet15", "model": {"width": 4, "stride": 4}}
    assert train("r", resnet, jets, runs=tmp_path, log=lambda line: None).predictions is not None
    bare = jets.subset(torch.arange(80))
    bare.mass = None
    with pytest.warns(UserWarning, match="have no mass"):
        run = train("b", SETTINGS, bare, runs=tmp_path, log=lambda line: None)
    assert run.predictions.m is None
    assert "auc" in metrics.summary(run.predictions)


def test_grid_skips_what_is_finished_and_runs_side_by_side(tmp_path, jets, test_jets):
    jets.save(tmp_path / "jets.h5")
    test_jets.save(tmp_path / "test.h5")
    arms = {"small": SETTINGS, "no-mass": {**SETTINGS, "loss": {"mass_weight": 0.0}}}
    files = tmp_path / "jets.h5", tmp_path / "test.h5"
    found = grid("zoo", arms, [1], *files, runs=tmp_path / "one", log=lambda line: None)
    assert not found["small"][0].cached
    lines = []
    again = grid("zoo", arms, [1], *files, runs=tmp_path / "one", log=lines.append)
    assert again["no-mass"][0].cached
    assert "[2/2] zoo: no-mass, seed 1" in lines

    # a run that fails does not stop the others, and what they made is kept
    with pytest.raises(RuntimeError, match="1 of 2 runs failed: zoo-bad-1"):
        grid("zoo", {"small": SETTINGS, "bad": {**SETTINGS, "labels": 1000}}, [1], *files,
             runs=tmp_path / "two", jobs=2, log=lines.append)
    assert any("labels=1000" in line for line in lines)
    beside = train("zoo", SETTINGS, *files, runs=tmp_path / "two", log=lambda line: None)
    assert beside.cached
    np.testing.assert_allclose(beside.predictions.score, found["small"][0].predictions.score,
                               atol=1e-5)
    with pytest.raises(ValueError, match="give the files"):
        grid("zoo", arms, [1], jets, runs=tmp_path, jobs=2)


def test_a_grid_takes_any_executor(tmp_path, jets, monkeypatch):
    jets.save(tmp_path / "jets.h5")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(workers, "processes", lambda count: contextlib.nullcontext(pool))
        found = grid("g", {"a": SETTINGS}, [1, 2], tmp_path / "jets.h5", runs=tmp_path, log=len,
                     jobs=2)
    assert [run.cached for run in found["a"]] == [True, True]
    assert [run.seed for run in found["a"]] == [1, 2]


def test_a_killed_worker_is_an_error_that_says_so(tmp_path, jets):
    """Another goes on from its checkpoint; but not for ever."""
    jets.save(tmp_path / "jets.h5")
    ended, lines = threading.Event(), []

    def kill(often: bool):
        until(lambda: next(tmp_path.glob("g-*/last.safetensors"), None))
        while not ended.wait(0.1):
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)
            if not often:
                return

    for often, updates in ((False, 200), (True, 100_000)):
        killer = threading.Thread(target=kill, args=(often,))
        killer.start()
        with pytest.raises(RuntimeError, match="its worker was stopped or killed") if often else (
                contextlib.nullcontext()):
            grid("g", {"a": Recipe.of(SETTINGS, fit={"updates": updates, "every": 2})}, [1],
                 tmp_path / "jets.h5", runs=tmp_path, jobs=2, log=lines.append)
        assert sum("(memory?); others go on" in line for line in lines) == (3 if often else 1)
        ended.set() if often else None
        killer.join()
    assert not multiprocessing.active_children()


def test_no_worker_of_a_grid_goes_on_without_its_parent(tmp_path):
    process = script(tmp_path, f"""
if __name__ == "__main__":
    make_jets().save({str(tmp_path / "jets.h5")!r})
    long = Recipe.of(SETTINGS, fit=dict(updates=100_000, every=2))
    grid("g", {{"a": long}}, [1], {str(tmp_path / "jets.h5")!r}, runs={str(tmp_path)!r}, jobs=2)
""")
    checkpoint = until(lambda: next(tmp_path.glob("g-*/last.safetensors"), None))
    children = [int(pid) for pid in pathlib.Path(
        f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    training = [pid for pid in children if "spawn_main" in pathlib.Path(
        f"/proc/{pid}/cmdline").read_text()]
    assert training
    process.terminate()
    process.communicate(timeout=60)
    until(lambda: not any(alive(pid) for pid in training))
    assert checkpoint.exists()


def until(found, seconds: float = 60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        threading.Event().wait(0.05)
    raise AssertionError("waited in vain")


def alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("name", "content"), [
    ("run.json", b"[1]"), ("run.json", b"{}"), ("history.json", b""), ("history.json", b"[1]"),
    ("best.safetensors", b"cut"), ("best.safetensors", None),
])
def test_a_damaged_run_is_an_error_to_open_and_trained_again(tmp_path, jets, name, content):
    run = train("scratch", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    path = run.folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=run.folder.name):
        Run.open(run.folder).model()
    lines = []
    assert not train("scratch", SETTINGS, jets, runs=tmp_path, log=lines.append).cached
    assert "damaged" in lines[0]


def test_images_of_another_kind_are_refused(tmp_path, jets):
    run = train("scratch", SETTINGS, jets, runs=tmp_path, log=lambda line: None)
    other = JetImages.from_dense(np.ones((3, 3, 125, 125), np.float32))
    with pytest.raises(ValueError, match=r"trained on images of \(8, 125, 125\)"):
        run.predict(other)
