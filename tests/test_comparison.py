"""What notebook 08 and its readers rely on: costs, ranks, figures, missing grids."""

import math
import re

import jetfiles
import numpy as np
import pytest
import torch
from notebook_code import shown
from test_runs import make_jets

from course import bench, scaling, tables
from course.commands import main
from lib import profiles
from lib.data.augment import recalibrated
from lib.data.images import JetImages
from lib.data.views import transformed
from lib.evaluation.metrics import Predictions, auc, decorrelate
from lib.report import numbers, results


@pytest.fixture(scope="module")
def jets():
    few = jetfiles.cms(8, density=0.004)
    mass = np.linspace(80, 200, 8)
    return JetImages.from_dense(np.moveaxis(few, -1, 1), labels=np.arange(8) % 2, mass=mass)


def test_operations_of_softmax_attention_and_of_convolutions_are_counted(jets):
    """One block of softmax: 6 operations a weight and token, 12 N²D for the attention; its
    depthwise convolutions: 6 operations a weight and cell."""
    bare = dict(dim=16, heads=2, attention="softmax", position="none", lcm_kernel=0, pool="mean",
                patch_energy=False, summary=False)

    def step(**more):
        batch = jets.batch(range(4))
        return bench.Step(bench.Arm("", {**bare, **more}, "float32", 4), jets.grid, batch)

    one, two, local = step(depth=1), step(depth=2), step(depth=1, lcm_kernel=3)
    tokens = one.batch.tokens.valid.shape[1]
    block = 6 * tokens * (two.parameters - one.parameters) + 12 * tokens**2 * 16
    assert two.flops() - one.flops() == pytest.approx(block, rel=0.05)  # biases and norms aside
    assert local.flops() - one.flops() == pytest.approx(6 * 2 * 625 * 9 * 16, rel=0.05)


def test_several_processes_are_timed_against_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "UPDATES", 2)
    make_jets(100).save(tmp_path / "jets.h5")
    assert main(["bench", "--processes", "2", "--rounds", "1", "--profile", "smoke",
                 "--file", str(tmp_path / "jets.h5")]) == 0
    said = re.findall(r"batches of (\d+), one process: \d+ images/s, 2: \d+; [\d.]+ times "
                      r"\([\d.]+ to [\d.]+\); ", capsys.readouterr().out)
    assert said == ["64", "128"]


def test_the_benchmark_takes_chosen_models(jets):
    model = dict(dim=16, depth=1, heads=2)
    chosen = [bench.Arm("one", model, "float32", 4),
              bench.Arm("all", {**model, "tokens": "all"}, "float32", 4)]
    found = bench.measure(profiles.get("smoke"), 1, jets, chosen)
    assert [row["name"] for row in found] == ["one", "all"]
    assert found[0]["ratio"] == 1
    assert found[1]["tokens"] == 625
    assert found[0]["gflop"] < found[1]["gflop"]
    assert math.isfinite(found[1]["ratio"])


def simulated_like(count=3):
    """Jets in GeV made by hand: tracks, both calorimeters and pixel hits in a few places."""
    rng = np.random.default_rng(1)
    image = np.zeros((count, 8, 125, 125), np.float32)
    image[:, 4] = np.kron((rng.random((count, 25, 25)) < 0.1) * rng.exponential(20, (25, 25)),
                          np.ones((1, 5, 5)))
    image[:, 4, 60:65, 60:65] = 200
    for channel in (0, 3, 5):
        image[:, channel] = (rng.random((count, 125, 125)) < 0.01) * rng.exponential(5)
    truth = {"true_mass": np.array([80.0, 100, 0], "f4"),
             "true_pt": np.array([450.0, 500, 0], "f4")}
    return JetImages.from_dense(image, "gev", labels=[0, 1, 0], mass=[90, 110, 100], truth=truth)


