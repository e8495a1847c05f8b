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

from lib.models.attention import MECHANISMS, CrossCovariance, ReluLinear
from lib.models.vit import JetViT
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


def read(x, valid):
    """Where outputs like x are ever read: (B, H, N, D) bool."""
    return torch.ones_like(x, dtype=torch.bool) if valid is None else (
        valid[:, None, :, None].expand_as(x))


def plain(name, q, **settings):
    """A mechanism for queries like q."""
    return MECHANISMS[name](q.shape[1], q.shape[3], **settings)


def make(name, q):
    """A mechanism for queries like q with all the parameters it takes, none of them trivial."""
    mechanism = plain(name, q, temperature=1.0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part, value in mechanism.named_parameters():
            if part == "temperature":
                value.copy_(torch.linspace(0.5, 1.5, q.shape[1]).view(-1, 1, 1))
            else:
                drawn = torch.randn(value.shape, generator=generator)
                value.copy_(drawn.abs() if part == "mix" else drawn)  # small ones meet the floor
    return mechanism.to(q.dtype if q.dtype == torch.float64 else torch.float32)


def places(q, seed=0):
    """Patches of the CMS grid, some of them coarse, some without a place: (B, N)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, 650, (q.shape[0], q.shape[2]), generator=generator)


def call(name, q, k, v, valid=None, position=None):
    mechanism = make(name, q)
    if getattr(mechanism, "placed", False):
        return mechanism(q, k, v, valid, places(q) if position is None else position)
    return mechanism(q, k, v, valid)


def window(position):
    """The 7 x 7 patches of the 25 x 25 around a patch: (row, column) of it."""
    row, column = position // 25, position % 25
    if position < 0:
        row, column = 12, 12  # the middle
    elif position >= 625:
        row, column = (position - 625) // 5 * 5 + 2, (position - 625) % 5 * 5 + 2
    return row // 7, column // 7


def block(position):
    """The 5 x 5 patches of the 25 x 25 around a patch, in Python's own numbers."""
    if position < 0:
        return 12  # the middle
    if position >= 625:
        return position - 625
    return position // 25 // 5 * 5 + position % 25 // 5


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def by_hand(name, q, k, v):
    """The formula, one query of one head after another, in Python's own numbers (float64)."""
    own = {n: p.detach().double() for n, p in make(name, q).named_parameters()}
    where = [[[find(int(p)) for p in row] for row in places(q)] for find in (block, window)]
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(v)
    for b in range(len(q)):
        for h in range(q.shape[1]):
            mine = {n: p[h] for n, p in own.items()} | {"block": where[0][b],
                                                              "window": where[1][b]}
            out[b, h] = BY_HAND[name](q[b, h], k[b, h], v[b, h], mine)
    return out.float()


def averaged(score):
    """Rows of weights from score(n, j), and their averages of values."""
    def formula(Q, K, V, own):
        rows = []
        for n in range(len(Q)):
            share = torch.stack([score(Q, K, n, j, own) for j in range(len(K))])
            rows.append(own.get("temperature", torch.ones(1)).item() * (share @ V) / share.sum())
        return torch.stack(rows)
    return formula


def by_channel(Q, K, V, own):
    unit = [x / x.norm(dim=0).clamp(min=1e-12) for x in (Q, K)]
    out = torch.zeros_like(V)
    for i in range(V.shape[1]):
        logits = torch.stack([unit[0][:, i] @ unit[1][:, j] for j in range(V.shape[1])])
        out[:, i] = V @ (own["temperature"].item() * logits).softmax(0)
    return out


def by_sums(Q, K, V, own):
    root = math.sqrt(Q.shape[1])
    P = ((Q @ own["query_weight"] / root).softmax(0) @ Q) * K
    return ((P @ own["key_weight"] / root).softmax(0) @ P) * V + Q


def by_subtraction(Q, K, V, own):
    out, count = torch.zeros_like(V), len(K)
    for n in range(count):
        scores = [dot(Q[n], K[j]) / count for j in range(count)]
        for j in range(count):
            out[n] += (scores[j] - sum(scores) / count + 1 / count) * V[j]
    return out


def by_polarity(Q, K, V, own):
    power = (1 + 4 / (1 + torch.exp(-own["power"][0]))).tolist()

    def part(x, sign):
        return [max(sign * float(value), 0) ** p + 1e-6 for value, p in zip(x, power, strict=True)]

    out, half = torch.zeros_like(V), math.ceil(V.shape[1] / 2)
    for n in range(len(Q)):
        for c in range(V.shape[1]):
            signs = ((1, 1), (-1, -1)) if c < half else ((1, -1), (-1, 1))
            weight = [sum(dot(part(Q[n], a), part(key, b)) for a, b in signs) / len(K)
                      for key in K]
            total = max(sum(weight), 1e-6)
            out[n, c] = own["gain"][0, c] * sum(w * x for w, x in zip(weight, V[:, c])) / total
    return out


def by_a_step(Q, K, V, own):
    inner = [own[n].clone().requires_grad_() for n in ("value", "gate")]

    def network(x, A, B):
        return (x @ A) * (x @ B) / (1 + torch.exp(-x @ B))

    longest = math.sqrt(K.shape[1])
    K = torch.stack([key * min(1, longest / max(float(key.norm()), 1e-12)) for key in K])
    loss = -sum(dot(network(key, *inner), value) for key, value in zip(K, V)) / len(K)
    slopes = torch.autograd.grad(loss, inner)
    return network(Q, *(w.detach() - slope for w, slope in zip(inner, slopes)))


def by_groups(Q, K, V, own):
    groups, root = sorted(set(own["block"])), math.sqrt(Q.shape[1])
    members = {g: [n for n, at in enumerate(own["block"]) if at == g] for g in groups}
    mean = {g: [x[members[g]].mean(0) for x in (Q, K, V)] for g in groups}
    summary = {}
    for g in groups:
        share = torch.stack([mean[g][0] @ mean[o][1] / root for o in groups]).softmax(0)
        summary[g] = [sum(s * mean[o][i] for s, o in zip(share, groups)) for i in (1, 2)]
    out = torch.zeros_like(V)
    for n, g in enumerate(own["block"]):
        keys = [K[j] for j in members[g]] + [summary[g][0]]
        values = [V[j] for j in members[g]] + [summary[g][1]]
        out[n] = torch.stack([Q[n] @ key / root for key in keys]).softmax(0) @ torch.stack(values)
    return out


def by_windows(Q, K, V, own):
    out = torch.zeros_like(V)
    for n, window in enumerate(own["window"]):
        near = [j for j, other in enumerate(own["window"]) if other == window]
        share = torch.stack([Q[n] @ K[j] / math.sqrt(Q.shape[1]) for j in near]).softmax(0)
        out[n] = share @ V[near]
    return out


def relu(x):
    return x.clamp(min=0) + 1e-6


def elu(x):
    return torch.where(x > 0, x + 1, x.exp())


BY_HAND = {
    "softmax": averaged(lambda Q, K, n, j, own: torch.exp(Q[n] @ K[j] / math.sqrt(Q.shape[1]))),
    "relu_linear": averaged(lambda Q, K, n, j, own: relu(Q[n]) @ relu(K[j])),
    "elu_linear": averaged(lambda Q, K, n, j, own: elu(Q[n]) @ elu(K[j])),
    "cross_covariance": by_channel,
    "additive": by_sums,
    "none": lambda Q, K, V, own: V,
    "inline": by_subtraction,
    "polaformer": by_polarity,
    "mhla": averaged(lambda Q, K, n, j, own: relu(Q[n]) @ relu(K[j])
                     * own["mix"][own["block"][n], own["block"][j]].exp()),
    "vit3": by_a_step,
    "groups": by_groups,
    "windows": by_windows,
}


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
        alone = call(name, *(x[image:image + 1, :, keep] for x in (q, k, v)),
                     position=places(q)[image:image + 1, keep])
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
        assert rows.min() >= 0 or name == "inline"  # which subtracts
        assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]), atol=1e-5, rtol=0)
        if valid is not None:
            assert not (rows * ~valid[:, None, None]).any()
        out, keep = plain(name, q)(q, k, v, valid), read(v, valid)
        assert_close((rows @ v)[keep], out[keep], atol=2e-5, rtol=2e-4)


