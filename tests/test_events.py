"""Jets of one event: never on both sides of a division, and drawn together by a bootstrap."""

import dataclasses

import numpy as np
import pytest
import torch

from collider.course import course_jets
from lib import profiles
from lib.data.batches import Batches
from lib.data.images import JetImages
from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.evaluation.predictions import predict
from lib.files import DataError
from lib.models.vit import JetViT, ViTConfig
from lib.training.recipe import Recipe
from lib.training.runs import probe
from lib.training.split import indices


def jets(count=2000, labelled=True, shared=0.6, seed=0):
    """Empty jets, of which a share is in pairs of one event and one class, in random order."""
    event = np.arange(count)
    event[1:int(shared * count):2] -= 1
    order = np.random.default_rng(seed).permutation(count)
    label = (event // 2 % 2)[order]
    columns = dict(labels=label, mass=100 + label, pt=label + 500) if labelled else {}
    return JetImages.from_arrays(np.zeros(count + 1), [], [], (8, 125, 125), "cms8", **columns,
                                 truth={"event": 10**12 + event[order]})


def apart(source, *parts):
    """Every jet is in one part, and so is every event."""
    events = [set(source.event[part].tolist()) for part in map(np.asarray, parts)]
    assert all(not a & b for i, a in enumerate(events) for b in events[:i])
    return sum(map(len, parts))


def test_splits_keep_events_whole_and_their_proportions():
    source = jets()
    split = source.split()
    assert apart(source, *split) == len(source)
    for part, share in zip(split, (0.7, 0.1, 0.2), strict=True):
        assert abs(len(part) / len(source) - share) < 0.02
        assert abs(source.labels[part].float().mean() - source.labels.float().mean()) < 0.02
    rest, few = source.divide(100, 0)
    assert apart(source, rest, few) == 2000
    assert 80 <= len(few) <= 120
    known = np.arange(0, 2000, 3)
    assert apart(source, *source.divide(0.5, 1, known)) == len(known)
    assert source.split(1).test.tolist() == source.split(1).test.tolist()
    with pytest.raises(DataError, match="2 jets cannot be split in three"):
        jets(4, shared=1).split()


@pytest.mark.parametrize("recipe", [{}, {"hold_out": False}, {"labels": 100}, {"labels": 1300},
                                    {"labels": 1500, "seed": 3, "hold_out": False}])
def test_what_a_run_trains_on_and_is_judged_by_share_no_event(recipe):
    source, recipe = jets(), Recipe.of(recipe)
    train, validation = indices(recipe, source)
    test = source.split().test if recipe.hold_out else torch.arange(0)
    used = apart(source, train, validation, test) - len(test)
    assert used == (recipe.labels or 2000 - len(test))
    if recipe.labels:
        assert abs(len(validation) / used - 0.2) < 0.03
    source = jets(labelled=False)
    train, validation = indices(recipe, source)
    assert apart(source, train, validation) == 2000
    assert 80 <= len(validation) <= 120


def test_course_and_probes_divide_by_event(tmp_path, monkeypatch):
    files = {"labelled": jets(300), "test": jets(60, seed=1), "unlabelled": jets(60, False)}
    for name, source in files.items():
        source.save(tmp_path / f"{name}.h5")
    monkeypatch.setattr("collider.course.course_files", lambda profile, dataset: {
        name: tmp_path / f"{name}.h5" for name in files})
    profile = profiles.get("smoke")
    course = course_jets(profile)
    assert apart(course.jets, course.train, course.validation) == 300
    watch = probe(profile, course.jets, 50)
    apart(course.jets, watch.known, watch.held)


def correlated(count, share, rho, rng):
    """Predictions whose mass errors have the spread 10 and, within an event, the correlation rho;
    a share of the jets is in pairs."""
    event = np.arange(count)
    event[1:int(share * count):2] -= 1
    own = rng.normal(size=(2, count))
    error = 10 * (np.sqrt(rho) * own[0][event] + np.sqrt(1 - rho) * own[1])
    m = rng.uniform(80, 200, count)
    y = (event // 2 % 2).astype(np.float32)
    score = 1 / (1 + np.exp(-(error / 10 + y)))
    order = rng.permutation(count)
    p = Predictions(np.arange(count), y, score, m, m + error, event)
    return dataclasses.replace(p.where(order), index=np.arange(count))


def width(row):
    return row["high"] - row["low"]


@pytest.mark.parametrize(("share", "rho"), [(0.0, 1.0), (0.6, 0.5), (0.6, 1.0), (1.0, 1.0)])
def test_an_interval_is_as_wide_as_correlated_pairs_make_it(share, rho):
    """The error of a mean grows by sqrt(1 + share rho): 1.26 at our 60 % of jets in pairs, were
    the jets of an event copies of each other."""
    p = correlated(6000, share, rho, np.random.default_rng(4))
    other = dataclasses.replace(p, m_hat=p.m, event=None)
    growth = np.sqrt(1 + share * rho)
    expected = 2 * 1.96 * 10 / np.sqrt(6000)
    plain = metrics.summary(dataclasses.replace(p, event=None), ["mass_bias"], 2000)["mass_bias"]
    assert (plain["over"], width(plain)) == ("jets", pytest.approx(expected, rel=0.07))
    for row in (metrics.summary(p, ["mass_bias"], 2000), metrics.compare(p, other, ["mass_bias"]),
                metrics.compare(other, p, ["mass_bias"])):  # whoever of the two knows the events
        assert row["mass_bias"]["over"] == "events"
        assert width(row["mass_bias"]) == pytest.approx(growth * expected, rel=0.07)
    bands = [metrics.roc(q, 20, 400) for q in (p, dataclasses.replace(p, event=None))]
    wider = np.divide(*(np.mean(band["high"] - band["low"]) for band in bands))
    assert wider == pytest.approx(np.sqrt(1 + share) if rho == 1 else growth, rel=0.12)


def test_only_intervals_by_event_cover_the_truth():
    hits, trials = np.zeros(2), 200
    for trial in range(trials):
        p = correlated(200, 1.0, 1.0, np.random.default_rng(trial))
        for i, q in enumerate((p, dataclasses.replace(p, event=None))):
            row = metrics.summary(q, ["mass_bias"], 200)["mass_bias"]
            hits[i] += row["low"] <= 0 <= row["high"]
    assert hits[0] / trials > 0.91
    assert hits[1] / trials < 0.89  # 83 % are expected


def test_events_of_single_jets_change_nothing():
    p = correlated(500, 0.0, 0.0, np.random.default_rng(1))
    p = p.where(np.argsort(p.event))
    p = dataclasses.replace(p, index=np.arange(500))
    rows = [metrics.summary(q, resamples=50) for q in (p, dataclasses.replace(p, event=None))]
    for name, row in rows[0].items():
        assert row | {"over": "jets"} == rows[1][name]


def test_predictions_know_their_events_and_keep_them(tmp_path):
    source, index = jets(40), torch.arange(30, 2, -1)
    torch.manual_seed(0)
    model = JetViT(ViTConfig.of(source.grid, dim=8, depth=1, heads=2))
    p = predict(model, Batches(source, index, 8))
    p.save(tmp_path / "p.npz")
    again = Predictions.load(tmp_path / "p.npz")
    for found in (p, again, Predictions.of(source, index, p.score, p.m_hat)):
        same = found.event[:, None] == found.event
        assert (same == (source.event[index][:, None] == source.event[index])).all()
        assert found.y.tolist() == source.labels[index].tolist()
        assert found.m.tolist() == source.mass[index].tolist()
    assert again.event.dtype == np.int32
    unlabelled = predict(model, Batches(jets(40, labelled=False), index, 8))
    assert set(unlabelled.y.tolist()) == {-1}
    assert unlabelled.m is None
