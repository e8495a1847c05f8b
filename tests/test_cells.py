"""Sick cells: scores, the masked model, findings and the command ``score-hcal``."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from course.commands import main
from hcal import health
from hcal.findings import KINDS, judge
from hcal.maps import LIVE, HcalMaps, load
from hcal.masked import (
    SETTINGS,
    CellModel,
    MaskedCells,
    other_conditions,
    random_strength,
    rearranged,
)
from hcal.scores import (
    SIMPLE,
    angle,
    from_pattern,
    log_odds,
    pattern_odds,
    pulls,
    rings_and_offsets,
)
from hcal.simulation import Fault, inject, simulate
from lib.data.batches import Batches
from lib.files import DataError
from lib.training import runs
from lib.training.fit import FitSettings, fit
from lib.training.recipe import Recipe

A, B = 355456, 357479
TINY = dict(dim=16, depth=1, heads=2)


def unseen(sections: int = 10, seed: int = 5, live=LIVE) -> HcalMaps:
    """Integer counts of a run that is neither of the two."""
    return simulate(A, sections, seed=seed, profile=0.4, events=1300, integer=True, noise=1.0,
                    live=live)


@pytest.fixture(scope="module")
def run_a() -> HcalMaps:
    return simulate(A, 200, seed=1)


@pytest.fixture(scope="module")
def tiny(run_a) -> MaskedCells:
    torch.manual_seed(0)
    objective = MaskedCells.build(Recipe.of({**SETTINGS, "model": TINY}), run_a,
                                  torch.arange(150))
    fit(objective, Batches(run_a, torch.arange(150), 16, shuffle=True), None,
        FitSettings(updates=40, batch_size=16, lr=3e-3, every=40, select="loss", ema=None,
                    precision="32-true"), log=lambda line: None)
    return objective


# ---------------------------------------------------------------- the common scale


@pytest.mark.parametrize(("run", "events"), [(A, None), (B, None), (B, 120)])
def test_healthy_cells_are_alike_in_every_run(run, events):
    seen = pulls(simulate(run, 20, seed=3, low_statistics=False, events=events))
    x = seen.x[:, LIVE]
    assert abs(float(x.median())) < 0.15
    assert 0.85 < float(x.abs().quantile(0.683)) < 1.15
    assert (seen.x[:, ~LIVE] == 0).all()


def test_angle_goes_on_beyond_the_number_of_events():
    counts = torch.arange(0, 201, dtype=torch.float32).view(1, 1, -1)
    theta = angle(counts, torch.tensor([100.0]))[0, 0]
    assert (theta.diff() > 0).all()  # a hot cell of a full ring stands out


def test_a_ring_may_be_sick_by_a_third():
    maps = simulate(B, 5, seed=3)
    bad, _ = inject(maps, [Fault(0.0, 6, 0, 1, 26)])
    assert (pulls(bad).ring[:, 6] - pulls(maps).ring[:, 6]).abs().max() < 0.02


# ---------------------------------------------------------------- simple scores


@pytest.mark.parametrize("name", SIMPLE)
def test_simple_scores_are_two_sided_and_zero_where_not_live(name, run_a):
    maps, _ = inject(simulate(A, 3, seed=2), [Fault(0, 5, 4), Fault(2, 8, 20)])
    score = SIMPLE[name](maps)
    assert score.shape == maps.counts.shape
    assert (score[:, ~LIVE] == 0).all()
    middle = score[:, LIVE].quantile(0.99)
    assert (score[:, 5, 4] > middle).all()
    assert (score[:, 8, 20] > middle).all()


# ---------------------------------------------------------------- odds


def test_neighbours_make_a_weak_fault_visible_and_a_dead_cell_no_suspect_of_its_neighbour():
    maps = simulate(B, 20, seed=3, low_statistics=False, events=90)
    bad, strength = inject(maps, [Fault(0.85, 12, 20, 2, 5), Fault(0, 51, 40)])
    seen = pulls(bad)
    odds = log_odds(seen.theta, seen.ring.expand_as(seen.theta),
                    seen.spread.expand_as(seen.theta), seen.events, LIVE)
    box, fine = strength[0] == 0.85, (strength[0] == 1) & LIVE
    found = [float((score[:, box] > score[:, fine].quantile(0.999)).float().mean())
             for score in (odds, seen.x.abs())]
    assert found[0] > 0.85
    assert found[1] < 0.6
    assert (odds[:, 51, 40] > 50).all()
    assert (odds[:, 51, 39] < 3).all()


def test_odds_close_around_phi():
    maps = simulate(B, 10, seed=3, low_statistics=False, events=60)
    bad, _ = inject(maps, [Fault(0.8, 5, 68, 3, 4), Fault(0.8, 5, 0, 3, 2)])
    turned = HcalMaps(bad.counts.roll(20, 2), LIVE.roll(20, 1))
    def odds(maps):
        seen = pulls(maps)
        return log_odds(seen.theta, seen.ring.expand_as(seen.theta),
                        seen.spread.expand_as(seen.theta), seen.events, maps.live)
    torch.testing.assert_close(odds(turned).roll(-20, 2), odds(bad), rtol=1e-3, atol=1e-2)


# ---------------------------------------------------------------- the masked model


def test_a_hidden_cell_is_not_seen(run_a):
    torch.manual_seed(0)
    model = CellModel(rings_and_offsets(run_a)[1], TINY).eval()
    torch.nn.init.normal_(model.head[2].weight, std=0.1)
    seen = pulls(run_a.subset([0, 1]))
    hidden = torch.zeros_like(seen.x, dtype=torch.bool)
    hidden[:, 6, 10] = True
    before = model(seen, model.offsets.expand_as(seen.x), ~hidden, LIVE)
    seen.x[:, 6, 10] = -9.0
    after = model(seen, model.offsets.expand_as(seen.x), ~hidden, LIVE)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    changed = model(seen, model.offsets.expand_as(seen.x), torch.ones_like(hidden), LIVE)
    assert (changed[0] - after[0]).abs().max() > 1e-4


def test_other_conditions_respect_the_geometry(run_a):
    rings, offsets = rings_and_offsets(run_a)
    torch.manual_seed(1)
    moved = rearranged(offsets, 8)
    wide = [3, 5, 11, 52, 60]
    assert (moved[:, wide][:, :, 1::2] == 0).all()  # what was empty stays empty
    counts, reference, strength = other_conditions(offsets, rings, LIVE, 16)
    assert counts.shape == (16, 64, 72)
    assert torch.isfinite(counts).all()
    assert (counts >= 0).all()
    assert (counts[:, ~LIVE] == 0).all()
    assert (reference[:, ~LIVE] == 0).all()
    assert 0.9 < float((strength[:, LIVE] == 1).float().mean()) < 1
    assert (random_strength(LIVE, 4)[:, ~LIVE] == 1).all()


def test_training_beats_the_ring_alone_and_evaluation_repeats(tiny, run_a):
    batch = run_a.batch(range(150, 166))
    loss, parts = tiny.loss(batch)
    assert loss.item() < parts["trivial"].item()
    assert tiny.loss(batch)[0].item() == loss.item()


def test_the_model_scores_run_b(tiny):
    model = tiny.model
    maps = simulate(B, 4, seed=8, low_statistics=False)
    bad, _ = inject(maps, [Fault(0, 9, 30), Fault(2, 55, 8, 1, 4)])
    score = model.score(bad)
    fine = score[:, LIVE].quantile(0.99)
    assert (score[:, 9, 30] > fine).all()
    assert (score[:, 55, [8, 10]] > fine).all()
    assert (score[:, ~LIVE] == 0).all()


def test_training_is_cached(run_a, tmp_path):
    settings = {**SETTINGS, "model": TINY, "loss": {"as_is": 0.5},
                "fit": dict(updates=2, batch_size=8, select="loss", precision="32-true")}
    lines: list[str] = []
    small = run_a.subset(range(30))
    made = [runs.train("cells", settings, small, runs=tmp_path, log=lines.append)
            for _ in range(2)]
    assert not made[0].cached
    assert made[1].cached
    maps = simulate(B, 2, seed=1)
    assert made[0].model().score(maps).equal(made[1].model().score(maps))


# ---------------------------------------------------------------- who finds them


def test_curves_on_a_case_by_hand():
    sick = np.array([[True, False, False, True]])
    found = health.curves(sick, np.array([[4.0, 3.0, 1.0, 2.0]]))
    assert found["auprc"][0] == pytest.approx((1 + 2 / 3) / 2)
    assert found["fpr95"][0] == pytest.approx(0.5)
    tied = health.curves(sick, np.ones((1, 4)))
    assert tied["fpr90"][0] == 1.0  # equal scores tell nothing


def test_the_rule_without_a_network_and_its_bar_on_run_b(run_a):
    """The pattern of run A times a fitted slope, against rivals that know about boxes, too."""
    offsets = rings_and_offsets(run_a)[1]
    scores = {"rule": lambda maps: pattern_odds(maps, offsets), "oracle": health.oracle(B),
              "oracle, cell by cell": health.oracle(B, boxes=False), **SIMPLE}
    full = health.compare(scores, health.healthy(B, 40, seed=4), strengths=(0.0,), seeds=(0,),
                          resamples=10)
    assert next(row for row in full if row["score"] == "rule")["auprc"] >= 0.99
    low = health.compare(scores, health.healthy(B, 60, low=True, seed=4), strengths=(0.9,),
                         seeds=(0,), resamples=10)
    rate = {row["score"]: row["fpr95"] for row in low}
    assert rate["rule"] <= min(rate[name] for name in SIMPLE) / 2
    assert rate["ring z, boxes"] < rate["ring z"]
    ceiling = next(row for row in low if row["score"] == "oracle")
    assert ceiling["fpr95"] <= rate["rule"]
    assert ceiling["fpr95"] <= rate["oracle, cell by cell"]
    assert ceiling["auprc_low"] <= ceiling["auprc"] <= ceiling["auprc_high"]


@pytest.mark.parametrize("kind", ["boxes", "strips", "scattered"])
def test_faults_of_other_shapes(kind):
    _, strength = inject(health.healthy(B, 20, seed=1), seed=3, rate=2.0, strengths=(0.5,),
                         kind=kind)
    rows = [len({r for r, _ in (one != 1).nonzero().tolist()}) for one in strength]
    assert max(rows) <= {"boxes": 12, "strips": 8, "scattered": 60}[kind]
    assert (strength[:, ~LIVE] == 1).all()
    assert (strength != 1).any()


def test_the_slope_of_the_pattern_is_fitted_to_each_map(run_a):
    offsets = rings_and_offsets(run_a)[1]
    own, other = (pulls(simulate(run, 5, seed=9, low_statistics=False)) for run in (A, B))
    width = []
    for seen in (own, other):
        mean, sigma = from_pattern(seen.theta, seen.ring, offsets, seen.events, LIVE)
        slope = ((mean - seen.ring) * offsets).sum((1, 2)) / offsets.square().sum()
        width.append(float(slope.mean()))
        assert (sigma[:, LIVE] > 0).all()
    assert width[0] == pytest.approx(1, abs=0.1)
    assert 0.6 < width[1] < 0.9  # three quarters of the pattern is shared


def test_low_statistics():
    maps = health.healthy(B, 6, low=True, seed=2)
    assert float(maps.events.max()) < 0.56 * 950
    rows = health.compare({"ratio": SIMPLE["ratio to ring"]}, maps, strengths=(0.0,), seeds=(0, 1),
                          resamples=5)
    assert (rows[0]["maps"], rows[0]["seeds"]) == (6, 2)
    assert rows[0]["auprc"] > 0.98


# ---------------------------------------------------------------- findings


@pytest.mark.parametrize("make", [
    lambda seed: simulate(A, 10, seed=seed, integer=True, noise=1.0),
    lambda seed: simulate(B, 10, seed=seed, integer=True, noise=1.0),
    lambda seed: simulate(B, 1, seed=seed, low_statistics=False),
    lambda seed: unseen(10, seed),
    lambda seed: simulate(B, 1, seed=seed, events=60, integer=True, noise=1.0),
])  # fmt: skip
def test_healthy_maps_raise_no_alarm(make):
    assert sum(int((judge(make(seed)).kind > 0).sum()) for seed in range(30, 40)) <= 1


def test_healthy_maps_raise_no_alarm_against_a_reference_of_either_run(run_a):
    run_b = simulate(B, 50, seed=7)
    for reference in (run_a, run_b):
        for maps in (simulate(A, 10, seed=9), simulate(B, 10, seed=9), unseen()):
            assert int((judge(maps, reference).kind > 0).sum()) <= 1
    assert not judge(simulate(A, 10, seed=9), run_a).notes
    assert "other occupancies" in judge(simulate(B, 10, seed=9), run_a).notes[0]


FAULTS = [Fault(0, 6, 10), Fault(0.4, 55, 20, 2, 4), Fault(2, 12, 30, 1, 4),
          Fault(2, 4, 68, 2, 8), Fault(0.8, 51, 5, 1, 4), Fault(0, 9, 70), Fault(0, 9, 0)]


@pytest.mark.parametrize("with_reference", [False, True])
def test_faults_in_maps_of_an_unseen_run(with_reference):
    bad, strength = inject(unseen(), FAULTS)
    found = judge(bad, unseen(40, seed=6) if with_reference else None)
    assert ((found.kind > 0) == (strength[0] != 1).numpy()).all()
    said = {(region.kind, len(region.rows), region.where) for region in found.regions}
    assert said == {
        ("dead", 1, "ieta -26, iphi 11"), ("degraded", 4, "ieta 24 to 25, iphi 21 to 23"),
        ("hot", 4, "ieta -20, iphi 31 to 34"), ("hot", 4, "ieta -28 to -27, iphi 69 to 71"),
        ("degraded", 4, "ieta 20, iphi 6 to 9"), ("dead", 2, "ieta -23, iphi 71 to 1")}
    for region in found.regions:
        truth = float(strength[0][region.rows, region.columns].mean())
        assert region.ratio == pytest.approx(truth, abs=0.08)
    assert found.sections.shape == (10, 64, 72)
    assert (found.sections[:, 6, 10] > 10).all()


@pytest.mark.parametrize("fault", [Fault(2, 12, 33, 1, 4), Fault(2, 7, 30, 1, 7),
                                   Fault(2, 53, 66, 1, 7)])  # fmt: skip
def test_a_hot_region_of_four_columns_is_one_region(fault):
    faults = [fault] + ([Fault(2, 53, 0)] if fault.column == 66 else [])  # around phi
    bad, strength = inject(simulate(B, 5, seed=2, low_statistics=False), faults)
    found = judge(bad)
    assert len(found.regions) == 1
    assert found.regions[0].kind == "hot"
    assert len(found.regions[0].rows) == int((strength[0] != 1).sum()) == 4


def test_live_cells_that_differ_by_a_few():
    live = LIVE.clone()
    live[3, 4] = live[60, 20] = live[13, 40] = False
    live[12, 71] = True
    bad, strength = inject(unseen(live=live), FAULTS)
    sick = (strength[0] != 1).numpy()
    against = judge(bad, unseen(40, seed=6, live=live))
    assert ((against.kind > 0) == sick).all()
    assert (against.live == live.numpy()).all()
    alone = judge(bad)
    extra = {(int(r), int(c)) for r, c in np.argwhere((alone.kind > 0) & ~sick)}
    assert extra == {(3, 4), (60, 20), (13, 40)}  # silent among counting neighbours: dead
    assert (alone.kind[sick] > 0).all()
    assert alone.live[12, 71]
    assert not alone.live[13, 71]


@pytest.mark.parametrize("with_reference", [False, True])
def test_a_ring_whose_cells_scatter_has_a_spread_of_its_own(with_reference):
    """Next to the beam cells of a real ring differ by a quarter; a dead or hot one stands out."""
    wide = torch.from_numpy(np.random.default_rng(2).uniform(0.65, 1.35, (64, 72))).float()
    wide[4:60] = 1  # only |ieta| 29, rows 3 and 60
    maps, healthy = (m.with_(counts=(m.counts * wide).round()) for m in (
        unseen(10), simulate(B, 40, seed=6)))
    reference = healthy if with_reference else None
    assert int((judge(maps, reference).kind > 0).sum()) <= 1
    bad, _ = inject(maps, [Fault(0.0, 3, 20), Fault(4.0, 60, 40), Fault(0.6, 30, 0), Fault(
        0.6, 8, 30)])
    kind = judge(bad, reference).kind
    assert kind[3, 20] == KINDS.index("dead")
    assert kind[60, 40] == KINDS.index("hot")
    assert kind[8, 30] == KINDS.index("degraded")
    assert (kind > 0).sum() <= 4


def test_a_sick_ring_needs_a_reference_or_its_mirror_image():
    bad, _ = inject(unseen(), [Fault(0.5, 6, 0, 1, 72)])
    assert any("ieta -26 counts 0.5" in note for note in judge(bad).notes)
    found = judge(bad, unseen(40, seed=6))
    assert (found.kind[6, ::2] == KINDS.index("degraded")).all()
    assert len(found.regions) == 1
    silent, _ = inject(unseen(), [Fault(0, 6, 0, 1, 72)])
    assert any("ieta -26" in note for note in judge(silent).notes)
    assert (judge(silent, unseen(40, seed=6)).kind[6, ::2] == KINDS.index("dead")).all()


def test_empty_sections_are_left_out_and_empty_maps_refused():
    maps = unseen()
    maps.counts[3] = 0
    found = judge(maps)
    assert "1 of 10" in found.notes[0]
    assert (found.sections[3] == 0).all()
    assert not (found.kind > 0).any()
    with pytest.raises(DataError, match="not a single count"):
        judge(HcalMaps(torch.zeros(2, 64, 72), LIVE))


# ---------------------------------------------------------------- the command


def test_score_hcal_writes_prints_and_draws(tmp_path, capsys):
    bad, _ = inject(unseen(), FAULTS)
    np.save(tmp_path / "maps.npy", bad.counts.numpy().astype(np.int64))
    np.save(tmp_path / "healthy.npy", unseen(20, seed=6).counts.numpy())
    out = tmp_path / "new" / "scores.npz"
    assert main(["score-hcal", str(tmp_path / "maps.npy"), "--out", str(out),
                 "--reference", str(tmp_path / "healthy.npy")]) == 0
    said = capsys.readouterr().out
    assert "19 suspicious cells in 6 regions" in said
    assert "ieta -28 to -27, iphi 69 to 71" in said
    with np.load(out, allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files}
        assert file["kind"][6, 10] == 1
        assert file["ratio"][12, 30] == pytest.approx(2, abs=0.1)
    assert shapes == {"score": (64, 72), "ratio": (64, 72), "kind": (64, 72), "live": (64, 72),
                      "sections": (10, 64, 72)}
    assert out.with_suffix(".png").stat().st_size > 5000
    assert sorted(p.name for p in out.parent.iterdir()) == ["scores.npz", "scores.png"]


def test_score_hcal_takes_a_single_map(tmp_path, capsys):
    np.save(tmp_path / "one.npy", unseen(1).counts[0].numpy())
    assert main(["score-hcal", str(tmp_path / "one.npy"), "--out", str(tmp_path / "s.npz")]) == 0
    assert "1 lumi-section," in (said := capsys.readouterr().out)
    assert "no suspicious cells" in said


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: c[:, :, :40], "give \\(N, 64, 72\\)"),
    (lambda c: -c - 1, "is negative"),
    (lambda c: np.where(c > 1000, np.nan, c), "is no finite number"),
    (lambda c: 0 * c, "not a single count"),
])  # fmt: skip
def test_score_hcal_bad_maps_and_references_end_in_one_line(change, message, tmp_path, capsys):
    good = unseen(3).counts.numpy()
    np.save(tmp_path / "good.npy", good)
    np.save(tmp_path / "bad.npy", change(good))
    for arguments in (["bad.npy"], ["good.npy", "--reference", str(tmp_path / "bad.npy")]):
        assert main(["score-hcal", str(tmp_path / arguments[0]), *arguments[1:],
                     "--out", str(tmp_path / "s.npz")]) == 2
        said = capsys.readouterr().err.strip()
        assert len(said.splitlines()) == 1
        assert "bad.npy" in said
        assert re.search(message, said)
    assert not (tmp_path / "s.npz").exists()


def test_score_hcal_refuses_to_overwrite_its_maps(tmp_path, capsys):
    np.savez(tmp_path / "maps.npz", unseen(2).counts.numpy())
    path = str(tmp_path / "maps.npz")
    assert main(["score-hcal", path, "--out", path]) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert main(["score-hcal", path, "--out", str(tmp_path / "scores.npy")]) == 2


# ---------------------------------------------------------------- many dead cells, declared ones


def dead_where(maps: HcalMaps, where) -> HcalMaps:
    counts = maps.counts.clone()
    counts[(slice(None), *where)] = 0
    return maps.with_(counts=counts)


CROWDS = {"a third of every ring": (slice(None), slice(0, 24)),
          "two thirds of an endcap": (slice(0, 32), slice(0, 48)),
          "a whole endcap": (slice(0, 32),),
          "every ring of one end but two": (slice(3, 12),),
          "nine tenths of every ring of one end": (slice(50, 61), slice(0, 65))}


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("like", ["run B", "unseen"])
def test_many_dead_cells_do_not_hide_themselves(crowd, with_reference, like):
    maps, reference = (simulate(B, 10, seed=3, low_statistics=False),
                       simulate(B, 40, seed=4, low_statistics=False)) if like == "run B" else (
                           unseen(), unseen(40, seed=6))
    bad = dead_where(maps, CROWDS[crowd])
    truth = np.zeros((64, 72), bool)
    truth[CROWDS[crowd]] = True
    truth &= LIVE.numpy()
    found = judge(bad, reference if with_reference else None)
    assert (found.kind[truth] == KINDS.index("dead")).all()
    assert (found.score[truth] > 3).all()
    assert (found.ratio[truth] == 0).all()
    assert (found.sections[:, truth] > 0).all()
    assert int((found.kind[~truth] > 0).sum()) <= 2


def test_few_events_leave_silent_cells_alone():
    """A cell of which little is expected may be silent by chance."""
    for seed in range(5):
        maps = simulate(A, 1, seed=seed, events=12, integer=True, noise=1.0)
        assert (maps.counts[0, LIVE] == 0).any()
        assert not (judge(maps).kind > 0).any()


@pytest.mark.parametrize("how", ["nan", "masked", "nan where nothing is read out"])
def test_cells_without_a_number_are_dead_as_declared(how, tmp_path, capsys):
    counts = unseen(5).counts.numpy().astype("f8")
    mask = np.zeros(counts.shape, bool)
    mask[:, 5, 10] = True
    path = tmp_path / "maps.npz"
    if how == "masked":
        np.savez(path, data=counts, mask=mask)
    else:
        counts[mask] = np.nan
        if how != "nan":
            counts[:, ~LIVE.numpy()] = np.nan
        np.savez(path, counts)
    maps = load(path)
    assert torch.isfinite(maps.counts).all()
    found = judge(maps)
    assert found.kind[5, 10] == KINDS.index("dead")
    assert (found.kind > 0).sum() == 1
    assert main(["score-hcal", str(path), "--out", str(tmp_path / "s.npz")]) == 0
    assert "1 cells hold no number in any map: dead, as declared" in capsys.readouterr().out


def test_a_declared_cell_is_dead_where_little_is_expected():
    maps = simulate(A, 1, seed=1, events=30, integer=True, noise=1.0)
    declared = torch.zeros_like(LIVE)
    declared[50, 5] = True
    maps.counts[:, declared] = 0
    found = judge(maps.with_(declared=declared))
    assert found.kind[50, 5] == KINDS.index("dead")
    assert (found.kind > 0).sum() == 1


def test_occupancies_are_refused(tmp_path):
    maps = simulate(B, 3, seed=1)
    np.save(tmp_path / "maps.npy", (maps.counts / maps.events[:, None, None]).numpy())
    with pytest.raises(DataError, match="occupancies; give counts"):
        load(tmp_path / "maps.npy")


@pytest.mark.parametrize("threshold", ["nan", "inf", "-inf"])
def test_a_threshold_that_is_no_number_is_refused(threshold, tmp_path, capsys):
    np.save(tmp_path / "maps.npy", unseen(2).counts.numpy())
    assert main(["score-hcal", str(tmp_path / "maps.npy"), "--out", str(tmp_path / "s.npz"),
                 f"--threshold={threshold}"]) == 2
    assert "--threshold" in capsys.readouterr().err
    assert not (tmp_path / "s.npz").exists()
