"""Notebook 04: its loss by hand is the library's, its arms are R1's list with one change each, and
its figures draw what it hands them."""

from __future__ import annotations

import ast
import dataclasses
from types import SimpleNamespace

import notebook_code
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_augment import check_hits, make
from torch.testing import assert_close

from lib import profiles
from lib.data.images import JetImages
from lib.data.tokens import Hits
from lib.data.views import R1
from lib.profiles import ROOT
from lib.registry import Registry
from lib.report import figures_views
from lib.report.style import render
from lib.training import recipes
from lib.training.pretraining import nt_xent

SOURCE = ROOT / "notebooks" / "04_simclr.py"


def shown(**names) -> dict:
    """The functions and the table of arms that the notebook defines, without running it."""
    wanted = [node for node in ast.parse(SOURCE.read_text()).body
              if (isinstance(node, ast.FunctionDef) and not node.decorator_list)
              or (isinstance(node, ast.Assign)
                  and ast.unparse(node.targets[0]) in ("R1_FIVE", "AUGMENT"))]
    space = {"torch": torch, "F": F, "np": np, "R1": R1, "recipes": recipes,
             "SMALL": False, "jets": SimpleNamespace(encoding="cms8"), **names}
    exec(compile(ast.Module(wanted, []), str(SOURCE), "exec"), space)
    return space


CONTROLS = ("quarter_turn", "random_crop", "blur", "channel_mixing", "channel_averaging")


@pytest.mark.parametrize("encoding", ["cms8", "gev"])
@pytest.mark.parametrize("name", CONTROLS)
def test_controls_join_by_their_name_and_keep_the_encoding(name, encoding):
    jets, joined = make(encoding), Registry("augment")
    notebook_code.shown("04", ("dense", "sparse", *CONTROLS), AUGMENTATIONS=joined, torch=torch,
                        F=F, Hits=Hits, dataclasses=dataclasses)
    assert set(joined) == set(CONTROLS)
    change = joined.find(name)(jets.grid, encoding)
    check_hits(jets, change)
    assert change(jets.hits([3])).images == 1
    none = JetImages.from_dense(np.zeros((2, 8, 125, 125), np.float32), encoding)
    assert len(change(none.hits(range(2)))) == 0


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_loss_by_hand_is_the_library_s(temperature):
    a, b = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(1))
    assert_close(shown()["nt_xent_by_hand"](a, b, temperature), nt_xent(a, b, temperature)[0])


def test_losses_of_trivial_answers():
    guess, apart = shown()["trivial"](8, 0.5)
    same, eye = torch.ones(8, 16), torch.eye(8)
    assert_close(nt_xent(same, same, 0.5)[0].item(), guess, rtol=1e-5, atol=0)
    assert_close(nt_xent(eye, eye, 0.5)[0].item(), apart, rtol=1e-5, atol=0)


def test_every_arm_of_the_grid_is_r1_s_list_with_one_change():
    laptop = profiles.get("laptop")
    space = shown(profile=laptop)
    arms = space["AUGMENT"]
    assert arms["r1"] == list(R1)
    for name in R1:
        assert set(R1) - set(arms[f"no_{name}"]) == {name}
    assert set(arms["translation"]) ^ set(R1) == {"phi_roll", "translation"}
    settings = {name: space["arm"](f"aug_{name}", 1) for name in arms}
    for name, found in settings.items():
        same = {k: v for k, v in found.items() if k != "augment"}
        assert same == {k: v for k, v in settings["r1"].items() if k != "augment"}, name
    full = recipes.recipe("simclr", laptop, 1)
    assert space["arm"]("simclr", 1) == full
    assert 0 < settings["r1"]["fit"]["updates"] < full["fit"]["updates"]


def test_figures_draw():
    rng = np.random.default_rng(0)
    image = np.zeros((8, 125, 125))
    image[:, 60:65, 60:65] = 200
    row = {"mean": 0.6, "low": 0.5, "high": 0.7}
    history = [{"update": u, "loss": 4.0, "val_loss": 3.9, "match": 0.1, "feature_std": 0.3,
                "effective_rank": 20.0, "mean_cosine": 0.8} for u in (10, 20)]
    plane = {"plane": rng.normal(size=(30, 2)), "auc": 0.8, "mass": 0.5, "pt": 0.1}
    names = {"a": "first", "b": "second"}
    figures = [
        figures_views.views({"a jet with a long title": image, "no hits": 0 * image}),
        figures_views.symmetry({"cms8": {"a": {"trees": row}, "b": {"trees": row, "net": row}},
                                "gev": {"b": {"trees": row}}}, names),
        figures_views.similarities({"before": torch.eye(6), "after": torch.ones(6, 6)}),
        figures_views.monitor(history, 4.8, {"feature_std": 0.2}, best=20),
        figures_views.collapse({"x": {k: [1, 2] for k in ("update", "feature_std",
                                                          "effective_rank")}}),
        figures_views.embeddings({"random": plane, "trained": plane}, rng.integers(0, 2, 30),
                                 rng.uniform(50, 200, 30), rng.uniform(400, 900, 30)),
        figures_views.moved({"random": {"a": 0.1, "b": 2.0}}, names, ["a"]),
    ]
    assert all(render(fig, "png", 40) for fig in figures)
