"""The detector: where particles land, what an encoding keeps, what an image must look like."""

from math import erfc

import numpy as np
import pytest

from collider import detector
from collider.detector import NOMINAL
from collider.particles import Helix, Particles, wrap
from lib.cms import CHANNELS
from lib.data import encoding
from lib.data.encoding import encode_cms8


def one(pdg=211, charge=1.0, pt=5.0, eta=0.3, phi=0.4, z=0.0, mass=0.1396, x=0.0, y=0.0):
    """A single particle."""
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    row = [np.array([v], dtype=float) for v in (charge, px, py, pz, energy, x, y, z)]
    return Particles(np.array([pdg]), *row, np.array([0]))


@pytest.mark.parametrize("charge", [-1.0, 1.0])
@pytest.mark.parametrize("pt", [0.9, 2.0, 20.0])
def test_a_lone_particle_reaches_the_calorimeter_where_the_helix_says(charge, pt):
    particle = one(charge=charge, pt=pt, eta=0.3, phi=0.4, z=3.0)
    helix = Helix.of(particle)
    out, _, _ = helix.crossings(detector.ECAL_RADIUS)
    x, y, z = helix.at(out)
    # School formula: a chord of length r subtends asin(r/2R) at the momentum, R = pT/(0.3 B).
    radius = pt / (0.299792458 * 3.8) * 100  # cm
    bend = np.arcsin(detector.ECAL_RADIUS / (2 * radius))
    assert np.arctan2(y, x)[0] == pytest.approx(0.4 - charge * bend, abs=1e-9)
    assert z[0] == pytest.approx(3.0 + 2 * radius * bend * np.sinh(0.3), abs=1e-6)


def test_a_slow_particle_curls_up_and_crosses_the_pixel_layers_again():
    helix = Helix.of(one(pt=0.3, eta=0.01))
    out, _, _ = helix.crossings(detector.ECAL_RADIUS)
    assert np.isinf(out[0])
    out, back, period = helix.crossings(detector.PIXEL_RADII[0])
    assert out[0] < back[0] < period[0]
    for arc in (out, back, out + period):
        x, y, _ = helix.at(arc)
        assert np.hypot(x, y)[0] == pytest.approx(detector.PIXEL_RADII[0])


def test_a_neutral_particle_flies_straight():
    helix = Helix.of(one(pdg=22, charge=0.0, eta=-0.7, phi=2.0, mass=0.0))
    x, y, z = helix.at(helix.crossings(129.0)[0])
    assert np.arctan2(y, x)[0] == pytest.approx(2.0)
    assert np.arcsinh(z / np.hypot(x, y))[0] == pytest.approx(-0.7)


def test_impact_parameter_is_the_smallest_distance_to_the_beam():
    particle = one(pt=0.8, x=0.5, y=-0.3, phi=1.0)
    helix = Helix.of(particle)
    x, y, _ = helix.at(np.linspace(-20, 20, 400_001))
    d0, _, _ = helix.impact()
    assert abs(d0[0]) == pytest.approx(np.hypot(x, y).min(), abs=1e-6)


def image_of(particle, seed=0, axis=(0.3, 0.4)):
    """Dense physical image around an axis; a hadron at the axis gives the crop its centre."""
    hadron = one(pdg=130, charge=0.0, pt=200.0, eta=axis[0], phi=axis[1], mass=0.4976)
    rng = np.random.default_rng(seed)
    response = detector.respond(Particles.join([hadron, particle]), 0.0, rng)
    indices, values = detector.Event(response, 0.0, rng).image(*axis)
    image = np.zeros(detector.SHAPE, dtype=np.float32)
    image.flat[indices] = values
    return image


