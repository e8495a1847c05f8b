"""DigiOccupancy maps: the published statistics, events, faults, and maps as models see them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import lib
from course import weights
from course.commands import main
from hcal import masked
from hcal import runs as hcal_runs
from hcal.events import estimate_events, estimate_scale, full_count, scaled
from hcal.maps import LIVE, ROWS, RUNS, HcalMaps, ieta, iphi, row
from hcal.simulation import STRENGTHS, Fault, inject, occupancy, simulate
from lib import profiles
from lib.data.tokens import tokenize
from lib.evaluation.metrics import evaluate
from lib.files import DataError
from lib.training.runs import train

A, B = RUNS
MEAN_MAPS = Path(lib.__path__[0]).parents[1] / "shared" / "data" / "hcal_mean_maps.npz"


@pytest.fixture(scope="module")
def maps() -> dict[int, HcalMaps]:
    return {run: simulate(run, 400, seed=1) for run in RUNS}


# ---------------------------------------------------------------- geometry


def test_coordinates_are_those_of_the_detector():
    assert (ieta(3), ieta(13), ieta(50), ieta(60)) == (-29, -19, 19, 29)
    rows = torch.arange(64)
    assert torch.equal(row(ieta(rows)), rows)
    assert 0 not in ieta(rows)
    assert iphi(0) == 1
    assert int(LIVE.sum()) == 932
    assert not LIVE[:, 71].any()
    assert tuple(LIVE.any(1).nonzero().flatten().tolist()) == ROWS


# ---------------------------------------------------------------- simulation


def test_simulation_is_seeded_and_says_what_it_is():
    first, same, other = (simulate(A, 5, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.counts, same.counts)
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()
    assert first.attributes["jets"] == 5
    assert not first.subset([1]).attributes  # no longer what was simulated
    with pytest.raises(ValueError, match="run 1: known are 355456 and 357479"):
        simulate(1, 5)
    with pytest.raises(ValueError, match="22 occupancies"):
        simulate(A, 5, profile=[0.5, 0.5])


def test_low_statistics(maps):
    low = maps[B].events < 0.85 * maps[B].events.median()
    assert 0.005 < float(low.float().mean()) < 0.07
    assert float(maps[B].events.min()) < 0.7 * 950
    full = simulate(B, 400, seed=1, low_statistics=False)
    assert float(full.events.min()) > 0.8 * 950
    few = simulate(A, 50, events=95.0, integer=True, noise=1.0)
    assert torch.equal(few.counts, few.counts.round())
    assert 90 < float(few.events.mean()) < 100
    assert float(few.counts.max()) <= float(few.events.max())


def test_other_conditions_and_another_detector(maps):
    middle = simulate(A, 100, profile=0.5)
    share = [float(m.counts[:, 13, :71].mean() / m.events.mean())
             for m in (maps[A], middle, maps[B])]
    assert share == sorted(share)
    mine = np.linspace(0.2, 0.9, 22)
    p = occupancy(A, mine)
    np.testing.assert_allclose([p[r, LIVE[r]].mean() for r in ROWS], mine, rtol=1e-3)
    own, other = occupancy(A), occupancy(A, pattern_seed=1)
    assert np.corrcoef(own[12, :71], other[12, :71])[0, 1] < 0.5
    live = LIVE.clone()
    live[3, 0] = False
    fewer = simulate(A, 3, live=live)
    assert int((fewer.counts[0] > 0).sum()) == 931
    assert not fewer.attributes


@pytest.mark.skipif(not MEAN_MAPS.exists(), reason="the published mean maps are not here")
def test_mean_maps_are_like_the_published_ones(maps):
    published = {run: torch.from_numpy(np.load(MEAN_MAPS)[f"run{run}"]) for run in RUNS}
    sets = [published, {run: m.counts.mean(0) for run, m in maps.items()}]

    def residual(mean, r):
        return (mean[r, LIVE[r]] / mean[r, LIVE[r]].median() - 1).numpy()

    for run in RUNS:  # spread of each ring: within a factor of two, or the maps' resolution
        for r in ROWS:
            real, ours = (residual(mean[run], r).std() for mean in sets)
            assert abs(ours - real) < max(0.5 * max(ours, real), 0.004), (run, r)
    shared = [np.mean([np.corrcoef(residual(mean[A], r), residual(mean[B], r))[0, 1]
                       for r in (10, 11, 12, 13, 50, 51, 52, 53)]) for mean in sets]
    assert abs(shared[0] - shared[1]) < 0.1  # the pattern of one run is that of the other
    assert torch.equal(published[A] > 0, LIVE)
    for run, events in ((A, 1600), (B, 950)):  # the number of events the simulation is built on
        alone = estimate_events(HcalMaps(published[run][None], LIVE))
        assert abs(float(alone) / events - 1) < 0.05


# ---------------------------------------------------------------- events


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("given", [{}, {"events": 95.0}, {"profile": 0.5}, {"pattern_seed": 3},
                                   {"integer": True, "noise": 1.0}])
def test_events_are_estimated_from_the_maps(run, given):
    maps = simulate(run, 60, seed=2, **given)
    alone = estimate_events(maps) / maps.events
    assert (alone - 1).abs().median() < 0.10  # each map by itself
    together = estimate_events(maps, together=True) / maps.events
    assert (together - 1).abs().max() < 0.03
    noise = full_count(maps)[1]
    assert abs(noise / given.get("noise", 0.6) - 1) < 0.25
    faulty, _ = inject(maps, seed=3, rate=4)
    again = estimate_events(faulty, together=True) / maps.events
    assert (again - 1).abs().max() < 0.05


def test_scale_is_robust_and_an_empty_map_has_none(maps):
    some = maps[A].subset(range(30))
    some.counts[4] = 0
    some.counts[5, :32] *= 0.5  # half of the detector degraded
    reference = maps[A].counts.mean(0)
    scale = estimate_scale(some, reference)
    true = some.events / maps[A].events.mean()
    ordinary = torch.tensor([n not in (4, 5) for n in range(30)])
    assert ((scale / true)[ordinary] - 1).abs().max() < 0.01
    assert scale[4] == 0
    assert estimate_events(some)[4] == 0
    assert estimate_events(some, together=True)[4] == 0
    assert len(estimate_events(some.subset([]))) == 0


# ---------------------------------------------------------------- faults


def test_faults_do_what_they_say(maps):
    healthy = maps[A].subset(range(200))
    faults = [Fault(0.0, 4, 10), Fault(0.4, 52, 20, 2, 5), Fault(2.0, 6, 0, width=5)]
    faulty, strength = inject(healthy, faults, seed=1)
    ratio = faulty.counts.sum(0) / healthy.counts.sum(0)
    assert ratio[4, 10] == 0
    assert strength[0, 52:54, 20:25:2].eq(0.4).all()
    np.testing.assert_allclose(ratio[52:54, 20:25:2], 0.4, rtol=0.02)
    np.testing.assert_allclose(ratio[6, 0:5:2], 2.0, rtol=0.02)
    assert torch.equal(faulty.counts[strength == 1], healthy.counts[strength == 1])
    assert not (strength != 1)[:, ~LIVE].any()
    assert healthy.strength is None  # and as it was
    box = healthy.counts[:, 52, 20], faulty.counts[:, 52, 20]  # thinned: binomial noise
    expected = 0.4 * 0.6 * box[0].mean() + 0.4**2 * box[0].var()
    assert 0.7 < float(box[1].var() / expected) < 1.4


def test_random_faults_are_seeded_and_of_every_kind(maps):
    first, strength = inject(maps[B], seed=5, rate=2.0)
    again, _ = inject(maps[B], seed=5, rate=2.0)
    assert torch.equal(first.counts, again.counts)
    assert set(strength.unique().tolist()) == set(torch.tensor([*STRENGTHS, 1.0]).tolist())
    assert 0.001 < float((strength != 1)[:, LIVE].float().mean()) < 0.02
    assert torch.isfinite(first.counts).all()
    assert (first.counts >= 0).all()


# ---------------------------------------------------------------- maps for models


@pytest.mark.parametrize("patch", [(8, 4), (8, 18), (32, 32), (5, 7)])
@pytest.mark.parametrize("keep", ["active", "masked", "all"])
def test_tokens_are_those_of_tokenize_where_a_cell_is_live(maps, patch, keep):
    some = maps[A].patches(*patch)
    fast = some.batch([3, 1], keep).tokens
    every = tokenize(some.hits([3, 1]), some.grid, "all").features
    alive = tokenize(some.with_(counts=some.live[None].float()).hits([0]), some.grid, "masked")
    kept = alive.valid[0] if keep == "active" else slice(None)
    assert torch.equal(fast.features, (every * alive.valid[0][:, None])[:, kept])
    assert torch.equal(fast.position[1], alive.position[0][kept])
    assert torch.equal(fast.valid[1], alive.valid[0][kept] | (keep == "all"))
    flipped = some.batch([3, 1], keep, augment=lambda hits: hits).tokens
    assert torch.equal(flipped.features, fast.features)


def test_a_dead_map_is_tokens_and_not_padding():
    live = torch.zeros(64, 72, dtype=torch.bool)
    live[3:12, ::2] = True
    tokens = HcalMaps(torch.zeros(2, 64, 72), live).batch([0, 1]).tokens
    assert tokens.valid.all()
    assert tokens.features.shape[1] == 2 * 18  # rows 3...11 touch two rows of patches


def test_the_three_readings_of_the_published_patch(maps):
    cropped = maps[A].patches(32, 32, 64)
    assert (cropped.shape, cropped.grid.patches) == ((1, 64, 64), 4)
    assert (maps[A].patches(8, 18).grid.patches, maps[A].patches(8, 4).grid.patches) == (32, 144)
    with pytest.raises(ValueError, match="do not fit"):
        maps[A].patches(0, 4)
    with pytest.raises(ValueError, match="keep='some'"):
        cropped.batch([0], "some")


def test_scaled(maps):
    both = HcalMaps.concat([maps[A], maps[B]])
    torch.testing.assert_close(scaled(both, "log1p").counts.expm1(), both.counts)
    standard = scaled(both, "standard", both)
    assert abs(float(standard.counts[:, LIVE].mean())) < 1e-3
    assert float(standard.counts[:, ~LIVE].abs().max()) == 0
    assert float(scaled(both, "event").counts.max()) < 1.2
    assert scaled(both, "raw") is both
    with pytest.raises(ValueError, match="needs the training maps"):
        scaled(both, "standard")
    with pytest.raises(ValueError, match="choose one of raw"):
        scaled(both, "log")


def test_splits(maps):
    both = HcalMaps.concat([maps[A], maps[B]])
    parts = both.split(42)
    assert [len(part) for part in parts] == [560, 80, 160]
    assert torch.equal(both.split(42).test, parts.test)
    with pytest.raises(DataError, match="cannot be split"):
        both.subset([0, 1]).split()


def test_sets_of_maps(maps):
    both = HcalMaps.concat([maps[A].subset([0, 1]), maps[B].subset([0])])
    assert both.labels.tolist() == [0, 0, 1]
    assert both.to("cpu").fingerprint() == both.fingerprint()
    assert torch.equal(both.subset([2]).counts[0], maps[B].counts[0])
    assert "3 maps" in repr(both)
    with pytest.raises(IndexError, match=re.escape("0...2")):
        both.subset([3])
    with pytest.raises(ValueError, match="different grids"):
        HcalMaps.concat([both, both.patches(8, 18)])
    with pytest.raises(DataError, match="do not fit live cells"):
        HcalMaps(torch.zeros(2, 64, 71), LIVE)


def test_maps_are_trained_on_like_jets(tmp_path, maps):
    both = scaled(HcalMaps.concat([maps[A], maps[B]]), "log1p")
    settings = {
        "seed": 1, "loss": {"mass_weight": 0},
        "model": {"dim": 16, "depth": 1, "heads": 2, "pool": "cls", "mass_head": False,
                  "lcm_kernel": 0, "summary": False, "patch_energy": False, "scale": 1.0},
        "fit": {"updates": 20, "batch_size": 32, "lr": 3e-3, "every": 10, "accelerator": "cpu"},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = train("hcal", settings, both, runs=tmp_path, log=lambda line: None)
    assert run.predictions.y.tolist() == both.labels[both.split(42).test].tolist()
    assert evaluate(run.predictions)["auc"] > 0.99
    again = train("hcal", settings, both, runs=tmp_path, log=lambda line: None)
    assert again.cached
    assert again.model()(both.batch([0, 1]).tokens)[1] is None


# ---------------------------------------------------------------- R3's models from the command line


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("names", [("Run355456_Dataset_iEta_iPhi.npy", "Run357479_Dataset.npy"),
                                   ("Run355456.npz", "Run357479.npz")])
def test_the_models_of_r3_are_trained_and_evaluated_by_name(names, maps, home, capsys):
    files = [home / name for name in names]
    for file, run in zip(files, RUNS, strict=True):
        counts = maps[run].counts[:60].numpy()
        np.save(file, counts) if file.suffix == ".npy" else np.savez(file, **{file.stem: counts})
    assert main(["train", "moe_vit", "--profile", "smoke", "--file", *map(str, files)]) == 0
    folder = capsys.readouterr().out.strip().splitlines()[-1]
    assert "moe_vit-" in folder
    assert main(["evaluate", folder, "--profile", "smoke", "--file", str(home)]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert main(["train", "vit", "--profile", "smoke", "--file", str(files[0])]) == 2
    assert "ten maps of each run" in capsys.readouterr().err
    assert main(["train", "vit", "--profile", "smoke", "--file", str(home / "none.npy")]) == 2
    assert "no such file" in capsys.readouterr().err
    files[0].rename(home / "other.npy")
    assert main(["train", "vit", "--file", str(home / "other.npy"), str(files[1])]) == 2
    assert "its name says no run" in capsys.readouterr().err


def test_weights_of_both_kinds_are_published_and_verified(maps, home, capsys):
    profile = profiles.get("smoke")
    both = scaled(HcalMaps.concat([maps[run].subset(range(60)) for run in RUNS]), "log1p")
    parts = map(torch.from_numpy, both.divide(0.2, seed=42))
    made = hcal_runs.Trainer(both, *parts, profile)("vit", hcal_runs.recipe(profile))
    weights.publish("hcal_vit", made, profile, "A test.", "runs")
    settings = {**masked.SETTINGS, "model": dict(dim=16, depth=1, heads=2),
                "fit": dict(updates=2, batch_size=8, select="loss", precision="32-true")}
    made = train("cells", settings, maps[A].subset(range(40)), runs=profile.runs_dir)
    folder = weights.publish("hcal_cells", made, profile, "A test.", "cells")
    assert masked.CellModel.from_pretrained(folder).score(maps[B].subset([1])).equal(
        made.model().score(maps[B].subset([1])))
    assert main(["verify", "--folder", str(profile.weights_dir)]) == 0
    assert "2 models, all inside" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds no model of healthy maps"):
        masked.CellModel.from_pretrained(profile.weights_dir / "hcal_vit")
