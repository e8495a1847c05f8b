"""Solutions of exercises are code that runs (those of notebooks 03 and 10 beside their tests)."""

import dataclasses
from types import SimpleNamespace

import notebook_code
import numpy as np
import pytest
import torch
from jetfiles import cms
from scipy import linalg, stats

from lib import profiles
from lib.data.augment import recalibrated
from lib.data.images import JetImages
from lib.data.views import transformed
from lib.evaluation import metrics
from lib.training.recipe import recipe


def images(count: int = 40) -> JetImages:
    draw = np.random.default_rng(0)
    pixels, label = cms(count).transpose(0, 3, 1, 2), np.arange(count) % 2
    return JetImages.from_dense(pixels, "cms8", labels=label, mass=draw.uniform(50, 200, count),
                                pt=draw.uniform(400, 900, count))


def test_two_logits_are_added():
    jets, draw = images(), np.random.default_rng(1)
    test = torch.arange(len(jets))
    network, by_mass = (metrics.Predictions.of(jets, test, draw.random(len(jets)))
                        for _ in range(2))
    space = {"network": network, "by_mass": by_mass, "metrics": metrics, "jets": jets, "test": test}
    for block in notebook_code.solutions("00"):
        exec(block, space)
    assert {"difference", "low", "high"} <= set(space["gain"])
    order = network.score * by_mass.score / ((1 - network.score) * (1 - by_mass.score))
    assert (np.argsort(space["together"].score) == np.argsort(order)).all()


def guess(jets: JetImages, draw: np.random.Generator) -> metrics.Predictions:
    return metrics.Predictions.of(jets, torch.arange(len(jets)), draw.random(len(jets)),
                                  draw.uniform(50, 200, len(jets)))


def test_cuts_frozen_backbones_and_slow_ones():
    jets, draw, profile = images(), np.random.default_rng(2), profiles.get("smoke")
    trained = []

    def supervised(name, chosen):
        trained.append(chosen)
        return SimpleNamespace(predictions=guess(jets, draw))

    space = {"np": np, "dataclasses": dataclasses, "metrics": metrics, "recipe": recipe,
             "jets": jets, "validation": torch.arange(20), "profile": profile, "seed": 0,
             "scratch": guess(jets, draw), "supervised": supervised,
             "run": SimpleNamespace(predict=lambda jets, part: guess(jets.subset(part), draw)),
             "from_scratch": recipe("scratch", profile, 0),
             "tuned_recipe": {"simclr": recipe("finetune", profile, 0, start="x")},
             "live": {"finetune_simclr": supervised("", recipe("scratch", profile, 0))}}
    for block in notebook_code.solutions("07"):
        exec(block, space)
    assert 0.2 <= space["best"] <= 0.8
    *frozen, slow = trained[1:]
    assert [arm.frozen for arm in frozen] == [True, True]
    assert slow.fit.lr < slow.fit.rates["class_head"] < space["from_scratch"].fit.lr


def test_a_dead_corner_and_an_arm_of_one_s_own(capsys):
    jets, draw = images(), np.random.default_rng(3)
    shown = notebook_code.shown(
        "12", ("response", "pair", "in_common", "dead_tower", "changed"), np=np, torch=torch,
        metrics=metrics, recalibrated=recalibrated, dataclasses=dataclasses, ours=None)
    half = recipe("scratch", profiles.get("smoke"))
    trained = []

    def train(name, chosen, *_, **__):
        trained.append(chosen)
        return SimpleNamespace(predictions=guess(jets, draw))

    space = {**shown, "live": SimpleNamespace(predict=lambda jets: guess(jets, draw)),
             "nominal": jets, "metrics": metrics, "half": half, "jets": jets, "test_jets": jets,
             "encoded": lambda change: transformed(jets, change, encoding="cms8"),
             "runs": SimpleNamespace(train=train), "hold_out": False,
             "profile": SimpleNamespace(runs_dir=None)}
    for block in notebook_code.solutions("12"):
        exec(block, space)
    assert len(capsys.readouterr().out.split()) == 2
    assert [arm.model["depth"] for arm in trained] == [1, half.model["depth"]]