def test_a_track_and_its_pixel_hits_fall_into_the_right_pixels():
    muon = one(pdg=13, charge=-1.0, pt=10.0, eta=0.55, phi=0.75, mass=0.1057)
    images = [image_of(muon, seed) for seed in range(8)]
    found = [i for i in images if i[0].any()]
    assert len(found) >= 6  # 98 % efficient
    origin = []
    for image in images:
        hcal = image[4]
        assert hcal[62, 62] == hcal.max()  # centred on the hottest tower
        origin.append(hcal.max())
    row, column = np.floor(0.55 / detector.PIXEL), np.floor(0.75 / detector.PIXEL)  # at the vertex
    tower = (np.floor(0.3 / detector.PIXEL / 5), np.floor(0.4 / detector.PIXEL / 5))
    expected = (row - 5 * (tower[0] - 12), column - 5 * (tower[1] - 12))
    hits = [tuple(np.argwhere(i[0])[0]) for i in found]
    # The seed tower may be a neighbour of the axis tower: whole towers, the same way for both.
    for hit in hits:
        assert (hit[0] - expected[0]) % 5 == 0
        assert (hit[1] - expected[1]) % 5 == 0
        assert abs(hit[0] - expected[0]) <= 5
        assert abs(hit[1] - expected[1]) <= 5
    assert expected in hits


def test_hcal_is_made_of_constant_towers():
    image = image_of(one(pdg=211, pt=30.0, eta=0.6, phi=0.1))
    towers = image[4].reshape(25, 5, 25, 5)
    assert (towers == towers[:, :1, :, :1]).all()
    assert 0 < (towers[:, 0, :, 0] > 0).sum() < 40
    assert image[4][image[4] > 0].min() > NOMINAL.hcal_threshold
    assert image[3][image[3] > 0].min() > detector.ECAL_THRESHOLD
    noise = (image[3] > 0).mean()  # most of these are noise alone
    sigmas = detector.ECAL_THRESHOLD / NOMINAL.ecal_noise
    assert noise == pytest.approx(0.5 * erfc(sigmas / 2**0.5), abs=0.006)


def test_a_photon_leaves_most_of_its_energy_in_few_crystals_and_no_track():
    photon = one(pdg=22, charge=0.0, pt=50.0, eta=0.7, phi=0.9, mass=0.0)
    image = image_of(photon)
    assert not image[0].any()
    assert not image[5:].any()
    away = image[3].copy()
    away[40:85, 40:85] *= 0
    near = image[3].sum()
    assert near > 0.9 * 50
    assert np.sort(image[3].ravel())[-9:].sum() > 0.85 * 50 * np.cosh(0.7)


def test_impact_parameters_are_signed_and_only_primary_tracks_have_a_dz():
    near = [(0.2 + 0.1 * k, 0.3, 0.05 * (-1) ** k, 0.03 * (-1) ** k) for k in range(4)]
    far = [(0.2 + 0.1 * k, 0.6, 0.05, 2.0) for k in range(4)]
    image = image_of(Particles.join([
        one(pdg=13, pt=40.0, eta=eta, phi=phi, y=y, z=z, mass=0.1057)
        for eta, phi, y, z in near + far]))
    d0, dz = image[CHANNELS.index("track d0")], image[CHANNELS.index("track dz")]
    found = image[0] > 0
    assert (d0[found] != 0).all()
    assert set(np.sign(d0[found])) == set(np.sign(dz[dz != 0])) == {-1, 1}
    assert 0 < (dz != 0).sum() < found.sum()
    assert np.abs(dz).max() == pytest.approx(0.03, abs=0.02)


def test_tracks_of_one_pixel_are_summed():
    pair = Particles.join([one(pdg=13, pt=20.0, eta=0.25, phi=0.35, z=z, y=0.02, mass=0.1057)
                           for z in (0.02, 0.03)])
    images = [image_of(pair, seed) for seed in range(8)]
    image = max(images, key=lambda i: i[0].sum())  # where both are found
    assert (image[0] > 0).sum() == 1
    assert image[0].sum() == pytest.approx(40, rel=0.1)
    assert image[CHANNELS.index("track dz")].sum() == pytest.approx(0.05, abs=0.02)


