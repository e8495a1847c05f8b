"""Augmentations: what each may change and what it must leave alone, in both encodings."""

import re

import numpy as np
import pytest
import torch

from lib.data.augment import (
    DZ,
    HCAL,
    channel_dropout,
    compose,
    drop_hits,
    flips,
    noise,
    phi_roll,
    pile_up,
    rotation,
    smearing,
    translation,
)
from lib.data.images import JetImages
from lib.data.tokens import TOP_QCD, Hits
from lib.data.views import SETS, Damaged, TwoViews, transformed, transforms, views
from lib.profiles import ROOT

JETS = 24


def make(encoding: str, seed: int = 0, jets: int = JETS) -> JetImages:
    """Jets like the real ones: towers constant over 5 x 5 pixels, signed dz in `gev`."""
    random = np.random.default_rng(seed)
    dense = np.zeros((jets, 8, 125, 125), np.float32)
    for image in dense:
        row, column = (62 + 14 * random.normal(size=(2, 60))).astype(int).clip(0, 124)
        image[0, row, column] = random.exponential(3, 60) + 0.1
        image[1, row, column] = random.normal(size=60)
        image[2, row, column] = 0.01 * random.normal(size=60)
        image[3, row, (column + 1).clip(0, 124)] = random.exponential(2, 60) + 0.1
        tower = np.zeros((25, 25), np.float32)
        tower[tuple((12 + 3 * random.normal(size=(2, 20))).astype(int).clip(0, 24))] = (
            random.exponential(9, 20) + 1)
        tower[12, 12] = 80
        image[4] = tower.repeat(5, 0).repeat(5, 1)
        for layer in (5, 6, 7):
            where = random.integers(0, 125, (2, 90))
            np.add.at(image[layer], tuple(where), 1)
    if encoding == "cms8":
        dense = dense.clip(min=0)
        peak = dense.max((2, 3), keepdims=True).clip(min=1e-6)
        dense = np.floor(255 * dense / peak * (1 - 1e-7))
    return JetImages.from_dense(dense, encoding, labels=np.arange(jets) % 2)


@pytest.fixture(scope="module", params=["cms8", "gev"])
def jets(request) -> JetImages:
    return make(request.param)


def peaks(hits: Hits) -> torch.Tensor:
    out = torch.zeros(hits.images * 8)
    return out.scatter_reduce(0, hits.image * 8 + hits.channel, hits.value.abs(), "amax")


NAMES = list(transforms(TOP_QCD, "cms8"))


