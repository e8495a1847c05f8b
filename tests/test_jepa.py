"""JEPA: losses against plain loops, masks, the moving average, collapse, three-channel images."""

import cmath
import math

import numpy as np
import pytest
import torch
from test_pretraining import FIT, MODEL, model_of, quiet
from test_pretraining import jets as jets
from test_pretraining import labelled as labelled

from lib.data.images import JetImages
from lib.data.tokens import TokenBatch, tokenize
from lib.data.views import SETS, transformed, views
from lib.evaluation import probes
from lib.models.vit import JetViT, ViTConfig
from lib.training.fit import FitSettings, fit
from lib.training.jepa import JEPA, MASKS, sigreg
from lib.training.recipe import Recipe
from lib.training.runs import train
from lib.training.split import make_batches

ACTIVE = {**MODEL, "tokens": "active"}


def objective_of(jets, **how) -> JEPA:
    made = JEPA(model_of(jets, tokens=how.pop("tokens", "two_scale")), **how)
    return made.eval()


# --- formulas -------------------------------------------------------------------------------------


def jet_by_jet(objective, tokens, hidden):
    """Pairs of told and given features of every hidden patch, from jets one at a time."""
    told, given, every = [], [], []
    for image in range(len(tokens)):
        there = tokens.valid[image].nonzero().flatten()
        position = tokens.position[image, there]
        one = TokenBatch(tokens.features[image, there][None], position[None],
                         torch.ones(1, len(there), dtype=torch.bool), tokens.grid)
        gone = hidden[image, position]
        left = TokenBatch(one.features[:, ~gone], one.position[:, ~gone], one.valid[:, ~gone],
                          tokens.grid)
        fill = hidden[image, :625, None] * objective.mask_token
        x = objective.model.encode(left, fill=fill[None])
        wanted = torch.zeros(1, 650, dtype=torch.bool)
        wanted[0, position] = True
        output, place, _ = objective.predictor(x, left, wanted)
        target = (objective.target or objective.model).encode(one)[0]
        target = torch.stack([(y - y.mean()) / (y.var(correction=0) + 1e-5).sqrt()
                              for y in target])
        every += [*target]
        for row, at in zip(output[0], place[0], strict=True):
            if hidden[image, at]:
                told.append(row)
                given.append(target[(position == at).nonzero()[0, 0]])
    given = torch.stack(given)
    if objective.norm == "batch":
        every = torch.stack(every)
        given = (given - every.mean(0)) / (every.var(0, correction=0) + 1e-3).sqrt()
    return torch.stack(told), given


@pytest.mark.parametrize("target", ["average", "own"])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_loss_is_its_formula_jet_by_jet(jets, target, norm):
    objective = objective_of(jets, target=target, norm=norm)
    batch = jets.batch(range(5), "two_scale")
    torch.manual_seed(3)
    _, hidden = objective.hide(batch.tokens)
    torch.manual_seed(3)
    loss, parts = objective.loss(batch)
    told, given = jet_by_jet(objective, batch.tokens, hidden)
    total = trivial = 0.0
    middle = given.mean(0)
    for a, y in zip(told, given, strict=True):
        for p, q, m in zip(a.tolist(), y.tolist(), middle.tolist(), strict=True):
            total += (p - q) ** 2 / 2 if abs(p - q) < 1 else abs(p - q) - 0.5
            trivial += (m - q) ** 2 / 2 if abs(m - q) < 1 else abs(m - q) - 0.5
    assert loss.item() == pytest.approx(total / given.numel(), rel=1e-4)
    assert parts["mean"].item() == pytest.approx(trivial / given.numel(), rel=1e-4)


