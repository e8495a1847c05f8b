"""What is damaged is named or made again; what would be silently wrong is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jetfiles import cms

from course import models
from course.commands import main
from lib.data.images import JetImages
from lib.evaluation.metrics import Predictions
from lib.files import DataError, read_tensors, write_tensors
from lib.profiles import ROOT
from lib.training.runs import Run, train

FOLDERS = sorted(path for path in (ROOT / "weights").iterdir() if path.is_dir())
SMALL = {"model": {"dim": 8, "depth": 1, "heads": 2}, "fit": {"updates": 2, "every": 2}}


def jets(count=20, encoding="cms8", **columns):
    images = np.moveaxis(cms(count, density=2e-3), -1, 1)
    return JetImages.from_dense(images, encoding, **columns)


def test_a_few_hundred_damaged_files_over_all_readers():
    """The tally in short; the long one is ``python tests/mutate.py --n 5000``."""
    run = subprocess.run([sys.executable, ROOT / "tests/mutate.py", "--n", "200", "--only", "p"],
                         capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_of_weights_predicts_or_says_why_not(folder, packed, tmp_path):
    def predict(source=folder):
        return Predictions.load(models.predict(source, packed, tmp_path / "out.npz"))

    if folder.name.startswith("hcal"):
        with pytest.raises(ValueError, match=r"give jets of that kind|is a pretraining"):
            predict()  # maps of the calorimeter are not jets
    elif json.loads((folder / "run.json").read_text())["predicts"]:
        assert len(predict()) == 5
    else:
        with pytest.raises(ValueError, match=f"{folder.name} is a pretraining"):
            predict()
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "model.safetensors").write_bytes(b"0" * 99)
    (copy / "run.json").unlink()  # as others publish: a model and its config
    with pytest.raises(DataError, match=r"copy/(model\.safetensors|config\.json): is damaged"):
        predict(copy)
    (copy / "config.json").unlink()
    with pytest.raises(ValueError, match="copy is neither a run nor weights"):
        predict(copy)


def test_weights_and_checkpoints_notice_a_changed_byte(tmp_path):
    import torch

    path = write_tensors(tmp_path / "a.safetensors", {"w": torch.arange(9.0)}, note=[1])
    tensors, notes = read_tensors(path, "again")
    assert (tensors["w"].tolist(), notes) == (list(range(9)), {"note": [1]})
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="content has changed"):
        read_tensors(path, "again")


def test_jets_of_another_encoding_than_the_trained_one_are_refused(tmp_path):
    known = {"labels": np.arange(20) % 2, "mass": 100 + np.arange(20)}
    quiet = dict(runs=tmp_path / "runs", log=lambda line: None)
    run = train("a", SMALL, jets(**known), **quiet)
    other = jets(encoding="gev", **known)
    with pytest.raises(ValueError, match=r"trained on images in cms8 and these are in gev"):
        run.predict(other)
    with pytest.raises(ValueError, match="trained on images in cms8"):
        train("b", {**SMALL, "start": str(run.folder)}, other, **quiet)


def test_damaged_runs_and_their_predictions_are_made_again(tmp_path, monkeypatch):
    known = {"labels": np.arange(20) % 2, "mass": 100 + np.arange(20)}
    quiet = dict(runs=tmp_path / "runs", log=lambda line: None)
    images = jets(**known)
    run = train("a", SMALL, images, **quiet)
    [kept] = run.folder.glob("predictions-*.npz")
    for content in (b"", kept.read_bytes()[:200]):
        kept.write_bytes(content)
        again = train("a", SMALL, images, **quiet)
        assert again.cached
        np.testing.assert_array_equal(again.predictions.score, run.predictions.score)
        assert len(Predictions.load(kept)) == len(run.predictions)
    for name, content in (("run.json", "[" * 99_999), ("history.json", '{"rows": 3}')):
        (run.folder / name).write_text(content)
        with pytest.raises(DataError, match=run.folder.name):
            Run.open(run.folder)
        assert not train("a", SMALL, images, **quiet).cached
    monkeypatch.setattr(Predictions, "save", lambda self, path: (_ for _ in ()).throw(
        DataError(f"{path}: cannot be written")))
    kept.unlink()
    assert len(Run.open(run.folder).predict(images)) == 20  # the run lies on a read-only disk


@pytest.mark.parametrize(("error", "said"), [
    (FloatingPointError("loss not finite at update 3"), "loss not finite"),
    (MemoryError(), "not enough memory"), (RuntimeError("1 of 2 runs failed: a"), "1 of 2 runs"),
    (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), "not enough memory")])
def test_what_goes_wrong_at_work_is_one_line(error, said, monkeypatch, capsys):
    def fail(path):
        raise error

    monkeypatch.setattr("course.contents.inspect", fail)
    assert main(["inspect", "a.h5"]) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert "\n" not in message


def test_a_damaged_pile_up_pool_is_made_again(tmp_path, monkeypatch):
    events = pytest.importorskip("collider.events")
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    first = events.pile_up_pool("test", 7)
    [path] = (tmp_path / "data").glob("pileup-*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    events.load_pool.cache_clear()
    again = events.pile_up_pool("test", 7)
    np.testing.assert_array_equal(again.particles.px, first.particles.px)