def test_eight_bits_do_not_know_the_energy_scale():
    jets = simulated_like()
    plain, brighter = (transformed(jets, recalibrated(f), encoding="cms8") for f in (1, 1.05))
    assert plain.encoding == "cms8"
    assert (plain.dense([0, 1, 2]) - brighter.dense([0, 1, 2])).abs().max() <= 1  # truncation
    kept = transformed(jets, recalibrated(1.05))
    ratio = kept.dense([0])[0] / jets.dense([0])[0].clamp(min=1e-9)
    lit = jets.dense([0])[0] > 0
    assert np.allclose(ratio[3:5][lit[3:5]], 1.05)
    assert np.allclose(ratio[[0, 5]][lit[[0, 5]]], 1)


def test_a_dead_tower_is_dark_in_both_calorimeters_and_changes_nothing_else():
    space = {"np": np, "recalibrated": recalibrated}
    dead_tower = shown("12", ["dead_tower"], **space)["dead_tower"]
    jets = simulated_like()
    before = jets.dense([0])[0]
    after = transformed(jets, dead_tower(12, 12)).dense([0])[0]
    assert (after[3:5, 60:65, 60:65] == 0).all()
    before[3:5, 60:65, 60:65] = 0
    assert np.array_equal(before, after)


def test_jets_of_two_files_are_matched_by_what_pile_up_cannot_change():
    in_common = shown("12", ["in_common"], torch=torch)["in_common"]
    jets = simulated_like()
    other = jets.subset([2, 1])  # in another order, one missing, one without a true jet
    assert in_common(jets, other).tolist() == [[1], [1]]
    assert in_common(jets, jets.subset([2])).shape == (2, 0)


def test_systems_are_compared_on_the_jets_that_both_saw(monkeypatch, tmp_path):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    y, score, m = np.arange(200) % 2, rng.random(200).astype("f4"), rng.uniform(80, 200, 200)
    whole = Predictions(np.arange(200), y, score, m, m + rng.normal(size=200))
    part = whole.where(np.arange(50))
    experiment = results.Experiment("x", profiles.get("smoke"))
    experiment.add_run("whole", whole, metrics=("auc", "mass_mae"))
    experiment.add_run("part", Predictions(part.index, part.y, part.score, part.m),
                       metrics=("auc", "mass_mae"))
    rows = experiment.compare("part", "whole", ["auc", "mass_mae"])
    assert rows.keys() == {"auc"}  # the other has no prediction of the mass
    assert rows["auc"]["difference"] == 0
    assert experiment.summary()["part"].keys() == {"auc"}


def test_networks_are_paired_with_the_seeds_that_both_have(monkeypatch, tmp_path):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2

    def made(shift):
        return Predictions(np.arange(200), y, ((rng.random(200) + shift * y) / 3).astype("f4"))

    experiment = results.Experiment("x", profiles.get("smoke"))
    experiment.add_run("cut", made(0.1))
    for seed in (0, 1, 2):
        experiment.add_run("ours", made(seed), seed=seed, parameters=10)
    for seed in (2, 0):
        experiment.add_run("rival", made(seed), seed=seed, parameters=10)
    experiment.add_run("late", made(0), seed=7, parameters=10)
    assert experiment.compare("cut", "ours", ["auc"])["auc"]["seeds"] == 3
    with pytest.raises(results.ResultsError, match="no seed in common"):
        experiment.compare("late", "ours")
    row = experiment.compare("rival", "ours", ["auc"])["auc"]
    assert row["seeds"] == 2
    assert max(map(abs, row["points"])) < 0.15  # seed 2 with seed 2; in the order of the runs 0.5


def test_a_rank_among_no_background_is_no_evidence():
    """Where a bin of mass holds no QCD jet, tops are neither likely nor unlikely."""
    rng = np.random.default_rng(0)
    mass = np.concatenate([rng.uniform(50, 100, 500), rng.uniform(100, 200, 500)])
    y = (mass > 100).astype(int)  # light jets are QCD, heavy ones tops, without exception
    p = Predictions(np.arange(1000), y, rng.random(1000).astype("f4"), mass)
    ranked = decorrelate(p)
    assert (ranked.score[y == 1] == 0.5).all()
    assert auc(y, ranked.score) == pytest.approx(0.5, abs=0.05)


