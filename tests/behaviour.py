"""What the code does, in a few numbers a component: the functions of the behaviour contract.

Inputs are small and chosen so that a change of a constant shows. ``test_contract.py`` compares with
``results/contract.json``. After a change that is meant:

    PYTHONPATH=. python tests/behaviour.py fit        computes ``fit`` again and raises its version

and, without names, enters components that are new and drops those that are gone.
"""

from __future__ import annotations

import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from unittest import mock

import golden
import numpy as np
import torch
from golden import component
from torch import nn

from collider import detector, events
from collider.particles import Particles
from collider.simulate import simulate
from hcal import findings, scores
from hcal import masked as masked_cells
from hcal import simulation as hcal_simulation
from hcal.events import estimate_events, scaled
from hcal.experts import Routed
from hcal.health import healthy
from hcal.maps import HcalMaps
from hcal.runs import R3_FIT, R3_GRIDS, R3_LOSS, R3_MOE, R3_VIT
from lib.data.augment import recalibrated
from lib.data.batches import Batches
from lib.data.encoding import encode_cms8
from lib.data.images import JetImages
from lib.data.tokens import TOP_QCD, Hits, densify, tokenize
from lib.data.views import SETS, Damaged, TwoViews, transformed, transforms, views
from lib.evaluation import metrics, probes
from lib.evaluation.metrics import Predictions
from lib.models import baselines
from lib.models.attention import MECHANISMS
from lib.models.blocks import Attention
from lib.models.rivals import DeepSets, L2ViT, ResNet15, XCiT
from lib.models.vit import R1, JetViT, ViTConfig
from lib.profiles import NAMES, get
from lib.training.contrastive import SimCLR
from lib.training.fit import FitSettings, fit
from lib.training.jepa import JEPA
from lib.training.masked import MAE, Denoising
from lib.training.objectives import MASS_LOSSES, Supervised
from lib.training.optim import learning_rate
from lib.training.recipe import Recipe, recipe
from lib.training.split import indices, make_batches

SMALL = dict(tokens="two_scale", position="factorised", pool="energy", heads=2, dim=16, depth=1,
             mlp_ratio=2.0, head_hidden=16)  # our model, tiny
R1_SMALL = {**R1, "dim": 16, "depth": 2, "heads": 2}
# By which the made-up jets are encoded, their own: new statistics of simulated jets change the
# component ``encoding``, and no model or objective.
PIXELS = {"PIXEL_MEAN": (0.020, 0.013, 0.00004, 0.016, 0.40, 0.0083, 0.0097, 0.0098),
          "PIXEL_STD": (1.0, 0.50, 0.0072, 0.62, 4.5, 0.093, 0.10, 0.10)}


def numbers(*values) -> list[float]:
    """Of each array: mean size, r.m.s. and a mean in which elements weigh differently."""
    found = []
    for value in values:
        value = value.detach().cpu() if isinstance(value, torch.Tensor) else np.asarray(value)
        x = np.asarray(value, float).ravel()
        weight = 1 + np.arange(len(x)) % 7
        found += [np.abs(x).mean(), np.sqrt((x**2).mean()), (weight * x).mean()]
    return [float(x) for x in found]


def weights(module: nn.Module) -> list[float]:
    """Numbers of all weights and buffers, and of their gradients where there are any."""
    state = torch.cat([v.double().flatten() for v in module.state_dict().values()])
    slopes = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return numbers(state, *([torch.cat(slopes)] if slopes else []))


