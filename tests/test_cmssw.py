"""The plugin for CMSSW, compiled against small stand-ins of the framework (`tests/cmssw`)."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from course import export
from lib.cms import CHANNELS
from lib.data.images import JetImages
from lib.data.tokens import TOP_QCD
from lib.profiles import ROOT

PACKAGE = ROOT / "cmssw/JetViT"
# the order of RecoE2E, another one than the model's
ORDER = ("track pT", "ECAL", "HCAL", "track d0", "track dz", "BPIX 1", "BPIX 2", "BPIX 3")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    if not shutil.which("g++"):
        pytest.skip("no g++")
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "RecoJets").mkdir()
    (folder / "RecoJets/JetViT").symlink_to(PACKAGE)
    includes = [f"-I{path}" for path in (ROOT / "tests/cmssw", PACKAGE / "plugins", folder)]
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", *includes, "-o",
                    folder / "run", ROOT / "tests/cmssw/run_plugin.cc"], check=True)
    return folder / "run"


def run(plugin, tmp_path, frames, channels=ORDER, transposed=False, most=8):
    """The model's input, and score and mass, of frames (jets, channels, side, side)."""
    files = [tmp_path / name for name in ("frames", "input", "answers")]
    files[0].write_bytes(np.int32(frames.shape).tobytes() + frames.astype(np.float32).tobytes())
    done = subprocess.run([plugin, *files, str(int(transposed)), str(most), *channels],
                          capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr)
    seen, answers = (np.frombuffer(path.read_bytes(), np.float32) for path in files[1:])
    return seen.reshape(-1, *TOP_QCD.shape), answers.reshape(2, -1)


@pytest.fixture(scope="module")
def jets() -> JetImages:
    """Two jets, in physical units."""
    return list(export.examples(TOP_QCD, "frame"))[1]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("most", [1, 8])
def test_frames_become_the_input_of_python_to_the_bit(plugin, tmp_path, jets, transposed, most):
    wanted = jets.dense(slice(None)).numpy()
    frames = wanted[:, [CHANNELS.index(name) for name in ORDER]]
    if transposed:
        frames = frames.swapaxes(2, 3)
    seen, answers = run(plugin, tmp_path, frames, transposed=transposed, most=most)
    assert seen.tobytes() == wanted.tobytes()
    assert np.array_equal(answers, [wanted[:, 0, 0, 0], wanted[:, -1, -1, -1]])


def test_no_jets_no_answers(plugin, tmp_path):
    seen, answers = run(plugin, tmp_path, np.zeros((0, 8, 125, 125)))
    assert len(seen) == answers.size == 0


@pytest.mark.parametrize(("frames", "channels", "message"), [
    (np.zeros((1, 8, 125, 125)), ("track pT", *ORDER[:7]), "'track pT' is not exactly once"),
    (np.zeros((1, 7, 125, 125)), ORDER[:7], "'BPIX 3' is not exactly once"),
    (np.zeros((1, 7, 125, 125)), ORDER, "fewer channels"),
    (np.zeros((1, 8, 125, 124)), ORDER, "not of the size"),
    (np.full((1, 8, 125, 125), np.nan), ORDER, "jet 0 is not finite"),
])
def test_what_would_give_a_wrong_answer_stops_the_job(plugin, tmp_path, frames, channels, message):
    with pytest.raises(ValueError, match=message):
        run(plugin, tmp_path, frames, channels)


def test_channels_and_names_in_the_package_are_those_of_the_model():
    source = (PACKAGE / "plugins/JetViTProducer.cc").read_text()
    listed = re.search(r"model\{(.*?)\}", source, re.DOTALL)[1]
    assert tuple(re.findall(r'"([^"]+)"', listed)) == CHANNELS
    assert set(re.findall(r'"((?:track|ECAL|HCAL|BPIX)[^"]*)"',
                          (PACKAGE / "test/jetViT_cfg.py").read_text())) == set(CHANNELS)
    about = {p.key: p.value for p in onnx.load(PACKAGE / "data/tiny.onnx").metadata_props}
    assert tuple(json.loads(about["channels"])) == CHANNELS


def test_the_bundled_model_gives_the_bundled_numbers(tmp_path):
    """By the script that needs nothing but NumPy and an ONNX Runtime, of whatever version."""
    export.check(PACKAGE / "data/tiny.onnx")
    script = [sys.executable, PACKAGE / "test/checkTiny.py"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert "2 jets agree" in done.stdout
    text = (PACKAGE / "data/tiny.txt").read_text().split("\n")
    score, mass = text[-2].split()
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("\n".join([*text[:-2], f"{score} {float(mass) + 1}", ""]))
    done = subprocess.run([*script, PACKAGE / "data/tiny.onnx", wrong], capture_output=True)
    assert done.returncode


def test_the_unit_test_of_the_package_compiles_and_notices(plugin):
    """Against a stand-in of Catch, and of a runtime that gives other answers."""
    out = plugin.with_name("unit")
    subprocess.run(["g++", "-std=c++17", "-Wall", f"-I{ROOT / 'tests/cmssw'}", "-o", out,
                    PACKAGE / "test/testJetViT.cc"], check=True)
    data = plugin.with_name("RecoJets").parent
    done = subprocess.run([out], cwd=data, capture_output=True, text=True)
    assert done.returncode == 6, done.stderr  # all of its checks
