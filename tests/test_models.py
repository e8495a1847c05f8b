"""JetViT: padding changes nothing, whatever the settings; sizes, files and precision."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lib
from hcal.maps import HcalMaps
from lib.data.images import JetImages
from lib.data.tokens import HCAL, TOP_QCD, Grid, Hits, TokenBatch, tokenize
from lib.models import blocks
from lib.models.attention import MECHANISMS
from lib.models.blocks import MaskedBatchNorm, depthwise
from lib.models.vit import R1, JetViT, ViTConfig, patch_sums

GRID = Grid(8, 33, 28, 5, 5)  # both far edges overhang
REAL_JET = Path(lib.__file__).parents[2] / "shared" / "data" / "real_jet_3459.npz"

SETTINGS = {
    "default": {},
    **{name: {"attention": name} for name in MECHANISMS},
    "relu_sum": {"normalizer": "sum", "floor": 1e-6, "temperature": 0.25},
    "elu_temperature": {"attention": "elu_linear", "temperature": 0.5},
    "xca_temperature": {"attention": "cross_covariance", "temperature": 1.0},
    "mlp_stem": {"stem": "mlp"},
    "conv_stem": {"stem": "conv"},
    "embed_norm": {"embed_norm": True},
    "lcm_batch": {"lcm_norm": "batch", "lcm_kernel": 7},
    "lcm_none": {"lcm_kernel": 0},
    "lcm_batch_cls": {"lcm_norm": "batch", "pool": "cls"},
    "pool_mean": {"pool": "mean"},
    "pool_energy": {"pool": "energy", "head_hidden": 32},
    "pool_cls": {"pool": "cls"},
    "cls_softmax": {"pool": "cls", "attention": "softmax", "lcm_kernel": 0},
    "factorised": {"position": "factorised"},
    "no_position": {"position": "none"},
    "no_summary": {"summary": False},
    "scale_255": {"scale": 255.0},
    "no_mass": {"mass_head": False},
    "two_scale": {"tokens": "two_scale"},
    "two_scale_batch": {"tokens": "two_scale", "lcm_norm": "batch", "position": "factorised"},
    "two_scale_cls": {"tokens": "two_scale", "pool": "cls"},
    "pool_class_attention": {"pool": "class_attention"},
    "xcit": {"attention": "cross_covariance", "temperature": 1.0, "lcm_norm": "batch",
             "layer_scale": 0.5, "pool": "class_attention"},
    "mhla_cls": {"attention": "mhla", "pool": "cls"},
    "mhla_two_scale": {"attention": "mhla", "tokens": "two_scale"},
    "groups_two_scale": {"attention": "groups", "tokens": "two_scale", "position": "factorised"},
    "r1_small": {**R1, "dim": 16, "depth": 2, "heads": 2, "dropout": 0.0, "drop_path": 0.0},
}


def make_hits(images: int = 5, grid: Grid = GRID, seed: int = 0) -> Hits:
    """Jet-like images of values 1...255; the second has a single hit, the last none."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(20, 60, (images,), generator=generator)
    counts[1 % images], counts[-1] = 1, 0 if images > 1 else 30
    image = torch.repeat_interleave(torch.arange(images), counts)
    size = len(image)
    channel, row, column = (torch.randint(0, n, (size,), generator=generator) for n in grid.shape)
    value = torch.randint(1, 256, (size,), generator=generator).float()
    return Hits(image, channel, row, column, value, images)


def make_model(hits: Hits, grid: Grid = GRID, seed: int = 0, **settings) -> JetViT:
    torch.manual_seed(seed)
    small = {"dim": 16, "depth": 2, "heads": 2}
    model = JetViT(ViTConfig.of(grid, **{**small, **settings}))
    for parameter in model.parameters():  # none stays at a start value that hides a mistake
        if parameter.ndim and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    tokens = tokenize(hits, grid, model.config.tokens)
    return model.fit_scales(hits, tokens, torch.linspace(80, 200, hits.images))