@cache
def jets(encoding: str = "cms8", labelled: bool = True, channels: int = 8) -> JetImages:
    """Forty-eight made-up jets: hits around the axis, whole HCAL towers, masses by class."""
    rng = np.random.default_rng(7)
    images = np.zeros((48, 8, 125, 125), np.float32)
    label = np.arange(48) % 2
    for image, kind in zip(images, label, strict=True):
        for channel in range(8):
            count = int(rng.integers(12, 30)) * (1 + kind)
            row, column = (62 + rng.normal(0, 14 + 4 * kind, (2, count))).clip(0, 124).astype(int)
            value = rng.exponential((9, 3, 0.2, 6, 20, 1, 1, 1)[channel], count) + 0.05
            sign = rng.choice((-1, 1), count) if channel in (1, 2) else 1
            if channel == 4:
                for r, c, v in zip(row // 5 * 5, column // 5 * 5, value, strict=True):
                    image[4, r:r + 5, c:c + 5] = v
            else:
                image[channel, row, column] = np.ceil(value) if channel > 4 else value * sign
    if encoding == "cms8":
        with mock.patch.multiple("lib.data.encoding", **PIXELS):
            for image in images.reshape(48, -1):
                pixel = np.flatnonzero(image)
                pixel, value = encode_cms8(pixel, image[pixel])
                image[:] = 0
                image[pixel] = value
    columns = dict(labels=label, mass=rng.normal(90 + 80 * label, 20), pt=rng.normal(500, 50, 48))
    return JetImages.from_dense(images[:, :channels], encoding, **(columns if labelled else {}))


def batch(keep: str = "two_scale", augment=None, count: int = 8):
    return jets().batch(torch.arange(count), keep, augment)


def model(config: dict = SMALL, seed: int = 0) -> JetViT:
    """A model with scales fitted on the made-up jets, and heads that say something."""
    torch.manual_seed(seed)
    made = JetViT(ViTConfig.of(TOP_QCD, **config))
    some = jets().batch(torch.arange(16), config.get("tokens", "active"))
    made.fit_scales(jets().hits(torch.arange(16)), some.tokens, some.mass)
    return made


# --- data -----------------------------------------------------------------------------------------


@component("tokens")
def tokens():
    found = {}
    for keep in ("active", "masked", "all", "two_scale"):
        made = tokenize(jets().hits(torch.arange(8)), TOP_QCD, keep)
        found[keep] = numbers(made.features, made.position, made.valid, made.features.shape)
    made = tokenize(jets().hits(torch.arange(8)), TOP_QCD)
    found["dense"] = numbers(densify(made))
    found["centres"] = numbers(*TOP_QCD.centres(torch.arange(650)))
    return found


@component("encoding")
def encoding():
    rng = np.random.default_rng(1)
    pixel = np.sort(rng.choice(8 * 125**2, 4000, replace=False))
    value = (rng.exponential(np.repeat([5, 80], 2000)) - 0.1).astype(np.float32)
    value[::500] *= 100  # beyond the clip
    return {"random": numbers(*encode_cms8(pixel, value), *encode_cms8(pixel, value * 0.01))}


def _augment(name: str):
    def result(encoding: str) -> list[float]:
        torch.manual_seed(3)
        hits = jets(encoding).hits(torch.arange(24))
        hits = transforms(TOP_QCD, encoding)[name](hits)
        return numbers(hits.image, hits.channel, hits.row, hits.column, hits.value, [len(hits)])
    return {"cms8": result("cms8"), "gev": result("gev")}


for _name in transforms(TOP_QCD, "cms8"):
    component(f"augment.{_name}")(partial(_augment, _name))


@component("views", needs=sorted({f"augment.{n}" for names in SETS.values() for n in names}))
def view_sets():
    found = {}
    for name in SETS:
        torch.manual_seed(4)
        hits: Hits = views(name, TOP_QCD, "cms8")(jets().hits(torch.arange(8)))
        found[name] = numbers(hits.channel, hits.row, hits.column, hits.value)
    return found


@component("shifts", needs=["encoding"])
def damage():
    dead = np.ones((2, 25, 25))
    dead[:, 12, 11] = 0
    own = np.random.default_rng(0).normal(1, 0.1, dead.shape).clip(0.05)
    changes = {"scaled": recalibrated(1.05), "miscalibrated": recalibrated(own),
               "dead_tower": recalibrated(dead)}
    found = {}
    for name, change in changes.items():
        changed = transformed(jets("gev"), change, encoding="cms8")
        found[name] = numbers(changed.indices, changed.data, [len(changed.data)])
    return found


@component("split")
def split():
    parts = {"cuts": indices(Recipe(), jets()), "no_test": indices(Recipe(hold_out=False), jets()),
             "few": indices(Recipe(labels=10, seed=3), jets()),
             "unlabelled": indices(Recipe(), jets(labelled=False))}
    return {name: [float(x) for part in found for x in (*part, -1)]
            for name, found in parts.items()}


@component("batches", needs=["tokens"])
def batches():
    found = {}
    for name, how in {"sized": {}, "plain": {"bucket": False}, "all": {"keep": "all"}}.items():
        made = Batches(jets(), torch.arange(5, 48), 4, shuffle=True, seed=3, **how)
        made.set_epoch(2)
        found[name] = [float(x) for part in made.plan() for x in part]
    made = Batches(jets(labelled=False), None, 5, "two_scale", shuffle=True)
    return found | {"unlabelled": [float(x) for part in made.plan() for x in part]}


# --- models ---------------------------------------------------------------------------------------


def _attention(name: str):
    torch.manual_seed(5)
    q, k, v = torch.randn(3, 2, 2, 12, 8).unbind(0)
    valid = torch.arange(12).expand(2, -1) < torch.tensor([[12], [7]])
    found = {}
    for case, mask in (("all", None), ("masked", valid)):
        parts = [x.clone().requires_grad_() for x in (q, k, v)]
        out = MECHANISMS[name](2, 8)(*parts, mask)
        out.square().sum().backward()
        found[case] = numbers(out, *(x.grad for x in parts if x.grad is not None))
    # Queries without a positive component, and small keys: what the floor of a division decides.
    found["floor"] = numbers(MECHANISMS[name](2, 8)(-q.abs(), 0.02 * k, v))
    layer = Attention(16, 2, name, temperature=0.3)
    x = torch.randn(2, 12, 16)
    out = layer(x, valid)
    out.square().sum().backward()
    return found | {"layer": [*numbers(out), *weights(layer)]}


for _name in MECHANISMS:
    component(f"attention.{_name}")(partial(_attention, _name))


@component("vit", needs=["tokens", "attention.relu_linear"])
def vit():
    found = {}
    for name, config in {
        "ours": SMALL, "r1": R1_SMALL, "default": dict(dim=12, depth=1),
        "conv": dict(dim=16, depth=1, heads=2, stem="conv", pool="cls", position="learned",
                     attention="softmax", drop_path=0.2, dropout=0.1),
        "mlp": dict(dim=16, depth=1, heads=2, stem="mlp", pool="mean", lcm_kernel=0),
    }.items():
        made = model(config).train()
        torch.manual_seed(6)
        logits, mass = made(batch(made.config.tokens).tokens)
        (logits[:, 1].sum() + mass.mean()).backward()
        found[name] = [*numbers(logits, mass), *weights(made)]
        with torch.no_grad():
            found[f"{name}, tested"] = numbers(*made.eval()(batch(made.config.tokens).tokens))
    made = model(dict(dim=12, depth=1)).eval()  # all queries negative, keys small: the floor shows
    qkv = next(m for m in made.modules() if isinstance(m, Attention)).qkv
    with torch.no_grad():
        qkv.weight[:24] *= 0.01
        qkv.bias[:12], qkv.bias[12:24] = -1, 0.02
        found["floor"] = numbers(*made(batch("active").tokens))
    return found


@component("resnet15", needs=["tokens"])
def resnet15():
    torch.manual_seed(0)
    made = ResNet15(width=4)
    made.fit_scales(None, None, jets().mass)
    logits, mass = made.train()(batch("active").tokens)
    (logits[:, 1].sum() + mass.mean()).backward()
    return {"forward": [*numbers(logits, mass), *weights(made)]}


@component("rivals", needs=["tokens", "attention.softmax", "attention.relu_linear",
                            "attention.cross_covariance"])
def other_types():
    found = {}
    for name, kind, how in (("l2vit", L2ViT, {"dim": 32}), ("xcit", XCiT, {"dim": 16}),
                            ("deep_sets", DeepSets, {"width": 12})):
        torch.manual_seed(0)
        made = kind(TOP_QCD, **how, summary=True)
        made.fit_scales(None, batch("active").tokens, jets().mass)
        logits, mass = made.train()(batch("active").tokens)
        (logits[:, 1].sum() + mass.mean()).backward()
        found[name] = [*numbers(logits, mass), *weights(made)]
    return found


@component("baselines")
def rivals():
    x, names = baselines.observables(jets(), torch.arange(48))
    label, mass = jets().labels.numpy(), jets().mass.numpy()
    rng = np.random.default_rng(2)
    many = rng.normal(size=(400, 6))
    sort = (many[:, 0] + many[:, 1] * many[:, 2] + rng.normal(size=400) > 0).astype(int)
    found = {"observables": numbers(x, *x.T[::9], [len(names)]),
             "mass": numbers(baselines.MassCut().fit(mass, label).predict(mass))}
    for made in (baselines.BoostedTrees(), baselines.Linear()):
        found[type(made).__name__] = numbers(*made.fit(many, sort, many[:, 3]).predict(many))
    return found


# --- training -------------------------------------------------------------------------------------


def _objective(objective: nn.Module, given) -> list[float]:
    torch.manual_seed(8)
    loss, parts = objective.train().loss(given)
    loss.backward()
    return [loss.item(), *(float(v) for v in parts.values()), *weights(objective)]


@component("objective.supervised", needs=["fit"])
def supervised():
    found = {kind: _objective(Supervised(model(), mass_loss=kind), batch())
             for kind in MASS_LOSSES}
    return found | {"smooth": _objective(Supervised(model(), 3.0, smoothing=0.1), batch())}


@component("objective.simclr", needs=["fit", "pretrain.{profile}"])
def simclr():
    pairs, found = TwoViews(views("ours", TOP_QCD, "cms8")), {}
    for name, how in {"ours": {}, "summary": {"summary": True}, "warm": {"temperature": 1}}.items():
        torch.manual_seed(9)
        found[name] = _objective(SimCLR(model(), **how), batch(augment=pairs))
    return found


@component("objective.mae", needs=["fit", "pretrain.{profile}"])
def mae():
    found = {}
    for name, how in {"ours": {}, "r1": dict(mask="all", lcm="skip", reconstruct="mse"),
                      "zeros": dict(lcm="zeros", ratio=0.5, dim=16)}.items():
        torch.manual_seed(10)
        found[name] = _objective(MAE(model(), **how), batch())
    torch.manual_seed(10)
    return found | {"active": _objective(MAE(model({**SMALL, "tokens": "active"})),
                                         batch("active"))}


@component("objective.denoising", needs=["fit", "pretrain.{profile}"])
def denoising():
    damage, found = Damaged(views("damage", TOP_QCD, "cms8")), {}
    for loss in ("mse", "two_part"):
        torch.manual_seed(11)
        found[loss] = _objective(Denoising(model(), reconstruct=loss), batch(augment=damage))
    return found


@component("objective.jepa", needs=["fit", "pretrain.{profile}"])
def jepa():
    found = {}
    for name, how in {"ours": {}, "random": dict(mask="random", ratio=0.5, depth=2),
                      "energy": dict(mask="energy", context=0.5, pixels=0.1),
                      "sigreg": dict(target="sigreg"),
                      "own": dict(target="own", norm="layer")}.items():
        torch.manual_seed(12)
        objective = JEPA(model(), **how)
        found[name] = _objective(objective, batch())
        if name == "ours":
            with torch.no_grad():
                for p in objective.model.parameters():
                    p += 1
            objective.after_update(0.25)
            found["moved"] = weights(objective.target)
    return found


class Valley(nn.Module):
    """A loss without chaos, so that rates, decay, averages and clipping can be read off."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 2, 12).view(3, 4))
        self.bias = nn.Parameter(torch.linspace(0.5, 1, 3))
        self.position = nn.Parameter(torch.ones(2, 2))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.progress = []

    def loss(self, batch, output=None):
        size = (batch.mass.mean() - 110) / 20  # gradients below and above the clip
        loss = 0.1 * sum((size * p - 0.3).square().sum() for p in self.parameters())
        return loss, {"size": size}

    def after_update(self, progress: float) -> None:
        self.progress.append(progress)


def _fitted(objective: nn.Module, settings: dict, keep: str = "two_scale", **how) -> list[float]:
    train = Batches(jets(), torch.arange(24), 8, keep, shuffle=True, seed=1, **how)
    validation = Batches(jets(), torch.arange(24, 48), 8, keep)
    chosen = FitSettings(**{"updates": 3, "every": 1, "accelerator": "cpu", **settings})
    history = fit(objective, train, validation, chosen, log=lambda line: None)
    rows = [row[name] for row in history for name in ("loss", "val_loss", "lr", "update")]
    rows += [row["val_auc"] for row in history if "val_auc" in row]
    objective.zero_grad()
    return [*rows, float(history.best_update), float(history.updates),
            *getattr(objective, "progress", ()), *weights(objective)]


@component("fit", needs=["batches", "split", "vit", "metrics", "objective.supervised",
                         "train.{profile}"])
def loop():
    default = FitSettings()
    rates = [learning_rate(p, default) for p in (0.01, 0.04, 0.3, 0.9)]
    found = {
        "rates": rates,
        "valley": _fitted(Valley(), dict(lr=0.5)),
        "average": _fitted(Valley(), dict(lr=0.5, ema=0.9, clip=None, warmup=0.4)),
        "selection": _fitted(Valley(), dict(lr=3.0, updates=6, select="loss", patience=3)),
        "last": _fitted(Valley(), dict(lr=0.5, select="low:lr", rates={"bias": 2.0})),
        "plateau": _fitted(Valley(), dict(lr=2.0, updates=8, schedule="plateau", warmup=0.0,
                                          plateau_patience=0)),
        "constant": _fitted(Valley(), dict(lr=0.1, schedule="constant", weight_decay=1.0)),
        "model": _fitted(Supervised(model(), 3.0), dict(lr=0.01, ema=0.9, warmup=0.4, clip=0.5)),
        "smoothed": _fitted(Supervised(model({**SMALL, "dropout": 0.1, "drop_path": 0.2}), 1.0,
                                       "gaussian", 0.1), dict(lr=0.01, seed=5)),
        "r1": _fitted(Supervised(model(R1_SMALL)), dict(lr=0.003), "all", bucket=False),
    }
    return found


@component("fit_batchnorm", needs=["fit", "resnet15"])
def loop_with_batch_norm():
    """Averaged weights of a model whose norms keep statistics."""
    torch.manual_seed(0)
    made = ResNet15(width=4)
    made.fit_scales(None, None, jets().mass)
    return {"resnet15": _fitted(Supervised(made), dict(lr=0.003, ema=0.9), "active", bucket=False)}


def _sizes(name: str):
    profile = get(name)
    return {"jets": [float(profile.labelled), float(profile.test), float(profile.unlabelled)]}


def _scratch(name: str):
    profile = get(name)
    scratch = recipe("scratch", profile)
    train, validation = make_batches(scratch.but(fit={"batch_size": 8}), jets())
    vit = JetViT(ViTConfig.of(TOP_QCD, **scratch.model))
    return {"model": [float(p.numel()) for p in vit.parameters()],
            "jets": [float(len(train.index)), float(len(validation.index))],
            "loss": [scratch.loss["mass_weight"]], "fit": _plain(scratch.fit)}


def _pretraining(name: str):
    return {"fit": _plain(recipe("mae", get(name)).fit)}


def _plain(settings: FitSettings) -> list[float]:
    return [float(getattr(settings, name) or 0) for name in (
        "updates", "batch_size", "lr", "weight_decay", "warmup", "clip", "ema", "every")]


for _name in NAMES:
    component(f"size.{_name}")(partial(_sizes, _name))
    component(f"train.{_name}")(partial(_scratch, _name))
    component(f"pretrain.{_name}")(partial(_pretraining, _name))


# --- evaluation -----------------------------------------------------------------------------------


def said(separation: float, seed: int, count: int = 300) -> Predictions:
    rng = np.random.default_rng(3)
    y = (rng.random(count) > 0.5).astype(np.float32)
    m = rng.normal(120 + 60 * y, 30).clip(40)
    noise = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-noise.normal(separation * (2 * y - 1)).round(1)))
    return Predictions(np.arange(count), y, score.astype("f4"), m, m + noise.normal(2, 10, count))


@component("metrics")
def measures():
    one, other = ([said(s, seed) for seed in (0, 1, 2)] for s in (1.5, 1.2))
    found = {"points": list(metrics.evaluate(one[0]).values())}
    for name, row in metrics.summary(one, [*metrics.METRICS]).items():
        found[name] = [row["mean"], row["low"], row["high"], *row["points"]]
    for name, row in metrics.summary(one[0], ["auc", "mass_mae"]).items():
        found[f"{name} of one"] = [row["mean"], row["low"], row["high"]]
    for name, row in metrics.compare(one, other, ["auc", "rejection_50", "mass_rmse"]).items():
        found[f"{name} compared"] = [row["difference"], row["low"], row["high"], row["p"]]
    found["roc"] = numbers(*metrics.roc(one, points=20, resamples=50).values())
    found["response"] = [v for row in metrics.response(one[0], [60, 120, 180])
                         for v in row.values() if isinstance(v, float)]
    found["decorrelated"] = numbers(metrics.decorrelate(one[0], 5).score)
    found["reliability"] = [v for row in metrics.reliability(one[0].y, one[0].score)
                            for v in row.values()]
    return {name: [float(x) for x in values] for name, values in found.items()}


@component("probes", needs=["vit", "metrics"])
def look_at_features():
    made = model({**SMALL, "tokens": "active"})
    features = probes.embed(made, jets(), torch.arange(48))
    label = jets().labels.numpy()
    return {
        "features": numbers(features),
        "collapse": list(probes.collapse(features).values()),
        "linear": numbers(probes.linear_probe(features[:30], label[:30], features[30:])),
        "neighbours": numbers(probes.neighbour_probe(features[:30], label[:30], features[30:])),
        "monitor": list(probes.Monitor(jets(), torch.arange(30), torch.arange(30, 48))(
            Supervised(made)).values()),
    }


# --- simulated jets -------------------------------------------------------------------------------


@component("detector")
def detector_response():
    rng = np.random.default_rng(5)
    count = 600
    pdg = rng.choice((211, -211, 22, 11, 13, 130, 2112, 2212, -2112), count)
    charge = np.select([pdg == 211, pdg == -211, pdg == 2212, np.isin(pdg, (11, 13))],
                       [1, -1, 1, -1], 0).astype(float)
    pt, eta, phi = rng.exponential(4, count) + 0.2, rng.normal(0.2, 0.4, count), rng.normal(
        1, 0.4, count)
    momentum = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(sum(p**2 for p in momentum) + 0.9**2)
    place = rng.normal(0, (0.5, 0.5, 5), (count, 3)).T
    particles = Particles(pdg, charge, *momentum, energy, *place, np.zeros(count, int))
    response = detector.respond(particles, 0.4, rng)
    momenta, clustered = detector.candidates(response)
    pixel, value = detector.Event(response, 0.4, rng).image(0.2, 1.0)
    light = np.isin(pdg, (22, 11)) & (response.em > 0)
    visible = detector.visible_energy(particles)
    found = {"response": numbers(response.tracked, response.track_pt / pt - 1, response.em,
                                 response.had, response.em[light] / visible[light] - 1,
                                 response.had / visible),
             "candidates": numbers(momenta[:, 0], momenta[:, 3], clustered)}
    return found | _channels(pixel, value, 8)


def _channels(pixel: np.ndarray, value: np.ndarray, channels: int) -> dict[str, list[float]]:
    """Hits by channel: number, sums, and some of the values, where small changes show."""
    found = {}
    for channel in range(channels):
        mine = pixel // 125**2 == channel
        some = value[mine][:: max(1, mine.sum() // 9)][:9]
        found[f"channel {channel}"] = [float(mine.sum()), *numbers(pixel[mine], value[mine])[1:],
                                       *map(float, some)] if mine.any() else [0.0]
    return found


def soft_collisions() -> events.PileUp:
    """Pile-up of pions and photons in place of minimum bias, which takes Pythia four seconds."""
    rng = np.random.default_rng(6)
    count = 8 * 60
    pt, eta, phi = rng.exponential(0.6, count) + 0.1, rng.uniform(-3, 3, count), rng.uniform(
        -3, 3, count)
    charge = rng.choice((-1.0, 0.0, 1.0), count)
    momentum = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return events.PileUp(Particles(
        np.where(charge == 0, 22, 211 * charge).astype(int), charge, *momentum,
        np.sqrt((pt * np.cosh(eta))**2 + 0.02), *np.zeros((3, count)), np.zeros(count, int)),
        np.arange(9) * 60)


def _sample(name: str):
    pool = mock.patch.object(events, "pile_up_pool", return_value=soft_collisions())
    with tempfile.TemporaryDirectory() as folder, pool:
        path = Path(folder) / "jets.h5"
        simulate(name, 2, path, seed=11, workers=1, encoding="gev", progress=False, pool_events=7)
        made = JetImages.open(path)
    found = {"columns": [*made.labels.tolist(), *made.mass.tolist(), *made.pt.tolist(),
                         *made.truth["true_mass"].tolist(), *made.truth["vertices"].tolist()]}
    for number in range(2):
        hits = slice(int(made.indptr[number]), int(made.indptr[number + 1]))
        cases = _channels(made.indices[hits].numpy(), made.data[hits].numpy(), made.shape[0])
        found |= {f"jet {number}, {case}": values for case, values in cases.items()}
    return {case: [float(x) for x in values] for case, values in found.items()}


for _name in events.SAMPLES:
    component(f"sample.{_name}", needs=["detector", "encoding", "size.{profile}"])(
        partial(_sample, _name))


# --- the hadron calorimeter -----------------------------------------------------------------------


@cache
def maps(run: int = 355456, sections: int = 30, low: bool = True) -> HcalMaps:
    return hcal_simulation.simulate(run, sections, seed=4, low_statistics=low)


@component("hcal.simulation")
def calorimeter():
    found = {}
    for run in (355456, 357479):
        made = maps(run)
        sick, strength = hcal_simulation.inject(made, seed=2, rate=3.0)
        found[str(run)] = [*numbers(made.counts, made.events, sick.counts, strength),
                           *numbers(estimate_events(made), estimate_events(made, together=True))]
    made = hcal_simulation.simulate(355456, 4, profile=0.4, pattern_seed=2, integer=True)
    return found | {"other": numbers(made.counts, made.events),
                    "stretches": numbers(healthy(357479, 3, low=True).counts)}


@component("hcal.scores", needs=["hcal.simulation"])
def calorimeter_scores():
    sick, _ = hcal_simulation.inject(maps(), seed=2, rate=3.0)
    live = sick.live
    found = {name: numbers(score(sick)[:, live])
             for name, score in scores.SIMPLE.items()}
    seen = scores.pulls(sick)
    sigma = (0.25 * 0.6 / seen.events).sqrt()[:, None, None].expand_as(seen.theta)
    odds = scores.log_odds(seen.theta, seen.ring.expand_as(seen.theta), sigma, seen.events, live)
    rule = scores.pattern_odds(sick, scores.rings_and_offsets(maps(357479))[1])
    return found | {"look": numbers(*seen), "pattern": numbers(rule[:, live]),
                    "odds": numbers(odds[:, live])}


@component("hcal.masked", needs=["hcal.scores", "fit"])
def calorimeter_model():
    torch.manual_seed(0)
    known = maps()
    recipe = Recipe.of({**masked_cells.SETTINGS, "model": {"dim": 16, "depth": 1}, "loss": {}})
    made = masked_cells.MaskedCells.build(recipe, known, torch.arange(20))
    given = known.batch(torch.arange(8), "all")
    loss = _objective(made, given)
    return {"loss": loss, "tested": [made.eval().loss(given)[0].item()],
            "score": numbers(made.model.score(known.subset(slice(0, 2)))[:, known.live])}


@component("hcal.findings", needs=["hcal.scores"])
def calorimeter_findings():
    sick, _ = hcal_simulation.inject(maps(357479, 6), [
        hcal_simulation.Fault(0.0, 5, 10, 2, 4), hcal_simulation.Fault(0.6, 54, 20, 3, 4),
        hcal_simulation.Fault(2.0, 12, 40)])
    found = {}
    for name, reference in (("alone", None), ("reference", maps(357479, 25))):
        judged = findings.judge(sick, reference)
        found[name] = [*numbers(judged.score, judged.ratio, judged.kind, judged.sections),
                       float(len(judged.regions)), *(r.score for r in judged.regions[:3])]
    return found


@component("hcal.experts", needs=["fit"])
def calorimeter_experts():
    found = {}
    for kind, base in (("vit", R3_VIT), ("moe", R3_MOE)):
        both = scaled(HcalMaps.concat([maps(run) for run in (355456, 357479)]), "log1p")
        cut = both.patches(32, 32, 64)
        torch.manual_seed(1)
        made = Routed(JetViT(ViTConfig.of(R3_GRIDS["coded"], **base)), **R3_LOSS)
        given = cut.batch(torch.arange(0, 60, 8), "all")
        found[kind] = [*_objective(made, given), *map(float, (
            R3_FIT[kind]["lr"], R3_FIT[kind]["updates"], R3_FIT[kind]["weight_decay"]))]
        routed = dict(dim=8, depth=1, heads=2, experts=3, router="top2", tokens="all",
                      mass_head=False)
        made = Routed(JetViT(ViTConfig.of(R3_GRIDS["table"], **routed)), mass_weight=0)
        found["top2"] = _objective(made, both.patches(8, 18).batch(torch.arange(0, 60, 8), "all"))
    return found


if __name__ == "__main__":
    print("\n".join(golden.update(sys.argv[1:])) or "nothing to do")