def test_further_terms_are_added_with_their_weights(jets):
    batch = jets.batch(range(5), "two_scale")

    def loss(**how):
        torch.manual_seed(0)
        objective = JEPA(model_of(jets), pixels=1e-9, **how).eval()
        torch.manual_seed(1)
        return objective.loss(batch)

    plain, parts = loss()
    total, more = loss(context=0.5)
    assert total.item() == pytest.approx(plain.item() + 0.5 * more["context"].item(), rel=1e-5)
    torch.manual_seed(0)
    objective = JEPA(model_of(jets), pixels=2.0).eval()
    torch.manual_seed(1)
    total, more = objective.loss(batch)
    assert more["pixels"].item() == pytest.approx(parts["pixels"].item(), rel=1e-5)
    assert total.item() == pytest.approx(plain.item() + 2 * more["pixels"].item(), rel=1e-4)


def test_sigreg_is_the_epps_pulley_statistic():
    torch.manual_seed(0)
    x = torch.randn(40, 6) * 0.7 + 0.2
    torch.manual_seed(4)
    found = sigreg(x, directions=3).item()
    torch.manual_seed(4)
    direction = torch.randn(6, 3)
    wanted, step = [], 0.01
    for u in direction.T:
        along = [float(row @ u / u.norm()) for row in x]
        whole = 0.0
        for t in np.arange(-5, 5, step) + step / 2:
            phi = sum(cmath.exp(1j * t * a) for a in along) / len(along)
            whole += step * abs(phi - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)
        wanted.append(len(along) * whole)
    assert found == pytest.approx(np.mean(wanted), rel=0.02)


def test_sigreg_knows_a_normal_cloud_from_a_point_and_a_line():
    torch.manual_seed(0)
    cloud = torch.randn(2000, 16)
    assert 0.7 < sigreg(cloud).item() < 1.6
    assert sigreg(torch.zeros(2000, 16)).item() > 100
    assert sigreg(cloud[:, :1] * torch.ones(16)).item() > 100


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
def test_the_ratio_is_hidden_of_what_is_there_in_every_jet(jets, mask):
    objective = objective_of(jets, mask=mask, ratio=0.6)
    tokens = jets.batch(range(12), "two_scale").tokens
    pool, hidden = objective.hide(tokens)
    assert not (hidden & ~pool).any()
    assert hidden.sum(1).tolist() == (0.6 * pool.sum(1)).round().tolist()


def test_blocks_are_neighbours_and_energy_draws_them_to_the_core(jets):
    tokens = jets.batch(range(40), "two_scale").tokens
    row, column = tokens.grid.centres(torch.arange(650))
    apart, core = {}, {}
    for mask in MASKS:
        torch.manual_seed(0)
        draws = [objective_of(jets, mask=mask, ratio=0.3).hide(tokens)[1] for _ in range(4)]
        nearest, middle = [], []
        for hidden in draws:
            for one in hidden[:, :625]:
                at = one.nonzero().flatten()
                far = (row[at, None] - row[at]).abs().maximum((column[at, None] - column[at]).abs())
                nearest.append((far + 99 * torch.eye(len(at))).amin(1).mean())
                middle.append(torch.hypot(row[at], column[at]).mean())
        apart[mask], core[mask] = float(torch.stack(nearest).mean()), float(
            torch.stack(middle).mean())
    assert apart["block"] < 0.9 * apart["random"]
    assert core["energy"] < core["block"]


