"""Attention mechanisms, each against an independent statement of its formula."""

from __future__ import annotations

import importlib
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_runs import SETTINGS, make_jets
from torch.testing import assert_close

from lib.data.tokens import Grid
from lib.models.attention import MECHANISMS, Additive, CrossCovariance, ReluLinear
from lib.models.vit import JetViT, ViTConfig
from lib.training.runs import train

MAPS = [name for name, kind in MECHANISMS.items() if hasattr(kind, "map")]
quick = settings(max_examples=25, deadline=None)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 6))


def qkv(shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, *shape, generator=generator, dtype=dtype)
    # Where no component of a query is positive, φ(q)·φ(k) is 1e-6 Σφ(k): keys this large keep it
    # above the floor of 1e-6 at any width, as 30 channels and more do by themselves.
    k[..., 0] = k[..., 0].abs() + 1.1
    return q, k, v


def some_valid(shape, seed=0):
    valid = torch.rand(shape[0], shape[2], generator=torch.Generator().manual_seed(seed)) < 0.6
    valid[:, 0] = True
    return valid


def plain(name, q, **settings):
    """A mechanism for queries like q."""
    return MECHANISMS[name](q.shape[1], q.shape[3], **settings)


def call(name, q, k, v, valid=None):
    """A mechanism with all the parameters it takes, none of them trivial."""
    mechanism = plain(name, q, temperature=1.0)
    with torch.no_grad():
        if mechanism.temperature is not None:
            mechanism.temperature.copy_(torch.linspace(0.5, 1.5, q.shape[1]).view(-1, 1, 1))
        if isinstance(mechanism, Additive):
            generator = torch.Generator().manual_seed(1)
            weights = torch.randn(2, q.shape[1], q.shape[3], generator=generator)
            mechanism.query_weight.copy_(weights[0])
            mechanism.key_weight.copy_(weights[1])
    return mechanism(q, k, v, valid)


def by_hand(name, q, k, v):
    """The formula, one query of one head after another, in Python's own numbers (float64)."""
    q, k, v = q.double(), k.double(), v.double()
    images, heads, tokens, width = q.shape
    temperature = torch.linspace(0.5, 1.5, heads).double()
    weights = torch.randn(2, heads, width, generator=torch.Generator().manual_seed(1)).double()
    out = torch.zeros_like(v)
    for b in range(images):
        for h in range(heads):
            Q, K, V = q[b, h], k[b, h], v[b, h]
            if name == "cross_covariance":
                unit = [x / x.norm(dim=0).clamp(min=1e-12) for x in (Q, K)]
                for n in range(tokens):
                    for i in range(width):
                        logits = torch.stack([unit[0][:, i] @ unit[1][:, j] for j in range(width)])
                        out[b, h, n, i] = (temperature[h] * logits).softmax(0) @ V[n]
            elif name == "additive":
                alpha = (Q @ weights[0, h] / math.sqrt(width)).softmax(0)
                P = (alpha @ Q) * K
                beta = (P @ weights[1, h] / math.sqrt(width)).softmax(0)
                out[b, h] = (beta @ P) * V + Q
            else:
                for n in range(tokens):
                    if name == "softmax":
                        share = torch.stack([torch.exp(Q[n] @ key / math.sqrt(width)) for key in K])
                        scale = 1.0
                    else:
                        phi = {"relu_linear": lambda x: x.clamp(min=0) + 1e-6,
                               "elu_linear": lambda x: torch.where(x > 0, x + 1, x.exp())}[name]
                        share = torch.stack([phi(Q[n]) @ phi(key) for key in K])
                        scale = temperature[h]
                    out[b, h, n] = scale * (share @ V) / share.sum()
    return out.float()


