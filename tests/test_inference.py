"""Notebook 10: what it times, the export that it breaks, solutions that run."""

import re
import subprocess
import sys
import textwrap
import time

import notebook_code
import numpy as np
import onnxruntime
import pytest
import torch

from course import export
from lib import profiles
from lib.data.tokens import TOP_QCD
from lib.models.vit import JetViT, ViTConfig
from lib.profiles import ROOT
from lib.training import runs
from lib.training.recipe import recipe

SMALL = dict(tokens="two_scale", position="factorised", pool="energy", dim=16, depth=1, heads=2)


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return export.Graph(JetViT(ViTConfig.of(TOP_QCD, **SMALL)), TOP_QCD, "two_scale", "image")


def test_every_file_is_timed_on_the_same_jets(graph, tmp_path):
    path = export.export(graph, tmp_path / "m.onnx", opset=15)
    shown = notebook_code.shown("10", ("ALONE", "memory", "clocked"), export=export, torch=torch,
                                time=time, subprocess=subprocess, sys=sys)
    jets = list(export.examples(TOP_QCD, "image"))[2]
    sessions = {"a": export.OnnxModel(path), "R1, dense": export.OnnxModel(path)}
    taken = shown["clocked"](sessions, jets, 2, 7)
    assert [len(each) for each in taken.values()] == [4, 1]
    assert min(taken["a"]) > 0
    assert 1 < shown["memory"](path) < 500
    assert np.isnan(shown["memory"](tmp_path / "none.onnx"))


def test_the_careless_export_of_the_notebook_is_wrong_without_an_error(tmp_path):
    careless = notebook_code.shown("10", ("Careless",), torch=torch)["Careless"]()
    example = torch.zeros(2, 9)
    example[:, :3] = 1.0
    torch.onnx.export(careless, (example,), str(tmp_path / "c.onnx"), input_names=["patches"],
                      dynamo=False, opset_version=15, dynamic_axes={"patches": {0: "batch"}})
    session = onnxruntime.InferenceSession(tmp_path / "c.onnx")
    other = torch.arange(9.0)[None]
    assert session.run(None, {"patches": example[:1].numpy()})[0] == careless(example[:1]).numpy()
    assert session.run(None, {"patches": other.numpy()})[0] != careless(other).numpy()


def test_solutions_of_notebook_10_run(graph, tmp_path, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    text = (ROOT / "notebooks/10_inference.py").read_text().partition("<summary>Solutions")[2]
    blocks = re.findall(r"(?:^#     .*\n)+", text, re.MULTILINE)
    assert len(blocks) == 2
    draw = np.random.default_rng(0)
    many = [jets.dense(slice(None)) for jets in export.examples(TOP_QCD, "frame")]
    physical = export.JetImages.from_dense(
        torch.cat(many)[:12], "gev", labels=np.arange(12) % 2,
        mass=draw.uniform(50, 200, 12), pt=draw.uniform(400, 900, 12))
    space = {"export": export, "graph": graph, "folder": tmp_path, "physical": physical,
             "recipe": recipe, "profiles": profiles, "runs": runs, "jets": physical,
             "profile": profiles.get("smoke")}
    for block in blocks:
        exec(textwrap.dedent(re.sub(r"^#", "", block, flags=re.MULTILINE)), space)
    assert [o.name for o in export.OnnxModel(tmp_path / "pt.onnx").session.get_outputs()] == [
        "score", "pt"]