def check_hits(jets, change):
    """One hit a pixel, inside the image, sorted by jet; integers 1...255 in `cms8`."""
    torch.manual_seed(0)
    hits = jets.hits(range(JETS))
    before = [part.clone() for part in vars(hits).values() if isinstance(part, torch.Tensor)]
    out = change(hits)
    after = [part for part in vars(hits).values() if isinstance(part, torch.Tensor)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "input was changed"
    assert out.images == JETS
    assert (out.image.diff() >= 0).all()
    for place, size in ((out.channel, 8), (out.row, 125), (out.column, 125)):
        assert 0 <= place.min()
        assert place.max() < size
    pixel = ((out.image * 8 + out.channel) * 125 + out.row) * 125 + out.column
    assert len(pixel.unique()) == len(pixel)
    assert (out.value != 0).all()
    assert out.value.isfinite().all()
    if jets.encoding == "cms8":
        assert torch.equal(out.value, out.value.round())
        assert 1 <= out.value.min()
        assert out.value.max() <= 255
    else:
        assert (out.value[(out.channel < 1) | (out.channel > 2)] > 0).all()
    transformed(jets.subset(range(3)), change)  # can be stored


@pytest.mark.parametrize("name", NAMES)
def test_hits_stay_valid_and_the_encoding_stays_itself(jets, name):
    check_hits(jets, transforms(jets.grid, jets.encoding)[name])


@pytest.mark.parametrize("name", NAMES)
def test_empty_and_single_images_pass(name, jets):
    change = transforms(jets.grid, jets.encoding)[name]
    none = JetImages.from_dense(np.zeros((2, 8, 125, 125), np.float32), jets.encoding)
    assert len(change(none.hits(range(2)))) == 0
    assert change(jets.hits([3])).images == 1
    batch = none.batch(range(2), "two_scale", TwoViews(change))
    assert batch.tokens.valid.sum() == batch.other.valid.sum() == 0


@pytest.mark.parametrize("step", [translation, rotation])
def test_towers_and_tracks_move_as_one(jets, step):
    """Every HCAL tower is still one value over a whole tower; dz and d0 stay with their pT."""
    torch.manual_seed(1)
    moved = transformed(jets, step(jets.grid))
    image = moved.dense(range(JETS))
    hcal = image[:, HCAL].unfold(1, 5, 5).unfold(2, 5, 5).flatten(3)
    assert torch.equal(hcal.amax(-1), hcal.amin(-1))
    assert image[:, 0][image[:, 1] > 0].gt(0).all()
    assert not torch.equal(image, jets.dense(range(JETS)))
    old = jets.dense(range(JETS))
    same = torch.isin(image[image != 0], old[old != 0])
    assert same.all(), "values stay as they are"


def test_a_small_turn_turns_by_the_angle():
    torch.manual_seed(1)
    row, column = torch.meshgrid(torch.arange(30, 95), torch.arange(30, 95), indexing="ij")
    row, column = row.flatten(), column.flatten()
    hits = Hits(torch.zeros_like(row), torch.zeros_like(row), row, column, torch.ones(len(row)), 1)
    out = rotation(TOP_QCD, degrees=20)(hits)
    old = torch.complex(hits.column - 62.0, hits.row - 62.0)
    new = torch.complex(out.column - 62.0, out.row - 62.0)
    turned = new * old.conj()
    angle = torch.angle(turned.sum())
    assert 0 < angle.abs() <= 20 * torch.pi / 180
    assert (new - old * torch.polar(torch.ones(()), angle)).abs().max() < 2, "within rounding"


def test_flips_are_what_they_were_and_can_be_parted(jets):
    signed = jets.encoding == "gev"
    hits = jets.hits(range(JETS))
    torch.manual_seed(3)
    eta, phi = (torch.rand(2, JETS) < 0.5)[:, hits.image]
    torch.manual_seed(3)
    out = flips(jets.grid, jets.encoding)(hits)
    assert torch.equal(out.row, torch.where(eta, 124 - hits.row, hits.row))
    assert torch.equal(out.column, torch.where(phi, 124 - hits.column, hits.column))
    dz = hits.channel == DZ
    sign = torch.where(eta[dz] & signed, -1, 1)
    assert torch.equal(out.value[dz], hits.value[dz] * sign)
    torch.manual_seed(3)
    only = flips(jets.grid, jets.encoding, phi=False)(hits)
    assert torch.equal(only.row, out.row)
    assert torch.equal(only.column, hits.column)


def test_noise_keeps_places_peaks_and_pixel_counts(jets):
    torch.manual_seed(0)
    hits = jets.hits(range(JETS))
    out = noise(jets.grid, jets.encoding, levels=5)(hits)
    assert torch.equal(out.row, hits.row)
    assert torch.equal(out.channel, hits.channel)
    counts = hits.channel >= 5
    assert torch.equal(out.value[counts], hits.value[counts])
    change = (out.value - hits.value)[hits.channel == 3]
    if jets.encoding == "cms8":
        assert torch.equal(peaks(out), peaks(hits)), "levels are of the channel's peak"
        large = (out.value - hits.value)[(hits.channel == 3) & (hits.value > 30)]
        assert 3 < large.std() < 8
    else:
        relative = change / hits.value[hits.channel == 3]
        assert relative.std() == pytest.approx(5 / 255, rel=0.2)


def test_smearing_follows_the_resolution_and_touches_calorimeters_only(jets):
    torch.manual_seed(0)
    hits = jets.hits(range(JETS))
    out = smearing(jets.grid, jets.encoding)(hits)
    if jets.encoding == "cms8":
        assert set(out.channel.unique().tolist()) == set(hits.channel.unique().tolist())
        assert torch.equal(peaks(out), peaks(hits))
        return
    other = (hits.channel != 3) & (hits.channel != HCAL)
    assert torch.equal(out.value[other], hits.value[other])
    hcal = (hits.channel == HCAL) & (hits.row % 5 == 0) & (hits.column % 5 == 0)
    energy = hits.value[hcal]
    pull = (out.value[hcal] / energy - 1) / (1.10**2 / energy + 0.07**2).sqrt()
    assert pull[energy > 10].std() == pytest.approx(1, abs=0.25)


def test_dropped_channels_and_hits(jets):
    torch.manual_seed(0)
    hits = jets.hits(range(JETS))
    out = channel_dropout(jets.grid)(hits)
    had = [torch.zeros(JETS, 8, dtype=torch.bool).index_put_((h.image, h.channel),
           torch.tensor(True)) for h in (hits, out)]
    lost = (had[0] & ~had[1]).sum(1)
    assert set(lost.tolist()) == {1, 2}
    left = drop_hits(jets.grid, jets.encoding, rate=0.3)(hits)
    assert len(left) == pytest.approx(0.7 * len(hits), rel=0.06)
    image = transformed(jets, drop_hits(jets.grid, jets.encoding, rate=0.3)).dense(range(JETS))
    assert torch.equal(image[:, 0] != 0, (image[:, :3] != 0).any(1)) or jets.encoding == "cms8"
    hcal = image[:, HCAL].unfold(1, 5, 5).unfold(2, 5, 5).flatten(3)
    assert torch.equal(hcal.amax(-1), hcal.amin(-1))


def test_pile_up_changes_the_outskirts_only_and_keeps_their_density(jets):
    torch.manual_seed(0)
    hits = jets.hits(range(JETS))
    out = pile_up(jets.grid, jets.encoding, rate=0.4)(hits)

    def places(h: Hits, far: bool) -> set:
        radius = torch.hypot(h.row - 62.0, h.column - 62.0) * torch.pi / 180
        keep = (radius > 0.57 if far else radius < 0.43) & (h.channel >= 5)
        return set(zip(*(x[keep].tolist() for x in (h.image, h.channel, h.row, h.column)),
                       strict=True))

    assert places(out, far=False) == places(hits, far=False)
    old, new = places(hits, far=True), places(out, far=True)
    assert len(old & new) / len(old) == pytest.approx(0.6, abs=0.05)
    assert len(new) == pytest.approx(len(old), rel=0.05)
    alone = pile_up(jets.grid, jets.encoding, rate=0.4)(jets.hits([0]))
    assert len(alone) < len(jets.hits([0]))


def test_the_roll_comes_round(jets):
    torch.manual_seed(0)
    hits = jets.hits(range(JETS))
    shift = (phi_roll(jets.grid)(hits).column - hits.column) % 125
    assert all(len(shift[hits.image == i].unique()) == 1 for i in range(JETS))
    assert len(shift.unique()) > JETS / 2


def test_names_sets_strengths_and_mistakes(jets):
    for name in SETS:
        assert views(name, jets.grid, jets.encoding)(jets.hits(range(4))).images == 4
    for names, same in (("flips", flips(jets.grid, jets.encoding)), (
            [{"rotation": {"degrees": 30.0}}], rotation(jets.grid, jets.encoding, degrees=30.0))):
        found = views(names, jets.grid, jets.encoding)
        assert (found.func, found.keywords) == (same.func, same.keywords)
    with pytest.raises(ValueError, match="phi_roll"):
        views(["roll"], jets.grid, jets.encoding)
    with pytest.raises(ValueError, match="no angle; it has degrees"):
        views([{"rotation": {"angle": 30}}], jets.grid, jets.encoding)


def test_a_new_augmentation_is_one_file(jets, tmp_path, monkeypatch):
    """By a decorator, or as `module:Name` from outside; its arguments are checked like ours."""
    (tmp_path / "toy_augmentation.py").write_text("""
def brighter(grid, encoding, by=2.0):
    def change(hits):
        hits.value = (hits.value * by).clamp(max=255)
        return hits
    return change
""")
    monkeypatch.syspath_prepend(tmp_path)
    name, hits = "toy_augmentation:brighter", jets.hits(range(2))
    found = views([{name: {"by": 3.0}}, "flips"], jets.grid, jets.encoding)(jets.hits(range(2)))
    assert torch.equal(found.value.abs(), (hits.value * 3).clamp(max=255).abs())
    for wrong in ({name: {"much": 1}}, {"flips": {}, "drop_hits": {"rat": 0.1}}):
        with pytest.raises(ValueError, match=r"has no (much; it has by|rat; it has rate)"):
            views([wrong], jets.grid, jets.encoding)


def test_one_paper_is_cited_in_one_way():
    """Every article number of a journal belongs to one volume and year, wherever it is cited."""
    cited = {}
    for package in ("lib", "collider", "hcal", "course"):
        for path in (ROOT / package).rglob("*.py"):
            text = " ".join(path.read_text().split())
            for volume, year, number in re.findall(r"JINST (\d+) \((\d{4})\) ([A-Z]\d+)", text):
                assert int(year) == 2005 + int(volume), f"{path.name}: JINST {volume} ({year})"
                cited.setdefault(number, set()).add(volume)
    assert cited
    assert all(len(volumes) == 1 for volumes in cited.values()), cited


def test_two_views_differ_and_a_damaged_jet_comes_with_itself(jets):
    torch.manual_seed(0)
    step = compose([translation(jets.grid), flips(jets.grid)])
    batch = jets.batch(range(4), "active", TwoViews(step))
    assert batch.tokens.features.shape[0] == batch.other.features.shape[0] == 4
    assert batch.tokens.position.tolist() != batch.other.position.tolist()
    damage = drop_hits(jets.grid, jets.encoding)
    batch = jets.batch(range(4), "active", Damaged(damage))
    clean = jets.batch(range(4), "active")
    assert torch.equal(batch.other.features, clean.tokens.features)
    assert (batch.tokens.features != 0).sum() < (clean.tokens.features != 0).sum()
    assert clean.other is None


def test_the_same_seed_gives_the_same_jets(jets):
    step = views("ours", jets.grid, jets.encoding)
    one, two = (transformed(jets, step, seed=5) for _ in range(2))
    assert one.fingerprint() == two.fingerprint()
    assert one.fingerprint() != transformed(jets, step, seed=6).fingerprint()
    assert torch.equal(one.labels, jets.labels)
