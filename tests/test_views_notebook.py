"""Notebook 04: its loss and module by hand are the library's; a classifier finds no symmetry."""

from __future__ import annotations

import ast
import dataclasses
from types import SimpleNamespace

import notebook_code
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.ensemble import HistGradientBoostingClassifier
from test_augment import check_hits, make
from torch.testing import assert_close

from lib.data.augment import translation
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.data.tokens import Hits
from lib.data.views import transformed
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.evaluation.predictions import predict
from lib.models.baselines import observables
from lib.models.vit import JetViT, ViTConfig
from lib.profiles import ROOT
from lib.registry import Registry
from lib.training import fit as training
from lib.training import objectives
from lib.training.contrastive import nt_xent

SOURCE = ROOT / "notebooks" / "04_simclr.py"


def shown(**names) -> dict:
    """The functions that the notebook defines, without running it."""
    wanted = [node for node in ast.parse(SOURCE.read_text()).body
              if isinstance(node, ast.FunctionDef) and not node.decorator_list]
    space = {"torch": torch, "F": F, "np": np, "SMALL": False,
             "jets": SimpleNamespace(encoding="cms8"), **names}
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


def test_a_classifier_finds_what_is_no_symmetry():
    names = ("in_halves", "JUDGE", "FIT", "by_trees", "by_transformer", "two_sample")
    two_sample, by_transformer = (notebook_code.shown(
        "04", names, torch=torch, np=np, JetImages=JetImages, transformed=transformed,
        observables=observables, HistGradientBoostingClassifier=HistGradientBoostingClassifier,
        training=training, JetViT=JetViT, ViTConfig=ViTConfig, Batches=Batches, predict=predict,
        objectives=objectives, metrics=metrics, Predictions=Predictions)[name]
        for name in ("two_sample", "by_transformer"))
    jets = make("cms8", jets=240)
    shifted = two_sample(jets, translation(jets.grid, towers=6))
    assert shifted["low"] > 0.7, "the crop is centred on its hottest tower"
    nothing = two_sample(jets, lambda hits: hits)
    assert nothing["low"] < 0.5 < nothing["high"]
    assert nothing["jets"] == 96
    seen = two_sample(jets.subset(range(60)), lambda hits: hits, by_transformer, updates=2,
                      batch_size=16)
    assert 0 <= seen["low"] <= seen["mean"] <= seen["high"] <= 1
    with pytest.raises(AssertionError, match="too few"):
        two_sample(jets.subset(range(30)), lambda hits: hits)