@pytest.mark.parametrize("name", MECHANISMS)
@quick
@given(shape=shapes, seed=st.integers(0, 10**6))
def test_formula(name, shape, seed):
    q, k, v = qkv(shape, seed)
    assert_close(call(name, q, k, v).detach(), by_hand(name, q, k, v), atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("name", MECHANISMS)
@quick
@given(shape=shapes, seed=st.integers(0, 10**6))
def test_masked_tokens_are_absent_tokens(name, shape, seed):
    q, k, v = qkv(shape, seed)
    valid = some_valid(shape, seed)
    out = call(name, q, k, v, valid)
    for image in range(shape[0]):
        keep = valid[image]
        alone = call(name, *(x[image:image + 1, :, keep] for x in (q, k, v)))
        assert_close(out[image:image + 1, :, keep], alone, atol=1e-5, rtol=1e-5)
    noisy = [torch.where(valid[:, None, :, None], x, 1e3 * torch.randn_like(x)) for x in (q, k, v)]
    keep = valid[:, None, :, None].expand_as(out)
    assert_close(call(name, *noisy, valid)[keep], out[keep], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MAPS)
@quick
@given(shape=shapes, seed=st.integers(0, 10**6))
def test_implied_map_is_stochastic_and_is_the_mechanism(name, shape, seed):
    q, k, v = qkv(shape, seed)
    for valid in (None, some_valid(shape, seed)):
        rows = plain(name, q).map(q, k, valid)
        assert rows.min() >= 0
        assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]), atol=1e-5, rtol=0)
        if valid is not None:
            assert not (rows * ~valid[:, None, None]).any()
        assert_close(rows @ v, plain(name, q)(q, k, v, valid), atol=2e-5, rtol=2e-4)


def test_implied_softmax_survives_garbage_in_padding():
    q, k, _ = qkv((1, 1, 4, 8))
    valid = torch.tensor([[True, True, False, False]])
    q[:, :, :2], k[:, :, 2:] = q[:, :, :2].abs(), 1e4
    rows = plain("softmax", q).map(q, k, valid)
    assert_close(rows.sum(-1)[0, 0, :2], torch.ones(2))


@pytest.mark.parametrize("name", MAPS)
def test_constant_values_come_back(name):
    q, k, _ = qkv((2, 3, 20, 8))
    v = torch.randn(2, 3, 1, 8).expand(-1, -1, 20, -1)
    for valid in (None, some_valid(q.shape)):
        assert_close(plain(name, q)(q, k, v, valid), v, atol=1e-5, rtol=1e-5)


def test_cross_covariance_returns_channels_that_are_equal():
    q, k, v = qkv((2, 3, 20, 8))
    v = v[..., :1].expand(-1, -1, -1, 8)
    assert_close(CrossCovariance(3, 8)(q, k, v), v)


@pytest.mark.parametrize("name", MECHANISMS)
def test_duplicated_tokens_change_nothing(name):
    q, k, v = qkv((2, 2, 11, 6))
    twice = call(name, *(torch.cat([x, x], 2) for x in (q, k, v)))
    assert_close(twice[:, :, :11], call(name, q, k, v), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MECHANISMS)
def test_order_of_tokens_does_not_matter(name):
    q, k, v = qkv((1, 2, 13, 4))
    order = torch.randperm(13)
    assert_close(call(name, *(x[:, :, order] for x in (q, k, v))),
                 call(name, q, k, v)[:, :, order], atol=1e-5, rtol=1e-5)


def test_a_query_without_a_positive_component_averages_its_keys():
    q, k, v = -torch.ones(1, 1, 1, 4), torch.rand(1, 1, 5, 4) + 0.5, torch.randn(1, 1, 5, 4)
    share = k.sum(-1, keepdim=True) / k.sum()
    assert_close(ReluLinear(1, 4)(q, k, v), (share * v).sum(2, keepdim=True))
    assert not ReluLinear(1, 4, normalizer="sum")(q, k, v).any()


def test_published_floor_silences_few_tokens_and_the_mean_does_not():
    q, k, _ = qkv((1, 4, 625, 64))
    v = torch.ones_like(q)
    for count in (625, 5):
        few = [x[:, :, :count] for x in (q, k, v)]
        published = ReluLinear(4, 64, normalizer="sum", floor=100.0)(*few)
        assert_close(ReluLinear(4, 64)(*few), few[2], atol=1e-5, rtol=1e-5)
        if count == 625:
            assert_close(published, few[2], atol=1e-4, rtol=0)
        else:
            assert (published < 0.9).float().mean() > 0.9


