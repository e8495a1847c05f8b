"""The cache of runs: loaded when the code would still make it, trained again when not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from lib.data.images import JetImages
from lib.evaluation import metrics
from lib.models.vit import JetViT
from lib.training import fit as fit_module
from lib.training import objectives, runs
from lib.training import split as parts
from lib.training.grids import grid
from lib.training.runs import Run, train

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
    for part in ("from the cache", first.record["created"], "threads", first.record["commit"]):
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


def test_simulated_data_are_known_by_how_they_were_made(tmp_path):
    made = {"generator": "simulated", "version": 1, "jets": 80}
    whole = make_jets(80, **made)
    assert runs.identity(whole) == runs.identity(make_jets(80, **made))
    assert runs.identity(whole) != runs.identity(make_jets(80, **{**made, "version": 2}))
    part = whole.subset(torch.arange(40))
    assert runs.identity(part)["content"] == part.fingerprint()

    train("a", SETTINGS, whole, runs=tmp_path, log=lambda line: None)
    lines = []
    train("a", SETTINGS, make_jets(80, seed=9, **made), runs=tmp_path, log=lines.append)
    assert "saw other jets" in lines[0]  # the same recipe gave something else


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
    assert not train("a", SETTINGS, jets, runs=tmp_path, fresh=True, log=lambda line: None).cached
    assert train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None).cached
    monkeypatch.setenv("JETS_FRESH", str(time.time()))
    assert not train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None).cached
    assert train("a", SETTINGS, jets, runs=tmp_path, log=lambda line: None).cached


@pytest.mark.parametrize("damage", ["run.json", "predictions"])
def test_damaged_files(tmp_path, jets, test_jets, damage):
    run = train("a", SETTINGS, jets, test_jets, runs=tmp_path, log=lambda line: None)
    path = run.folder / "run.json" if damage == "run.json" else next(
        run.folder.glob("predictions*"))
    path.write_bytes(path.read_bytes()[:20])
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
        if len(calls) == 2:
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


def test_killed_process_leaves_a_run_that_resumes(tmp_path, jets):
    """SIGTERM to a real process in mid-training: it saves and goes; the next call finishes."""
    jets.save(tmp_path / "jets.h5")
    long = {**SETTINGS, "fit": {**SETTINGS["fit"], "updates": 100_000, "every": 2}}
    job = {"name": "a", "settings": long, "jets": str(tmp_path / "jets.h5"), "test": None,
           "runs": str(tmp_path), "build": "lib.training.objectives:build",
           "batches": "lib.training.split:make_batches"}
    process = subprocess.Popen([sys.executable, "-m", "lib.training.grids", json.dumps(job)],
                               stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
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


def test_label_subsets(jets):
    settings = {**SETTINGS, "labels": 20}
    train_index, validation = parts.indices(settings, jets)
    assert len(train_index) + len(validation) == 20
    assert not set(train_index.tolist()) & set(validation.tolist())
    part = set(jets.split(42).train.tolist())
    assert set(train_index.tolist()) | set(validation.tolist()) <= part
    assert set(jets.labels[train_index].tolist()) == set(jets.labels[validation].tolist()) == {0, 1}
    other = parts.indices({**settings, "seed": 2}, jets)[0]
    assert set(other.tolist()) != set(train_index.tolist())
    with pytest.raises(ValueError, match="choose 4 to 56"):
        parts.indices({**SETTINGS, "labels": 1000}, jets)


def test_settings_that_make_no_sense(tmp_path, jets):
    for changes, message in [({"fit": {"epochs": 3}}, "unknown fit setting epochs"),
                             ({"model": {"layers": 3}}, "unknown setting layers"),
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
        grid("zoo", {"small": SETTINGS, "bad": {**SETTINGS, "objective": "guess"}}, [1], *files,
             runs=tmp_path / "two", jobs=2, log=lines.append)
    assert any("objective='guess'" in line for line in lines)
    beside = train("zoo", SETTINGS, *files, runs=tmp_path / "two", log=lambda line: None)
    assert beside.cached
    np.testing.assert_allclose(beside.predictions.score, found["small"][0].predictions.score,
                               atol=1e-5)
    with pytest.raises(ValueError, match="give the files"):
        grid("zoo", arms, [1], jets, runs=tmp_path, jobs=2)


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