def test_many_comparisons_are_paid_for():
    """Holm: the smallest p times all of them, the next times one less, and never a smaller one."""
    space = shown("08", ["holm", "answer", "MATTERS"], numbers=numbers)
    found = space["holm"]({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert space["holm"]({"a": 0.4, "b": 0.6})["a"] == 0.8

    def said(low, high, **more):
        return space["answer"]({"low": low, "high": high, **more}, 0.003)

    assert said(-0.002, 0.001) == "alike"
    assert said(-0.002, 0.01) == "undecided"
    assert said(-0.02, -0.01) == "behind"
    assert said(-0.02, -0.01, metric="mass_mae") == "ahead"


def test_a_missing_grid_names_its_flag(monkeypatch, tmp_path):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    with pytest.raises(results.ResultsError, match="--grids --only 08"):
        results.load("08_comparison_grid", profiles.get("laptop"))


META = dict.fromkeys(("commit", "created", "machine", "profile", "data"), "") | {"runs": []}


def test_tables_of_a_published_grid():
    row = dict(mean=0.93, low=0.92, high=0.94)
    gap = dict(a="softmax", b="ours", metric="auc", difference=-0.001, low=-0.01, high=0.008)
    found = {
        "summary": {"ours": {"auc": row}, "softmax": {"auc": row}}, "comparisons": [gap],
        "values": {"cost": {"ours": {"parameters": 1000, "gflop": 0.1234, "ratio": 40.4}}},
        "curves": {"labels": {"ours": "ours", "softmax": "softmax"}, "changes": ["softmax"],
                   "systems": ["ours", "softmax"]}}
    specs = tables.specifications()
    head, rows = tables.table(specs["comparison"], found | META)
    assert all(len(r) == len(head) for r in rows)
    assert rows[0] == ["ours", 0, 0.12, 40, row, None]  # no runs: no seeds
    assert rows[1][-1] == gap
    assert tables.table(specs["ingredients"], found | META) == (
        ["change", "AUC − ours"], [["softmax", gap]])  # no mass: no column
    assert "-0.001" in tables.latex_table(head, rows).replace("\\num{", "")


def test_scaling_is_measured_once_a_point(tmp_path):
    file, names = tmp_path / "scaling.json", ("none", "softmax", "mhla", "groups")
    found = scaling.measure(file, 1, (64, 256), names)
    assert len(found) == 2 * 2 * 4
    kept = {(row["name"], row["tokens"]): row for row in found if row["what"] == "attention"}
    # Scores of 4 heads in float32, of each token with its group, the summary, and a derivative.
    assert kept["groups", 256]["bytes"] > 2 * 4 * 4 * 256 * 26
    assert kept["groups", 256]["bytes"] > 2 * kept["groups", 64]["bytes"]
    assert kept["none", 256]["bytes"] < 4 * 4 * 256 * 26
    written = file.read_bytes()
    assert scaling.measure(file, 1, (64, 256), names) == found
    assert file.read_bytes() == written
    assert len(scaling.measure(file, 1, (64, 256, 1024), ("none",))) == 6


def test_exponents_and_crossings_are_those_of_power_laws():
    def rows(factor, power):
        return [{"tokens": n, "seconds": factor * n**power} for n in scaling.TOKENS]

    assert scaling.exponent(rows(2, 1.5), "seconds") == pytest.approx((1.5, 0), abs=1e-9)
    bent = rows(1, 1)
    bent[-1]["seconds"] *= 2
    slope, error = scaling.exponent(bent, "seconds")
    assert slope > 1.05
    assert error > 0.05
    assert scaling.crossing(rows(500, 1), rows(1, 2)) == pytest.approx(500)
    assert scaling.crossing(rows(1, 2), rows(1, 1)) == float("inf")
    assert scaling.crossing(rows(1, 1), rows(1, 2)) == pytest.approx(64)


def test_multiply_accumulates_of_a_layer_are_counted(jets):
    tokens = jets.batch(torch.arange(4)).tokens
    linear = torch.nn.Linear(200, 7)
    model = torch.nn.Sequential()
    model.forward = lambda tokens: linear(tokens.features)
    assert bench.multiply_accumulates(model, tokens) == tokens.features.shape[1] * 200 * 7