@pytest.mark.parametrize("mask", MASKS)
def test_packed_and_masked_tokens_agree(jets, mask):
    hits, found = jets.hits(range(6)), []
    for keep in ("active", "masked"):
        torch.manual_seed(0)
        objective = objective_of(jets, tokens="active", mask=mask, context=0.3, pixels=0.2)
        batch = jets.batch(range(6), "active")
        batch.tokens = tokenize(hits, jets.grid, keep)
        torch.manual_seed(5)
        loss, _ = objective.loss(batch)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in objective.parameters()
                                       if p.grad is not None)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_hidden_patches_do_not_reach_the_predictor(jets):
    objective = objective_of(jets)
    tokens = jets.batch(range(6), "two_scale").tokens
    torch.manual_seed(1)
    told, target, place, _, hidden = objective.predicted(tokens, objective.targets(tokens))
    gone = torch.zeros(6, 650, dtype=torch.bool)
    gone[torch.arange(6)[:, None].expand_as(place)[hidden], place[hidden]] = True
    changed = tokens.features.clone()
    changed[gone.gather(1, tokens.position) & tokens.valid] += 5
    tokens.features = changed
    torch.manual_seed(1)
    again, other, *_ = objective.predicted(tokens, objective.targets(tokens))
    torch.testing.assert_close(told, again, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(target, other)


# --- targets --------------------------------------------------------------------------------------


def test_only_the_context_branch_has_a_gradient(jets):
    objective = objective_of(jets)
    batch = jets.batch(range(6), "two_scale")
    torch.manual_seed(0)
    objective.loss(batch)[0].backward()
    assert all(p.grad is None for p in objective.target.parameters())
    trained = {n for n, p in objective.named_parameters() if p.grad is not None}
    assert trained == {n for n, p in objective.named_parameters() if p.requires_grad}
    fixed = objective.targets(batch.tokens).clone()  # a constant gives the same gradient
    before = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
    objective.zero_grad()
    objective.targets = lambda tokens: fixed
    torch.manual_seed(0)
    objective.loss(batch)[0].backward()
    for a, p in zip(before, (p for p in objective.parameters() if p.requires_grad), strict=True):
        torch.testing.assert_close(a, p.grad)


def test_the_average_follows_its_schedule_and_no_other_target_moves(jets):
    objective = objective_of(jets, momentum=0.9)
    with torch.no_grad():
        for p in objective.model.parameters():
            p += 1
    weight = objective.target.norm.weight
    before = weight.clone()
    for progress, keep in ((0.0, 0.9), (0.5, 0.95), (1.0, 1.0)):
        expected = keep * weight + (1 - keep) * objective.model.norm.weight
        objective.after_update(progress)
        torch.testing.assert_close(weight, expected)
    assert not torch.equal(weight, before)
    teacher = objective_of(jets, target="teacher")
    before = teacher.target.norm.weight.clone()
    with torch.no_grad():
        teacher.model.norm.weight += 1
    teacher.after_update(0.0)
    assert torch.equal(teacher.target.norm.weight, before)


def test_the_target_encoder_drops_nothing(jets):
    objective = JEPA(model_of(jets, dropout=0.5)).train()
    tokens = jets.batch(range(4), "two_scale").tokens
    assert torch.equal(objective.targets(tokens), objective.targets(tokens))
    assert objective.model.training


def test_a_teacher_is_the_start_and_stays_as_it_was(jets, tmp_path):
    base = {"seed": 0, "model": MODEL, "fit": FIT}
    with pytest.raises(ValueError, match="start"):
        train("none", {**base, "objective": "jepa", "loss": {"target": "teacher"}}, jets,
              runs=tmp_path, log=quiet)
    mae = train("mae", {**base, "objective": "mae"}, jets, runs=tmp_path, log=quiet)
    run = train("salt", {**base, "objective": "jepa", "loss": {"target": "teacher"}, "seed": 1,
                         "start": mae.folder.name}, jets, runs=tmp_path, log=quiet)
    learned = mae.model().state_dict()["norm.weight"]
    objective = run.objective()
    assert torch.equal(objective.target.norm.weight, learned)
    assert not torch.equal(objective.model.stem.weight, mae.model().stem.weight)
    again = train("fine", {**base, "loss": {"mass_weight": 0}, "start": run.folder.name},
                  jets_with_labels(jets), runs=tmp_path, log=quiet)
    assert again.record["start"] == run.folder.name


def jets_with_labels(jets) -> JetImages:
    return JetImages(jets.indptr, jets.indices, jets.data, jets.shape, jets.encoding,
                     torch.arange(len(jets)) % 2)


# --- collapse -------------------------------------------------------------------------------------


def test_without_average_and_stop_gradient_features_collapse_and_the_watch_sees_it(jets):
    seen = {}
    for target, norm in (("own", "layer"), ("average", "batch")):
        objective = JEPA(model_of(jets), target=target, norm=norm)
        chosen = Recipe.of({"model": MODEL, "objective": "jepa", "fit": FIT})
        history = fit(objective, make_batches(chosen, jets)[0], log=quiet,
                      monitor=probes.Monitor(jets, range(30), range(60)),
                      settings=FitSettings(updates=80, lr=1e-2, every=40, accelerator="cpu"))
        seen[target] = history[-1]
    assert seen["own"]["mean"] < 0.3 * seen["average"]["mean"], "the targets are all alike"
    assert seen["own"]["loss"] < 0.3 * seen["average"]["loss"], "and a small loss says nothing"


# --- three channels -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quark_gluon() -> JetImages:
    """Jets of three channels in GeV: tracks, crystals, towers whose energy 25 pixels share."""
    draw, dense = np.random.default_rng(0), np.zeros((24, 3, 125, 125), np.float32)
    for image in dense:
        row, column = (62 + 10 * draw.normal(size=(2, 50))).astype(int).clip(0, 124)
        image[0, row, column] = draw.exponential(2, 50) + 0.1
        image[1, row, column] = draw.exponential(0.4, 50) + 0.1
        for r, c, e in zip(row[:9] // 5 * 5, column[:9] // 5 * 5, draw.exponential(0.3, 9),
                           strict=True):
            image[2, r:r + 5, c:c + 5] = e + 0.01
    return JetImages.from_dense(dense, "gev", labels=np.arange(24) % 2,
                                mass=draw.uniform(10, 30, 24), pt=draw.uniform(70, 150, 24))


@pytest.mark.parametrize("name", SETS)
def test_augmentations_keep_energies_of_three_channels(quark_gluon, name):
    changed = transformed(quark_gluon, views(name, quark_gluon.grid, "gev"))
    image = changed.dense(slice(None))
    assert (image >= 0).all(), "an energy is no impact parameter"
    assert image.flatten(2).any(-1).any(0).all()


def test_noise_and_smearing_reach_every_energy_of_three_channels(quark_gluon):
    for names in (("noise",), ("smearing",)):
        changed = transformed(quark_gluon, views(names, quark_gluon.grid, "gev"))
        before, after = (jets.dense(slice(None)) for jets in (quark_gluon, changed))
        moved = [(before[:, c] != after[:, c]).any().item() for c in range(3)]
        assert moved == [names == ("noise",), True, True]
        tower = after[:, 2].unfold(1, 5, 5).unfold(2, 5, 5).flatten(3)
        assert torch.equal(tower.amin(-1), tower.amax(-1)), "a tower is one reading"


def test_jepa_on_three_channels(quark_gluon, tmp_path):
    run = train("jepa", {"seed": 0, "model": ACTIVE, "fit": {**FIT, "batch_size": 8},
                         "objective": "jepa", "augment": "flips"},
                quark_gluon, runs=tmp_path, log=quiet)
    model = run.model()
    assert isinstance(model, JetViT)
    assert model.config == ViTConfig.of(quark_gluon.grid, **ACTIVE)
    assert math.isfinite(run.history[-1]["val_loss"])
    fine = train("fine", {"seed": 0, "model": ACTIVE, "fit": {**FIT, "batch_size": 8},
                          "start": run.folder.name}, quark_gluon, runs=tmp_path, log=quiet)
    assert len(fine.predictions) == len(quark_gluon.split().test)


def test_unknown_choices_are_named(jets):
    for name in ("target", "mask", "norm"):
        with pytest.raises(ValueError, match=f"{name}='foo': choose one of "):
            JEPA(model_of(jets), **{name: "foo"})
    with pytest.raises(ValueError, match="between 0 and 1"):
        JEPA(model_of(jets), ratio=1.0)
