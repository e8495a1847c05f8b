"""Mixtures of experts against plain loops; R3's models."""

from __future__ import annotations

import pytest
import torch
from test_models import GRID, make_hits, make_model, padded
from torch import nn
from torch.testing import assert_close

from hcal.events import scaled
from hcal.experts import (
    ROUTERS,
    MixtureOfExperts,
    Routed,
    Routing,
    routing,
    watched,
)
from hcal.maps import RUNS, HcalMaps
from hcal.runs import R3_FIT, R3_GRIDS, R3_LOSS, R3_MOE, R3_VIT, read_as
from hcal.simulation import simulate
from lib.data.tokens import Batch, tokenize
from lib.evaluation.metrics import auc
from lib.models.vit import JetViT, ViTConfig
from lib.training.runs import train

IMAGES, LENGTH, DIM, EXPERTS = 4, 6, 8, 3
LIKE_R3 = {"pool": "cls", "attention": "softmax", "lcm_kernel": 0, "summary": False,
           "patch_energy": False, "mass_head": False, "cls_position": True}


def make_moe(router: str, experts: int = EXPERTS, seed: int = 0) -> MixtureOfExperts:
    torch.manual_seed(seed)
    moe = MixtureOfExperts(ViTConfig(dim=DIM, mlp_ratio=2.0, experts=experts, router=router))
    nn.init.normal_(moe.router.weight)  # decided, so that no two experts are nearly as likely
    return moe


