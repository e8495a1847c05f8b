"""Pretraining: formulas against plain loops, trivial losses, start from a backbone, bad input."""

import json
import math

import numpy as np
import pytest
import torch
from test_augment import make
from torch import nn

from lib.data.images import JetImages
from lib.data.tokens import Batch
from lib.evaluation import probes
from lib.models import blocks
from lib.models.vit import JetViT, ViTConfig
from lib.training import backbone as start
from lib.training.contrastive import SimCLR, nt_xent
from lib.training.fit import FitSettings, fit
from lib.training.masked import MAE, Denoising, reconstruction
from lib.training.objectives import Supervised
from lib.training.recipe import Recipe, build
from lib.training.runs import Run, train
from lib.training.split import make_batches

MODEL = {"dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0, "tokens": "two_scale",
         "position": "factorised", "pool": "energy", "head_hidden": 8}
FIT = {"updates": 4, "batch_size": 16, "lr": 1e-3, "every": 2, "accelerator": "cpu"}
ARMS = {
    "simclr": {"objective": "simclr", "augment": "ours"},
    "mae": {"objective": "mae", "augment": "flips"},
    "mae_r1": {"objective": "mae", "loss": {"mask": "all", "lcm": "skip", "reconstruct": "mse"}},
    "denoising": {"objective": "denoising", "augment": "flips"},
}


def quiet(line):
    pass


@pytest.fixture(scope="module")
def labelled() -> JetImages:
    return make("cms8", jets=60)


@pytest.fixture(scope="module")
def jets(labelled) -> JetImages:
    return JetImages(labelled.indptr, labelled.indices, labelled.data, labelled.shape, "cms8")


def settings(arm: str, **changes) -> dict:
    return {"seed": 0, "model": MODEL, "fit": FIT, **ARMS[arm], **changes}


def model_of(jets: JetImages, **changes) -> JetViT:
    torch.manual_seed(0)
    model = JetViT(ViTConfig.of(jets.grid, **{**MODEL, **changes}))
    hits, tokens = jets.hits(range(20)), jets.batch(range(20), model.config.tokens).tokens
    return model.fit_scales(hits, tokens)


def batch_of(arm: str, jets: JetImages, size: int = 8) -> Batch:
    torch.manual_seed(0)
    chosen = Recipe.of(settings(arm, fit={**FIT, "batch_size": size}))
    return next(iter(make_batches(chosen, jets)[0]))


# --- formulas -------------------------------------------------------------------------------------


def test_nt_xent_is_its_formula():
    torch.manual_seed(0)
    a, b, temperature = torch.randn(5, 7), torch.randn(5, 7), 0.5
    views = [x / x.norm() for pair in zip(a, b, strict=True) for x in pair]  # partners together
    losses, matches = [], []
    for i, z in enumerate(views):
        partner = i + 1 if i % 2 == 0 else i - 1
        others = {k: math.exp(float(z @ w) / temperature) for k, w in enumerate(views) if k != i}
        losses.append(-math.log(others[partner] / sum(others.values())))
        matches.append(max(others, key=others.get) == partner)
    loss, match = nt_xent(a, b, temperature)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert match.item() == pytest.approx(np.mean(matches))
    assert nt_xent(a, a.clone(), 0.05)[1] == 1
    same = torch.ones(5, 7)
    assert nt_xent(same, same, 0.5)[0].item() == pytest.approx(math.log(9)), "collapse is a guess"