def test_implied_softmax_survives_garbage_in_padding():
    q, k, _ = qkv((1, 1, 4, 8))
    valid = torch.tensor([[True, True, False, False]])
    q[:, :, :2], k[:, :, 2:] = q[:, :, :2].abs(), 1e4
    rows = plain("softmax", q).map(q, k, valid)
    assert_close(rows.sum(-1)[0, 0, :2], torch.ones(2))


@pytest.mark.parametrize("name", [*MAPS, "polaformer", "groups", "windows"])
def test_constant_values_come_back(name):
    q, k, _ = qkv((2, 3, 20, 8))
    v = torch.randn(2, 3, 1, 8).expand(-1, -1, 20, -1)
    for valid in (None, some_valid(q.shape)):
        keep = read(v, valid)
        assert_close(plain(name, q)(q, k, v, valid)[keep], v[keep], atol=1e-5, rtol=1e-5)


def test_cross_covariance_returns_channels_that_are_equal():
    q, k, v = qkv((2, 3, 20, 8))
    v = v[..., :1].expand(-1, -1, -1, 8)
    assert_close(CrossCovariance(3, 8)(q, k, v), v)


# The summary token of a small group stays one where its members double.
@pytest.mark.parametrize("name", [name for name in MECHANISMS if name != "groups"])
def test_duplicated_tokens_change_nothing(name):
    q, k, v = qkv((2, 2, 11, 6))
    twice = call(name, *(torch.cat([x, x], 2) for x in (q, k, v)),
                 position=torch.cat([places(q), places(q)], 1))
    assert_close(twice[:, :, :11], call(name, q, k, v), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MECHANISMS)
