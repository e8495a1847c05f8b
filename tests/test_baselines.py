"""The sceptic's baselines: mass cut, observables with boosted trees, ResNet-15."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lib.data.images import JetImages
from lib.data.tokens import TOP_QCD, tokenize
from lib.models.baselines import CRYSTAL, BoostedTrees, MassCut, observables
from lib.models.rivals import ResNet15


def jets_of(images: np.ndarray) -> JetImages:
    return JetImages.from_dense(images.astype(np.float32), "gev")


def table_of(images: np.ndarray) -> dict[str, np.ndarray]:
    values, names = observables(jets_of(images), range(len(images)))
    assert values.shape == (len(images), len(names))
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert len(set(names)) == len(names)
    return dict(zip(names, values.T))


def random_images(count: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (count, 8, 125, 125)
    images = rng.exponential(2.0, shape) * (rng.random(shape) < 0.005)
    images[:, :, 60:65, 60:65] += rng.exponential(2.0, (count, 8, 5, 5))
    return images


def test_mass_cut_is_the_likelihood_ratio():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 4000)
    mass = np.where(label == 1, rng.normal(180, 20, 4000), rng.normal(110, 30, 4000))
    cut = MassCut(20).fit(mass[:2000], label[:2000])
    score = cut.predict(mass[2000:])
    assert ((0 < score) & (score < 1)).all()
    assert roc_auc_score(label[2000:], score) > 0.93
    assert cut.predict(np.array([180.0])) > 0.8 > 0.2 > cut.predict(np.array([80.0]))
    assert np.isfinite(cut.predict(np.array([-1e3, 1e6]))).all()
    # A likelihood ratio does not care which side of the window the signal is on.
    flipped = MassCut(20).fit(300 - mass[:2000], label[:2000])
    assert roc_auc_score(label[2000:], flipped.predict(300 - mass[2000:])) > 0.93


def test_observables_of_an_image_made_by_hand():
    image = np.zeros((2, 8, 125, 125))
    image[0, 3, 62, 52], image[0, 3, 62, 72] = 3.0, 1.0  # ECAL, 20 crystals apart in phi
    image[0, 0, 62, 62] = 5.0
    table = table_of(image)
    assert table["ECAL multiplicity"].tolist() == [2, 0]
    assert table["track pT multiplicity"].tolist() == [1, 0]
    assert table["ECAL log energy"][0] == pytest.approx(np.log1p(4))
    assert table["ECAL hottest share"][0] == pytest.approx(0.75)
    assert table["track pT hottest share"][0] == pytest.approx(1)
    assert table["ECAL radius"][0] == pytest.approx(10 * CRYSTAL)
    spread = 20 * CRYSTAL * np.sqrt(0.75 * 0.25)
    assert table["ECAL width phi"][0] == pytest.approx(spread, rel=1e-5)
    assert table["ECAL width eta"][0] == pytest.approx(0, abs=1e-6)
    assert table["ECAL angular mass"][0] == pytest.approx(np.sqrt(2) * spread, rel=1e-5)
    assert table["ECAL share within 0.1"][0] == 0
    assert table["ECAL share within 0.2"][0] == pytest.approx(1)
    assert not any(values[1] for name, values in table.items() if "share" in name or "mass" in name)


def test_towers_and_subjettiness_find_three_prongs():
    image = np.zeros((1, 8, 125, 125))
    for row, column, energy in ((60, 60, 6.0), (60, 30, 3.0), (30, 60, 1.0)):
        image[0, 3:5, row:row + 5, column:column + 5] = energy / 25
    table = table_of(image)
    assert table["tower 1 share"][0] == pytest.approx(0.6)
    assert table["tower 2 share"][0] == pytest.approx(0.3)
    assert table["tower 3 share"][0] == pytest.approx(0.1)
    assert table["distance 12"][0] == pytest.approx(30 * CRYSTAL)
    assert table["distance 23"][0] == pytest.approx(30 * np.sqrt(2) * CRYSTAL)
    assert table["HCAL tau21"][0] < 0.5
    assert table["HCAL tau32"][0] < 0.5


def test_scaling_the_energy_changes_energies_only():
    images = random_images()
    one, two = table_of(images), table_of(2 * images)
    for name in one:
        if "log energy" in name:
            np.testing.assert_allclose(np.expm1(two[name]), 2 * np.expm1(one[name]), rtol=1e-4)
        else:
            np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-6)


def test_mirrors_and_quarter_turns_change_what_they_should():
    images = random_images()
    one = table_of(images)
    mirrored = table_of(images[:, :, :, ::-1])
    turned = table_of(np.rot90(images, axes=(2, 3)))
    swap = {"width eta": "width phi", "width phi": "width eta"}
    for name in one:
        if name.startswith("distance") or "tau" in name:
            continue  # towers of equal energy may be taken in another order
        channel = name.rsplit(" width", 1)[0]
        other = next((f"{channel} {b}" for a, b in swap.items() if name.endswith(a)), name)
        np.testing.assert_allclose(mirrored[name], one[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(turned[other], one[name], rtol=1e-4, atol=1e-5)


def test_chunks_and_order_do_not_matter():
    jets = jets_of(random_images(5))
    whole, _ = observables(jets, [4, 0, 2])
    parts, _ = observables(jets, [4, 0, 2], chunk=1)
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole[1], observables(jets, [0])[0][0], rtol=1e-5, atol=1e-6)


def test_boosted_trees_learn_class_and_mass():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5)).astype(np.float32)
    label = (x[:, 0] + 0.3 * rng.normal(size=600) > 0).astype(int)
    mass = 150 + 30 * x[:, 1]
    trees = BoostedTrees(seed=0).fit(x[:400], label[:400], mass[:400])
    score, guess = trees.predict(x[400:])
    assert roc_auc_score(label[400:], score) > 0.93
    assert np.abs(guess - mass[400:]).mean() < 12  # 24 for a constant
    assert BoostedTrees().fit(x, label).predict(x)[1] is None
    again = BoostedTrees(seed=0).fit(x[:400], label[:400], mass[:400]).predict(x[400:])
    assert np.array_equal(again[0], score)


def test_resnet_runs_on_tokens_of_any_kind():
    torch.manual_seed(0)
    jets = jets_of(random_images(2))
    hits = jets.hits([0, 1])
    model = ResNet15(width=4).fit_scales(hits, None, torch.tensor([100.0, 200.0])).eval()
    results = [model(tokenize(hits, TOP_QCD, keep)) for keep in ("active", "masked", "all")]
    for logits, mass in results:
        assert logits.shape == (2, 2)
        assert mass.shape == (2,)
        assert (mass > 0).all()
        torch.testing.assert_close(logits, results[0][0], atol=1e-5, rtol=1e-5)
    depth = 1 + sum(isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)
                    for m in model.modules()) + 2
    assert depth == 15
    assert 90_000 <= sum(p.numel() for p in ResNet15().parameters()) <= 1_000_000
    (results[0][0].sum() + results[0][1].sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
