"""Simulated quark and gluon jets: their selection, calorimeters as read out, closure."""

import numpy as np
import pytest
import torch

from collider import closure, detector, events
from collider.simulate import Settings, simulate
from lib.data.images import JetImages


@pytest.fixture(scope="module")
def jets(tmp_path_factory):
    """Twelve of them, in their own encoding."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("JETS_HOME", str(home))
        events.load_pool.cache_clear()
        made = simulate("quark_gluon", 12, home / "qg.h5", workers=1, pool_events=60,
                        progress=False)
        return JetImages.open(made)


def test_one_light_jet_an_event_of_the_class_that_its_label_says(jets):
    assert (jets.shape, jets.encoding) == ((3, 125, 125), "gev")
    assert len(set(jets.truth["event"].tolist())) == len(jets)
    parton = jets.truth["parton"]
    assert set(parton[jets.labels == 0].tolist()) == {21}
    assert set(parton[jets.labels == 1].tolist()) <= {1, 2, 3}
    assert jets.pt.min() >= 70
    assert jets.truth["eta"].abs().max() <= 1.37
    assert Settings("quark_gluon", 1).encoding == "gev"
    assert Settings("quark_gluon", 1, encoding="cms8").encoding == "cms8"


def test_calorimeters_are_as_read_out(jets):
    hits = jets.hits(slice(None))
    tracks, ecal, hcal = (hits.value[hits.channel == channel] for channel in range(3))
    assert tracks.min() > 0
    assert ecal.min() < 0 < hcal.min()
    images = jets.dense(slice(None))
    towers = images[:, 2].unfold(1, 5, 5).unfold(2, 5, 5)
    assert (towers == towers[..., :1, :1]).all()
    assert 25 * hcal.min() > events.READ_OUT[1]
    full = (images[:, 1] != 0).unfold(1, 5, 5).unfold(2, 5, 5).sum((-1, -2))
    assert set(full.unique().tolist()) == {0, 25}  # whole towers of crystals, or nothing


def test_read_out_by_hand():
    image = np.zeros(detector.SHAPE, np.float32)
    image[0, 3, 4], image[3, 62, 62], image[3, 0, 0] = 1.5, 20.0, 0.5
    image[4, 60:65, 60:65], image[4, :5, :5] = 2.5, 1.2
    at = np.flatnonzero(image)
    place, value = events.read_out(at, image.ravel()[at], 0.0, np.random.default_rng(0))
    seen = np.zeros(detector.SHAPE, np.float32)
    seen.ravel()[place] = value
    assert seen[0, 3, 4] == 1.5
    assert seen[3, 62, 62] == 20
    assert seen[4, 62, 62] == pytest.approx(0.1)
    assert not seen[4, :5, :5].any()  # too little for a tower
    kept = seen[3] != 0
    assert kept[55:70, 55:70].all()  # nine towers of crystals
    assert kept.sum() == 225
    noise = seen[3][kept & (image[3] == 0)]
    assert noise.max() <= detector.ECAL_THRESHOLD
    assert noise.std() == pytest.approx(events.NOISE[0], rel=0.2)
    _, far = events.read_out(at, image.ravel()[at], 2.0, np.random.default_rng(0))
    assert far.min() < 1.5 * noise.min()  # the endcap is noisier


def test_rows_of_the_closure_say_what_is_met():
    rng = np.random.default_rng(0)
    images = torch.zeros(400, 3, 125, 125)
    for channel, share in enumerate((0.003, 0.022, 0.05)):
        images[:, channel][torch.from_numpy(rng.random((400, 125, 125)) < share)] = 0.01
    images[:, 0, 62, 62] = torch.linspace(5, 15, 400)  # a largest track pixel around 10
    images[:, 1, 62, 62], images[:, 1, 0, 0] = 0.5, -0.2
    label = np.arange(400) % 2
    made = JetImages.from_dense(images, "gev", labels=label, mass=np.full(400, 20),
                                pt=np.linspace(71, 336, 400))
    rows = {row["quantity"]: row for row in closure.closure_quark_gluon(made)}
    assert {row["kind"] for row in rows.values()} == {"fitted", "predicted", "held out"}
    met = {name for name, row in rows.items() if row["ok"]}
    assert {"track pT: zeros", "ECAL: zeros", "track pT: largest pixel (GeV)",
            "pT: share above 337.1 GeV"} <= met
    assert not {"HCAL: zeros", "ECAL: largest pixel (GeV)", "HCAL: smallest pixel (GeV)"} & met
    assert rows["ECAL: zeros"]["measured"] == pytest.approx(0.978, abs=0.001)
    assert rows["multiplicity alone: AUC, at most"]["measured"] == pytest.approx(0.5, abs=0.1)