def test_patches_of_every_size_are_counted(capsys):
    jets = images(6)
    space = {"hits": jets.hits(slice(None)), "torch": torch}
    for block in notebook_code.solutions("02"):
        exec(block, space)
    assert space["tokens_of"](1) <= len(space["hits"]) / 6
    assert space["tokens_of"](125) == 1
    lines = capsys.readouterr().out.splitlines()
    work = [float(line.split()[5]) for line in lines]
    assert len(work) == 5
    assert work == sorted(work, reverse=True)  # as the text says


def test_the_yardstick_scatters_with_its_seeds():
    block, = notebook_code.solutions("04")
    asked = []

    def two_sample(sample, augment, seed):
        asked.append((sample, augment("hits"), seed))
        return {"mean": 0.5}
    assert eval(block, {"two_sample": two_sample, "samples": {"cms8": "jets"}}) == [0.5] * 5
    assert asked == [("jets", "hits", seed) for seed in range(5)]


def test_empty_places_are_hidden_in_proportion_and_zeros_train(capsys):
    shares, zeros = notebook_code.solutions("05")
    active = torch.rand(200, 650, generator=torch.Generator().manual_seed(0)) < 0.3
    space = notebook_code.shown("05", ("hide_by_hand",), torch=torch, active=active)
    exec(shares, space)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["0.5", "0.9"]
    assert all(abs(float(line[1]) - 0.7) < 0.01 for line in lines)
    assert 'arm("e").but(loss={"lcm": "zeros"})' in zeros
    assert recipe("mae", profiles.get("smoke")).but(loss={"lcm": "zeros"}).loss["lcm"] == "zeros"


def test_a_block_between_two_measured_sizes(capsys):
    points = {"softmax": [(1024, 1.0), (16384, 256.0)], "relu_linear": [(1024, 0.5), (16384, 8.0)]}
    space = {"np": np, "tokens": {0: {1: 700.0}, 200: {1: 4096.0}}, "rows_of": lambda name, what: [
        {"tokens": n, "seconds": t} for n, t in points[name]]}
    for block in notebook_code.solutions("11"):
        exec(block, space)
    assert "4,096 tokens: 8 times" in capsys.readouterr().out  # 16 over 2 seconds


def test_a_borrowed_scatter_is_that_of_the_lenders():
    borrowed = notebook_code.shown("17", {"borrowed"}, np=np, stats=stats)["borrowed"]
    pairs = [{"difference": d, "low": d - 0.196, "high": d + 0.196} for d in (1.0, 2.0)]
    row = borrowed(pairs, [0.1, 0.3, 0.2, 0.5, 0.4])
    # t of four degrees of freedom (a table); a variance of .025, of two, and .1 of the test jets
    assert row["high"] - row["low"] == pytest.approx(
        2 * 2.776 * (0.025 / 2 + 0.1**2) ** 0.5, rel=1e-3)
    assert (row["difference"], row["points"]) == (1.5, [1.0, 2.0])
    both = borrowed(pairs, [0.1, 0.3, 0.2, 0.5, 0.4], [1, 2, 3])  # variances .025 and 1
    assert both["high"] - both["low"] == pytest.approx(
        2 * 2.447 * ((4 * 0.025 + 2) / 6 / 2 + 0.1**2) ** 0.5, rel=1e-3)


def test_three_repetitions_and_a_pooled_scatter(capsys):
    random, studies = np.random.default_rng(3), 20_000
    space = {"np": np, "stats": stats, "random": random, "studies": studies, "LENDERS": 5,
             "lent": random.normal(size=(studies, 5)).std(-1, ddof=1),
             "ours": random.normal(size=(studies, 2))}
    for block in notebook_code.solutions("17")[:2]:
        exec(block, space)
    found = [float(line.split()[n]) for line, n in zip(
        capsys.readouterr().out.splitlines(), (0, 1, 1), strict=True)]
    assert found == pytest.approx([1.47, 0.95, 0.815], rel=0.02)