def test_both_reconstruction_losses_are_their_formulas():
    torch.manual_seed(0)
    target = torch.randn(3, 4, 6) * (torch.rand(3, 4, 6) < 0.4)
    output, asked = torch.randn(3, 4, 12), torch.rand(3, 4) < 0.6
    square, entropy, value, zero_entropy, hits, pixels, energy = 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0
    for i, k in asked.nonzero().tolist():
        for f in range(6):
            t, logit, v = float(target[i, k, f]), float(output[i, k, f]), float(output[i, k, 6 + f])
            p = 1 / (1 + math.exp(-logit))
            pixels += 1
            energy += t * t
            square += (p * v - t) ** 2
            entropy -= math.log(p) if t else math.log(1 - p)
            zero_entropy -= math.log(1e-3) if t else math.log(1 - 1e-3)
            if t:
                hits += 1
                value += (v - t) ** 2
    loss, parts = reconstruction(output, target, asked, "two_part")
    assert loss.item() == pytest.approx(entropy / pixels + value / hits, rel=1e-5)
    assert parts["mse"].item() == pytest.approx(square / pixels, rel=1e-5)
    assert parts["zero"].item() == pytest.approx(zero_entropy / pixels + energy / hits, rel=1e-4)
    assert parts["mse_zero"].item() == pytest.approx(energy / pixels, rel=1e-5)

    plain, parts = reconstruction(output[..., :6], target, asked, "mse")
    chosen = target[asked].numpy()
    assert plain.item() == pytest.approx(((output[..., :6][asked].numpy() - chosen) ** 2).mean())
    assert parts["zero"].item() == pytest.approx((chosen**2).mean(), rel=1e-5)
    assert parts["mean"].item() == pytest.approx(((chosen - chosen.mean(0)) ** 2).mean(), rel=1e-5)


def test_trivial_answers_get_what_the_parts_say():
    torch.manual_seed(0)
    target = torch.randn(2, 30, 4).abs() * (torch.rand(2, 30, 4) < 0.4)
    asked = torch.ones(2, 30, dtype=torch.bool)
    rate = (target > 0).float().mean((0, 1))
    mean = target.sum((0, 1)) / (target > 0).sum((0, 1))
    for logit, value, name in ((torch.tensor(1e-3).logit().expand(4), torch.zeros(4), "zero"),
                               (rate.logit(), mean, "mean")):
        output = torch.cat([logit, value]).expand(2, 30, 8)
        loss, parts = reconstruction(output, target, asked, "two_part")
        assert loss.item() == pytest.approx(parts[name].item(), rel=1e-4)


# --- masking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["active", "all"])
def test_the_ratio_is_hidden_and_hidden_patches_do_not_reach_the_encoder(jets, mask):
    model = model_of(jets)
    objective = MAE(model, 0.75, mask).eval()
    tokens = jets.batch(range(6), "two_scale").tokens
    pool, hidden = objective.hide(tokens)
    assert (hidden & ~pool).sum() == 0
    assert torch.allclose(hidden.sum(1) / pool.sum(1), torch.tensor(0.75), atol=0.02)
    assert pool.sum(1).tolist() == (tokens.valid.sum(1).tolist() if mask == "active" else [650] * 6)

    torch.manual_seed(1)
    output, target, place, asked = objective.reconstructed(tokens)
    gone = torch.zeros(6, 650, dtype=torch.bool)
    gone[torch.arange(6)[:, None].expand_as(place)[asked], place[asked]] = True
    changed = tokens.features.clone()
    changed[gone.gather(1, tokens.position) & tokens.valid] += 5
    torch.manual_seed(1)  # the same patches hidden, with other content
    tokens.features = changed
    again, other, _, _ = objective.reconstructed(tokens)
    assert torch.allclose(output, again, atol=1e-5)
    assert not torch.allclose(target, other)


def test_targets_are_the_hidden_patches(jets):
    model = model_of(jets)
    tokens = jets.batch(range(4), "two_scale").tokens
    _, target, place, asked = MAE(model, mask="all").reconstructed(tokens)
    scaled = model.scale(tokens.features)
    for image in range(4):
        known = {int(p): scaled[image, k] for k, p in enumerate(tokens.position[image])
                 if tokens.valid[image, k]}
        for k in asked[image].nonzero().flatten()[:40]:
            expected = known.get(int(place[image, k]), torch.zeros(200))
            torch.testing.assert_close(target[image, k], expected)


@pytest.mark.parametrize("lcm", ["skip", "zeros", "token"])
def test_convolutions_are_skipped_empty_or_see_mask_tokens(jets, lcm, monkeypatch):
    monkeypatch.setattr(blocks, "SPARSE", 1e9)  # of all cells, so that there is something to see
    objective = MAE(model_of(jets), lcm=lcm)
    seen = []
    objective.model.blocks[0].lcm.first.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].detach()))
    loss, _ = objective.loss(jets.batch(range(4), "two_scale"))
    loss.backward()
    trained = {n for n, p in objective.named_parameters() if p.grad is not None}
    wanted = {n for n, p in objective.named_parameters() if p.requires_grad}
    assert trained == wanted, "every parameter that is to train has a gradient"
    assert bool(seen) == (lcm != "skip")
    if lcm != "skip":  # a quarter of the active patches, or all of them
        tokens = jets.batch(range(4), "two_scale").tokens
        active = (tokens.valid & (tokens.position < 625)).sum()
        share = (seen[0] != 0).any(1).sum() / active
        assert share.item() == pytest.approx(1 if lcm == "token" else 0.25, abs=0.1)