def padded(tokens: TokenBatch, extra: int = 7, garbage: float = 50.0) -> TokenBatch:
    """The same jets in other slots, among padding that holds nonsense."""
    generator = torch.Generator().manual_seed(1)
    count, length, width = tokens.features.shape
    order = torch.randperm(length + extra, generator=generator)
    features = garbage * torch.randn(count, length + extra, width, generator=generator)
    position = torch.randint(0, tokens.grid.patches, (count, length + extra), generator=generator)
    valid = torch.zeros(count, length + extra, dtype=torch.bool)
    valid[:, :length] = tokens.valid
    keep = valid[:, :length]
    features[:, :length][keep], position[:, :length][keep] = (
        tokens.features[keep], tokens.position[keep])
    return TokenBatch(features[:, order], position[:, order], valid[:, order], tokens.grid)


def run(model: JetViT, tokens: TokenBatch):
    """Logits, mass and all gradients of a loss in which every output counts."""
    model.zero_grad()
    logits, mass = model(tokens)
    weight = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    loss = (logits * weight).mean()
    if mass is not None:
        loss = loss + ((mass - model.mass_mean) / model.mass_std).square().mean()
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), None if mass is None else mass.detach(), gradients


def assert_same(one, two) -> None:
    """Outputs within 1e-5, gradients within 1e-5 of the model's largest (or of one)."""
    assert_close(one[0], two[0], atol=1e-5, rtol=1e-5)
    assert (one[1] is None) == (two[1] is None)
    if one[1] is not None:
        assert_close(one[1], two[1], atol=1e-3, rtol=1e-5)
    assert one[2].keys() == two[2].keys()
    scale = max(1.0, *(float(value.abs().max()) for value in one[2].values()))
    for name, value in one[2].items():
        worst = float((value - two[2][name]).abs().max())
        assert worst <= 1e-5 * scale, f"gradient of {name} differs by {worst} of {scale}"


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_padding_changes_neither_outputs_nor_gradients(name, train):
    settings, hits = SETTINGS[name], make_hits()
    model = make_model(hits, **settings).train(train)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    two_scale = settings.get("tokens") == "two_scale"
    packed = tokenize(hits, GRID, "two_scale" if two_scale else "active")
    others = [padded(packed)] + ([] if two_scale else [tokenize(hits, GRID, "masked")])
    expected = run(model, packed)
    after = {k: v.clone() for k, v in model.state_dict().items()}
    for other in others:
        assert other.features.shape[1] != packed.features.shape[1]
        model.load_state_dict(state)
        assert_same(expected, run(model, other))
        for key, value in model.state_dict().items():  # the running statistics of a norm
            assert_close(value, after[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_one_jet_alone_is_the_jet_in_its_batch(name):
    settings, hits = SETTINGS[name], make_hits(6)
    model = make_model(hits, **settings).eval()
    keep = settings.get("tokens", "active")
    logits, mass = model(tokenize(hits, GRID, keep))
    for image in range(6):
        mine = hits.select(hits.image == image)
        alone = Hits(mine.image * 0, mine.channel, mine.row, mine.column, mine.value, 1)
        one_logits, one_mass = model(tokenize(alone, GRID, keep))
        assert_close(one_logits[0], logits[image], atol=1e-5, rtol=1e-5)
        if mass is not None:
            assert_close(one_mass[0], mass[image], atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_images_without_a_hit_have_finite_gradients(name):
    settings = SETTINGS[name]
    model = make_model(make_hits(), **settings).train()
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = Hits(nothing, nothing, nothing, nothing, torch.zeros(0), 2)
    two_scale = settings.get("tokens") == "two_scale"
    for keep in ("two_scale",) if two_scale else ("active", "masked", "all"):
        logits, mass, gradients = run(model, tokenize(empty, GRID, keep))
        assert logits.isfinite().all()
        assert mass is None or mass.isfinite().all()
        assert all(value.isfinite().all() for value in gradients.values())


def test_gradients_reach_every_parameter():
    hits = make_hits()
    for settings in SETTINGS.values():
        model = make_model(hits, **settings).train()
        _, _, gradients = run(model, tokenize(hits, GRID, settings.get("tokens", "active")))
        assert set(gradients) == {name for name, _ in model.named_parameters()}
        assert any(value.any() for value in gradients.values())


def test_encode_and_features_have_the_promised_shapes():
    hits = make_hits()
    tokens = tokenize(hits, GRID)
    for pool, width in (("mean", 16), ("mean_max", 32), ("cls", 16)):
        model = make_model(hits, pool=pool).eval()
        assert model.encode(tokens).shape == (*tokens.valid.shape, 16)
        assert model.features(tokens).shape == (5, width + 32)
        assert model(tokens)[0].shape == (5, 2)
        assert model(tokens)[1].shape == (5,)
    assert make_model(hits, mass_head=False)(tokens)[1] is None


def test_dense_and_active_tokens_are_different_models():
    """The dense model sees empty patches: dropping them is a choice, not a rewriting."""
    hits = make_hits()
    model = make_model(hits).eval()
    active, every = tokenize(hits, GRID, "active"), tokenize(hits, GRID, "all")
    assert not torch.allclose(model(active)[0], model(every)[0], atol=1e-3)


def test_convolution_sees_neighbours_and_attention_does_not():
    """Without positions, moving a jet by a patch changes nothing; moving one hit does."""
    hits = make_hits(1)
    inside = hits.select((hits.row < 25) & (hits.column < 20))
    model = make_model(inside, position="none").eval()
    before = model(tokenize(inside, GRID))[0]
    moved = dataclasses.replace(inside, row=inside.row + 5, column=inside.column + 5)
    assert_close(model(tokenize(moved, GRID))[0], before, atol=1e-5, rtol=1e-5)
    row = torch.where(inside.row < 10, inside.row, inside.row + 5)
    apart = dataclasses.replace(inside, row=row)
    assert not torch.allclose(model(tokenize(apart, GRID))[0], before, atol=1e-6)
    model = make_model(inside, position="none", lcm_kernel=0, summary=False).eval()
    assert_close(model(tokenize(apart, GRID))[0], model(tokenize(inside, GRID))[0],
                 atol=1e-5, rtol=1e-5)


def test_r1_has_its_published_size():
    model = JetViT(ViTConfig.of(TOP_QCD, **R1))
    assert sum(p.numel() for p in model.parameters()) == 5_111_579


LOW_PRECISION = ["default", "softmax", "lcm_batch", "two_scale", "cross_covariance"]


@pytest.mark.parametrize("name", LOW_PRECISION)
def test_bfloat16_stays_close_to_float32(name):
    settings, hits = SETTINGS[name], make_hits(6)
    # Of a single token XCA's normalised columns are signs, which rounding may flip.
    hits = hits.select(hits.image != 1)
    model = make_model(hits, **settings).eval()
    tokens = tokenize(hits, GRID, settings.get("tokens", "active"))
    with torch.no_grad():
        logits, mass = model(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            low_logits, low_mass = model(tokens)
    assert low_logits.dtype == low_mass.dtype == torch.float32
    assert (low_logits - logits).abs().max() < 0.05 * max(1.0, float(logits.abs().max()))
    assert (low_mass - mass).abs().max() < 0.05 * float(model.mass_std)


def test_masked_batch_norm_is_batch_norm_where_all_is_valid():
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(4, 9, 6)).requires_grad_()
    ours, theirs = MaskedBatchNorm(6), nn.BatchNorm1d(6)
    valid = torch.ones(4, 9, dtype=torch.bool)
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        one, two = ours(x, valid), theirs(x.flatten(0, 1)).view_as(x)
        assert_close(one, two, atol=1e-5, rtol=1e-5)
        grads = [torch.autograd.grad(y.cos().sum(), x)[0] for y in (one, two)]
        assert_close(*grads, atol=1e-5, rtol=1e-4)
    assert_close(ours.running_mean, theirs.running_mean)
    assert_close(ours.running_var, theirs.running_var)


def test_masked_batch_norm_sees_valid_tokens_only():
    x, valid = torch.randn(3, 7, 4), torch.rand(3, 7) < 0.5
    ours, theirs = MaskedBatchNorm(4), nn.BatchNorm1d(4)
    assert_close(ours(x, valid)[valid], theirs(x[valid]), atol=1e-5, rtol=1e-5)
    assert_close(ours.running_var, theirs.running_var)
    one = torch.zeros(3, 7, dtype=torch.bool)
    one[0, 0] = True  # a single token has no variance
    assert ours(x, one).isfinite().all()


def test_input_scale_keeps_zero_sign_and_order():
    hits = make_hits()
    scale = make_model(hits).scale
    x = torch.tensor([-3.0, 0.0, 1.0, 200.0]).view(1, 4, 1).expand(1, 4, GRID.patch_dim)
    y = scale(x)
    assert not y[0, 1].any()
    assert (y[0, 0] < 0).all()
    assert (y[0, 3] > y[0, 2]).all()
    values = tokenize(hits, GRID).features
    rms = scale(values)[values != 0].square().mean().sqrt()
    assert 0.9 < float(rms) < 1.1
    assert_close(make_model(hits, scale=255.0).scale(x), x / 255)


def test_summary_counts_pixels_energy_and_widths():
    hits = make_hits()
    model, tokens = make_model(hits), tokenize(hits, GRID)
    sums = patch_sums(tokens.features, GRID.channels)
    raw = model.summary.raw(sums, tokens)
    dense = torch.zeros(5, *GRID.shape)
    dense.index_put_((hits.image, hits.channel, hits.row, hits.column), hits.value, accumulate=True)
    expected = torch.cat([dense.ne(0).float().sum((2, 3)), dense.sum((2, 3))], 1)
    assert_close(raw[:, :16].expm1(), expected, atol=1e-3, rtol=1e-4)
    widths = raw[:, 16:].exp().view(5, 2, 8)
    for jet in range(5):  # an independent statement: weighted standard deviations, patch by patch
        for channel in range(8):
            here = (hits.image == jet) & (hits.channel == channel)
            if not here.any():
                continue
            weight = hits.value[here].numpy()
            for axis, pixel in enumerate((hits.row[here] // 5, hits.column[here] // 5)):
                x = pixel.numpy().astype(float)
                mean = np.average(x, weights=weight)
                spread = np.average((x - mean) ** 2, weights=weight)
                assert widths[jet, axis, channel] == pytest.approx((spread + 0.01) ** 0.5, rel=1e-3)
    assert_close(model.summary(sums, tokens).mean(0), torch.zeros(32), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["default", "lcm_batch", "pool_cls", "two_scale"])
def test_a_saved_model_comes_back(name, tmp_path):
    settings, hits = SETTINGS[name], make_hits()
    model = make_model(hits, **settings).train()
    tokens = tokenize(hits, GRID, settings.get("tokens", "active"))
    model(tokens)  # moves running statistics
    folder = model.eval().save_pretrained(tmp_path / "model", card="# A model\n")
    again = JetViT.from_pretrained(folder)
    assert again.config == model.config
    assert torch.equal(again(tokens)[0], model(tokens)[0])
    assert torch.equal(again(tokens)[1], model(tokens)[1])
    assert (folder / "README.md").read_text() == "# A model\n"


def test_files_that_do_not_fit_say_so(tmp_path):
    folder = make_model(make_hits()).save_pretrained(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dim": 32}))
    with pytest.raises(ValueError, match=r"model\.safetensors.*does not fit"):
        JetViT.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**config, "wings": 2}))
    with pytest.raises(ValueError, match=r"config\.json.*wings"):
        JetViT.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        JetViT.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        JetViT.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        JetViT.from_pretrained(folder)


@pytest.mark.parametrize(("settings", "words"), [
    ({"attention": "sparse"}, "relu_linear"),
    ({"stem": "tree"}, "conv"),
    ({"position": "polar"}, "factorised"),
    ({"pool": "median"}, "mean_max"),
    ({"lcm_norm": "group"}, "layer"),
    ({"heads": 5}, "not a multiple"),
    ({"depht": 3}, "depth"),
    ({"tokens": "some"}, "two_scale"),
    ({"scale": "logg"}, "log"),
    ({"normalizer": "median"}, "mean, sum"),
])
def test_unknown_settings_name_the_known(settings, words):
    with pytest.raises(ValueError, match=words):
        JetViT(ViTConfig.of(GRID, **{"dim": 16, "heads": 2, **settings}))


def test_hcal_maps_run_with_live_cells():
    live = torch.rand(64, 72, generator=torch.Generator().manual_seed(0)) < 0.2
    maps = HcalMaps(torch.rand(3, 64, 72) * live, live)
    model = make_model(maps.hits(range(3)), HCAL, mass_head=False).eval()
    one, two = (model(maps.batch(range(3), keep).tokens)[0] for keep in ("active", "masked"))
    assert_close(one, two, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not REAL_JET.is_file(), reason="the real jet is not here")
def test_a_real_jet_goes_all_the_way(tmp_path):
    image = np.load(REAL_JET, allow_pickle=False)["jet"]
    jets = JetImages.from_dense(np.moveaxis(image, -1, 1))
    jets = JetImages.open(jets.save(tmp_path / "real.h5"))
    assert_close(jets.dense([0])[0].permute(1, 2, 0), torch.from_numpy(image[0]).float())
    hits = jets.hits([0])
    tokens = tokenize(hits, TOP_QCD)
    assert tokens.features.shape[1] == tokens.valid.sum() == 357
    two = tokenize(hits, TOP_QCD, "two_scale")
    assert (two.position[two.valid] < 625).sum() == 112
    assert two.valid.sum() < 140
    model = JetViT(ViTConfig.of(TOP_QCD, dim=32, depth=1, heads=2)).fit_scales(hits, tokens).eval()
    logits, mass = model(tokens)
    assert logits.isfinite().all()
    assert mass.isfinite().all()
    assert_close(model(tokenize(hits, TOP_QCD, "masked"))[0], logits, atol=1e-5, rtol=1e-5)


def test_the_fast_depthwise_gradient_is_the_gradient():
    """What replaces the library's backward pass of a wide depthwise convolution in bfloat16."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 6, 7, padding=3, groups=6)
    images = torch.randn(3, 6, 9, 11)
    found = []
    for low in (False, True):
        x = images.clone().requires_grad_()
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            out = depthwise(conv, x)
        out.float().square().sum().backward()
        found.append([out.float(), x.grad, conv.weight.grad.clone(), conv.bias.grad.clone()])
    for exact, fast in zip(*found, strict=True):
        assert (exact - fast).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("kernel", [3, 5])
def test_convolution_by_neighbours_is_the_dense_one(kernel, monkeypatch):
    """Of tokens on a grid, some without a place, some padding; outputs and all gradients."""
    generator = torch.Generator().manual_seed(0)
    grid = Grid(1, 11, 9, 1, 1)
    position = torch.stack([torch.randperm(99, generator=generator)[:30] for _ in range(3)])
    position[:, 0], valid = -1, torch.rand(3, 30, generator=generator) < 0.7
    position[:, 1] = 99 + 4  # a coarse token
    conv = nn.Conv2d(6, 6, kernel, padding=kernel // 2, groups=6)
    found = []
    for sparse in (0, 1e9):
        monkeypatch.setattr(blocks, "SPARSE", sparse)
        x = torch.randn(3, 30, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        conv.zero_grad()
        out = blocks.Layout(position, valid, grid).convolve(conv, x)
        (out * valid.unsqueeze(2)).cos().sum().backward()
        found.append([out[valid], x.grad, conv.weight.grad.clone(), conv.bias.grad.clone()])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert found[0][0][position[valid] >= 99].abs().sum() == 0


def test_a_model_on_pixels_is_the_same_packed_and_masked():
    grid, hits = Grid(8, 33, 28, 1, 1), make_hits(grid=Grid(8, 33, 28, 1, 1))
    model = make_model(hits, grid, attention="mhla", lcm_norm="batch").train()
    assert_same(run(model, tokenize(hits, grid)), run(model, tokenize(hits, grid, "masked")))