def test_an_unknown_normaliser_is_an_error():
    for kind in MECHANISMS.values():
        with pytest.raises(ValueError, match="'mean' or 'sum'"):
            kind(1, 2, normalizer="median")


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("count", [1, 50])
def test_bfloat16_stays_close_to_float32(name, count):
    q, k, v = qkv((2, 2, count, 16))
    low = call(name, *(x.bfloat16() for x in (q, k, v)))
    assert low.dtype == torch.bfloat16
    high = call(name, *(x.bfloat16().float() for x in (q, k, v)))
    assert (low.float() - high).abs().max() < 0.04 * high.abs().max()


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("content", ["zeros", "huge", "none valid"])
def test_gradients_stay_finite(name, content):
    q, k, v = (torch.zeros(2, 2, 5, 4) if content == "zeros" else x for x in qkv((2, 2, 5, 4)))
    if content == "huge":
        q, k, v = 1e4 * q, 1e4 * k, 1e4 * v
    valid = torch.ones(2, 5, dtype=torch.bool)
    if content == "none valid":
        valid[1] = False
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    out = call(name, *inputs, valid)
    assert out.isfinite().all()
    (out * valid[:, None, :, None]).sum().backward()
    assert all(x.grad.isfinite().all() for x in inputs)


def test_gradients_are_right():
    q, k, v = (x.requires_grad_() for x in qkv((1, 2, 4, 3), dtype=torch.float32))

    def grads(function):
        return torch.autograd.grad((function(q, k, v) * v.detach().cos()).sum(), (q, k, v))

    for name in MAPS:
        mechanism = plain(name, q)
        exact = grads(lambda q, k, v, mechanism=mechanism: mechanism.map(q, k) @ v)
        for mine, theirs in zip(grads(mechanism), exact):
            assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


TOY = """
import torch
from torch import nn

from lib.models.attention import MECHANISMS, Mechanism


@MECHANISMS.register("mean")
class Mean(Mechanism):
    def __init__(self, heads, width, **settings):
        super().__init__(heads, width, **settings)
        self.gain = nn.Parameter(torch.ones(heads, 1, 1))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, q, k, v, valid=None):
        share = valid[:, None, :, None] / valid.sum(1).clamp(min=1)[:, None, None, None]
        self.seen += self.training
        return self.gain * (share * v).sum(2, keepdim=True).expand_as(v)
"""


@pytest.mark.parametrize("name", ["mean", "toy_mechanism:Mean"])
def test_a_new_mechanism_is_one_class_in_one_file(name, tmp_path, monkeypatch):
    """By decorator and by name alone; it trains, its parameters and buffers are kept."""
    (tmp_path / "toy_mechanism.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    if ":" not in name:
        importlib.import_module("toy_mechanism")
    settings = {**SETTINGS, "model": {**SETTINGS["model"], "attention": name}}
    run = train("toy", settings, make_jets(40), make_jets(20, seed=1), runs=tmp_path / "runs",
                log=lambda line: None)
    state = run.model().state_dict()
    assert state["blocks.0.attention.gain"].shape == (2, 1, 1)
    assert not torch.equal(state["blocks.0.attention.gain"], torch.ones(2, 1, 1))
    assert float(state["blocks.0.attention.seen"]) > 0
    again = JetViT.from_pretrained(run.folder)
    assert again.config.attention == name
    assert_close(again.state_dict(), state)
    del MECHANISMS["mean"], sys.modules["toy_mechanism"]


def test_weights_keep_the_names_and_the_order_that_they_were_published_with():
    """A parameter of a mechanism is called ``attention.temperature``, before the projections."""
    names = {"relu_linear": ["temperature"], "additive": ["query_weight", "key_weight"]}
    for mechanism, first in names.items():
        config = ViTConfig.of(Grid(1, 4, 4, 2, 2), dim=8, depth=1, heads=2, attention=mechanism,
                              temperature=0.5)
        model = JetViT(config)
        state = model.state_dict()
        own = [n.removeprefix("blocks.0.attention.") for n in state if ".attention." in n]
        assert own == [*first, "qkv.weight", "qkv.bias", "proj.weight", "proj.bias"]
        for value in state.values():
            value.add_(1.0)
        other = JetViT(config)
        other.load_state_dict(state)
        assert_close(other.state_dict(), state)
        for bad in ({**state, "blocks.0.attention.spin": torch.ones(1)},
                    {k: v for k, v in state.items() if not k.endswith(first[0])}):
            with pytest.raises(RuntimeError, match=rf"{first[0]}|spin"):
                other.load_state_dict(bad)