def test_denoising_asks_for_what_the_damage_took(jets):
    batch = batch_of("denoising", jets)
    objective = Denoising(model_of(jets))
    _, target, _, asked = objective.reconstructed(batch)
    clean = objective.model.scale(batch.other.features)[batch.other.valid]
    assert target[asked].sum().item() == pytest.approx(clean.sum().item(), rel=1e-4)
    parts = objective.loss(batch)[1]
    assert 0 < parts["mse_input"]
    batch.tokens = batch.other
    assert objective.loss(batch)[1]["mse_input"] == 0


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_pretraining_runs_and_comes_from_the_cache(arm, tmp_path, jets, labelled):
    monitor = probes.Monitor(labelled, range(30), range(30, 60))
    run = train(arm, settings(arm), jets, runs=tmp_path, log=quiet, monitor=monitor)
    assert run.predictions is None
    assert len(run.history) == 2
    assert {"val_loss", "effective_rank", "probe_auc", "neighbour_auc"} <= set(run.history[-1])
    again = train(arm, settings(arm), jets, runs=tmp_path, log=quiet)
    assert again.cached
    assert again.history == run.history
    assert run.model().features(jets.batch([0], "two_scale").tokens, False).shape[0] == 1


@pytest.mark.parametrize("arm", ["simclr", "mae", "denoising"])
def test_losses_fall(arm, jets):
    chosen = Recipe.of(settings(arm, augment="flips"))
    around = {"simclr": SimCLR, "mae": MAE, "denoising": Denoising}[arm]
    batches = make_batches(chosen, jets)[0]
    history = fit(around(model_of(jets)), batches, log=quiet, settings=FitSettings(
        updates=24, lr=3e-3, every=8, accelerator="cpu"))
    assert history[-1]["loss"] < 0.98 * history[0]["loss"]


def test_interrupted_pretraining_ends_where_it_would_have(tmp_path, jets):
    chosen = Recipe.of(settings("simclr"))
    ends = []
    for folder, stops in ((tmp_path / "a", [4]), (tmp_path / "b", [2, 4])):
        for stop in stops:
            objective = SimCLR(model_of(jets))
            batches = make_batches(chosen, jets)[0]
            fitting = FitSettings(updates=4, every=2, schedule="constant", warmup=0,
                                  accelerator="cpu")
            if stop < 4:
                def stopping(objective, count=[0]):  # noqa: B006
                    count[0] += 1
                    if count[0] == 2:
                        raise KeyboardInterrupt
                    return {}

                with pytest.raises(KeyboardInterrupt):
                    fit(objective, batches, settings=fitting, folder=folder, log=quiet,
                        monitor=stopping)
            else:
                fit(objective, batches, settings=fitting, folder=folder, log=quiet)
        ends.append(objective.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


# --- starting from a backbone ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, jets):
    return train("mae", settings("mae"), jets, runs=tmp_path_factory.mktemp("runs"), log=quiet)


def fine(pretrained: Run, **changes) -> dict:
    return {"seed": 0, "model": MODEL, "fit": FIT, "start": pretrained.folder.name,
            "loss": {"mass_weight": 0}, **changes}


def test_a_frozen_run_keeps_the_backbone_and_trains_the_heads(pretrained, labelled):
    runs = pretrained.folder.parent
    run = train("probe", fine(pretrained, frozen=True), labelled, runs=runs, log=quiet)
    before, after = pretrained.model().state_dict(), run.model().state_dict()
    for name, value in before.items():
        if start.is_backbone(name):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before["class_head.weight"], after["class_head.weight"])
    heads = [p for n, p in run.model().named_parameters() if not start.is_backbone(n)]
    assert run.parameters == sum(p.numel() for p in heads)
    assert run.record["start"] == pretrained.folder.name
    assert str(runs) not in (run.folder / "run.json").read_text()
    assert train("probe", fine(pretrained, frozen=True), labelled, runs=runs, log=quiet).cached


