"""Notebook 06: its step by hand, its rival and its probe do what the text says; solutions run."""

from __future__ import annotations

import math
import re
import textwrap
from types import SimpleNamespace

import notebook_code
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning
from test_jepa import ACTIVE
from test_jepa import quark_gluon as quark_gluon
from test_pretraining import model_of
from torch import nn

from lib import profiles
from lib.cms import PIXEL
from lib.data.images import JetImages
from lib.data.tokens import TokenBatch, by_patch
from lib.evaluation import metrics, probes
from lib.profiles import ROOT
from lib.training import masked
from lib.training.jepa import JEPA
from lib.training.recipe import recipe


def jepa_of(jets, **loss) -> JEPA:
    return JEPA(model_of(jets, tokens="active"), **loss).eval()


@pytest.mark.parametrize("mask", ["random", "block", "energy"])
def test_the_step_by_hand_is_the_library_s(quark_gluon, mask):
    by_hand = notebook_code.shown("06", ("step_by_hand",), torch=torch, F=F,
                                   masked=masked)
    objective, batch = jepa_of(quark_gluon, mask=mask), quark_gluon.batch(range(8), "active")
    torch.manual_seed(1)
    mine = by_hand["step_by_hand"](objective, batch.tokens)
    torch.manual_seed(1)
    torch.testing.assert_close(mine, objective.loss(batch)[0])


def test_the_four_observables_are_their_formulas(quark_gluon):
    four = notebook_code.shown("06", ("four",), torch=torch, PIXEL=PIXEL, NEAR=0.4)["four"]
    index = torch.arange(6)
    for image, row in zip(quark_gluon.dense(index)[:, 0], four(quark_gluon, index), strict=True):
        away = {(int(r), int(c)): math.hypot(r - 62, c - 62) * PIXEL for r, c in image.nonzero()}
        at = [(r, float(image[place])) for place, r in away.items() if r < 0.4]
        assert 0 < len(at) < len(away)
        energy = sum(e for _, e in at)
        width = sum(e * r for r, e in at) / energy
        ptd = sum(e * e for _, e in at) ** 0.5 / energy
        np.testing.assert_allclose(row[:3], [len(at), width, ptd], rtol=1e-4)
    empty = JetImages.from_dense(np.zeros((2, 3, 125, 125), np.float32), "gev",
                                 labels=np.arange(2), mass=np.ones(2), pt=np.ones(2))
    assert np.isfinite(four(empty, torch.arange(2))).all()


def test_the_attentive_probe_finds_what_one_token_knows():
    torch.manual_seed(0)
    n, label = 300, (torch.arange(300) % 2).float()
    x = torch.randn(n, 12, 6)
    x[:, 0, 0] = 6.0  # one token says where to look, and what it says is the class
    x[:, 0, 1] = 4 * label - 2
    valid = torch.ones(n, 12, dtype=torch.bool)
    valid[:, 9:] = False
    x[:, 9:, 1] = 50 * torch.randn(n, 3)  # padding shouts
    space = notebook_code.shown(
        "06", ("Attentive", "attentive"), torch=torch, F=F, nn=nn, SMALL=False,
        known=torch.arange(200), judges=torch.arange(200, 300),
        jets=SimpleNamespace(labels=label), tokens_of=lambda model, i: (x[i], valid[i]))
    said = space["attentive"](None)
    assert ((said > 0.5) == (label[200:].numpy() > 0.5)).mean() > 0.95


def test_patches_are_lost_as_a_whole(quark_gluon):
    lost = notebook_code.shown("06", ("lost",), torch=torch, by_patch=by_patch,
                               grid=quark_gluon.grid)["lost"]
    torch.manual_seed(0)
    hits = quark_gluon.hits(range(24))
    left = lost(0.4)(hits)
    patches = [set(zip(h.image.tolist(), by_patch(h, quark_gluon.grid)[0].tolist(), strict=True))
               for h in (hits, left)]
    assert len(patches[1]) / len(patches[0]) == pytest.approx(0.6, abs=0.08)
    whole = [h in patches[1] for h in zip(hits.image.tolist(), by_patch(
        hits, quark_gluon.grid)[0].tolist(), strict=True)]
    assert len(left) == sum(whole)


def test_solutions_of_notebook_06_run(quark_gluon):
    text = (ROOT / "notebooks/06_jepa.py").read_text().partition("<summary>Solutions")[2]
    blocks = re.findall(r"(?:^#     .*\n)+", text, re.MULTILINE)
    assert len(blocks) == 4
    history = [{"val_loss": 1.0, "val_context": 0.5}]
    space = {"torch": torch, "np": np, "F": F, "jets": quark_gluon, "held": torch.arange(24),
             "objective": lambda **loss: jepa_of(quark_gluon, **loss), "brief": {"updates": 2},
             "arm": lambda name, **changes: recipe(name, profiles.get("smoke")).but(
                 model=ACTIVE, **changes),
             "pretrained": lambda name, chosen: SimpleNamespace(history=history)}
    for block in blocks:
        exec(textwrap.dedent(re.sub(r"^#", "", block, flags=re.MULTILINE)), space)


def test_tokens_of_one_jet_do_not_depend_on_the_others(quark_gluon):
    tokens_of = notebook_code.shown("06", ("tokens_of",), torch=torch, TokenBatch=TokenBatch,
                                    jets=quark_gluon, grid=quark_gluon.grid)["tokens_of"]
    model = jepa_of(quark_gluon).model
    many, valid = tokens_of(model, torch.arange(5))
    for jet in range(5):
        one, there = tokens_of(model, torch.tensor([jet]))
        torch.testing.assert_close(many[jet][valid[jet]], one[0][there[0]], atol=1e-5, rtol=1e-4)


def test_sparse_codes_are_compared_with_as_many_components():
    draw = np.random.default_rng(0)
    label = np.arange(240) % 2
    x = draw.normal(size=(240, 40)).astype(np.float32)
    x[:, 0] += 3 * label
    jets = SimpleNamespace(labels=torch.tensor(label), mass=None, event=np.arange(240))
    sparse_minus_pca = notebook_code.shown(
        "06", ("sparse_minus_pca",), jets=jets, known=np.arange(160), judges=np.arange(160, 240),
        label=label[:160], metrics=metrics, Predictions=metrics.Predictions, PCA=PCA,
        MiniBatchDictionaryLearning=MiniBatchDictionaryLearning, probes=SimpleNamespace(
            embed=lambda model, jets, index: x[index], linear_probe=probes.linear_probe))
    row = sparse_minus_pca["sparse_minus_pca"](None)
    assert -1 < row["low"] <= row["difference"] <= row["high"] < 1