def test_a_shower_is_shared_by_cells_as_its_density_says():
    shares = detector.shares(np.array([0.5, 0.2]), np.array([0.5, 0.9]), 0.7)
    x = (np.arange(7 * 200) + 0.5) / 200 - 3
    for share, (row, column) in zip(shares, ((0.5, 0.5), (0.2, 0.9)), strict=True):
        r2 = (x[:, None] - row) ** 2 + (x - column) ** 2
        density = 0.49 / (np.pi * (r2 + 0.49) ** 2) / 200**2
        assert np.allclose(share, density.reshape(7, 200, 7, 200).sum((1, 3)), rtol=1e-3)


def test_tracks_of_other_vertices_are_left_out_of_the_jets():
    several = Particles.join([one(pt=5.0)] * 200 + [one(pdg=22, charge=0.0, mass=0.0)])
    apart = np.r_[np.zeros(100), np.full(100, 3.0), 3.0]
    response = detector.respond(several, 0.0, np.random.default_rng(0), apart)
    chs, none = (detector.candidates(response, removal)[1] for removal in ("chs", "none"))
    assert none.all()
    assert chs[:100].all()
    assert chs[-1]
    assert chs[100:200].mean() == pytest.approx(1 - 0.94 * NOMINAL.chs_efficiency, abs=0.1)


def test_the_centre_is_the_hottest_tower_of_the_window():
    rng = np.random.default_rng(0)
    for eta, inside in ((0.3 + 3 * 0.087, True), (0.3 + 7 * 0.087, False)):
        two = Particles.join([one(pdg=130, charge=0.0, pt=e, eta=x, phi=0.4, mass=0.4976)
                              for e, x in ((100.0, 0.3), (900.0, eta))])
        indices, values = detector.Event(detector.respond(two, 0.0, rng), 0.0, rng).image(0.3, 0.4)
        image = np.zeros(detector.SHAPE)
        image.flat[indices] = values
        assert (image[4, 62, 62] > 200) == inside


def dense8(image):
    indices = np.flatnonzero(image).astype(np.int32)
    where, values = encode_cms8(indices, image.ravel()[indices])
    out = np.zeros(image.size, dtype=np.uint8)
    out[where] = values
    return out.reshape(image.shape)


def test_cms8_is_the_published_pipeline():
    rng = np.random.default_rng(1)
    image = np.where(rng.random(detector.SHAPE) < 0.01, rng.exponential(size=detector.SHAPE), 0)
    image = image.astype(np.float32)
    image[1] *= rng.choice([-1, 1], size=image[1].shape)
    image[5] = np.where(image[5] > 0, rng.integers(1, 4, size=image[5].shape), 0)
    image[7] = 0
    out = dense8(image)
    # The same on the dense image, written out step by step.
    floor = np.where(image < 1e-3, 0, image)
    mean = np.float32(encoding.PIXEL_MEAN)[:, None, None]
    std = np.float32(encoding.PIXEL_STD)[:, None, None]
    z = np.clip((floor - mean) / std, -500, 500)
    low, high = z.min(axis=(1, 2), keepdims=True), z.max(axis=(1, 2), keepdims=True)
    scale = np.where(high > low, np.float32(255) / np.where(high > low, high - low, 1), 0)
    slow = ((z - low) * scale.astype(np.float32)).astype(np.uint8)
    assert (out == slow).all()
    peaks = out.reshape(8, -1).max(axis=1)
    assert np.isin(peaks[:7], (254, 255)).all()
    assert peaks[7] == 0
    assert not out[image <= 0].any()  # negative impact parameters vanish


def test_cms8_of_counts_are_fractions_of_the_largest():
    image = np.zeros(detector.SHAPE, dtype=np.float32)
    image[5, 0, :4] = 1, 2, 3, 4
    assert dense8(image)[5, 0, :3].tolist() == [63, 127, 191]


def test_angles_are_wrapped_and_a_jet_across_pi_is_whole():
    assert wrap(np.array([3.5]))[0] == pytest.approx(3.5 - 2 * np.pi)
    track = one(pdg=13, charge=0.0, pt=10.0, phi=-3.1, eta=0.3, mass=0.1057)
    photon = one(pdg=22, charge=0.0, pt=20.0, phi=-3.05, eta=0.3, mass=0.0)
    image = image_of(Particles.join([track, photon]), axis=(0.3, 3.1))
    assert image[3].sum() > 18
