"""Simulated files: physics that must hold, and files that are the same or not there at all."""

import os
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from jetfiles import LABELLED, cms, write

from collider import course, events, shards
from collider import simulate as simulation
from collider.simulate import Settings, holds, quotas, simulate
from lib import profiles
from lib.cms import PUBLIC
from lib.data.encoding import encode_cms8
from lib.data.images import JetImages
from lib.data.store import Chunk, write_packed
from lib.files import DataError
from lib.report import contract
from lib.training import runs
from lib.workers import one_at_a_time

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
    assert heavier.median() > 0  # neutral pile-up only adds
    event = jets.truth["event"].numpy()
    for one in event:
        same = jets.truth["z"].numpy()[event == one]
        assert (same == same[0]).all()
        assert len(set(jets.labels[torch.from_numpy(event == one)].tolist())) == 1


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
    monkeypatch.setattr(simulation, "CHUNK", 2)
    settings = dict(seed=9, pool_events=POOL, progress=False)
    one = simulate("top_qcd", 4, home / "one.h5", workers=1, **settings)
    two = simulate("top_qcd", 4, home / "two.h5", workers=2, **settings)
    other = simulate("top_qcd", 2, home / "other.h5", workers=1, **settings | {"seed": 10})
    with ThreadPoolExecutor(2) as executor:  # any executor will do
        monkeypatch.setattr(simulation, "processes", lambda count: nullcontext(executor))
        three = simulate("top_qcd", 4, home / "three.h5", workers=2, **settings)
    parts = [simulate("top_qcd", 4, home, shard=f"{k}/2", workers=1, **settings) for k in (2, 1)]
    merged = shards.merge(parts, home / "merged.h5")
    assert len({path.read_bytes() for path in (one, two, three, merged)}) == 1
    masses = [JetImages.open(path).mass.tolist() for path in (one, other)]
    assert len(set(masses[0])) == 4  # chunks differ
    assert not set(masses[0]) & set(masses[1])  # and so do seeds


def test_charged_pile_up_is_removed_from_the_jets(home):
    settings = dict(seed=5, workers=1, pool_events=POOL, progress=False, pile_up=60.0)
    extra = {}
    for removal in ("chs", "none"):
        jets = JetImages.open(simulate("top_qcd", 10, home / f"{removal}.h5", **settings,
                                       pile_up_removal=removal))
        extra[removal] = (jets.mass - jets.truth["true_mass"]).median()
    assert 0 < extra["chs"] < extra["none"] - 5


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


@pytest.mark.parametrize("wrong", [dict(process="bottom"), dict(jets=0), dict(encoding="png"),
                                   dict(seed=-1), dict(pool="validation")])
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
s.CHUNK, whole = 2, s.chunk
def chunk(number, **settings):
    if number == 2:  # in the middle of writing
        assert os.listdir({str(tmp_path)!r})
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(number, **settings)
s.chunk = chunk
s.simulate("top_qcd", 8, {str(out)!r}, workers=1, pool_events={POOL}, progress=False)
"""
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    simulate("top_qcd", 2, out, workers=1, pool_events=POOL, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["jets.h5"]  # and tidies up after it


def chunk_that_dies(number, settings, size):
    """A chunk whose worker is killed; only one, so that the others would wait."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return make_chunk(number, settings, size)


def make_chunk(number, settings, size):
    jets = min(size, settings.jets - number * size)
    return Chunk(np.arange(jets + 1), np.arange(jets, dtype=np.int32), np.ones(jets, np.float32))


def test_a_killed_worker_is_an_error_and_leaves_no_file(home, tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "CHUNK", 2)
    monkeypatch.setattr(simulation, "chunk", chunk_that_dies)
    with pytest.raises(DataError, match="simulated jets was killed"):
        simulate("top_qcd", 16, tmp_path, shard="1/2", workers=2, pool_events=POOL, progress=False)
    assert not list(tmp_path.iterdir())