def test_the_key_follows_the_content_of_the_backbone(pretrained, labelled, jets):
    runs = pretrained.folder.parent
    first = train("fine", fine(pretrained), labelled, runs=runs, log=quiet)
    by_path = {**fine(pretrained), "start": str(pretrained.folder)}
    by_seed = {**fine(pretrained), "start": {0: "mae"}}
    for same in (by_path, by_seed):
        assert train("other", same, labelled, runs=runs, log=quiet).folder == first.folder
    other = train("mae1", settings("mae", seed=1), jets, runs=runs, log=quiet)
    assert train("fine", fine(other), labelled, runs=runs, log=quiet).folder != first.folder
    scratch = {k: v for k, v in fine(pretrained).items() if k != "start"}
    assert train("fine", scratch, labelled, runs=runs, log=quiet).folder != first.folder
    scale = first.model().scale.norm
    assert torch.equal(scale, pretrained.model().scale.norm), "the input scale travels along"


def test_a_backbone_of_another_shape_is_named(pretrained, labelled):
    runs = pretrained.folder.parent
    for change, what in (({"dim": 32}, "another shape"), ({"depth": 2}, "is missing there"),
                         ({"lcm_kernel": 0}, "has no place")):
        with pytest.raises(ValueError, match=what) as error:
            train("fine", fine(pretrained, model={**MODEL, **change}), labelled, runs=runs,
                  log=quiet)
        assert "model.safetensors" in str(error.value)
    with pytest.raises(ValueError, match="no such run"):
        train("fine", {**fine(pretrained), "start": "nothing"}, labelled, runs=runs, log=quiet)
    with pytest.raises(ValueError, match="none for seed 0"):
        train("fine", {**fine(pretrained), "start": {3: "mae"}}, labelled, runs=runs, log=quiet)


def test_a_frozen_backbone_stays_in_evaluation(jets):
    model = start.freeze(model_of(jets, lcm_norm="batch", dropout=0.5))
    objective = nn.ModuleDict({"model": model}).train()
    norm = objective["model"].blocks[0].lcm.norm
    before = norm.running_mean.clone()
    objective["model"](jets.batch(range(4), "two_scale").tokens)
    assert torch.equal(norm.running_mean, before)
    assert model.training
    assert model.class_head.training


# --- probes ---------------------------------------------------------------------------------------


def test_collapse_is_seen():
    random = np.random.default_rng(0)
    spread = probes.collapse(random.normal(size=(400, 16)))
    assert spread["feature_std"] == pytest.approx(1, abs=0.05)
    assert spread["effective_rank"] > 15
    assert abs(spread["mean_cosine"]) < 0.05
    point = probes.collapse(np.ones((400, 16)) + 1e-4 * random.normal(size=(400, 16)))
    assert point["feature_std"] < 0.01
    assert point["mean_cosine"] > 0.99
    line = probes.collapse(np.outer(random.normal(size=400), random.normal(size=16)))
    assert line["effective_rank"] == pytest.approx(1, abs=0.01)


def test_probes_find_a_class_that_is_there_and_none_that_is_not():
    random = np.random.default_rng(0)
    label = np.arange(600) % 2
    x = random.normal(size=(600, 8)).astype(np.float32)
    x[:, 0] += 2 * label
    for probe in (probes.linear_probe, probes.neighbour_probe):
        score = probe(x[:400], label[:400], x[400:])
        assert probes.auc(label[400:], score) > 0.8
        none = probe(x[:400, 1:], label[:400], x[400:, 1:])
        assert abs(probes.auc(label[400:], none) - 0.5) < 0.12