def test_order_of_tokens_does_not_matter(name):
    q, k, v = qkv((1, 2, 13, 4))
    order = torch.randperm(13)
    assert_close(call(name, *(x[:, :, order] for x in (q, k, v)), position=places(q)[:, order]),
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
        with pytest.raises(ValueError, match="choose one of mean, sum"):
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
    assert all(x.grad is None or x.grad.isfinite().all() for x in inputs)


def test_gradients_are_right():
    q, k, v = (x.requires_grad_() for x in qkv((1, 2, 4, 3), dtype=torch.float32))

    def grads(function):
        return torch.autograd.grad((function(q, k, v) * v.detach().cos()).sum(), (q, k, v))

    for name in MAPS:
        mechanism = plain(name, q)
        exact = grads(lambda q, k, v, mechanism=mechanism: mechanism.map(q, k) @ v)
        for mine, theirs in zip(grads(mechanism), exact):
            assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["none", "inline", "polaformer", "mhla", "vit3", "groups",
                                  "windows"])
def test_derivatives_of_the_zoo_are_those_of_differences(name):
    """In float64, masked; of the parameters too."""
    parts = [x.requires_grad_() for x in qkv((2, 2, 5, 3), dtype=torch.float64)]
    mechanism, valid = make(name, parts[0]), torch.ones(2, 5, dtype=torch.bool)
    valid[1, 2:4] = False
    place = (places(parts[0]),) if getattr(mechanism, "placed", False) else ()
    keep = valid[:, None, :, None]

    def function(q, k, v, *weights):
        named = dict(zip(dict(mechanism.named_parameters()), weights, strict=True))
        return keep * torch.func.functional_call(mechanism, named, (q, k, v, valid, *place))

    assert torch.autograd.gradcheck(function, (*parts, *mechanism.parameters()), atol=1e-5)


def test_the_published_inline_adds_where_ours_averages():
    q, k, v = qkv((1, 2, 7, 4))
    published = make("inline", q)
    published.normalizer = "sum"
    valid = some_valid(q.shape)
    few = [x * valid[:, None, :, None] for x in (q, k, v)]
    count = int(valid.sum())
    ours = call("inline", count * few[0], *few[1:], valid)
    assert_close(published(*few, valid), ours, atol=1e-5, rtol=1e-5)
    assert_close(published.map(q, k, valid) @ v, published(q, k, v, valid), atol=1e-5, rtol=1e-4)


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
    assert state["blocks.0.attention.mechanism.gain"].shape == (2, 1, 1)
    assert not torch.equal(state["blocks.0.attention.mechanism.gain"], torch.ones(2, 1, 1))
    assert float(state["blocks.0.attention.mechanism.seen"]) > 0
    again = JetViT.from_pretrained(run.folder)
    assert again.config.attention == name
    assert_close(again.state_dict(), state)
    del MECHANISMS["mean"], sys.modules["toy_mechanism"]
