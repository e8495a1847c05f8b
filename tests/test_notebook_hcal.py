"""What notebook 09 relies on: closure, rules, turned maps, routers and attention beside their
nulls. Functions that the notebook shows are taken from it, without running it."""

import ast
import functools
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_experts import LIKE_R3
from test_models import GRID, make_hits, make_model, padded

from hcal import runs
from hcal.maps import RUNS, HcalMaps
from hcal.plots import bands, cell_map
from hcal.runs import R3_MOE, R3_VIT
from hcal.simulation import Fault, inject, simulate
from lib import profiles
from lib.data.batches import Batches
from lib.data.tokens import Grid, tokenize
from lib.evaluation.predictions import predict
from lib.models.vit import JetViT, ViTConfig
from lib.profiles import ROOT
from lib.report.plots import new
from lib.training.split import make_batches

sys.path.append(str(ROOT / "notebooks"))
from drawings import hcal as drawings

SOURCE = ROOT / "notebooks" / "09_hcal.py"


@pytest.fixture(scope="module")
def shown() -> SimpleNamespace:
    """Imports of ``hcal``, functions, classes and rules of the notebook."""
    def wanted(node):
        name = getattr(getattr(node, "targets", [None])[0], "id", "")
        module = getattr(node, "module", "") or ""
        return (isinstance(node, ast.FunctionDef | ast.ClassDef) or name == "RULES"
                or module.startswith(("hcal", "dataclasses"))
                or ast.unparse(node).startswith("INNER, OUTER"))

    body = [node for node in ast.parse(SOURCE.read_text()).body if wanted(node)]
    space = {"np": np, "torch": torch, "math": math, "functools": functools,
             "make_batches": make_batches, "Batches": Batches,
             "predict": predict, "RUN_A": RUNS[0], "RUN_B": RUNS[1]}
    module = type(sys)("shown")
    sys.modules["shown"] = module  # where dataclass looks for types
    module.__dict__.update(space)
    exec(compile(ast.Module(body, []), str(SOURCE), "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def maps():
    return HcalMaps.concat([simulate(run, 24, seed=1) for run in RUNS])


@pytest.mark.parametrize("run", RUNS)
def test_closure_on_the_published_statistics(shown, run):
    rows = shown.closure_of(simulate(run, 3000, seed=4), run)
    assert len(rows) > 30
    assert not [row for row in rows if not row["ok"]]


@pytest.mark.parametrize("name", ["maximum", "ratio", "logistic"])
def test_a_rule_of_one_line_tells_the_runs_apart(shown, maps, name):
    says = shown.fit_rule(name, maps)
    fresh = HcalMaps.concat([simulate(run, 10, seed=2) for run in RUNS])
    assert ((says(fresh) > 0.5) == (fresh.labels.numpy() == 1)).all()


def test_the_ratio_of_rings_does_not_care_how_many_events_there_were(shown):
    few, many = (float(shown.RULES["ratio"](simulate(RUNS[0], 20, events=n)).mean())
                 for n in (300, 1600))
    assert few == pytest.approx(many, rel=0.02)


def test_turned_maps_hold_the_same_counts_and_are_rotations_or_mirror_images(shown):
    counts = torch.arange(1.0, 65).view(1, 8, 8)
    square = HcalMaps(counts.repeat(40, 1, 1), torch.ones(8, 8, dtype=torch.bool),
                      grid=Grid(1, 8, 8, 4, 4))
    torch.manual_seed(0)
    hits = shown.Turns(8)(square.hits(range(40)))
    turned = torch.zeros(40, 8, 8)
    turned[hits.image, hits.row, hits.column] = hits.value
    ways = {tuple(torch.rot90(m, k).flatten().tolist())
            for m in (counts[0], counts[0].flip(0)) for k in range(4)}
    found = {tuple(m.flatten().tolist()) for m in turned}
    assert found == ways


def test_blocks_are_a_fifth_of_each_run_in_few_stretches(shown):
    labels = torch.arange(800) // 400
    train, test = shown.in_blocks(labels, 0.2, 4, 1)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(800))
    assert labels[test].bincount().tolist() == [80, 80]
    assert (test.diff() > 1).sum() < 10


def test_readings_have_the_published_number_of_tokens(maps):
    tokens = {name: runs.read_as(maps, name).grid.patches for name in ("coded", "table", "fine")}
    assert tokens == {"coded": 4, "table": 32, "fine": 144}


def test_an_epoch_counts_only_if_the_accuracy_stays(shown):
    def run(*accuracies):
        return SimpleNamespace(history=[{"update": 250 * (i + 1), "accuracy": a}
                                        for i, a in enumerate(accuracies)])

    assert shown.epochs_to(run(1, 1)) == 1
    assert shown.epochs_to(run(0.5, 1, 0.5, 1, 1)) == 4
    assert math.isnan(shown.epochs_to(run(1, 0.5)))
    assert [shown.after(run(0.5, 0.7, 1), e, "accuracy") for e in (1, 2, 3, 15)] == [0.5, 0.7, 1, 1]


def test_r3_s_models_start_from_a_truncated_normal():
    torch.manual_seed(0)
    weights = [part.weight for part in JetViT(ViTConfig.of(runs.R3_GRIDS["coded"], **R3_VIT))
               .modules() if isinstance(part, torch.nn.Linear)]
    assert {round(float(w.detach().std()), 2) for w in weights} == {0.02}
    assert max(len(v) for log in runs.R3_LOG.values() for v in log) == 3


def test_mutual_information_is_one_bit_for_one_expert_a_half_and_none_by_chance(shown):
    half = torch.arange(4000) // 2000
    one_each = torch.eye(2)[half]
    assert shown.information(one_each, half) == pytest.approx(1)
    dealt = shown.shuffled(one_each[None])[0]
    assert dealt.sum(0).tolist() == one_each.sum(0).tolist()
    assert shown.information(dealt, half) < 0.01


def logs(maps, reading="table"):
    return runs.read_as(maps.with_(counts=maps.counts.log1p()), reading)


def test_routers_are_described_without_touching_the_model(shown, maps):
    some = logs(maps)
    torch.manual_seed(0)
    model = JetViT(ViTConfig.of(some.grid, **R3_MOE)).eval()
    tokens = some.batch(slice(None), "all").tokens
    before = model(tokens)[0]
    state = shown.router_state(model, tokens, null=3)
    assert 0.5 <= state["load"] <= 1
    assert 0 <= state["entropy"] <= 1
    assert state["shuffled"] < state["information"]
    torch.testing.assert_close(model(tokens)[0], before)
    assert not any(block.mlp._forward_hooks for block in model.blocks)
    assert state["information"] <= state["share"] <= 1.001


def test_uniform_attention_lands_on_live_cells_as_often_as_there_are_live_cells(shown, maps):
    some = logs(maps)
    flat = torch.full((8, 4), 1 / 32)
    assert shown.share_on_live(flat, some) == pytest.approx(932 / 4608, rel=1e-5)
    torch.manual_seed(0)
    model = JetViT(ViTConfig.of(some.grid, **R3_VIT)).eval()
    found = shown.class_attention(model, some)
    assert found.shape == (48, 2, 8, 4)
    torch.testing.assert_close(found.sum((2, 3)), torch.ones(48, 2))


def test_the_mirror_ratio_is_one_for_mirrored_maps(shown, maps):
    both = maps.with_(counts=maps.counts + maps.counts.flip(1))
    ratio = shown.mirror_ratio(both)
    assert ratio["ieta"] == list(range(19, 30))
    np.testing.assert_allclose(ratio["ratio"], 1, atol=1e-6)
    drawings.symmetry({"both": ratio})


def test_a_run_is_trained_watched_and_found_again(shown, maps, tmp_path, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    profile = profiles.get("smoke")
    train, test = map(torch.from_numpy, maps.divide(0.2, 42))
    lines = []
    trainer = runs.Trainer(maps.with_(counts=maps.counts.log1p()), train, test, profile,
                           lines.append)
    settings = runs.recipe(profile, "moe")
    watch = shown.watch_routers(trainer.parts("table")[0])
    run = trainer("a", settings, "table", watch=watch)
    assert {"accuracy", "information", "distance"} <= set(run.history[-1])
    assert trainer("a", settings, "table", watch=watch).cached
    assert " maps, " in lines[0]
    assert not any(line.startswith("epoch") or " jets" in line for line in lines)
    coded = trainer("b", runs.recipe(profile, "moe"))
    np.testing.assert_allclose(shown.answers(coded)(maps)[test.numpy()], coded.predictions.score,
                               atol=1e-5)


def test_sick_cells_are_outlined_where_they_are(maps):
    sick, strength = inject(maps, [Fault(0.0, 3, 10), Fault(0.0, 60, 0), Fault(0.0, 13, 5)])
    _, axes = new(1, 1)
    bands(axes[0, 0], sick.counts[0], maps.live, strength[0] != 1, "count")
    boxes = {(p.get_x(), p.get_y(), p.get_width()) for p in axes[0, 0].patches}
    # two ends of 11 rings and a gap; a cell of 10 degrees covers two columns
    assert boxes == {(10, 0, 2), (0, 22, 2), (5, 10, 1)}
    low, high = axes[0, 0].get_ylim()
    assert low < high  # ieta upwards
    cell_map(sick.counts[0] * 0, sick.counts[0] / 1000, maps.live, strength[0] != 1)


@pytest.mark.parametrize("attention", ["softmax", "relu_linear", "elu_linear"])
def test_the_class_tokens_attention_makes_its_output(shown, attention):
    """Rows of one over class token and valid tokens; times the values, the block's attention."""
    hits = make_hits()
    model = make_model(hits, experts=2, **{**LIKE_R3, "attention": attention}).eval()
    tokens = padded(tokenize(hits, GRID), garbage=1.0)
    seen = {}
    last = model.blocks[-1].attention
    hooks = [last.register_forward_pre_hook(lambda _, args: seen.update(x=args[0])),
             last.proj.register_forward_pre_hook(lambda _, args: seen.update(out=args[0]))]
    model(tokens)
    for hook in hooks:
        hook.remove()
    attended = shown.cls_attention(model, tokens)
    assert attended.shape == (5, 2, 1 + tokens.valid.shape[1])
    torch.testing.assert_close(attended.sum(-1), torch.ones(5, 2))
    assert not attended[:, :, 1:][~tokens.valid[:, None].expand(-1, 2, -1)].any()
    assert (attended[..., 0] > 0).all()
    values = last.split(seen["x"])[2]  # (B, H, K, D)
    expected = torch.einsum("bhk,bhkd->bhd", attended, values).flatten(1)
    torch.testing.assert_close(seen["out"][:, 0], expected, atol=1e-5, rtol=1e-4)


def test_active_parameters_leave_out_the_experts_that_are_not_called(shown):
    expert = 2 * 32 * 128 + 128 + 32
    for router, idle in (("soft", 0), ("top2", 0), ("top1", 4 * expert)):
        model = JetViT(ViTConfig.of(runs.R3_GRIDS["coded"], **{**R3_MOE, "router": router}))
        assert shown.active_parameters(model) == 117_610 - idle
    model = JetViT(ViTConfig.of(runs.R3_GRIDS["coded"], **R3_VIT))
    assert shown.active_parameters(model) == 266_178
