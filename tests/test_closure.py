"""Closure: what is measured on jets, its errors, and what a table of rows says of them."""

import numpy as np
import pytest

from collider import closure
from course import commands
from lib.cms import CHANNELS
from lib.data.images import JetImages
from lib.profiles import ROOT


def images(jets: int = 200, seed: int = 0, fill: float = 0.01) -> JetImages:
    """Noise as jets: every channel with its own number of pixels, masses in two humps."""
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, 256, (jets, 8, 125, 125), dtype=np.uint8)
    share = fill * np.linspace(0.1, 1, 8)[:, None, None]
    dense *= rng.random(dense.shape, dtype=np.float32) < share
    top = rng.random(jets) < 0.5
    return JetImages.from_dense(dense, labels=top.astype(np.float32),
                                mass=rng.normal(np.where(top, 180, 105), 15).astype(np.float32),
                                pt=(400 + rng.exponential(100, jets)).astype(np.float32))


def test_a_jet_is_counted_as_by_hand():
    dense = np.zeros((2, 8, 125, 125), np.uint8)
    dense[0, 0, 62, 62:66] = 1, 1, 8, 255
    dense[0, 1, 62, 62], dense[0, 3, 62, 0] = 255, 255
    dense[0, 5, :, 3], dense[0, 5, 124, 3] = 63, 255
    found = closure.per_jet(JetImages.from_dense(dense))
    for name, expected in {
            "track pT: non-zero pixels": 4, "track pT: share of ones": 0.5,
            "track pT: mean pixel": 265 / 15625,
            "ECAL: pixels within 0.4": 0, "track pT: pixels within 0.4": 1,
            f"pixels of track pT and {CHANNELS[1]}": 1, "pixels of track pT and ECAL": 0,
            "patches with more than pixel-layer hits": 3, "patches that are not empty": 27,
            "BPIX 1: hits of the fullest pixel": 4, "BPIX 1: rise along eta (log)": 0,
            "track pT: median level": 1, "zeros": 1 - 131 / 125000}.items():
        assert found[name][0] == pytest.approx(expected), name
    assert found["track pT: non-zero pixels"][1] == 0
    assert np.isnan(found["ECAL: share of ones"][1])


def test_the_real_jet_is_read_as_it_was_written_down():
    path = ROOT.parent / "shared/data/real_jet_3459.npz"
    if not path.exists():
        pytest.skip("the real jet is not here")
    with np.load(path, allow_pickle=False) as stored:
        found = closure.per_jet(JetImages.from_dense(np.moveaxis(stored["jet"], -1, 1)))
    assert {k: v[0] for k, v in found.items()} == pytest.approx(closure.PUBLISHED["real_jet"],
                                                               rel=1e-5)


def test_errors_are_those_of_repeated_samples():
    several = [closure.statistics(images(120, seed=k)) for k in range(9)]
    pulls = {name: np.array([(s[name][0] - several[0][name][0])
                             / np.hypot(s[name][1], several[0][name][1]) for s in several[1:]])
             for name in several[0] if several[0][name][1] > 0}
    assert len(pulls) > 40
    assert 0.5 < np.mean(np.square(list(pulls.values()))) < 2


def test_the_kinds_cover_the_table_and_exclude_each_other():
    assert not set(closure.FITTED) & set(closure.HELD_OUT)
    rows = closure.closure(images())["rows"]
    kinds = {row["quantity"]: row["kind"] for row in rows}
    assert {k for k, v in kinds.items() if v == "fitted"} == {*closure.FITTED, *closure.FOLLOWS}
    assert {k for k, v in kinds.items() if v == "held out"} == set(closure.HELD_OUT)
    assert "predicted" in kinds.values()


def test_a_varied_detector_widens_what_it_moves():
    jets = images()
    alone, known, moved = (
        {row["quantity"]: row for row in closure.closure(jets, varied)["rows"]}
        for varied in (None, jets, images(seed=1, fill=0.015)))
    name = "HCAL: non-zero pixels"
    assert alone[name]["pull"] == pytest.approx(known[name]["pull"])
    assert abs(moved[name]["pull"]) < abs(alone[name]["pull"])
    assert moved[name]["allowance"] == pytest.approx(0.5 * moved[name]["published"], rel=0.1)


def test_a_spectrum_of_the_published_shape_agrees_and_a_shifted_one_does_not():
    rng = np.random.default_rng(1)
    known = closure.PUBLISHED["mass"]
    share = np.array(known["counts"]) / sum(known["counts"])
    drawn = rng.choice(len(share), 4000, p=share)
    mass = known["low"] + known["width"] * (drawn + rng.random(4000))
    good, bad = (closure.spectrum(mass + by, "mass") for by in (0, 10))
    assert good["p"] > 0.01
    assert bad["p"] < 1e-6
    assert good["ndf"] == len(share) - 1
    assert good["outside"] == 0


def test_two_halves_of_a_sample_cannot_be_told_apart_and_another_threshold_can():
    jets = images(450)
    half, other = jets.subset(range(300)), jets.subset(range(300, 450))
    alike = closure.tell_apart(half, other)
    assert alike["auc"]["low"] < 0.5 < alike["auc"]["high"]
    assert alike["jets"] == [300, 150]
    dense = other.dense(slice(None))
    dense[:, 3][dense[:, 3] < 60] = 0  # a higher threshold in the ECAL
    found = closure.tell_apart(half, JetImages.from_dense(dense))
    assert found["auc"]["low"] > 0.6
    assert all("ECAL" in name for name in list(found["telling"])[:3])


def test_one_command_compares_the_course_s_jets_with_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    monkeypatch.setattr(closure, "course_files", lambda profile: {"labelled": tmp_path / "ours.h5"})
    images(300).save(tmp_path / "ours.h5")
    images(100, seed=1, fill=0.02).save(tmp_path / "theirs.h5")
    assert commands.main(["closure", str(tmp_path / "theirs.h5"), "--profile", "smoke"]) == 0
    said = capsys.readouterr().out
    assert "300 jets of the course against 100 of" in said
    assert "non-zero pixels" in said or "multiplicity" in said
    JetImages.from_dense(np.ones((5, 3, 125, 125), np.uint8)).save(tmp_path / "other.h5")
    assert commands.main(["closure", str(tmp_path / "other.h5"), "--profile", "smoke"]) == 2
    assert "other.h5: holds (3, 125, 125) images" in capsys.readouterr().err