def test_a_probe_chooses_how_strongly_it_is_regularised():
    random = np.random.default_rng(0)
    label = np.arange(1200) % 2
    x = random.normal(size=(1200, 100)).astype(np.float32)
    x[:, :3] += 0.3 * label[:, None]  # little to learn among many directions
    loose = probes.linear_probe(x[:200], label[:200], x[200:])
    few, probes.STRENGTHS = probes.STRENGTHS, (1e3,)
    try:
        tight = probes.linear_probe(x[:200], label[:200], x[200:])
    finally:
        probes.STRENGTHS = few
    assert probes.auc(label[200:], loose) > probes.auc(label[200:], tight) + 0.01
    with pytest.raises(ValueError, match="two jets or more of each class"):
        probes.linear_probe(x[:3], np.array([0, 0, 1]), x[200:])


def test_an_encoder_is_set_against_random_ones_without_pairs():
    random = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        null, same = random.normal(0.8, 0.01, 30), random.normal(0.8, 0.01, 3)
        one = probes.unpaired(same[:1], null)
        three = probes.unpaired(same, null)
        covered.append([row["low"] <= 0 <= row["high"] for row in (one, three)])
    assert np.abs(np.mean(covered, 0) - 0.95).max() < 0.04
    ahead = probes.unpaired([0.86, 0.85, 0.855], null)
    assert ahead["low"] > 0.03
    assert ahead["sigma"] > 4


def test_alignment_and_uniformity_by_hand():
    a = np.array([[1, 0], [0, 2]], np.float32)
    b = np.array([[3, 0], [1, 0]], np.float32)
    assert probes.alignment(a, b) == pytest.approx((0 + 2) / 2)
    assert probes.uniformity(a) == pytest.approx(-4)


# --- bad input ------------------------------------------------------------------------------------


def test_one_jet_and_one_view_are_errors(jets):
    objective = SimCLR(model_of(jets))
    with pytest.raises(ValueError, match="two or more"):
        objective.loss(batch_of("simclr", jets, 1))
    with pytest.raises(ValueError, match="two views"):
        objective.loss(jets.batch(range(4), "two_scale"))
    with pytest.raises(ValueError, match="as it was"):
        Denoising(model_of(jets)).loss(jets.batch(range(4), "two_scale"))
    with pytest.raises(ValueError, match="augment"):
        make_batches(Recipe.of(settings("simclr", augment=None)), jets)


@pytest.mark.parametrize("arm", ARMS)
def test_fewer_jets_than_a_batch_will_do(arm, tmp_path, jets):
    few = jets.subset(range(40))
    chosen = settings(arm, fit={**FIT, "batch_size": 64, "updates": 1})
    run = train(arm, chosen, few, runs=tmp_path, log=quiet)
    assert math.isfinite(run.history[-1]["loss"])
    assert json.loads((run.folder / "run.json").read_text())["finished"]


@pytest.mark.parametrize("arm", ARMS)
def test_empty_images_and_those_of_one_patch(arm, jets):
    dense = np.zeros((6, 8, 125, 125), np.float32)
    dense[1:, 4, 60:65, 60:65] = 255  # one tower, in one patch; the first image is empty
    few = JetImages.from_dense(dense)
    chosen = Recipe.of(settings(arm, fit={**FIT, "batch_size": 6}))
    batch = few.batch(range(6), "two_scale", make_batches(chosen, few)[0].augment)
    around = {"simclr": SimCLR, "denoising": Denoising}.get(arm, MAE)
    objective = around(model_of(jets), **chosen.loss)
    loss, parts = objective.loss(batch)
    loss.backward()
    assert loss.isfinite()
    assert all(value.isfinite() for value in parts.values())
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)


def test_unknown_choices_are_named(jets):
    with pytest.raises(ValueError, match="active, all"):
        MAE(model_of(jets), mask="some")
    with pytest.raises(ValueError, match="between 0 and 1"):
        MAE(model_of(jets), ratio=1)
    for argument, objective in (("mask", MAE), ("lcm", MAE), ("reconstruct", MAE),
                                ("reconstruct", Denoising), ("mass_loss", Supervised)):
        with pytest.raises(ValueError, match=f"{argument}='foo': choose one of "):
            objective(model_of(jets), **{argument: "foo"})
    with pytest.raises(ValueError, match=r"temprature \(did you mean temperature\?\)"):
        Recipe.of(settings("simclr", loss={"temprature": 1}))
    with pytest.raises(ValueError, match="JetViT"):
        build(Recipe.of(settings("mae", architecture="resnet15", model={}), grid=jets.grid))