def make_tokens(seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(IMAGES, LENGTH, DIM, generator=generator)
    valid = torch.rand(IMAGES, LENGTH, generator=generator) < 0.6
    valid[-1] = False  # an image without tokens
    return x, valid


def probabilities(moe: MixtureOfExperts, token: torch.Tensor) -> list[float]:
    scores = [(row @ token + bias).item() for row, bias in zip(moe.router.weight, moe.router.bias)]
    total = sum(torch.tensor(score).exp() for score in scores)
    return [float(torch.tensor(score).exp() / total) for score in scores]


@pytest.mark.parametrize("router", ROUTERS)
def test_the_mixture_is_what_a_loop_over_tokens_and_experts_gives(router):
    moe, (x, valid) = make_moe(router), make_tokens()
    out, routing = moe(x, valid), moe.route(x, valid)
    for image in range(IMAGES):
        for slot in range(LENGTH):
            token, expected = x[image, slot], torch.zeros(DIM)
            p = probabilities(moe, token) if valid[image, slot] else [0.0] * EXPERTS
            called = sorted(range(EXPERTS), key=lambda e: -p[e])[: ROUTERS[router] or EXPERTS]
            norm = sum(p[e] for e in called) if router == "top2" else 1.0
            for e in called if valid[image, slot] else []:
                expected += p[e] / norm * moe.experts[e](token)
                assert routing.weights[image, slot, e].item() == pytest.approx(p[e] / norm, 1e-4)
            assert_close(out[image, slot], expected, atol=1e-5, rtol=1e-5)
            left_out = set(range(EXPERTS)) - set(called)
            assert not any(routing.weights[image, slot, e] for e in left_out)


@pytest.mark.parametrize("router", ROUTERS)
def test_both_losses_are_what_a_loop_over_tokens_gives(router):
    moe, (x, valid) = make_moe(router), make_tokens()
    routing = moe.route(x, valid)
    calls, likely, squares, count = [0] * EXPERTS, [0.0] * EXPERTS, 0.0, 0
    for token, real in zip(x.flatten(0, 1), valid.flatten()):
        if not real:
            continue
        p, count = probabilities(moe, token), count + 1
        for e in sorted(range(EXPERTS), key=lambda e: -p[e])[: max(1, ROUTERS[router])]:
            calls[e] += 1
        likely = [a + b for a, b in zip(likely, p)]
        squares += (moe.router.weight @ token + moe.router.bias).exp().sum().log().item() ** 2
    share = [c / sum(calls) for c in calls]
    balance = EXPERTS * sum(f * p / count for f, p in zip(share, likely))
    assert_close(routing.load(), torch.tensor(share))
    assert routing.load_balancing().item() == pytest.approx(balance, rel=1e-5)
    assert routing.z_loss().item() == pytest.approx(squares / count, rel=1e-5)


def test_a_router_is_asked_once_whoever_watches():
    moe, (x, valid) = make_moe("top1"), make_tokens()
    calls = []
    moe.router.register_forward_hook(lambda *_: calls.append(1))
    with watched(nn.Sequential(moe)) as found:
        moe(x, valid)
    assert (len(calls), len(found)) == (1, 1)  # gradients of output and losses add up bit by bit
    moe(x, valid)
    assert len(found) == 1


def test_load_balancing_is_one_for_an_even_load_and_the_number_of_experts_for_one_expert():
    def routing(best: list[int], confidence: float) -> Routing:
        chosen = nn.functional.one_hot(torch.tensor([best]), EXPERTS).bool()
        logits = confidence * chosen.float()
        return Routing(logits, logits.softmax(-1), chosen, torch.ones(1, len(best)).bool())

    assert float(routing([0, 1, 2], 5.0).load_balancing()) == pytest.approx(1)
    assert float(routing([0, 0, 0], 50.0).load_balancing()) == pytest.approx(EXPERTS)
    assert float(routing([0, 0, 1], 5.0).load_balancing()) > 1


def test_load_balancing_evens_out_the_load():
    torch.manual_seed(0)
    moe, x = make_moe("top1"), torch.randn(1, 300, DIM) + 1
    nn.init.constant_(moe.router.bias, 0).data[0] = 4.0
    valid = torch.ones(1, 300, dtype=torch.bool)
    before = float(moe.route(x, valid).load().max())
    optimizer = torch.optim.Adam(moe.router.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        moe.route(x, valid).load_balancing().backward()
        optimizer.step()
    assert before > 0.7
    assert float(moe.route(x, valid).load().max()) < 0.45


def test_z_loss_makes_logits_small():
    moe, (x, valid) = make_moe("soft"), make_tokens()
    routing = moe.route(x, valid)
    gradient = torch.autograd.grad(routing.z_loss(), routing.logits)[0]
    step = Routing(routing.logits - gradient, routing.weights, routing.chosen, valid)
    assert step.z_loss() < routing.z_loss()
    assert not gradient[~valid].any()


def test_a_soft_router_over_two_experts_is_a_top_two_router():
    (x, valid), soft, top = make_tokens(), make_moe("soft", 2), make_moe("top2", 2)
    assert_close(soft(x, valid)[valid], top(x, valid)[valid])


def test_one_expert_is_an_mlp():
    (x, valid), moe = make_tokens(), make_moe("top1", 1)
    assert_close(moe(x, valid)[valid], moe.experts[0](x)[valid])


@pytest.mark.parametrize("router", ROUTERS)
def test_nothing_is_nan_without_a_token(router):
    moe = make_moe(router)
    given = torch.randn(2, 3, DIM), torch.zeros(2, 3, dtype=torch.bool)
    out, routing = moe(*given), moe.route(*given)
    assert not out.any()
    (out.sum() + routing.load_balancing() + routing.z_loss()).backward()
    assert all(p.grad.isfinite().all() for p in moe.parameters() if p.grad is not None)


@pytest.mark.parametrize("router", ROUTERS)
def test_the_router_computes_in_float32_under_autocast(router):
    moe, (x, valid) = make_moe(router), make_tokens()
    plain, exact = moe(x, valid), moe.route(x, valid)
    with torch.autocast("cpu", torch.bfloat16):
        low, routing = moe(x, valid), moe.route(x, valid)
        rounded = moe.route(x.bfloat16(), valid)
    assert routing.logits.dtype == routing.weights.dtype == torch.float32
    assert torch.equal(routing.logits, exact.logits)
    assert rounded.logits.dtype == torch.float32
    assert (low - plain).abs().max() < 0.05


@pytest.mark.parametrize("router", ROUTERS)
def test_gradients_reach_router_and_experts(router):
    moe, (x, valid) = make_moe(router), make_tokens()
    moe(x, valid).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in moe.parameters())


@pytest.mark.parametrize(("settings", "words"), [
    ({"experts": 2, "router": "top3"}, "'?top3'?.*soft, top1, top2"),
    ({"experts": 1, "router": "top2"}, "experts=1 are too few"),
])
def test_unknown_routers_name_the_known(settings, words):
    with pytest.raises(ValueError, match=words):
        JetViT(ViTConfig.of(GRID, dim=16, heads=2, **settings))


def test_a_block_takes_its_mlp_by_name():
    """As ``experts``, by module:Class, or any class of a config with ``forward(x, valid)``."""
    named = make_model(make_hits(), experts=2, mlp="hcal.experts:MixtureOfExperts")
    assert isinstance(named.blocks[0].mlp, MixtureOfExperts)
    shapes = {k: v.shape for k, v in make_model(make_hits(), experts=2).state_dict().items()}
    assert {k: v.shape for k, v in named.state_dict().items()} == shapes
    with pytest.raises(ValueError, match=r"mlp='none:Such'.*cannot be imported"):
        make_model(make_hits(), mlp="none:Such")


# --- in a model -----------------------------------------------------------------------------------


def loss_of(model, tokens):
    """Loss with large weights for the routers' parts, its parts and all gradients."""
    label = torch.arange(len(tokens)) % 2
    batch = Batch(tokens, label, None, None, torch.arange(len(tokens)))
    objective = Routed(model, mass_weight=0.0, balance=1.0, z=1.0)
    model.zero_grad()
    total, parts = objective.loss(batch)
    total.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return total.detach(), parts, gradients


@pytest.mark.parametrize("like", [{"mass_head": False}, LIKE_R3], ids=["ours", "r3"])
@pytest.mark.parametrize("router", ROUTERS)
def test_padding_changes_neither_losses_nor_gradients_nor_routing(router, like):
    hits = make_hits()
    model = make_model(hits, experts=3, router=router, **like).train()
    packed = tokenize(hits, GRID)
    expected = loss_of(model, packed)
    assert {"balance", "z"} <= set(expected[1])
    for other in (padded(packed), tokenize(hits, GRID, "masked")):
        total, parts, gradients = loss_of(model, other)
        assert_close(total, expected[0], atol=1e-5, rtol=1e-5)
        for name, value in expected[1].items():
            assert_close(parts[name], value, atol=1e-5, rtol=1e-5)
        assert gradients.keys() == expected[2].keys() == dict(model.named_parameters()).keys()
        scale = max(1.0, *(float(g.abs().max()) for g in expected[2].values()))
        for name, value in expected[2].items():
            assert float((gradients[name] - value).abs().max()) <= 1e-5 * scale, name
        assert_close(model(other)[0], model(packed)[0], atol=1e-5, rtol=1e-5)
        for one, two in zip(routing(model, packed), routing(model, other), strict=True):
            assert_close(one.load(), two.load())
            assert not two.weights[~two.valid].any()
            assert one.valid.sum() == two.valid.sum()


@pytest.mark.parametrize("like", [{"mass_head": False}, LIKE_R3], ids=["ours", "r3"])
def test_routing_comes_block_by_block_with_the_class_token_first(like):
    hits = make_hits()
    tokens = tokenize(hits, GRID)
    images, length = tokens.valid.shape
    model = make_model(hits, experts=3, router="top1", **like).eval()
    routings = routing(model, tokens)
    assert len(routings) == 2
    first = 1 if "pool" in like else 0
    for found in routings:
        assert found.weights.shape == (images, first + length, 3)
        assert torch.equal(found.valid[:, first:], tokens.valid)
        assert found.valid[:, :first].all()
        assert torch.equal(found.chosen.sum(-1), found.valid.long())
    assert routing(make_model(hits), tokens) == []


def test_a_saved_mixture_comes_back(tmp_path):
    hits = make_hits()
    model = make_model(hits, experts=2, router="top2", **LIKE_R3).eval()
    again = JetViT.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert again.config == model.config
    assert torch.equal(again(tokenize(hits, GRID))[0], model(tokenize(hits, GRID))[0])


def test_the_objective_weighs_the_routers_losses_and_leaves_others_alone(recwarn):
    hits = make_hits()
    tokens = tokenize(hits, GRID)
    batch = Batch(tokens, torch.tensor([0, 1, 0, 1, 1]), None, None, torch.arange(5))
    model = make_model(hits, experts=2, **LIKE_R3).eval()
    total, parts = Routed(model, mass_weight=0.0, balance=0.25, z=0.5).loss(batch)
    routings = routing(model, tokens)
    assert_close(parts["balance"], sum(r.load_balancing() for r in routings).detach())
    assert_close(parts["z"], sum(r.z_loss() for r in routings).detach())
    assert_close(total.detach(), parts["class"] + 0.25 * parts["balance"] + 0.5 * parts["z"])
    _, parts = Routed(make_model(hits, **LIKE_R3), mass_weight=0.0).loss(batch)
    assert set(parts) == {"class"}
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


# --- R3 -------------------------------------------------------------------------------------------


def count(settings: dict, reading: str) -> int:
    model = JetViT(ViTConfig.of(R3_GRIDS[reading], **settings))
    return sum(p.numel() for p in model.parameters())


def test_r3_has_its_published_sizes():
    assert count(R3_VIT, "coded") == 266_178
    assert count(R3_MOE, "coded") == 117_610
    assert [R3_GRIDS[name].patches for name in R3_GRIDS] == [4, 32, 144]
    assert (R3_GRIDS["table"].rows, R3_GRIDS["table"].columns) == (8, 4)
    # the class token's position is a vector added to a vector: without it, one row less
    assert count({**R3_VIT, "cls_position": False}, "coded") == 266_178 - 64
    assert count({**R3_MOE, "cls_position": False}, "coded") == 117_610 - 32


@pytest.mark.parametrize("name", ["vit", "moe"])
def test_r3_trains_through_the_cache_on_maps_of_both_runs(name, tmp_path):
    maps = scaled(HcalMaps.concat([simulate(run, 60, seed=3) for run in RUNS]), "log1p")
    maps = read_as(maps, "coded")
    assert maps.grid == R3_GRIDS["coded"]
    settings = {"objective": "hcal.experts:Routed", "seed": 1,
                "model": {"vit": R3_VIT, "moe": R3_MOE}[name], "loss": R3_LOSS,
                "fit": {**R3_FIT[name], "updates": 60, "lr": 3e-4, "batch_size": 16}}
    run = train(name, settings, maps, runs=tmp_path, log=lambda line: None)
    assert run.parameters == {"vit": 266_178, "moe": 117_610}[name]
    assert len(run.predictions.y) == 24
    assert auc(run.predictions.y, run.predictions.score) == 1  # the threshold takes longer
    assert train(name, settings, maps, runs=tmp_path, log=lambda line: None).cached
    assert ("val_balance" in run.history[-1]) == (name == "moe")