def test_effects_of_a_design_are_those_of_a_regression(capsys):
    space = notebook_code.shown("18", {"VIEWS", "ORDER", "OURS", "DESIGN", "effects", "analysed"},
                                np=np, stats=stats, hadamard=linalg.hadamard(8))
    design, scores = space["DESIGN"], np.random.default_rng(4).normal(size=16)
    space["GROUPS"] = design[:, :1] * design[:, 1:]  # each group has one interaction of flips
    rows, sigma = space["analysed"](scores)
    columns = np.column_stack([np.ones(16), design / 2])
    expected, (squares,) = np.linalg.lstsq(columns, scores)[:2]
    assert sigma == pytest.approx((squares / 7) ** 0.5)
    for row, effect in zip(rows.values(), expected[1:], strict=True):
        assert row["difference"] == pytest.approx(effect)
        assert row["high"] - effect == pytest.approx(2.365 * sigma / 2, rel=1e-3)  # t from a table
    space["pairs"] = pairs = [(a, b) for a in range(8) for b in range(a)]
    space["products"] = np.array([design[:, a] * design[:, b] for a, b in pairs]).T
    exec(notebook_code.solutions("18")[0], space)
    said = capsys.readouterr().out
    assert said.startswith("4 ")
    assert "channel_dropout × flips" in said


@pytest.mark.parametrize(("ends", "p", "word"), [
    ((0.002, 0.008), 0.01, "found and too small to matter"), ((0.005, 0.03), 0.01, "found"),
    ((-0.009, 0.004), 0.8, "too small to matter"), ((-0.012, 0.004), 0.3, "open")])
def test_an_effect_is_found_too_small_or_open(ends, p, word):
    said = notebook_code.shown("18", {"said"})["said"]
    assert said(dict(zip(("low", "high"), ends, strict=True)), p) == word


@pytest.mark.parametrize(("ends", "claim", "answer"), [
    ((0.9, 1.3), 1.5, "yes, but less"), ((-0.1, 0.6), 1.5, "no, or too small to matter"),
    ((-0.5, 1.0), 1.5, "not decidable"), ((0.1, 1.0), 1.5, "the sign, yes; its size is open"),
    ((-1.4, -0.9), -1.37, "yes"), ((-3.0, -2.0), -1.37, "yes, and more"),
    ((0.1, 0.6), -1.37, "no: the opposite")])
def test_a_claim_is_answered_by_the_whole_interval(ends, claim, answer):
    answered = notebook_code.shown("18", {"answer"}, np=np)["answer"]
    assert answered(dict(zip(("low", "high"), ends, strict=True)), claim, 0.75) == answer


def test_a_paid_look_is_the_interval_of_the_library_at_its_level():
    draw, jets = np.random.default_rng(6), 3_000
    mass, event = draw.uniform(50, 200, jets), np.arange(jets) // 2
    shared = draw.normal(0, 20, (8, jets))

    def answers(better: float) -> list[metrics.Predictions]:
        return [metrics.Predictions(
            np.arange(jets), np.arange(jets) % 2, draw.uniform(size=jets), mass,
            mass + (1 - better - 0.05 * draw.normal()) * s, event) for s in shared]

    pairs = list(zip(answers(0.1), answers(0.0), strict=True))
    space = {"np": np, "stats": stats, "PAID": 0.05}
    look_at = notebook_code.shown("19", {"VALUE", "look_at"}, **space)["look_at"]
    for metric in ("mass_mae", "accuracy"):
        ours, theirs = look_at(pairs, metric), metrics.compare(*zip(*pairs, strict=True),
                                                               [metric])[metric]
        assert ours["points"] == pytest.approx(theirs["points"])
        wider = (ours["high"] - ours["low"]) / (theirs["high"] - theirs["low"])
        assert 0.97 < wider < 1.2  # Student's factor for the luck of the jets as well
    assert ours["low"] < 0 < ours["high"]


