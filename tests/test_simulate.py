"""Simulated files: physics that must hold, and files that are the same or not there at all."""

import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from collider import events
from collider import simulate as simulation
from collider.simulate import quotas, simulate
from lib.data.encoding import encode_cms8
from lib.data.images import JetImages
from lib.files import DataError

POOL = 60  # minimum-bias events of the tests' pile-up pool


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One folder for the module, so that the pile-up pool is made once."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JETS_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def files(home):
    """Forty jets of one seed, in both encodings."""
    return {encoding: simulate("top_qcd", 40, home / f"{encoding}.h5", seed=5, workers=1,
                               encoding=encoding, pool_events=POOL, progress=False)
            for encoding in ("cms8", "gev")}


def test_constituents_sum_to_the_jets():
    rng = np.random.default_rng(0)
    momenta = rng.normal(size=(60, 3)) * [30, 30, 60]
    particles = np.column_stack([momenta, np.linalg.norm(momenta, axis=1)])
    found = events.cluster([particles, particles[:5]], 0.8, 0.0)
    assert np.allclose(found[0].sum(axis=0), particles.sum(axis=0))
    assert np.allclose(found[1].sum(axis=0), particles[:5].sum(axis=0))
    pt = events.kinematics(found[0])[0]
    assert (np.diff(pt) <= 0).all()


def test_a_top_needs_top_w_and_b_within_the_jet():
    top = [(0.1, 3.1, 6), (0.3, 3.0, 24), (0.0, -3.0, 5)]
    assert events.matched(top, 0.1, 3.14, 0.8)  # across φ = π
    assert not events.matched([*top[:2], (0.1, 2.2, 5)], 0.1, 3.14, 0.8)


def test_pile_up_is_rotated_not_reweighted(home):
    pool = events.pile_up_pool("train", POOL)
    rng = np.random.default_rng(1)
    drawn = pool.draw(50, np.full(50, 2.0), rng)
    assert set(np.unique(drawn.vertex)) <= set(range(1, 51))
    mass2 = drawn.energy**2 - drawn.pt**2 - drawn.pz**2
    assert mass2.min() > -1e-2  # GeV², single precision in the pool's file
    assert abs(np.median(drawn.z) - 2.0) < 0.5
    again = pool.draw(50, np.full(50, 2.0), np.random.default_rng(1))
    assert (again.px == drawn.px).all()
    with pytest.raises(ValueError, match="train, test"):
        events.pile_up_pool("validation")


def test_simulated_jets_obey_the_selection_and_the_proportions(files):
    jets = JetImages.open(files["cms8"])
    assert len(jets) == 40
    assert jets.shape == (8, 125, 125)
    assert jets.pt.min() > 400
    assert int((jets.labels == 1).sum()) == round(0.4878 * 40)
    assert (jets.truth["vertices"] >= 1).all()
    assert (jets.truth["parton"][jets.labels == 1] == 6).all()
    assert (jets.truth["parton"][jets.labels == 0] != 6).all()
    heavier = jets.mass - jets.truth["true_mass"]
    assert heavier.median() > 0  # pile-up only adds


def test_cms8_images_have_the_published_form(files):
    image = JetImages.open(files["cms8"]).dense(np.arange(40)).numpy()
    assert (image == np.round(image)).all()
    assert image.min() >= 0
    peak = image.max(axis=(2, 3))
    assert np.isin(peak, (0, 254, 255)).all()
    towers = image[:, 4].reshape(40, 25, 5, 25, 5)
    assert (towers == towers[:, :, :1, :, :1]).all()
    assert (image[:, 4, 62, 62] >= 254).mean() > 0.8  # the hottest tower of most images


def test_gev_keeps_the_sign_and_encodes_to_cms8(files):
    gev, cms8 = (JetImages.open(files[name]) for name in ("gev", "cms8"))
    image = gev.dense(np.arange(40)).numpy()
    assert (image[:, 1] < 0).any()
    assert (image[:, 2] < 0).any()
    assert image[:, [0, 3, 4, 5, 6, 7]].min() == 0
    assert np.allclose(gev.mass, cms8.mass)
    indices = np.flatnonzero(image[0]).astype(np.int32)
    where, values = encode_cms8(indices, image[0].ravel()[indices])
    encoded = np.zeros(image[0].size)
    encoded[where] = values
    assert (encoded.reshape(image[0].shape) == cms8.dense([0]).numpy()[0]).all()


def test_same_seed_same_file_whatever_the_workers(home, monkeypatch):
    monkeypatch.setattr(simulation, "CHUNK", 3)
    settings = dict(seed=9, pool_events=POOL, progress=False)
    one = simulate("top_qcd", 6, home / "one.h5", workers=1, **settings)
    two = simulate("top_qcd", 6, home / "two.h5", workers=2, **settings)
    other = simulate("top_qcd", 3, home / "other.h5", workers=1, **settings | {"seed": 10})
    assert JetImages.open(one).fingerprint() == JetImages.open(two).fingerprint()
    masses = [JetImages.open(path).mass.tolist() for path in (one, other)]
    assert len(set(masses[0])) == 6  # chunks differ
    assert not set(masses[0]) & set(masses[1])  # and so do seeds


def test_chunks_share_out_the_classes():
    assert sum(sum(quotas(n, 1000, 0.4878)) for n in range(4)) == 1000
    assert sum(quotas(n, 1000, 0.4878)[1] for n in range(4)) == 488


def test_quark_gluon_and_dense_and_unlabelled(home):
    path = simulate("quark_gluon", 6, home / "qg.h5", workers=1, dense=True, labelled=False,
                    pool_events=POOL, progress=False)
    with h5py.File(path) as file:
        assert file["jet"].shape == (6, 125, 125, 3)
        assert file["jet"].dtype == np.float32
        assert not {"Y", "m", "pT"} & set(file)
        assert sorted(file["truth/label"][:]) == [0, 0, 0, 1, 1, 1]
    assert not list(home.glob("*.packed*"))


@pytest.mark.parametrize("wrong", [dict(process="bottom"), dict(jets=0), dict(encoding="png")])
def test_nonsense_is_refused_in_one_line(tmp_path, wrong):
    settings = dict(process="top_qcd", jets=1, out=tmp_path / "x.h5") | wrong
    with pytest.raises(DataError) as error:
        simulate(**settings)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_killed_run_leaves_no_file(home, tmp_path):
    out = tmp_path / "jets.h5"
    code = f"""
import os, signal
from collider import simulate as s
s.CHUNK, whole = 2, s._chunk
def chunk(number, **settings):
    if number == 2:  # in the middle of writing
        assert os.listdir({str(tmp_path)!r})
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(number, **settings)
s._chunk = chunk
s.simulate("top_qcd", 8, {str(out)!r}, workers=1, pool_events={POOL}, progress=False)
"""
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    simulate("top_qcd", 2, out, workers=1, pool_events=POOL, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["jets.h5"]  # and tidies up after it