def test_workers_end_with_the_process_that_started_them(tmp_path):
    """However it ends: here by SIGTERM. The workers hold a pipe that closes with the last one."""
    code = """
import contextlib, os, sys, time
from collider.simulate import _chunks
def wait(number):
    os.write(1, b"x")
    time.sleep(600)
if __name__ == "__main__":
    with contextlib.closing(_chunks(wait, range(2), 2)) as chunks:
        list(chunks)
"""
    (tmp_path / "hang.py").write_text(code)
    process = subprocess.Popen([sys.executable, tmp_path / "hang.py"], stdout=subprocess.PIPE)
    started = b""
    while started != b"xx":
        started += os.read(process.stdout.fileno(), 1)
    process.send_signal(signal.SIGTERM)
    process.wait()
    ready, _, _ = select.select([process.stdout], [], [], 30)
    assert ready
    assert process.stdout.read() == b""  # end of file: nobody is left to write


# --- what a file is known by ----------------------------------------------------------------------


def made(path, provenance, encoding="cms8", labelled=True):
    """A file of no jets that says it was made in some way."""
    columns = {k: np.empty(0, np.float32) for k in ("Y", "m", "pT")} if labelled else {}
    none = Chunk(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.uint8), columns)
    return write_packed(path, [none], (8, 125, 125), encoding, provenance)


WANTED = Settings("top_qcd", 6000)


def test_a_file_is_known_by_its_settings_and_its_samples_version(tmp_path, monkeypatch):
    path = made(tmp_path / "x.h5", WANTED.provenance())
    assert holds(path, WANTED)
    for change in (dict(jets=5000), dict(seed=2), dict(pool="test"), dict(pile_up=31.0),
                   dict(pool_events=60), dict(process="quark_gluon"), dict(encoding="gev"),
                   dict(pile_up_removal="chs"),
                   dict(labelled=False)):
        assert not holds(path, replace(WANTED, **change)), change
    assert not holds(tmp_path / "none.h5", WANTED)
    samples = dict(events.SAMPLES)
    monkeypatch.setattr(events, "SAMPLES", samples)
    monkeypatch.setattr(events, "POOL_ETA", 5.0)  # no constant, no version of a library decides
    samples["quark_gluon"] = replace(samples["quark_gluon"], version=98, pt_min=80.0)
    assert holds(path, WANTED)  # a change to one sample does not touch another
    samples["top_qcd"] = replace(samples["top_qcd"], version=99)
    assert not holds(path, WANTED)


def test_a_file_of_an_earlier_version_says_so_where_it_is_opened_by_name(tmp_path, capsys):
    images = np.zeros((2, 8, 125, 125))
    now = WANTED.provenance()
    for said, expected in ((now, False), (now | {"version": 1}, True), ({"seed": 3}, False),
                           (now | {"process": "mine"}, False), (now | {"process": [1]}, False)):
        path = JetImages.from_dense(images, attributes=said).save(tmp_path / "x.h5")
        assert len(course.opened(path)) == 2
        told = capsys.readouterr().err
        assert (f"x.h5: version 1 of the sample top_qcd, which has version {now['version']}"
                in told) == expected
        assert bool(told) == expected


def test_files_from_before_samples_had_versions_are_recognised(tmp_path):
    old = {**WANTED.provenance(), "constants": "f08558760ed5", "numpy": "1.0", "fastjet": "1.0"}
    assert holds(made(tmp_path / "x.h5", old), WANTED)
    assert not holds(made(tmp_path / "y.h5", {**old, "version": 1}), WANTED)


