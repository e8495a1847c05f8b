"""What notebook 09 relies on: rules, turned maps, routers and attention beside their nulls."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hcal import figures as figures_hcal
from hcal import figures_health as figures_hcal_health
from hcal import files as hcal
from hcal import looks
from hcal import runs as classify
from hcal.files import HcalMaps
from hcal.published import R3_MOE, R3_VIT
from lib import profiles
from lib.data.tokens import Grid
from lib.models.vit import JetViT, ViTConfig


@pytest.fixture(scope="module")
def maps():
    return HcalMaps.concat([hcal.simulate(run, 24, seed=1) for run in hcal.RUNS])


@pytest.mark.parametrize("name", list(classify.RULES))
def test_a_rule_of_one_line_tells_the_runs_apart(maps, name):
    says = classify.fit_rule(name, maps)
    fresh = HcalMaps.concat([hcal.simulate(run, 10, seed=2) for run in hcal.RUNS])
    assert ((says(fresh) > 0.5) == (fresh.labels.numpy() == 1)).all()


def test_the_ratio_of_rings_does_not_care_how_many_events_there_were():
    few, many = (classify.ratio(hcal.simulate(hcal.RUNS[0], 20, events=n)).mean()
                 for n in (300, 1600))
    assert few == pytest.approx(many, rel=0.02)


def test_turned_maps_hold_the_same_counts_and_are_rotations_or_mirror_images():
    counts = torch.arange(1.0, 65).view(1, 8, 8)
    square = HcalMaps(counts.repeat(40, 1, 1), torch.ones(8, 8, dtype=torch.bool),
                      grid=Grid(1, 8, 8, 4, 4))
    torch.manual_seed(0)
    hits = classify.Turns(8)(square.hits(range(40)))
    turned = torch.zeros(40, 8, 8)
    turned[hits.image, hits.row, hits.column] = hits.value
    ways = {tuple(torch.rot90(m, k).flatten().tolist())
            for m in (counts[0], counts[0].flip(0)) for k in range(4)}
    found = {tuple(m.flatten().tolist()) for m in turned}
    assert found == ways


def test_readings_have_the_published_number_of_tokens(maps):
    tokens = {name: classify.read_as(maps, name).grid.patches
              for name in ("coded", "table", "fine")}
    assert tokens == {"coded": 4, "table": 32, "fine": 144}


def test_an_epoch_counts_only_if_the_accuracy_stays():
    def run(*accuracies):
        return SimpleNamespace(history=[{"epoch": i + 1.0, "accuracy": a}
                                        for i, a in enumerate(accuracies)])

    assert classify.epochs_to(run(1, 1)) == 1
    assert classify.epochs_to(run(0.5, 1, 0.5, 1, 1)) == 4
    assert math.isnan(classify.epochs_to(run(1, 0.5)))


def test_mutual_information_is_one_bit_for_one_expert_a_half_and_none_by_chance():
    half = torch.arange(4000) // 2000
    one_each = torch.eye(2)[half]
    assert looks.information(one_each, half) == pytest.approx(1)
    dealt = looks.shuffled(one_each[None])[0]
    assert dealt.sum(0).tolist() == one_each.sum(0).tolist()
    assert looks.information(dealt, half) < 0.01


def test_routers_are_described_without_touching_the_model(maps):
    some = classify.read_as(maps.scaled("log1p"), "table")
    torch.manual_seed(0)
    model = JetViT(ViTConfig.of(some.grid, **R3_MOE)).eval()
    tokens = some.batch(slice(None), "all").tokens
    before = model(tokens)[0]
    state = looks.router_state(model, tokens, null=3)
    assert 0.5 <= state["load"] <= 1
    assert 0 <= state["entropy"] <= 1
    assert state["shuffled"] < state["information"]
    torch.testing.assert_close(model(tokens)[0], before)
    assert not any(block.mlp._forward_hooks for block in model.blocks)
    place, by_class, bits = looks.expert_weights(model, some)
    assert place.shape == (4, 8, 4)
    assert by_class.shape == (4, 2)
    assert 0 <= bits <= 1
    figures_hcal.experts(place, by_class, hcal.RUNS)


def test_uniform_attention_lands_on_live_cells_as_often_as_there_are_live_cells(maps):
    some = classify.read_as(maps.scaled("log1p"), "table")
    flat = torch.full((8, 4), 1 / 32)
    assert looks.share_on_live(flat, some) == pytest.approx(932 / 4608, rel=1e-5)
    torch.manual_seed(0)
    model = JetViT(ViTConfig.of(some.grid, **R3_VIT)).eval()
    found = looks.class_attention(model, some)
    assert found.shape == (48, 2, 8, 4)
    torch.testing.assert_close(found.sum((2, 3)), torch.ones(48, 2))


def test_the_mirror_ratio_is_one_for_mirrored_maps(maps):
    both = maps.with_(counts=maps.counts + maps.counts.flip(1))
    ratio = looks.mirror_ratio(both)
    assert ratio["ieta"] == list(range(19, 30))
    np.testing.assert_allclose(ratio["ratio"], 1, atol=1e-6)
    figures_hcal.symmetry({"both": ratio})


def test_a_run_is_trained_watched_and_found_again(maps, tmp_path, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    profile = profiles.get("smoke")
    train, test = maps.split_random()
    lines = []
    trainer = classify.Trainer(maps.scaled("log1p"), train, test, profile, lines.append)
    settings = classify.recipe(profile, "moe")
    watch = looks.watch_routers(trainer.parts("table")[0])
    run = trainer("a", settings, "table", watch=watch)
    assert {"accuracy", "information", "distance"} <= set(run.history[-1])
    assert trainer("a", settings, "table", watch=watch).cached
    assert not any("epoch" in line or " jets" in line for line in lines)
    row = classify.table_row([run])
    assert row["parameters"] == row["active"] == 90_346
    says = classify.answers(run, "table")(maps)
    np.testing.assert_allclose(says[test.numpy()], run.predictions.score, atol=1e-5)


def test_figures_of_sick_cells_show_scores_of_zero(maps):
    sick, strength = hcal.inject(maps, [hcal.Fault(0.0, 3, 10)])
    ratio = sick.counts[0] / 1000
    figures_hcal_health.sick_map(ratio, {"score": ratio * 0}, strength[0], maps.live)
    figures_hcal_health.by_strength({"a": {"m": [0, 0.1]}}, (0, 0.9), "rate")
