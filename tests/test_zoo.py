"""Types of model in the comparison: each trains, in our size; packed jets are masked jets."""

from __future__ import annotations

import sys

import pytest
import torch
from test_attention import TOY
from test_models import GRID, assert_same, make_hits, padded, run
from test_recipes import files, profile  # noqa: F401 (fixtures)
from test_runs import make_jets
from torch import nn
from torch.testing import assert_close

from course.commands import main
from lib import profiles
from lib.data.tokens import tokenize
from lib.models.attention import MECHANISMS
from lib.models.blocks import ClassAttention
from lib.models.rivals import DeepSets, L2Block, L2ViT, ResNet15, XCiT
from lib.models.vit import ViTConfig
from lib.training import recipe as recipes
from lib.training.fit import fit
from lib.training.runs import Run
from lib.training.split import make_batches
from lib.training.zoo import LADDER, MATCHED, ZOO

DENSE = {"resnet15": ResNet15, "l2vit": L2ViT, "xcit": XCiT, "deep_sets": DeepSets}


@pytest.mark.parametrize("name", ZOO)
def test_every_row_trains(name):
    jets = make_jets(40)
    made = recipes.recipe(name, profiles.get("smoke"), 3).but(
        fit={"updates": 2, "batch_size": 8, "every": 2, "precision": "32-true", "ema": None})
    train, validation = make_batches(made, jets)
    objective = recipes.build(made, jets, train.index)
    before = {n: p.detach().clone() for n, p in objective.named_parameters()}
    history = fit(objective, train, validation, made.fit, log=lambda line: None)
    assert history.updates == 2
    moved = {n for n, p in objective.named_parameters() if not torch.equal(p, before[n])}
    assert len(moved) > 0.9 * len(before)


@pytest.mark.parametrize("name", MATCHED)
def test_rows_have_as_many_parameters_as_ours(name):
    profile = profiles.get("laptop")  # noqa: F811
    ours = recipes.parameters(recipes.recipe("scratch", profile))
    assert abs(recipes.parameters(recipes.recipe(name, profile)) / ours - 1) < 0.05


def test_parameters_are_counted_without_making_them():
    made = recipes.recipe("xcit", profiles.get("smoke")).but(grid={
        "channels": 8, "height": 125, "width": 125, "patch_height": 5, "patch_width": 5})
    state = torch.get_rng_state()
    count = recipes.parameters(made)
    assert torch.equal(state, torch.get_rng_state())
    assert count == sum(p.numel() for p in recipes.make_model(made).parameters())


def test_the_ladder_ends_at_ours_one_change_a_step():
    ours, last = recipes.recipe("scratch", profiles.get("laptop")), None
    for name in LADDER:
        made = dict(recipes.recipe(name, profiles.get("laptop")).model) | {"mlp_ratio": 2.0}
        if last is not None:
            assert len({k for k in {**made, **last} if made.get(k) != last.get(k)}) == 1, name
        last = made
    assert ours.but(model={"summary": True}) == ours
    assert {k for k in {**last, **ours.model} if last.get(k) != ours.model.get(k)} == {"summary"}


def test_a_row_is_one_command(profile, capsys):  # noqa: F811
    assert main(["train", "deep_sets", "--profile", "smoke"]) == 0
    assert "deep_sets" in capsys.readouterr().out


def test_an_attention_of_ones_own_is_one_command(profile, tmp_path, monkeypatch, capsys):  # noqa: F811
    (tmp_path / "own_attention.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["train", "own_attention:Mean", "--profile", "smoke"]) == 0
    folder = capsys.readouterr().out.strip().splitlines()[-1]
    assert Run.open(folder).recipe.model["attention"] == "own_attention:Mean"
    assert main(["train", "own_attention:Median", "--profile", "smoke"]) == 2
    assert "cannot be imported" in capsys.readouterr().err
    del MECHANISMS["mean"], sys.modules["own_attention"]


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("summary", [True, False])
def test_padding_changes_nothing_in_a_rival(kind, summary):
    hits = make_hits()
    torch.manual_seed(0)
    model = DENSE[kind](GRID, summary=summary)
    packed = tokenize(hits, GRID)
    model.fit_scales(hits, packed, torch.linspace(80, 200, hits.images)).eval()
    expected = run(model, packed)
    for other in (padded(packed), tokenize(hits, GRID, "masked")):
        assert_same(expected, run(model, other))


def test_a_deep_set_is_a_mean_and_a_maximum_over_hits():
    hits = make_hits()
    # Two hits of one pixel are one of their sum, for a model of images.
    tokens = tokenize(hits, GRID)
    model = DeepSets(GRID, 12).eval()
    image = torch.zeros(5, *GRID.shape)
    image.index_put_((hits.image, hits.channel, hits.row, hits.column), hits.value, accumulate=True)
    for jet, found in enumerate(model.pooled(tokens)):
        each = []
        for channel, row, column in image[jet].nonzero().tolist():
            value = image[jet, channel, row, column].log1p() / 3
            place = torch.tensor([2 * row / 33 - 1, 2 * column / 28 - 1, value])
            each.append(model.each(torch.cat([model.channel.weight[channel], place])))
        each = torch.stack(each) if each else torch.zeros(1, 12)
        assert_close(found, torch.cat([each.mean(0), each.amax(0)]), atol=1e-5, rtol=1e-4)


def test_windows_do_not_see_each_other():
    torch.manual_seed(0)
    block = L2Block(32, 2.0, local=True).eval()
    for place in block.places:
        nn.init.zeros_(place.weight)
        nn.init.zeros_(place.bias)
    x = torch.randn(2, 32, 16, 10)
    whole = block(x)
    for top, left in ((0, 0), (7, 0), (14, 7)):  # the last overhangs on both sides
        cut = (..., slice(top, top + 7), slice(left, left + 7))
        assert_close(block(x[cut]), whole[cut], atol=1e-5, rtol=1e-5)
    other = L2Block(32, 2.0, local=False).eval()
    x2 = x.clone()
    x2[..., 0, 0] += 1
    assert (other(x) - other(x2))[..., 15, 9].abs().max() > 0  # the global ones do


def test_class_attention_asks_with_the_class_token_alone():
    torch.manual_seed(0)
    ends = ClassAttention(ViTConfig(dim=8, heads=2), layers=1).eval()
    x, valid = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True, False, True, True, False]])
    block, expected = ends.blocks[0], []
    for jet, keep in zip(x, valid, strict=True):
        rows = block.norm1(torch.cat([ends.token[0], jet[keep]]))
        q, k, v = block.attention.qkv(rows).chunk(3, -1)
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            share = (k[:, part] @ q[0, part] / 2).softmax(0)
            heads.append(share @ v[:, part])
        token = ends.token[0, 0] + block.attention.proj(torch.cat(heads))
        expected.append(ends.norm(token + block.mlp(block.norm2(token))))
    assert_close(ends(x, valid), torch.stack(expected), atol=1e-5, rtol=1e-5)