def test_files_of_the_course_are_made_once_and_when_they_are_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    asked = []

    def simulate(process, jets, path, **settings):
        asked.append((process, path.name, jets, settings["seed"], settings["pool"]))
        wanted = Settings(process, jets, **settings)
        made(path, wanted.provenance(), wanted.encoding, wanted.labelled)

    monkeypatch.setattr(course, "simulate", simulate)
    profile = profiles.get("smoke")
    files = course.course_files(profile)
    assert files == course.course_files(profile)
    assert asked == [("top_qcd", "labelled.h5", 300, 1, "train"),
                     ("top_qcd", "test.h5", 200, 2, "test"),
                     ("top_qcd", "unlabelled.h5", 300, 3, "train")]
    other = course.course_files(profile, "quark_gluon")
    assert other.pop("unlabelled") is None, "its pretraining takes the labels off"
    assert not set(files.values()) & set(other.values())
    assert [a[0] for a in asked[3:]] == ["quark_gluon"] * 2
    public = profiles.get("smoke", "cms")
    with pytest.raises(DataError, match="download labelled"):
        course.course_files(public)
    public.data_dir.mkdir(parents=True)
    write(public.data_dir / PUBLIC["labelled"], cms(), **LABELLED)
    for _ in range(2):  # what was downloaded is packed once
        found = course.course_files(public)
        assert found == {"labelled": public.data_dir / "labelled.h5", "test": None,
                         "unlabelled": None}
    assert len(JetImages.open(found["labelled"])) == 5


def test_a_file_that_two_want_at_once_is_made_once(tmp_path, monkeypatch):
    begun, waits, made_by = threading.Event(), threading.Event(), []

    def simulate(process, jets, path, **settings):
        made_by.append(threading.current_thread().name)
        begun.set()
        assert waits.wait(30), "the other did not wait for this one"
        made(path, Settings(process, jets, **settings).provenance())

    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    monkeypatch.setattr(course, "simulate", simulate)
    monkeypatch.setattr(course, "one_at_a_time", lambda path, busy: one_at_a_time(
        path, busy, lambda line: waits.set()))
    first, second = (threading.Thread(target=course.more_jets, name=name, args=(
        profiles.get("smoke"), "labelled", "draw_1", 10)) for name in ("first", "second"))
    first.start()
    assert begun.wait(30)
    second.start()
    first.join()
    second.join()
    assert made_by == ["first"]


# --- a new data set is one file -------------------------------------------------------------------

TOY = """
import numpy as np
from collider.course import DataSet
from lib.data.images import JetImages

class Toy(DataSet):
    folder = "toy"
    sizes = {"smoke": {"labelled": 60, "test": 20}}

    def make(self, path, part, jets, **changes):
        rng = np.random.default_rng(len(part))
        labels = np.arange(jets) % 2
        images = rng.integers(0, 9, (jets, 2, 12, 15)) * (rng.random((jets, 2, 12, 15)) < 0.2)
        images[labels == 1, 0] *= 3
        columns = dict(labels=labels, mass=100 + 50 * labels, pt=np.full(jets, 500))
        JetImages.from_dense(images, attributes={"patch": (4, 3)}, **columns).save(path)
"""


def test_a_toy_data_set_trains_through_the_same_path(tmp_path, monkeypatch):
    (tmp_path / "toy_jets.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("JETS_HOME", str(tmp_path))
    profile = profiles.get("smoke")
    data = course.course_jets(profile, "toy_jets:Toy")
    assert [len(data.jets), len(data.test_jets)] == [60, 20]
    assert (data.jets.grid.rows, data.jets.grid.columns) == (3, 5)
    run = runs.train("toy", {"model": {"dim": 16, "depth": 1, "heads": 2}, "hold_out": False,
                             "fit": {"updates": 2, "batch_size": 8}}, data.jets,
                     data.test_jets, runs=tmp_path / "runs", log=lambda line: None)
    assert len(run.predict(data.test_jets).score) == 20
    with pytest.raises(ValueError, match="top_qcd, quark_gluon"):
        course.course_jets(profile, "toys")


@pytest.mark.parametrize("name", events.SAMPLES)
def test_a_samples_version_is_raised_with_its_golden_numbers(name):
    """The contract began with samples of version 2."""
    assert contract.golden()[f"sample.{name}"]["version"] + 1 == events.SAMPLES[name].version, (
        "the sample gives other jets: raise `version` in collider/events.py, so that files of "
        "the earlier one are made again")