@pytest.mark.parametrize(("ends", "word"), [
    ((-0.8, -0.1), "better"), ((-0.2, -0.1), "better and too small to matter"),
    ((-0.2, 0.25), "too small to matter"), ((-0.6, 0.1), "open"), ((0.1, 0.6), "worse")])
def test_a_start_is_better_too_small_or_open(ends, word):
    said = notebook_code.shown("19", {"said"})["said"]
    assert said(dict(zip(("low", "high"), ends, strict=True)), 0.3) == word


def test_looks_are_paid_for(capsys):
    draw = np.random.default_rng(2)
    space = notebook_code.shown("19", {"p_value", "LOOKS", "looks", "PAID"}, np=np, stats=stats)
    space["nothing"] = nothing = draw.normal(size=(20_000, 20))
    t = nothing[0].mean() / nothing[0].std(ddof=1) * 20 ** 0.5
    assert space["p_value"](nothing[0]) == pytest.approx(2 * stats.t.sf(abs(t), 19))
    assert (space["looks"](nothing).min(0) < space["PAID"]).mean() == pytest.approx(0.05, abs=0.005)
    for block in notebook_code.solutions("19"):
        exec(block, space)
    three, two, *gave_up = capsys.readouterr().out.splitlines()
    assert float(three) == pytest.approx(0.021, abs=0.003)
    assert float(two.split()[0]) == pytest.approx(0.047, abs=0.004)
    assert [float(line.split()[1]) for line in gave_up] == pytest.approx([0.039, 0.40], abs=0.02)


@pytest.mark.parametrize(("ends", "word"), [
    ((-0.8, -0.1), "long ahead"), ((-0.2, -0.1), "long ahead and too small to matter"),
    ((-0.2, 0.25), "too small to matter"), ((-0.6, 0.1), "open"), ((0.1, 0.6), "control ahead")])
def test_who_is_ahead_of_the_control(ends, word):
    said = notebook_code.shown("20", {"said"})["said"]
    assert said(dict(zip(("low", "high"), ends, strict=True)), "long", "control") == word


def test_a_start_of_a_linear_rule_is_a_head_start(capsys):
    draw = np.random.default_rng(3)
    space = notebook_code.shown("20", {"descent", "errors", "losses"}, np=np, stats=stats)
    truth, x = draw.normal(size=6), draw.normal(size=(700, 6))
    space |= {"X": x[:500], "mass": x[:500] @ truth + draw.normal(size=500), "FEW": 50,
              "X_test": x[500:], "mass_test": x[500:] @ truth, "STEPS": 3000, "RIDGE": 0.01,
              "MARKS": np.array([1, 3, 3000]), "near": [1, 3000], "nothing": np.zeros(6),
              "answers": {"start": {"last": {"mass_mae": {"points": [-0.5, -0.2, 0.1, 0.0]}}}}}
    from_zero = space["descent"](x[:50], space["mass"][:50], space["nothing"])
    normal = np.linalg.solve(x[:50].T @ x[:50] / 50 + 0.01 * np.eye(6),
                             x[:50].T @ space["mass"][:50] / 50)
    assert from_zero[-1] == pytest.approx(normal)
    assert space["losses"](from_zero)[-1] < space["losses"](from_zero)[0]
    space["other"] = space["descent"](x[50:500], space["mass"][50:500], space["nothing"])[-1]
    space["curve"] = {"from zero": space["errors"](from_zero)}
    for block in notebook_code.solutions("20"):
        exec(block, space)
    early, end, *springs, enough = capsys.readouterr().out.splitlines()
    assert float(early.split()[1]) > 0 == float(end.split()[1])
    assert float(springs[-1].split()[1]) < float(springs[0].split()[1])
    assert "draws" in enough
    assert 6 < int(enough.split(": ")[1].split()[0]) < 12
